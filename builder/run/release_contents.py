"""The content of imported cases, as hashes: what tells a release that was fetched again from the one before.

In an archive its directory says it. Of a folder the check sums are kept, by case, for as long as size and time of all
its files stay. Both give the same hash, so that an import may go on from a folder that was unpacked meanwhile.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path

from isal import isal_zlib

from builder.cases.case import Case
from builder.errors import UnreadableError
from builder.release.rows import Row
from builder.release.source import ReleaseCase, ReleaseSource
from builder.run.contents import FileContent
from shards.atomic import write_atomic
from shards.paths import BUILD


class KnownRelease:
    """What the files of a source of the release hold.

    Args:
        source: The source.
        cases: What is known of its cases, where they lie in a folder.
    """

    def __init__(self, source: ReleaseSource, cases: Iterable[FileContent] = ()) -> None:
        self._source = source
        self._cases = {case.path: case for case in cases}

    def add(self, files: Iterable[FileContent]) -> None:
        """Take in what was hashed elsewhere."""
        self._cases.update((file.path, file) for file in files)

    def of(self, case: Case) -> str | None:
        """Hash of the content of a case's files, None where one cannot be read."""
        assert isinstance(case, ReleaseCase)
        rows = case.rows
        if self._source.place.archive is not None:
            return self._source.content_of(rows)
        known = self._cases.get(_name(case))
        if known is None or (known.size, known.modified_ns) != _state(rows):
            content, files = content_of(case, self._source)
            self.add(files)
            return content
        return known.sha256

    def write(self, out: Path, source: str) -> None:
        """Keep it in an output folder."""
        if self._source.place.archive is None:
            record = [astuple(case) for _, case in sorted(self._cases.items())]
            write_atomic(_place(out, source), json.dumps(record).encode("utf-8", "surrogateescape") + b"\n")

    @classmethod
    def read(cls, out: Path, source: ReleaseSource) -> KnownRelease:
        """What an output folder keeps; nothing where that cannot be read, so that every file is read again."""
        try:
            record = json.loads(_place(out, source.recipe.name).read_bytes())
            return cls(source, [FileContent(*entry) for entry in record])
        except (OSError, ValueError, TypeError):
            return cls(source)


def content_of(case: ReleaseCase, source: ReleaseSource) -> tuple[str | None, tuple[FileContent, ...]]:
    """Hash of the content of a case's files, and what to remember of it; None where a file cannot be read."""
    rows = case.rows
    if source.place.archive is not None:
        return source.content_of(rows), ()
    reader = source.reader()
    try:
        content = source.content_of([row._replace(crc32=isal_zlib.crc32(reader.read(row))) for row in rows])
    except UnreadableError:  # the conversion says which
        return None, ()
    return content, (FileContent(_name(case), *_state(rows), content),)


def has_changed(case: ReleaseCase, source: ReleaseSource) -> bool:
    """Whether a file of a case is other than it was when the release was listed; in an archive check sums tell."""
    return source.place.archive is None and any(_moved(row, source.place.path) for row in case.rows)


def _moved(row: Row, root: Path) -> bool:
    try:
        state = (root / row.path).stat()
    except OSError:
        return True
    return (state.st_size, max(0, state.st_mtime_ns)) != (row.size, row.address)


def _name(case: ReleaseCase) -> str:
    return f"{case.modality}/{case.name}"


def _state(rows: Sequence[Row]) -> tuple[int, int]:
    """Size and time of all files of a case, as two numbers."""
    text = "\n".join(f"{row.path}\0{row.size}\0{row.address}" for row in rows)
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return sum(row.size for row in rows), int.from_bytes(digest[:7], "big")


def _place(out: Path, source: str) -> Path:
    return out / BUILD / "contents" / f"{source}.json"
