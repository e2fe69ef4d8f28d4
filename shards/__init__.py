"""Samples to tar shards, to index, to report: writer, index, verify, card. Knows no scanner format."""
