"""Tests; they compute as the command does, so convolutions are chosen first."""

from asymtalker_jax.cli import processor

processor.choose_convolutions()
