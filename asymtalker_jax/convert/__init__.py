"""Public checkpoints to and from the parameters of `models`."""
