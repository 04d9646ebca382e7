"""Training loops and the machinery under them."""
