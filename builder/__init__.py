"""Source datasets become samples.

A case passes the packages in this order: `sources`, `cases`, `readers`, `annotations`, `conversion`, `run`.
"""
