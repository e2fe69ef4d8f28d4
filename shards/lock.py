"""One command at a time writes to an output folder."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from sa_med2d_20m import SAMed2DError
from shards.atomic import make_folder, write_atomic
from shards.paths import BUILD
from shards.store import create, is_here

_OWNER: Final = f"{BUILD}/lock.owner"
_MARK: Final = re.compile(r"sa-med2d \w+, process (?P<number>\d+) on (?P<place>\S+ \(\w+\)), since ")
_KERNEL: Final = (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid"))


class OutputError(SAMed2DError):
    """The output folder cannot be used."""


@contextmanager
def locked(out: Path, command: str) -> Iterator[None]:
    """Keep an output folder for this process, for as long as the block runs.

    On this machine the operating system keeps the lock, and frees it when the process dies. In an object store the lock
    is an object: one that a process of this machine left when it was killed is taken over.

    Args:
        out: Output folder.
        command: Command that writes to it, such as ``build``, for the message that others get.

    Raises:
        OutputError: Another command is writing to it.
    """
    if not is_here(out):
        with _object(out, command):
            yield
        return
    from filelock import FileLock, Timeout  # noqa: PLC0415 - only commands that write need it

    make_folder(out / BUILD)
    try:
        with FileLock(out / BUILD / "lock", timeout=0):
            write_atomic(out / _OWNER, mark_of(os.getpid(), command).encode())
            try:
                yield
            finally:
                (out / _OWNER).unlink(missing_ok=True)
    except Timeout:
        raise OutputError(_refusal(out, _owner(out))) from None


@contextmanager
def _object(out: Path, command: str) -> Iterator[None]:
    mark, own = out / _OWNER, mark_of(os.getpid(), command).encode()
    if not create(mark, own):
        owner = _owner(out)
        claim = out / f"{_OWNER}.{_digest(owner)}"
        if not (_is_dead(owner) and create(claim, own)):  # of two that find it dead one takes it over
            raise OutputError(f"{_refusal(out, owner)}; if it was killed, delete {mark} and run this again")
        mark.write_bytes(own)
        claim.unlink()
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def _refusal(out: Path, owner: str) -> str:
    return f"{out}: {owner}, is writing to this folder; wait for it to end or choose another folder"


def mark_of(process: int, command: str) -> str:
    """What a process writes into its lock: its command, its number, and where that number means anything."""
    return f"sa-med2d {command}, process {process} on {_place()}, since {datetime.now():%Y-%m-%d %H:%M}"


def _place() -> str:
    """This machine: its name, which others may have too, and what tells its kernel and container from theirs."""
    boot, namespace = _KERNEL
    try:
        kernel = boot.read_text() + str(namespace.readlink())
    except OSError:  # not Linux
        kernel = str(uuid.getnode())
    return f"{socket.gethostname()} ({_digest(kernel)})"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _owner(out: Path) -> str:
    """Who writes to a folder."""
    try:
        return (out / _OWNER).read_text(encoding="utf-8")
    except OSError:  # it has only just begun
        return "another command, which has just begun"


def _is_dead(owner: str) -> bool:
    """Whether a process of this machine, which can be asked, is no more."""
    found = _MARK.match(owner)
    if found is None or found["place"] != _place():
        return False
    try:
        os.kill(int(found["number"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is somebody else's
        return False
    return False
