"""What a cache has to hold: its shards, what each takes on disk, and which of them it holds already."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sa_med2d_20m import (
    CACHE_COLUMNS,
    CACHE_PARTS,
    CacheReceipt,
    CacheSettings,
    DatasetError,
    cache_receipt,
    cache_stamp,
    decode_png,
    quoted_command,
)
from shards.paths import ShardId

_HEADER: Final = 26
"""Bytes of a PNG up to its bit depth and its kind of colour."""
_COLUMNS: Final = ("image_offset", "image_size", "mask_offset", "mask_size", "json_size", "masks", "intensity")
_NPY: Final = 128
"""Bytes of the header of an array."""
_PLACES: Final = 4
"""Numbers that say where a sample lies in the files."""
_LINE: Final = 80
"""Bytes that a line of the records has more than the metadata of the shard. What it says of lost masks is less than
what the metadata says of masks, which it leaves out."""


@dataclass(frozen=True)
class Task:
    """A shard that the cache does not hold yet, or not as it is now.

    Attributes:
        shard: Its name.
        index: SHA-256 of its index.
        tar: SHA-256 of it by its receipt, or null.
        samples: How many it has.
        layers: How many layers its label maps have together.
        coloured: Whether any image has three channels, so that the cache has them of all.
        types: Of the pixels of images and of label maps: ``uint8``, or ``uint16`` where any has 16 bit.
        unfit: How images were scaled of which the window of the cache cannot be had.
        bytes: What it takes on disk, at most.
    """

    shard: ShardId
    index: str
    tar: str | None
    samples: int
    layers: int
    coloured: bool
    types: tuple[str, str]
    unfit: tuple[str, ...]
    bytes: int

    def shapes(self, size: tuple[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the arrays of images and of layers, for a height and width."""
        colours = (3,) if self.coloured else ()
        return (self.samples, *size, *colours), (self.layers, *size)


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    Attributes:
        tasks: Shards to write, in the order of their paths.
        held: Receipts of those that are there already.
        gone: Receipts of those that are no longer in the output folder.
        receipts: All that the cache has.
    """

    tasks: tuple[Task, ...]
    held: tuple[CacheReceipt, ...]
    gone: tuple[CacheReceipt, ...]
    receipts: dict[str, CacheReceipt]

    @property
    def bytes(self) -> int:
        """What is written, at most."""
        return sum(task.bytes for task in self.tasks)

    @property
    def total(self) -> int:
        """What the cache has on disk afterwards, at most."""
        return self.bytes + sum(receipt.bytes for receipt in self.held)


def plan(out: Path, to: Path, settings: CacheSettings, wanted: Collection[ShardId], every: Collection[ShardId]) -> Plan:
    """Compare a cache with the folder that it is made of.

    Args:
        out: Output folder.
        to: Folder of the cache.
        settings: Of the cache.
        wanted: Shards of the output folder that the cache shall hold; others that it holds stay.
        every: All shards of the output folder.
    """
    receipts = read_receipts(to)
    tasks, done = [], set()
    for shard in sorted(wanted):
        stamp = _stamp(out, shard)
        receipt = receipts.get(shard.stem)
        if receipt is not None and receipt.is_of(*stamp) and is_whole(to, receipt):
            done.add(shard.stem)
        else:
            tasks.append(_task(out, shard, stamp, settings))
    there = {shard.stem for shard in every}
    written = {task.shard.stem for task in tasks}
    return Plan(
        tuple(tasks),
        tuple(receipt for stem, receipt in receipts.items() if stem in there and stem not in written),
        tuple(receipt for stem, receipt in receipts.items() if stem not in there),
        receipts,
    )


def _stamp(out: Path, shard: ShardId) -> tuple[str, str | None]:
    try:
        return cache_stamp(lambda below: (out / below).read_bytes(), shard.tar)
    except FileNotFoundError as error:
        again = quoted_command("index", out)
        raise DatasetError(f"{error.filename} is missing; {again} writes it again") from None


def read_index(out: Path, shard: ShardId, columns: Collection[str]) -> pa.Table:
    """Columns of the index of a shard.

    Raises:
        DatasetError: It is damaged.
    """
    try:
        return pq.read_table(out / shard.index, columns=list(columns))
    except (pa.ArrowException, OSError, ValueError) as error:
        reason, again = str(error).splitlines()[0], quoted_command("index", out)
        raise DatasetError(f"{out / shard.index} is damaged: {reason}; {again} writes it again") from None


def read_receipts(to: Path) -> dict[str, CacheReceipt]:
    """Receipts of a cache by the shards that they are of; what is none counts as missing."""
    found = {}
    for path in sorted(to.glob("*/*/*/*.json")):
        try:
            receipt = cache_receipt(path.read_bytes())
        except DatasetError:
            continue
        if path == to / f"{receipt.shard}.json":
            found[receipt.shard] = receipt
    return found


def size_of(to: Path) -> int:
    """Bytes of a cache on disk, by its receipts."""
    return sum(receipt.bytes for receipt in read_receipts(to).values())


def write_bytes(receipt: CacheReceipt) -> bytes:
    """A receipt as it stands on disk."""
    return json.dumps(dataclasses.asdict(receipt), indent=1).encode() + b"\n"


def files_of(to: Path, stem: str) -> list[Path]:
    """The files that a cache has of a shard, its receipt first."""
    return [to / f"{stem}.json", *(to / f"{stem}.{part}" for part in CACHE_PARTS)]


def is_whole(to: Path, receipt: CacheReceipt) -> bool:
    """Whether the files of a shard have the size that their receipt says."""
    return sum(map(size_on_disk, files_of(to, receipt.shard)[1:])) == receipt.bytes


def size_on_disk(path: Path) -> int:
    """Bytes of a file; 0 where it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _task(out: Path, shard: ShardId, stamp: tuple[str, str | None], settings: CacheSettings) -> Task:
    table = read_index(out, shard, _COLUMNS)
    masks = table["masks"].combine_chunks()
    entries, owner = pc.list_flatten(masks), pc.list_parent_indices(masks).to_numpy()
    layers = np.ones(table.num_rows, np.int64)
    np.maximum.at(layers, owner, pc.struct_field(entries, "layer").to_numpy() + 1)
    places = {name: table[name].to_numpy() for name in _COLUMNS[:4]}
    handle = os.open(out / shard.tar, os.O_RDONLY)
    try:
        images = _kinds(handle, out, shard, places["image_offset"], places["image_size"])
        maps = _kinds(handle, out, shard, places["mask_offset"], places["mask_size"])
    finally:
        os.close(handle)
    scalings = pc.struct_field(table["intensity"].combine_chunks(), "scaling").to_pylist()
    unfit = tuple(sorted({str(scaling) for scaling in set(scalings) if not settings.windows(scaling)}))
    coloured = settings.channels is None and any(channels == 3 for _, channels in images)
    # a window makes 8 bit of what it is for
    kept = ["lossless"] if settings.window is not None else []
    wide = any(bits == 16 and how not in kept for (bits, _), how in zip(images, scalings, strict=True))
    types = _type(wide=wide), _type(wide=any(bits == 16 for bits, _ in maps))
    task = Task(shard, *stamp, table.num_rows, int(layers.sum()), coloured, types, unfit, 0)
    arrays = sum(
        int(np.prod(shape)) * np.dtype(kind).itemsize + _NPY
        for shape, kind in zip(task.shapes(settings.size), types, strict=True)
    )
    texts = int(table["json_size"].to_numpy().sum()) + _LINE * table.num_rows
    numbers = len(CACHE_COLUMNS) * len(entries) + _PLACES * (table.num_rows + 1)
    return dataclasses.replace(task, bytes=arrays + texts + 8 * numbers + 2 * _NPY)


def _type(*, wide: bool) -> str:
    return "uint16" if wide else "uint8"


def _kinds(
    handle: int, out: Path, shard: ShardId, offsets: npt.NDArray[Any], sizes: npt.NDArray[Any]
) -> list[tuple[int, int]]:
    """Bits and channels of each picture of a shard, which their headers say."""
    found = []
    for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
        header = os.pread(handle, _HEADER, offset)
        if len(header) < _HEADER or header[12:16] != b"IHDR":
            raise DatasetError(
                f"{shard.tar} has no picture at byte {offset}, where its index says; "
                f"{quoted_command('verify', out)} says more"
            )
        bits, colour = header[24:26]
        if colour not in (0, 2):  # a palette or transparency, as only others write it
            pixels = decode_png(os.pread(handle, size, offset))
            found.append((pixels.itemsize * 8, 1 if pixels.ndim == 2 else 3))
        else:
            found.append((16 if bits == 16 else 8, 3 if colour == 2 else 1))
    return found
