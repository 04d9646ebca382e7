"""AsymTalker (arXiv 2605.02948) in JAX: long talking-head video generation.

Idea 1, temporal reference encoding: `temporal_reference_encoding.py`.
Idea 2, asymmetric knowledge distillation: `asymmetric_distillation/`.
"""

__version__ = '0.1.0'
