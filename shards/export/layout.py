"""What a layout is: which files a sample becomes, and what is written once all samples are there."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, Protocol

from shards.description import SourceDescription
from shards.export.sample import Sample


@dataclass(frozen=True)
class Overview:
    """What is known of an export before a sample is read.

    Attributes:
        target: The folder, as the user named it.
        labels: Class name -> number of images that show it, sorted by name.
        labels_of: Source -> names of its classes in the export, sorted.
        kinds: Source, modality and sub-modality of what may be in the export, sorted.
        sources: Source -> what the dataset says of it, where it does.
        splits: Splits that have images, sorted.
        licenses: Licences of the shards, in lower case, sorted.
        images: Number of images.
        masks: Number of masks.
    """

    target: str
    labels: Mapping[str, int]
    labels_of: Mapping[str, tuple[str, ...]]
    kinds: tuple[tuple[str, str, str], ...]
    sources: Mapping[str, SourceDescription]
    splits: tuple[str, ...]
    licenses: tuple[str, ...]
    images: int
    masks: int


class Unit(Protocol):
    """Takes what a layout makes of a run of samples. It counts when the run is finished, and only then."""

    def file(self, path: str, data: bytes) -> None:
        """Write a file, whole or not at all.

        Args:
            path: Below the target folder.
            data: Its content.

        Raises:
            ExportError: The path leads elsewhere, is written twice, or there is no room.
        """

    def entry(self, document: str, text: str) -> None:
        """Keep one line for a document that `Layout.finish` writes: entries come back in the order of the samples.

        Args:
            document: Name of the document, of small letters, digits, ``_``, ``-``.
            text: Without a line break.
        """

    def count(self, name: str, by: float = 1) -> None:
        """Add to a number that is summed over the whole export."""

    def note(self, name: str, value: Any) -> None:
        """Remember a JSON value among those of a name; each is there once, see `Gathered.notes`."""


class Gathered(Protocol):
    """What all units together left, for the end of an export."""

    def lines(self, document: str) -> Iterator[bytes]:
        """The entries of a document in the order of the samples, without line breaks."""

    def counted(self, name: str) -> float:
        """A sum."""

    def notes(self, name: str) -> list[Any]:
        """The values of a name, in one order whatever order they came in."""

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Write a file of the target folder: it is there when the block ends."""


class Layout(ABC):
    """One layout. Processes make their own, so what it remembers between samples ends with a unit.

    The samples of a case come one after another and in one unit.

    Attributes:
        whole_cases: Whether its files are of cases, not of samples.
    """

    whole_cases: ClassVar[bool] = False

    def __init__(self, overview: Overview) -> None:
        self.overview = overview

    @abstractmethod
    def add(self, sample: Sample, unit: Unit) -> None:
        """Write what a sample becomes."""

    def end(self, unit: Unit) -> None:  # noqa: B027 - most layouts write each sample by itself
        """Called after the last sample of a unit."""

    @abstractmethod
    def finish(self, gathered: Gathered) -> list[str]:
        """Write the documents over all samples.

        Returns:
            Sentences that the user should read.
        """


def write_json_list(file: BinaryIO, lines: Iterable[bytes]) -> None:
    """Write entries as they come, as the elements of a JSON list or the members of an object, without its brackets."""
    before = b"\n"
    for line in lines:
        file.write(before + line)
        before = b",\n"
    file.write(b"\n")


def write_document(file: BinaryIO, head: Mapping[str, Any], lists: Mapping[str, Iterable[bytes]]) -> None:
    """Write an object of some members and of lists whose entries come one by one."""
    file.write(as_json(head)[:-1].encode())
    for name, lines in lists.items():
        file.write(f',\n"{name}":['.encode())
        write_json_list(file, lines)
        file.write(b"]")
    file.write(b"}\n")


def as_json(value: Any) -> str:
    """A value on one line, the same text for the same value."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def member(name: str, value: Any) -> str:
    """A member of a JSON object on one line."""
    return f"{json.dumps(name, ensure_ascii=False)}:{as_json(value)}"
