"""Flow matching as plain functions: path, losses, samplers."""
