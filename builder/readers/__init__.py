"""From a file to an image in memory: one module a format, found by what a file is."""
