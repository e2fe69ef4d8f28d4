"""Shards into the files that other tools train from: one small class for each layout."""
