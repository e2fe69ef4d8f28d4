"""The content of source files, as hashes: what tells a changed file from one that was copied."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path

from builder.cases.case import Case
from builder.errors import CaseError
from builder.readers import files as readers
from shards.atomic import write_atomic
from shards.paths import BUILD


@dataclass(frozen=True)
class FileContent:
    """A file as it was when it was hashed.

    Attributes:
        path: Below the source's root, as it is shown to others.
        size: In bytes.
        modified_ns: Time of its last change.
        sha256: Of its content.
    """

    path: str
    size: int
    modified_ns: int
    sha256: str


class KnownContents:
    """The hashes of a source's files, kept so that a file whose size and time are the same is not read again.

    Args:
        root: Root of the source.
        files: What is known.
    """

    def __init__(self, root: Path, files: Iterable[FileContent] = ()) -> None:
        self._root = root
        self._files = {file.path: file for file in files}

    def add(self, files: Iterable[FileContent]) -> None:
        """Take in what was hashed elsewhere."""
        self._files.update((file.path, file) for file in files)

    def of(self, case: Case) -> str | None:
        """Hash of the content of a case's files, as `content_of` gives it."""
        found = []
        for path, shown in files_of(case, self._root):
            known = self._files.get(shown)
            if known is None or (known.size, known.modified_ns) != _state(path):
                known = _hashed(path, shown)
                if known is None:
                    return None
                self._files[shown] = known
            found.append(known)
        return _digest(found)

    def write(self, out: Path, source: str) -> None:
        """Keep them in an output folder."""
        record = [astuple(file) for _, file in sorted(self._files.items())]
        write_atomic(_place(out, source), json.dumps(record).encode("utf-8", "surrogateescape") + b"\n")

    @classmethod
    def read(cls, out: Path, source: str, root: Path) -> KnownContents:
        """What an output folder keeps; nothing where that cannot be read, so that every file is hashed again."""
        try:
            record = json.loads(_place(out, source).read_bytes())
            return cls(root, [FileContent(*entry) for entry in record])
        except (OSError, ValueError, TypeError):
            return cls(root)


def content_of(case: Case, root: Path) -> tuple[str | None, tuple[FileContent, ...]]:
    """Hash of the content of a case's files.

    Returns:
        The hash, None where a file cannot be read; and the files.
    """
    found = [_hashed(path, shown) for path, shown in files_of(case, root)]
    files = tuple(file for file in found if file is not None)
    return (_digest(files) if len(files) == len(found) else None), files


def has_changed(case: Case, root: Path, files: Sequence[FileContent]) -> bool:
    """Whether any file of a case is other than it was when it was hashed, by size and time."""
    now = [_state(path) for path, _ in files_of(case, root)]
    return now != [(file.size, file.modified_ns) for file in files]


def files_of(case: Case, root: Path) -> Iterator[tuple[Path, str]]:
    """The files that a case is read from, each with its path as it is shown.

    A header brings the file that holds its pixels, a series folder all its files. These are told apart by number: in a
    source whose names are hashed, theirs may be identifiers.
    """
    shown = dict(case.shown)
    for path in case.paths:
        for number, file in enumerate(opened_for(root, path, case.members(path))):
            yield file, f"{shown.get(path, path)}{f'+{number}' if number else ''}"


def size_of(root: Path, path: str, members: Sequence[str] = ()) -> int:
    """Bytes of all files that are opened for a file or folder of a source; 0 where they cannot be looked at."""
    return sum(max(0, _state(file)[0]) for file in opened_for(root, path, members))


def opened_for(root: Path, path: str, members: Sequence[str] = ()) -> Sequence[Path]:
    """Every file that is opened for a file or folder of a source; the file alone where its reader refuses it."""
    try:
        return readers.files_of(root, path, [root / member for member in members])
    except CaseError:  # annotations, and what cannot be read, of which the conversion says why
        return [root / path]


def _state(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _hashed(path: Path, shown: str) -> FileContent | None:
    size, modified_ns = _state(path)
    if size < 0 or not path.is_file():
        return None
    try:
        return FileContent(shown, size, modified_ns, _sha256(path, size, modified_ns))
    except OSError:  # the reader says what is wrong with it
        return None


@lru_cache(maxsize=64)
def _sha256(path: Path, _size: int, _modified_ns: int) -> str:
    """Hash of a file; cases share files, as the frames of a 4D image do."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(files: Iterable[FileContent]) -> str:
    return hashlib.sha256("\n".join(file.sha256 for file in files).encode()).hexdigest()


def _place(out: Path, source: str) -> Path:
    return out / BUILD / "contents" / f"{source}.json"
