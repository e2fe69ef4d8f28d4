"""What goes into a repository: files as they were judged, and texts that are written for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shards.hub.errors import PublishError
from shards.store import fetch
from shards.tar import sha256_of


@dataclass(frozen=True)
class JudgedFile:
    """A file of an output folder, and the bytes that the gate has judged.

    Attributes:
        out: Output folder.
        path: Path below it, and in the repository.
        sha256: Of the bytes that were judged.
        size: Number of these bytes.
    """

    out: Path
    path: str
    sha256: str
    size: int

    def copy_to(self, folder: Path) -> Path:
        """Copy it below a folder that nothing else writes to.

        Returns:
            The copy, which has the bytes that were judged.

        Raises:
            PublishError: It is no longer what was judged.
        """
        copy = folder / self.path
        try:
            fetch(self.out / self.path, copy)
        except FileNotFoundError:
            raise self._changed() from None
        with copy.open("rb") as file:
            if sha256_of(file) != (self.sha256, self.size):
                raise self._changed()
        return copy

    def read(self) -> bytes:
        """Its content, for small files.

        Raises:
            PublishError: It is no longer what was judged.
        """
        try:
            data = (self.out / self.path).read_bytes()
        except FileNotFoundError:
            raise self._changed() from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise self._changed()
        return data

    def _changed(self) -> PublishError:
        return PublishError(
            f"{self.out / self.path} is no longer what was verified: something else writes to this folder; nothing of "
            "it was published; wait for that to end, and run the same command again"
        )


Content = JudgedFile | bytes
"""A file of the output folder, or a text that is written for the repository."""


def size_of(content: Content) -> int:
    """Number of bytes."""
    return len(content) if isinstance(content, bytes) else content.size


def git_oid(data: bytes) -> str:
    """The name that git gives to content: sha1 of a header and the content."""
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest()
