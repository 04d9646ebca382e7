"""Datasets, media decoding and the two kinds of batches."""
