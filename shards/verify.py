"""Checking an output folder: every shard against its receipt and index, and deep down every member."""

from __future__ import annotations

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import cc3d
import numpy as np
import numpy.typing as npt

from sa_med2d_20m import DatasetError, decode_png, quoted_command, split_layers
from shards.console import plural
from shards.contract import meaning_faults
from shards.description import read_sources, source_faults
from shards.index import count_faults, index_fault, index_table, rows_of
from shards.key import SampleKey
from shards.paths import DATA, INDEX, RECEIPTS, ShardId, stems
from shards.receipt import Receipt, read_receipt
from shards.store import copied
from shards.tables import table_faults
from shards.tar import BrokenShardError, Sample, read_open_shard, sha256_of

_MOST_IDS: Final = 255
"""Objects in a layer of a label map of 8 bit."""
_COUNTED_AT_ONCE: Final = 2**22
"""Pixels."""
_HASHED_IF_BROKEN: Final = 2**32
"""Bytes up to which a file that is no shard is compared with its receipt all the same."""


def verify(out: Path, *, deep: bool, on_shard: Callable[[ShardId], None]) -> Iterator[str]:
    """Check an output folder.

    Always: names and paths, receipt, size and sha256, index against the tar, keys unique over the whole folder, one
    split per patient, tables against the indexes where there are any. With ``deep``: every picture decodes, has the
    size that its metadata says, and every mask has the id, area, bounding box and 8-connectedness that its metadata
    says; of a source that was imported from the original release masks may fall apart, as they do there.

    Args:
        out: Output folder.
        deep: See above.
        on_shard: Called before each shard.

    Yields:
        A sentence for each finding, with the file or key it is about.
    """
    tars, indexes = stems(out, DATA, ".tar"), stems(out, INDEX, ".parquet")
    receipts = stems(out, RECEIPTS, ".json")
    if not tars and not receipts:
        yield f"{out}: holds no shard"
    for stem in sorted(receipts.keys() - tars.keys()):
        yield f"{receipts[stem]}: its shard {DATA}/{stem}.tar is missing"
    for stem in sorted(indexes.keys() - tars.keys()):
        yield f"{indexes[stem]}: its shard {DATA}/{stem}.tar is missing"
    across = CrossShardChecks()
    apart = frozenset(name for name, source in read_sources(out).items() if source.repacked is not None)
    shards = []
    for stem, path in tars.items():
        try:
            shard = ShardId.parse(stem)
        except DatasetError as error:
            yield f"{path}: {error}"
            continue
        on_shard(shard)
        shards.append(shard)
        yield from verify_shard(out, shard, deep=deep, across=across, apart=apart).findings
    yield from across.findings()
    yield from source_faults(out)
    yield from table_faults(out, shards)


@dataclass(frozen=True)
class VerifiedShard:
    """What was found of a shard, and of which bytes.

    Attributes:
        findings: A sentence each.
        receipt: Its receipt, None where there is none that can be read.
        sha256: Of the tar that was read; empty where that is large and no shard.
        size: Of that tar, in bytes.
        index_sha256: Of the index that was read, None where there is none.
        index_size: Of that index, in bytes.
    """

    findings: tuple[str, ...]
    receipt: Receipt | None
    sha256: str
    size: int
    index_sha256: str | None
    index_size: int


def verify_shard(
    out: Path, shard: ShardId, *, deep: bool, across: CrossShardChecks, apart: frozenset[str] = frozenset()
) -> VerifiedShard:
    """Check one shard; what must hold over several is told by ``across`` in the end. See `verify`.

    Masks of the sources ``apart`` may fall apart.

    Each file is opened once, so that what is found and the hashes are of the same bytes, whatever a build replaces
    meanwhile. One in an object store is fetched once.
    """
    with copied(out, (shard.tar, shard.index, shard.receipt)) as near:
        path = near / shard.tar
        receipt, reason = _receipt_of(path, near / shard.receipt)
        index = _bytes_of(near / shard.index)
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            try:
                # from its headers alone: a file of any size that is no shard is not read to its end
                rows = rows_of(file, path, shard)
            except (BrokenShardError, OSError) as error:
                content = [str(error)]
                sha256 = sha256_of(file)[0] if size <= _HASHED_IF_BROKEN else ""
            else:
                sha256, size = sha256_of(file)
                content = list(_check_content(path, shard, receipt, rows, across))
                content += _check_index(near, shard, index, rows)
                if deep:
                    content += _check_samples(file, path, rows, shard, apart=shard.source in apart)
            findings = [*(_check_receipt(shard, path, receipt, sha256, size) if receipt else [reason]), *content]
        return VerifiedShard(
            findings=tuple(finding.replace(str(near), str(out)) for finding in findings),
            receipt=receipt,
            sha256=sha256,
            size=size,
            index_sha256=None if index is None else hashlib.sha256(index).hexdigest(),
            index_size=len(index or b""),
        )


def _bytes_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _check_content(
    path: Path, shard: ShardId, receipt: Receipt | None, rows: list[dict[str, Any]], across: CrossShardChecks
) -> Iterator[str]:
    if receipt is not None:
        yield from (f"{path}: {fault}" for fault in count_faults(receipt, shard, index_table(rows)))
    for row in rows:
        across.add(row)
        yield from (f"{shard.tar}: {row['key']}: {finding}" for finding in _check_row(shard, row))


def _check_samples(
    file: BinaryIO, path: Path, rows: list[dict[str, Any]], shard: ShardId, *, apart: bool
) -> Iterator[str]:
    for (sample, _), row in zip(read_open_shard(file, path), rows, strict=True):
        yield from (f"{shard.tar}: {sample.key}: {finding}" for finding in check_sample(sample, row, apart=apart))


class CrossShardChecks:
    """What must hold over all shards. Patients and keys are kept as hashes, 16 bytes a sample or so."""

    def __init__(self) -> None:
        self._keys: Counter[int] = Counter()
        self._duplicates: list[str] = []
        self._splits: dict[tuple[str, str], set[str]] = defaultdict(set)

    def add(self, row: dict[str, Any]) -> None:
        """Take in a row of an index."""
        mark = hash(row["key"])
        if mark in self._keys:
            self._duplicates.append(f"{row['shard']}: {row['key']}: this key stands in the folder more than once")
        self._keys[mark] += 1
        self._splits[row["source"], row["patient"]].add(row["split"])

    def findings(self) -> Iterator[str]:
        """A sentence for each finding."""
        yield from self._duplicates
        for (source, patient), splits in sorted(self._splits.items()):
            if len(splits) > 1:
                yield f"{source}: patient {patient!r} stands in the splits {', '.join(sorted(splits))}"


def _receipt_of(path: Path, receipt_path: Path) -> tuple[Receipt | None, str]:
    """The receipt of a shard, or why there is none."""
    if not receipt_path.is_file():
        return None, f"{path}: has no receipt; 'sa-med2d index' writes one if the shard is whole"
    try:
        return read_receipt(receipt_path), ""
    except DatasetError as error:
        return None, str(error)


def _check_receipt(shard: ShardId, path: Path, receipt: Receipt, sha256: str, size: int) -> Iterator[str]:
    if receipt.shard != shard.stem or receipt.license.lower() != shard.license:
        yield f"{path}: its receipt is about {receipt.shard} under {receipt.license}"
    if size != receipt.bytes:
        yield f"{path}: has {size} bytes, its receipt says {receipt.bytes}"
    elif sha256 and sha256 != receipt.sha256:
        yield f"{path}: has sha256 {sha256}, its receipt says {receipt.sha256}"


def _check_row(shard: ShardId, row: dict[str, Any]) -> Iterator[str]:
    said = (row["modality"], row["license"].lower(), row["source"], row["split"])
    if said != (shard.modality, shard.license, shard.source, shard.split):
        yield f"its metadata says {'/'.join(said)}, its path says otherwise"
    yield from meaning_faults(row)
    key = SampleKey(row["modality"], row["submodality"], row["source"], row["case"], row["axis"], row["index"])
    if str(key) != row["key"]:
        yield f"its metadata belongs to the key {key}"


def _check_index(out: Path, shard: ShardId, index: bytes | None, rows: list[dict[str, Any]]) -> Iterator[str]:
    path = out / shard.index
    if index is None:
        yield f"{path}: is missing; {quoted_command('index', out)} writes it again"
        return
    fault = index_fault(index, rows)
    if fault is not None:
        yield f"{path}: {fault}; {quoted_command('index', out)} writes it again"


def check_sample(sample: Sample, record: dict[str, Any], *, apart: bool = False) -> Iterator[str]:
    """Decode a sample and compare it with its metadata; its masks may have several components where ``apart`` is set.

    Yields:
        What is wrong, in words, without the key.
    """
    if record["key"] != sample.key:
        yield f"its metadata says the key is {record['key']}"
    try:
        image, label_map = decode_png(sample.image), decode_png(sample.mask)
        layers = split_layers(label_map, record["height"])
    except DatasetError as error:
        yield str(error)
        return
    if image.shape[:2] != (record["height"], record["width"]) or layers.shape[1:] != image.shape[:2]:
        yield f"image {image.shape[:2]}, label map {layers.shape} and metadata disagree on height and width"
        return
    if label_map.dtype != np.uint8:
        yield f"its label map has {label_map.itemsize * 8} bit, expected 8"
    if any(not 0 <= mask["layer"] < len(layers) for mask in record["masks"]):
        yield f"a mask lies outside the label map, which has {plural(len(layers), 'layer')}"
        return
    yield from _check_layers(layers, record["masks"], apart=apart)


def _check_layers(layers: npt.NDArray[Any], masks_of_all: list[dict[str, Any]], *, apart: bool) -> Iterator[str]:
    held: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for mask in masks_of_all:
        held[mask["layer"]].append(mask)
    for number, layer in enumerate(layers):
        masks = held[number]
        where = f"layer {number}: " if len(layers) > 1 else ""
        ids = [mask["id"] for mask in masks]
        if ids != list(range(1, len(ids) + 1)) or len(ids) > _MOST_IDS:
            yield f"{where}mask ids are {_some(ids)}, expected 1 to {min(len(ids), _MOST_IDS)} in order"
            return
        if len(layers) > 1 and not ids:
            yield f"{where}the label map has a layer without a mask"
            return
        counts = _pixels_of_values(layer)
        stray = np.setdiff1d(np.flatnonzero(counts), [0, *ids])
        if stray.size:
            yield f"{where}label map holds the values {_some(stray.tolist())}, which no mask has"
        for mask in masks:
            here = int(counts[mask["id"]])
            if here != mask["area"]:
                yield f"{_named(mask, layers)}: {here} pixels, metadata says {mask['area']}"
            yield from (f"{_named(mask, layers)}: {finding}" for finding in _check_mask(mask, layer, apart=apart))


def _some(values: list[int]) -> str:
    shown = ", ".join(map(str, values[:_MOST_IDS]))
    return f"[{shown}]" if len(values) <= _MOST_IDS else f"[{shown} and {len(values) - _MOST_IDS:,} more]"


def _pixels_of_values(layer: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Number of pixels of each value of a layer; by a few rows, because counting makes each pixel eight bytes."""
    counts = np.zeros(max(_MOST_IDS, int(layer.max())) + 1, np.int64)
    step = max(1, _COUNTED_AT_ONCE // layer.shape[1])
    for row in range(0, layer.shape[0], step):
        counts += np.bincount(layer[row : row + step].ravel(), minlength=len(counts))
    return counts


def _named(mask: dict[str, Any], layers: npt.NDArray[Any]) -> str:
    place = f" of layer {mask['layer']}" if len(layers) > 1 else ""
    return f"mask {mask['id']}{place} ({mask['label']})"


def _check_mask(mask: dict[str, Any], layer: npt.NDArray[Any], *, apart: bool) -> Iterator[str]:
    x, y, width, height = mask["bbox"]
    if min(x, y) < 0 or min(width, height) < 1 or x + width > layer.shape[1] or y + height > layer.shape[0]:
        yield f"its bounding box is outside of {layer.shape[1]} x {layer.shape[0]} pixels: {list(mask['bbox'])}"
        return
    binary = layer[y : y + height, x : x + width] == mask["id"]
    rows, columns = np.flatnonzero(binary.any(axis=1)), np.flatnonzero(binary.any(axis=0))
    if not rows.size:
        yield "has no pixel inside its bounding box"
        return
    box = [x + columns[0], y + rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    if box != list(mask["bbox"]):
        yield f"its bounding box is {[int(side) for side in box]}, metadata says {list(mask['bbox'])}"
    if apart:
        return
    components = int(cc3d.connected_components(binary.view(np.uint8), connectivity=8, return_N=True)[1])
    if components != 1:
        yield f"has {components} 8-connected components, expected 1"
