"""Evaluation: metrics over frames, accumulated video by video."""
