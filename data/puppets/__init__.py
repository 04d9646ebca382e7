"""Puppets: procedurally rendered talking heads with synthesised speech."""
