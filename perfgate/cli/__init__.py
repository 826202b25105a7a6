"""The command `perfgate`."""
