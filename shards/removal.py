"""Taking a source out of an output folder: all that a build wrote of it, and its part of the card."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from sa_med2d_20m import DatasetError, quoted_command
from shards.card import write_card
from shards.lock import locked
from shards.paths import (
    BUILD,
    DATA,
    FINGERPRINTS,
    INDEX,
    MANIFESTS,
    PIECES,
    PREVIEWS,
    PREVIOUS,
    RECEIPTS,
    REPORT,
    SOURCES,
)
from shards.receipt import read_receipts
from shards.store import listing, remove_empty_folders
from shards.tables import refresh_tables

_SHARED_FOLDERS: Final = {RECEIPTS: 2, DATA: 2, INDEX: 2, PIECES: 2, PREVIOUS: 3, FINGERPRINTS: 2}
"""Folder -> where in a path below it the name of the source stands. Receipts come first: without them no card lists a
shard and no build takes it for finished."""
_FILE_FOLDERS: Final = (
    *(f"{BUILD}/{name}" for name in ("plan", "quarantine", "contents", "identifiers", "dedup")),
    MANIFESTS,
    SOURCES,
)
"""Folders with a file for each source. The description comes last: while it is there, there is something to remove."""


@dataclass(frozen=True)
class Holding:
    """What an output folder holds of a source.

    Attributes:
        source: Its name.
        files: Path below the output folder -> size in bytes, in the order in which they are deleted. A report is about
            all sources, and goes too.
    """

    source: str
    files: Mapping[str, int]

    @property
    def folders(self) -> dict[str, tuple[int, int]]:
        """Folder -> number of files of the source in it, and their bytes."""
        count, size = Counter[str](), Counter[str]()
        for path, of_file in self.files.items():
            folder = str(PurePosixPath(path).parent)
            count[folder] += 1
            size[folder] += of_file
        return {folder: (count[folder], size[folder]) for folder in count}


def holding(out: Path, source: str) -> Holding:
    """What an output folder holds of a source, found without opening a file.

    Raises:
        DatasetError: Nothing; the message has near names.
    """
    held = _files_by_source(out)
    if source not in held:
        near = difflib.get_close_matches(source, held, n=3, cutoff=0.5) or [
            name for name in held if name.lower() == source.lower()
        ]
        hint = f"did you mean {', '.join(near)}?" if near else f"it holds {', '.join(sorted(held)) or 'none'}"
        raise DatasetError(f"{out}: holds no source {source!r}; {hint}")
    reports = {f"{REPORT}/{name}": size for name, size in listing(out, REPORT).items()}
    pictures = {
        f"{PREVIEWS}/{name}": size for name, size in listing(out, PREVIEWS).items() if name.split(".")[0] == source
    }
    return Holding(source, {**reports, **pictures, **held[source]})


def _files_by_source(out: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for folder, place in _SHARED_FOLDERS.items():
        for name, size in listing(out, folder).items():
            parts = name.split("/")
            if len(parts) > place + 1:
                found.setdefault(parts[place], {})[f"{folder}/{name}"] = size
    for folder in _FILE_FOLDERS:
        for name, size in listing(out, folder).items():
            if name.endswith(".json") and "/" not in name:
                found.setdefault(name.removesuffix(".json"), {})[f"{folder}/{name}"] = size
    return found


def remove(out: Path, source: str) -> Holding:
    """Delete what an output folder holds of a source, and write the card without it.

    The card goes first, so that it never names what is gone. Run again after it was killed it goes on: it is done when
    nothing of the source is left.

    Raises:
        DatasetError: The folder holds nothing of the source, or shards of which the card could not be written.
        OutputError: Another command is writing to the folder.
    """
    holding(out, source)  # before anything is written to a folder that may be none of ours
    with locked(out, "remove"):
        held = holding(out, source)
        _refuse_without_receipts(out, source)
        write_card(out, without=source)
        *paths, last = held.files
        for path in paths:
            (out / path).unlink(missing_ok=True)
        write_card(out, without=source, draw=True)  # with a picture of what is left, whose shard may be damaged
        (out / last).unlink(missing_ok=True)
        for folder in (*_SHARED_FOLDERS, REPORT, PREVIEWS):
            remove_empty_folders(out, folder)
        refresh_tables(out)
    return held


def _refuse_without_receipts(out: Path, source: str) -> None:
    """The card is written from receipts: a folder that was downloaded has none."""
    known = read_receipts(out)
    for name in listing(out, DATA):
        stem = name.removesuffix(".tar")
        if stem != name and stem not in known and name.split("/")[2:3] != [source]:
            raise DatasetError(
                f"{out / DATA / name}: has no receipt that can be read, so the card would lose it; "
                f"{quoted_command('index', out)} writes it, then remove {source} again"
            )
