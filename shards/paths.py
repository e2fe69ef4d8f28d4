"""Where things lie in a built folder: the path alone says modality, licence, source and split."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sa_med2d_20m import CARD, DATA, INDEX, PREVIEW, SPLITS, DatasetError
from shards.store import listing

__all__ = [
    "BUILD",
    "CARD",
    "DATA",
    "DEDUP",
    "FIGURES",
    "FINGERPRINTS",
    "INDEX",
    "MANIFESTS",
    "PIECES",
    "PREVIEWS",
    "PREVIOUS",
    "RECEIPTS",
    "REPORT",
    "SOURCES",
    "TABLES",
    "ShardId",
    "contact_sheet",
    "manifest_file",
    "picture_file",
    "source_file",
    "stems",
]

BUILD: Final = "build"
"""What stays at home; the card, data and index are published."""
RECEIPTS: Final = f"{BUILD}/receipts"
SOURCES: Final = f"{BUILD}/sources"
MANIFESTS: Final = "sources"
"""In a repository: not below the index, which readers of Parquet take as a whole."""
TABLES: Final = "tables"
"""The rows of all indexes together, for SQL."""
REPORT: Final = "report"
"""Statistics and figures of a folder, which stay there."""
FIGURES: Final = "figures"
"""In a report; and in a repository, those that its card shows."""
PIECES: Final = f"{BUILD}/pieces"
"""Cases that are converted and not yet in a shard."""
PREVIEWS: Final = f"{BUILD}/previews"
"""A contact sheet of each source, for whoever builds; and the picture that the card begins with."""
DEDUP: Final = f"{BUILD}/dedup"
"""What a build decided about copies."""
FINGERPRINTS: Final = f"{BUILD}/fingerprints"
"""What is kept of images so that copies of them are found."""
PREVIOUS: Final = f"{BUILD}/previous"
"""Shards of an earlier build that cases are taken from."""
_STEM = re.compile(
    r"(?P<modality>[a-z0-9_]+)/(?P<license>[a-z0-9.+-]+)/(?P<source>[A-Za-z0-9_-]+)/"
    rf"(?P<split>{'|'.join(SPLITS)})-(?P<number>\d{{5,}})"
)


@dataclass(frozen=True, order=True)
class ShardId:
    """The name of one shard.

    Attributes:
        modality: Modality of all its samples.
        license: SPDX identifier in lower case, as in the path.
        source: Name of the source.
        split: Split of all its samples.
        number: From 0, without gaps, within source and split.

    >>> ShardId("ct", "cc-by-4.0", "LiTS", "train", 3).tar
    'data/ct/cc-by-4.0/LiTS/train-00003.tar'
    """

    modality: str
    license: str
    source: str
    split: str
    number: int

    @property
    def stem(self) -> str:
        """The path without root folder and suffix."""
        return f"{self.modality}/{self.license}/{self.source}/{self.split}-{self.number:05d}"

    @property
    def tar(self) -> str:
        """Path of the shard below the output folder."""
        return f"{DATA}/{self.stem}.tar"

    @property
    def index(self) -> str:
        """Path of its index below the output folder."""
        return f"{INDEX}/{self.stem}.parquet"

    @property
    def glob(self) -> str:
        """The shards of this modality, licence and split of whatever source, as a pattern for a card."""
        return f"{DATA}/{self.modality}/{self.license}/*/{self.split}-*.tar"

    @property
    def source_glob(self) -> str:
        """The shards of this split of the source alone, as a pattern for a card."""
        return f"{DATA}/{self.modality}/{self.license}/{self.source}/{self.split}-*.tar"

    @property
    def receipt(self) -> str:
        """Path of its receipt below the output folder."""
        return f"{RECEIPTS}/{self.stem}.json"

    @classmethod
    def parse(cls, stem: str) -> ShardId:
        """Read a stem back.

        Raises:
            DatasetError: It is none.
        """
        match = _STEM.fullmatch(stem)
        if match is None:
            raise DatasetError(f"{stem!r} is no shard name: expected modality/licence/source/split-00000")
        return cls(match["modality"], match["license"], match["source"], match["split"], int(match["number"]))


def stems(out: Path, folder: str, suffix: str) -> dict[str, Path]:
    """All files with a suffix below ``out/folder``, by their path without folder and suffix, sorted."""
    return {name.removesuffix(suffix): out / folder / name for name in listing(out, folder) if name.endswith(suffix)}


def manifest_file(source: str) -> str:
    """Path, in a repository, of what is published of a source."""
    return f"{MANIFESTS}/{source}.json"


def contact_sheet(source: str, checksums: Iterable[str]) -> str:
    """Path of the contact sheet of a source below the output folder.

    Args:
        source: Name of the source.
        checksums: SHA-256 of its shards: a sheet of others has another name.
    """
    return f"{PREVIEWS}/{source}.{hashlib.sha256(' '.join(sorted(checksums)).encode()).hexdigest()[:16]}.png"


def picture_file(source: str) -> str:
    """Path, in a repository, of the picture of a source that its card may show."""
    return f"{PREVIEW}/{source}.jpg"


def source_file(source: str) -> str:
    """Path of what is known about a source (title, licence, evidence, classes) below the output folder."""
    return f"{SOURCES}/{source}.json"
