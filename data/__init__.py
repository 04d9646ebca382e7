"""Datasets of the project, one folder per dataset."""
