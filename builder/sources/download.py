"""How the files of a source are had: what ``sa-med2d fetch`` does, or what a person must do."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from builder.sources.table import Table

ARCHIVES: Final = ("zip", "tar", "gz", "rar", "7z")
"""Kinds of archives; a tar may be compressed in any way that Python's ``tarfile`` knows."""


def _below(folder: str) -> str:
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or "\\" in folder:
        raise ValueError("expected a relative folder without .., with forward slashes")
    return folder


class DownloadFile(Table):
    """One file of ``[[download.files]]``.

    Attributes:
        url: Its address.
        name: What it is called on disk; the last part of the address where it is left out.
        size: Its bytes.
        sha256: Its checksum.
        md5: Its checksum, where the host gives no better one.
        archive: What it is, so that it is unpacked: ``zip``, ``tar``, ``gz`` (one compressed file), ``rar`` or ``7z``.
        folder: Folder below the source's root into which it goes, or is unpacked.
        inside: Folder inside of the archive whose content is unpacked; all of it where it is left out.
    """

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    name: Annotated[str, Field(pattern=r"^[^/\\\s][^/\\]*$")] | None = None
    size: Annotated[int, Field(gt=0)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    archive: Literal[ARCHIVES] | None = None  # type: ignore[valid-type]
    folder: Annotated[str, AfterValidator(_below)] = ""
    inside: Annotated[str, AfterValidator(_below)] = ""

    @model_validator(mode="after")
    def _inside_of_what(self) -> Self:
        if self.inside and self.archive in (None, "gz"):
            raise ValueError("inside: is a folder of an archive of several files, and archive names none")
        return self


class Download(Table):
    """``[download]``: where the files are, or how they are asked for.

    Attributes:
        files: See `DownloadFile`.
        zenodo: Number of a record of Zenodo; its files are fetched, with the sizes and checksums that Zenodo gives.
            Where ``files`` names some of them, by name or by the last part of the address, only these are fetched;
            else all, and archives among them, which their endings tell, are unpacked.
        hub: Dataset repository on the Hugging Face Hub.
        revision: Commit or tag of ``hub``.
        tcia: Collection of The Cancer Imaging Archive.
        steps: What a person must do, in order, where no program may: register, accept terms, unpack.
    """

    files: list[DownloadFile] = []
    zenodo: Annotated[str, Field(pattern=r"^\d+$")] | None = None
    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    revision: str | None = None
    tcia: Annotated[str, Field(min_length=1)] | None = None
    steps: list[Annotated[str, Field(min_length=1)]] = []

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        places = [name for name in ("zenodo", "hub", "tcia") if getattr(self, name) is not None]
        if len(places) > 1:
            raise ValueError(f"{' and '.join(places)} exclude each other; a source of two places is two recipes")
        if self.files and places and places != ["zenodo"]:
            raise ValueError(f"files and {places[0]} exclude each other")
        if self.revision is not None and self.hub is None:
            raise ValueError("revision: belongs to hub, which is not given")
        if not (self.files or places or self.steps):
            raise ValueError("expected files, zenodo, hub, tcia or steps")
        return self

    @property
    def automatic(self) -> bool:
        """Whether a program can fetch it without a person."""
        return bool(self.files or self.zenodo or self.hub or self.tcia)
