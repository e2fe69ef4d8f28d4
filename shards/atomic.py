"""Files that are whole or not there: written under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from shards.store import is_here, open_object

TEMPORARY: Final = ".part"
"""Suffix of a file that is being written. One that is left over comes from a killed process and may be deleted."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


@contextmanager
def open_atomic(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a file that gets its name only when the block ends without an exception.

    Nobody but its owner may read a private file.

    The file and its folder are flushed to disk before and after the rename, so that a crash of the machine leaves
    the old file or the new one. An object store needs no rename, see `shards.store.open_object`.
    """
    if not is_here(path):
        with open_object(path) as file:
            yield file
        return
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    # the system takes the umask off these rights; to ask for the umask is to change it, for every thread
    handle = os.open(temporary, _NEW, 0o600 if private else 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder of this machine, and those above it, where it is not there.

    Raises:
        PermissionError: There nobody makes one, as below ``/proc``.
        OSError: It cannot be made, for another reason.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:  # of a folder above, which was looked for and made before
        raise PermissionError(errno.EPERM, "no folder can be made there", str(path)) from None


def write_atomic(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a whole file, see `open_atomic`."""
    with open_atomic(path, private=private) as file:
        file.write(data)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder to flush it
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
