"""Formats that hold the same samples as this project's shards: a module for each, and an entry of `PEERS` in `table.py`."""
