"""Samples as pictures with their masks drawn over them: one, the slices of a volume, or a few of a source."""
