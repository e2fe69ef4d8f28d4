"""Whether a disk has room for what is to come."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

RESERVE: Final = 256 << 20
"""Bytes that are left free, for everybody else on this disk."""


def room(folder: Path) -> int:
    """Bytes that may still be written below a folder, which need not exist."""
    while not folder.exists():
        folder = folder.parent
    return max(0, shutil.disk_usage(folder).free - RESERVE)
