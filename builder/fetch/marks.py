"""What is fetched already: a mark for each file, written last, in a hidden folder of the source."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from builder.fetch.listing import RemoteFile
from shards.atomic import write_atomic

FOLDER: Final = ".fetched"
"""Below the root of a source; hidden, so that a build does not look into it."""


@dataclass(frozen=True)
class Mark:
    """One file that was fetched.

    Attributes:
        path: Of the file, or of the archive, as `RemoteFile.path` has it.
        url: Its address, without the query, which may hold a secret.
        size: Its bytes.
        sha256: Its checksum, computed here.
        archive: Kind of archive.
        inside: Folder of the archive that was unpacked.
        members: What came of it, as paths below the source's root.
    """

    path: str
    url: str
    size: int
    sha256: str
    archive: str | None
    inside: str
    members: tuple[str, ...]


def mark_of(remote: RemoteFile, size: int, sha256: str, members: list[str]) -> Mark:
    """The mark of a file that was just fetched."""
    return Mark(remote.path, _place(remote.url), size, sha256, remote.archive, remote.inside, tuple(members))


def write_mark(root: Path, mark: Mark) -> None:
    """Say that a file is here."""
    write_atomic(_file(root, mark.path), json.dumps(asdict(mark), indent=1).encode())


def is_fetched(root: Path, remote: RemoteFile) -> Mark | None:
    """The mark of a file that is here as the recipe asks for it now: the same file, and all that came of it."""
    try:
        record = json.loads(_file(root, remote.path).read_text(encoding="utf-8"))
        mark = Mark(**(record | {"members": tuple(record["members"])}))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = (mark.url, mark.archive, mark.inside) == (_place(remote.url), remote.archive, remote.inside)
    same = same and remote.size in (None, mark.size) and remote.sha256 in (None, mark.sha256)
    return mark if same and all((root / member).exists() for member in mark.members) else None


def _place(url: str) -> str:
    return url.partition("?")[0]


def _file(root: Path, path: str) -> Path:
    return root / FOLDER / f"{hashlib.sha256(path.encode()).hexdigest()[:24]}.json"
