"""From a folder to cases: which files belong together, whose they are, and which split they are in."""
