"""Networks in flax.linen, the only room that imports flax."""
