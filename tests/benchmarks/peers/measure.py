"""A measurement of one format in a process of its own: ``python -m tests.benchmarks.peers.measure ACTION NAME FOLDER``.

The last line that it prints is what it found, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sa_med2d_20m import Metadata
from tests.benchmarks.peers.row import ROWS_OF_A_BATCH, Row, touched
from tests.benchmarks.peers.table import PEERS


def flushed(folder: Path) -> None:
    """All files below a folder are on the disk; that one can be dropped from memory, and writing it has an end."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def dropped(folder: Path) -> None:
    """Ask the system to forget the content of all files below a folder, and of those that links there lead to."""
    for root in (folder, *(path.resolve() for path in folder.iterdir() if path.is_symlink())):
        for path in root.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def digest(row: Row) -> str:
    """Of the pixels with their shape and type, and of the metadata."""
    found = hashlib.sha256(json.dumps({name: row[name] for name in Metadata.__annotations__}, sort_keys=True).encode())
    for name in ("image", "mask"):
        pixels = np.ascontiguousarray(row[name])
        found.update(f"{pixels.shape} {pixels.dtype}".encode() + pixels.tobytes())
    return found.hexdigest()


def _written(name: str, built: Path, to: Path) -> Any:
    peer = PEERS[name].imported()
    to.mkdir()
    started = time.perf_counter()
    peer.write(built, to)
    flushed(to)
    return time.perf_counter() - started


def _epochs(name: str, folder: Path, workers: bool) -> Any:
    """Seconds until the first batch, of the first epoch with all that opens it, and of the second.

    And of all processors in the second, which other work on the machine changes least; not those of workers.
    """
    peer = PEERS[name].imported()
    dropped(folder)
    started = time.perf_counter()
    batches = peer.workers(folder) if workers else _Batches(peer.rows(folder))
    counts = iter(batches)
    rows = next(counts)
    begun = time.perf_counter() - started
    rows += sum(counts)
    first = time.perf_counter() - started
    started, busy = time.perf_counter(), time.process_time()
    again = sum(batches)
    second, busy = time.perf_counter() - started, time.process_time() - busy
    assert again == rows, f"{name}: {again} rows in the second epoch, {rows} in the first"
    return {"begun": begun, "first": first, "second": second, "processor": busy, "rows": rows}


class _Batches(Iterable[int]):
    """Rows of one process, counted as batches of workers are."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows

    def __iter__(self) -> Any:
        held = []
        for row in self._rows:
            held.append(row)
            if len(held) == ROWS_OF_A_BATCH:
                yield touched(held)
                held = []
        yield touched(held)


def main(action: str, name: str, *folders: str) -> None:
    paths = [Path(folder) for folder in folders]
    if action == "write":
        found = _written(name, *paths)
    elif action == "digest":
        found = [digest(row) for row in PEERS[name].imported().rows(paths[0])]
    else:
        found = _epochs(name, paths[0], workers=action == "workers")
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
