"""The commands that build: one module each."""
