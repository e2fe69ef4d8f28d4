"""Whether a disk has room for what is to come."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

RESERVE: Final = 256 << 20
"""Bytes that are left free, for everybody else on this disk."""


def taken(file: Path) -> int:
    """Bytes that a file takes on its disk: of one with holes less than its length; 0 where it is not there."""
    try:
        status = file.stat()
    except OSError:
        return 0
    return status.st_size if os.name == "nt" else status.st_blocks * 512  # by POSIX, whatever the disk's own blocks are


def room(folder: Path) -> int:
    """Bytes that may still be written below a folder, which need not exist."""
    while not folder.exists():
        folder = folder.parent
    return max(0, shutil.disk_usage(folder).free - RESERVE)
