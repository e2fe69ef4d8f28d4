"""A page of samples as a file: their pictures are read from the shards and written into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shards.atomic import open_atomic
from shards.console import counting, plural
from shards.description import SourceDescription
from shards.report.choose import Entry
from shards.report.findings.look import Looked
from shards.report.gallery import TITLE, write_gallery
from shards.report.pictures import read_pictures

if TYPE_CHECKING:
    from rich.console import Console

_Thing = TypeVar("_Thing")


def write_page(
    out: Path,
    page: Path,
    entries: Sequence[Entry],
    sources: Mapping[str, SourceDescription],
    *,
    speaker: Console,
    looked: Looked | None,
    title: str = TITLE,
) -> str:
    """Write a page of samples, and of what looks wrong in them.

    Args:
        out: Output folder, wherever it lies.
        page: The file.
        entries: What it shows, in their order.
        sources: What is known of their sources.
        speaker: Told how far it is.
        looked: What looks wrong; None where nobody looked.
        title: What the page is called.

    Returns:
        A sentence about it.

    Raises:
        DatasetError: A shard does not hold what its index says.
    """
    rows = [row for entry in entries for row in entry.rows]
    found = None if looked is None else looked.record()
    with counting(speaker, "reading pictures") as count, open_atomic(page) as file:
        pictures = _told(read_pictures(out, rows), len(rows), count)
        write_gallery(file, entries, pictures, sources, findings=found, title=title)
        size = file.tell()
    volumes = sum(len(entry.rows) > 1 for entry in entries)
    of_volumes = f", among them slices of {plural(volumes, 'volume')}" if volumes else ""
    return f"{page}: {plural(len(rows), 'picture')}{of_volumes}, {size / 1e6:.1f} MB"


def _told(things: Iterable[_Thing], total: int, count: Callable[[int, int], None]) -> Iterator[_Thing]:
    """The same things; says how many have come."""
    for number, thing in enumerate(things, 1):
        count(number, total)
        yield thing
