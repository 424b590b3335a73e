"""Which models there are, which are loaded, which version answers."""
