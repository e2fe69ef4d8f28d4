"""The layouts by name. A new one is a file here and an entry of the table."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from shards.export.layout import Layout, Overview

LAYOUTS: Final = {
    "files": "shards.export.layouts.files.Files",
}
"""Name on the command line -> class, imported when it is used."""


def layout(name: str, overview: Overview) -> Layout:
    """A layout by its name."""
    module, _, made = LAYOUTS[name].rpartition(".")
    found: Layout = getattr(import_module(module), made)(overview)
    return found
