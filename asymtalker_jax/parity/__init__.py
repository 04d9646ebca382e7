"""Recorded outputs of the reference implementations, computed again here."""
