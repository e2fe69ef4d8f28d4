"""Mask values become classes, classes become components, and components become label maps."""
