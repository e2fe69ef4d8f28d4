"""The files that a source is made of, wherever they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from builder.fetch.fault import FetchError
from builder.sources.download import DownloadFile


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch.

    Attributes:
        url: Its address.
        name: What it is called on disk.
        folder: Folder below the source's root into which it goes, or is unpacked; empty for the root.
        size: Its bytes, where known.
        sha256: Its checksum, where known.
        md5: Its checksum, where known.
        archive: Kind of archive, None for a file that stays as it is.
        inside: Folder inside of the archive whose content is unpacked.
        images: How many DICOM files the archive must hold, for hosts that make archives without a checksum.
    """

    url: str
    name: str
    folder: str = ""
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    archive: str | None = None
    inside: str = ""
    images: int | None = None

    @property
    def path(self) -> str:
        """Where it goes below the source's root; for an archive the name of that place together with its own."""
        return str(PurePosixPath(self.folder, self.name))


def name_in(url: str) -> str:
    """The last part of an address, without its query.

    >>> name_in("https://example.org/a%20b/scans.zip?download=1")
    'scans.zip'
    """
    return PurePosixPath(unquote(urlsplit(url).path)).name


def remote_file(file: DownloadFile) -> RemoteFile:
    """What a recipe says of a file.

    Raises:
        FetchError: Neither it nor its address says how it is called.
    """
    return RemoteFile(
        url=file.url,
        name=safe_name(file.name or name_in(file.url), file.url),
        folder=file.folder,
        size=file.size,
        sha256=file.sha256,
        md5=file.md5,
        archive=file.archive,
        inside=file.inside,
    )


def safe_name(name: str, url: str) -> str:
    """A name that a recipe or a host gives, if it is the name of a file and nothing else.

    Raises:
        FetchError: It is none.
    """
    if not name or name in (".", "..") or set(name) & set("/\\\0"):
        raise FetchError(f"{url}: {name!r} is no name of a file; give the file one with download.files.name")
    return name
