"""Frozen networks of the evaluation: they read frames, they are never trained
together with the generator.
"""
