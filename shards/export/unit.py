"""Files and entries of one run of samples, on disk and as a measure alone."""

from __future__ import annotations

import errno
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from shards.atomic import write_atomic
from shards.export.errors import ExportError
from shards.export.layout import as_json
from shards.export.names import checked_path

MARK: Final = "finished.json"
"""File in a unit's own folder that is there when the unit is finished."""


class _Counting:
    """What every unit counts.

    Attributes:
        files: Files written.
        bytes: Their bytes; where they are only measured, those of entries too.
    """

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self._paths: set[str] = set()
        self._counts: dict[str, float] = defaultdict(float)
        self._notes: dict[str, set[str]] = defaultdict(set)

    def count(self, name: str, by: float = 1) -> None:
        self._counts[name] += by

    def note(self, name: str, value: Any) -> None:
        self._notes[name].add(as_json(value))

    def _take(self, path: str, size: int) -> None:
        if path in self._paths:
            raise ExportError(f"{path}: two samples or masks ask for this name; 'sa-med2d verify' says which keys")
        self._paths.add(path)
        self.files += 1
        self.bytes += size


class MeasuredUnit(_Counting):
    """A unit that writes nothing."""

    def file(self, path: str, data: bytes) -> None:
        """See `shards.export.layout.Unit`."""
        self._take(checked_path(path), len(data))

    def entry(self, document: str, text: str) -> None:  # noqa: ARG002 - of the protocol
        """See `shards.export.layout.Unit`."""
        self.bytes += len(text.encode()) + 2


class WrittenUnit(_Counting):
    """A unit that is written below a target folder.

    Args:
        target: The folder.
        kept: Folder of the unit's own: its entries, and its mark when it is finished.
        begun: Whether an earlier run may have written some of its files.
    """

    def __init__(self, target: Path, kept: Path, *, begun: bool) -> None:
        super().__init__()
        self._target, self._kept, self._begun = target, kept, begun
        self._unfinished = kept / "unfinished.part"
        self._folders: set[str] = set()
        self._documents: dict[str, BinaryIO] = {}
        with space_told(kept):
            kept.mkdir(parents=True, exist_ok=True)

    def file(self, path: str, data: bytes) -> None:
        """See `shards.export.layout.Unit`."""
        self._take(checked_path(path), len(data))
        place = f"{self._target}/{path}"
        with space_told(place):
            folder = path.rpartition("/")[0]
            if folder not in self._folders:
                (self._target / folder).mkdir(parents=True, exist_ok=True)
                self._folders.add(folder)
            if not self._begun and os.path.lexists(place):
                raise ExportError(
                    f"{place}: is there already: two samples ask for this name, or another program writes to the folder"
                )
            self._unfinished.write_bytes(data)
            self._unfinished.replace(place)

    def entry(self, document: str, text: str) -> None:
        """See `shards.export.layout.Unit`."""
        data = text.encode() + b"\n"
        with space_told(self._kept / document):
            if document not in self._documents:
                self._documents[document] = (self._kept / document).open("wb")
            self._documents[document].write(data)

    def finish(self) -> None:
        """Flush all that was written to disk, then mark the unit as finished."""
        with space_told(self._kept):
            for file in self._documents.values():
                file.close()
            if hasattr(os, "sync"):  # once for thousands of small files; a flush of each would take most of the time
                os.sync()
            notes = {name: sorted(values) for name, values in self._notes.items()}
            mark = {"files": self.files, "bytes": self.bytes, "counts": self._counts, "notes": notes}
            write_atomic(self._kept / MARK, json.dumps(mark).encode())

    def close(self) -> None:
        """Close its documents; of a unit that is not finished they count as nothing."""
        for file in self._documents.values():
            with suppress(OSError):  # what is still to be written of them does not fit: that is why it is not finished
                file.close()


@contextmanager
def space_told(place: Path | str) -> Iterator[None]:
    """Say in words that a file cannot be written.

    Args:
        place: The file.

    Raises:
        ExportError: In place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "make room there (bytes, or inodes for the files: 'df -i')" if full else "see to it"
        again = f"{advice} and run the same command again: it goes on from what is finished"
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            again = "choose another folder, or one that is yours to write"
        raise ExportError(f"{place}: {error.strerror or error}; {again}") from None
