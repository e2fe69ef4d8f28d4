"""Files of a record of Zenodo, with the sizes and checksums that Zenodo gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from builder.fetch.fault import FetchError
from builder.fetch.host import Host
from builder.fetch.listing import RemoteFile, name_in, remote_file, safe_name
from builder.sources.download import Download

ADDRESS: Final = "SA_MED2D_ZENODO_URL"
"""Environment variable with the address of Zenodo, for mirrors and tests."""
_ENDINGS: Final = {
    ".zip": "zip",
    ".tar": "tar",
    ".tar.gz": "tar",
    ".tgz": "tar",
    ".tar.bz2": "tar",
    ".tar.xz": "tar",
    ".7z": "7z",
    ".rar": "rar",
}


def files_of(download: Download, host: Host) -> tuple[RemoteFile, ...]:
    """The files of the record, or those of them that the recipe names.

    Raises:
        FetchError: Zenodo does not answer, or the record lacks a file that the recipe names.
    """
    address = f"{os.environ.get(ADDRESS, 'https://zenodo.org').rstrip('/')}/api/records/{download.zenodo}"
    record = host.json(address)
    try:
        found = {file.name: file for file in _listed(record, address)}
    except (KeyError, TypeError, ValueError):
        wanted = "expected the files of a record, each with key, size and links"
        raise FetchError(f"{address}: {wanted}; it may be closed to the public: see its page") from None
    if not download.files:
        return tuple(found.values())
    named = [remote_file(file) for file in download.files]
    missing = [file.name for file, own in zip(named, download.files, strict=True) if _key(file, own.url, found) is None]
    if missing:
        held = ", ".join(sorted(found)[:10])
        raise FetchError(f"{address}: expected {', '.join(missing)} among its files, it has {held}")
    return tuple(
        _joined(file, found[_key(file, own.url, found) or ""]) for file, own in zip(named, download.files, strict=True)
    )


def _listed(record: dict[str, list[dict[str, object]]], address: str) -> Iterator[RemoteFile]:
    for file in record["files"]:
        name, links = safe_name(str(file["key"]), address), file["links"]
        if not isinstance(links, dict):
            raise TypeError
        kind, _, checksum = str(file.get("checksum", "")).partition(":")
        ending = next(
            (ending for ending in sorted(_ENDINGS, key=len, reverse=True) if name.lower().endswith(ending)), ""
        )
        md5 = checksum if kind == "md5" else None
        yield RemoteFile(str(links["self"]), name, size=int(str(file["size"])), md5=md5, archive=_ENDINGS.get(ending))


def _key(file: RemoteFile, url: str, found: dict[str, RemoteFile]) -> str | None:
    """The record's name of a file: that of the recipe, or the last part of its address that is one."""
    parts = [file.name, name_in(url), *reversed(url.partition("?")[0].split("/"))]
    return next((part for part in parts if part in found), None)


def _joined(file: RemoteFile, listed: RemoteFile) -> RemoteFile:
    """What the recipe says, completed by what Zenodo says."""
    return RemoteFile(
        listed.url,
        listed.name if file.name == "content" else file.name,  # the last part of Zenodo's own links
        file.folder,
        file.size or listed.size,
        file.sha256,
        file.md5 or listed.md5,
        file.archive,
        file.inside,
    )
