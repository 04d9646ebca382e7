"""The verbs of the command `asymtalker`."""
