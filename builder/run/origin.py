"""Where the cases of a source come from: its own files, or the original release.

All that differs between the two while cases become pieces is here; plan, executors, shards, receipts and resume are the
same for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from builder.cases.case import Case
from builder.conversion.convert import Converted, convert
from builder.release.convert import convert_release
from builder.release.source import ReleaseCase, ReleaseSource
from builder.run import contents, release_contents
from builder.run.contents import FileContent, KnownContents
from builder.run.release_contents import KnownRelease
from builder.sources.source import Source
from shards.description import Repacked


class Contents(Protocol):
    """What is known of the content of a source's files."""

    def add(self, files: Iterable[FileContent], /) -> None:
        """Take in what was hashed elsewhere."""
        ...

    def of(self, case: Case, /) -> str | None:
        """Hash of the content of a case's files, None where one cannot be read."""
        ...

    def write(self, out: Path, source: str, /) -> None:
        """Keep it in an output folder."""
        ...


def known_contents(out: Path, source: Source) -> Contents:
    """What an output folder keeps of the content of a source's files."""
    if isinstance(source, ReleaseSource):
        return KnownRelease.read(out, source)
    return KnownContents.read(out, source.recipe.name, source.root)


def repacked_of(source: Source) -> Repacked | None:
    """Which release a source was imported from, None where it was built from its own files."""
    if isinstance(source, ReleaseSource):
        return Repacked(source.version, source.naming, tuple(sorted(source.repairs)))
    return None


def content_of(case: Case, source: Source) -> tuple[str | None, tuple[FileContent, ...]]:
    """Hash of the content of a case's files, None where one cannot be read; and what to remember of them."""
    if isinstance(source, ReleaseSource) and isinstance(case, ReleaseCase):
        return release_contents.content_of(case, source)
    return contents.content_of(case, source.root)


def has_changed(case: Case, source: Source, files: Sequence[FileContent]) -> bool:
    """Whether a file of a case is other than it was when it was hashed or listed."""
    if isinstance(source, ReleaseSource) and isinstance(case, ReleaseCase):
        return release_contents.has_changed(case, source)
    return contents.has_changed(case, source.root, files)


def convert_case(case: Case, source: Source) -> Converted:
    """The samples of a case; raises `builder.errors.CaseError` where it cannot be built."""
    if isinstance(source, ReleaseSource) and isinstance(case, ReleaseCase):
        return convert_release(case, source)
    return convert(case, source)
