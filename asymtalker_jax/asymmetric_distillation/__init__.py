"""Idea 2: teacher on ground-truth continuity, student on its own frames."""
