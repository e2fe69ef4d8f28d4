"""Checking an output folder: every shard against its receipt and index, and deep down every member."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from sa_med2d_20m import DatasetError, decode_masks, decode_png, split_layers
from shards.contract import meaning_faults
from shards.index import INDEX_SCHEMA, count_faults, index_table, rows_of
from shards.key import SampleKey
from shards.paths import DATA, INDEX, RECEIPTS, ShardId, stems
from shards.receipt import Receipt, read_receipt
from shards.store import copied
from shards.tar import BrokenShardError, Sample, read_shard, sha256_of


def verify(out: Path, *, deep: bool, on_shard: Callable[[ShardId], None]) -> Iterator[str]:
    """Check an output folder.

    Always: names and paths, receipt, size and sha256, index against the tar, keys unique over the whole folder, one
    split per patient. With ``deep``: every picture decodes, has the size that its metadata says, and every mask
    has the id, area, bounding box and 8-connectedness that its metadata says.

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
    for stem, path in tars.items():
        try:
            shard = ShardId.parse(stem)
        except DatasetError as error:
            yield f"{path}: {error}"
            continue
        on_shard(shard)
        yield from verify_shard(out, shard, deep=deep, across=across)
    yield from across.findings()


def verify_shard(out: Path, shard: ShardId, *, deep: bool, across: CrossShardChecks) -> Iterator[str]:
    """Check one shard; what must hold over several is told by ``across`` in the end. See `verify`.

    One in an object store is fetched once, with its index and receipt.
    """
    with copied(out, (shard.tar, shard.index, shard.receipt)) as near:
        for finding in _verify_shard(near, shard, deep=deep, across=across):
            yield finding.replace(str(near), str(out))


def _verify_shard(out: Path, shard: ShardId, *, deep: bool, across: CrossShardChecks) -> Iterator[str]:
    path = out / shard.tar
    receipt, reason = _receipt_of(path, out / shard.receipt)
    yield from _check_bytes(shard, path, receipt) if receipt else [reason]
    try:
        rows = rows_of(out, shard)
    except (BrokenShardError, OSError) as error:
        yield str(error)
        return
    if receipt is not None:
        yield from (f"{path}: {fault}" for fault in count_faults(receipt, shard, index_table(rows)))
    yield from _check_members(out, shard, rows, deep=deep, across=across)


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


def _check_bytes(shard: ShardId, path: Path, receipt: Receipt) -> Iterator[str]:
    if receipt.shard != shard.stem or receipt.license.lower() != shard.license:
        yield f"{path}: its receipt is about {receipt.shard} under {receipt.license}"
    sha256, size = sha256_of(path)
    if size != receipt.bytes:
        yield f"{path}: has {size} bytes, its receipt says {receipt.bytes}"
    elif sha256 != receipt.sha256:
        yield f"{path}: has sha256 {sha256}, its receipt says {receipt.sha256}"


def _check_members(
    out: Path, shard: ShardId, rows: list[dict[str, Any]], *, deep: bool, across: CrossShardChecks
) -> Iterator[str]:
    for row in rows:
        across.add(row)
        yield from (f"{shard.tar}: {row['key']}: {finding}" for finding in _check_row(shard, row))
    yield from _check_index(out, shard, rows)
    if deep:
        for (sample, _), row in zip(read_shard(out / shard.tar), rows, strict=True):
            yield from (f"{shard.tar}: {sample.key}: {finding}" for finding in check_sample(sample, row))


def _check_row(shard: ShardId, row: dict[str, Any]) -> Iterator[str]:
    said = (row["modality"], row["license"].lower(), row["source"], row["split"])
    if said != (shard.modality, shard.license, shard.source, shard.split):
        yield f"its metadata says {'/'.join(said)}, its path says otherwise"
    yield from meaning_faults(row)
    key = SampleKey(row["modality"], row["submodality"], row["source"], row["case"], row["axis"], row["index"])
    if str(key) != row["key"]:
        yield f"its metadata belongs to the key {key}"


def _check_index(out: Path, shard: ShardId, rows: list[dict[str, Any]]) -> Iterator[str]:
    path = out / shard.index
    if not path.is_file():
        yield f"{path}: is missing; 'sa-med2d index {out}' writes it again"
        return
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        yield f"{path}: is no readable Parquet file ({error})"
        return
    if not table.schema.equals(INDEX_SCHEMA):
        yield f"{path}: its columns are not those of this version"
    elif table.to_pylist() != rows:
        yield f"{path}: differs from its shard; 'sa-med2d index {out}' writes it again"


def check_sample(sample: Sample, record: dict[str, Any]) -> Iterator[str]:
    """Decode a sample and compare it with its metadata.

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
    ids = [mask["id"] for mask in record["masks"]]
    if ids != list(range(1, len(ids) + 1)):
        yield f"mask ids are {ids}, expected 1 to {len(ids)} in order"
        return
    if any(not 0 <= mask["layer"] < len(layers) for mask in record["masks"]):
        yield f"a mask lies outside the {len(layers)} layers of the label map"
        return
    stray = np.setdiff1d(np.unique(label_map), [0, *ids])
    if stray.size:
        yield f"label map holds the values {stray.tolist()}, which no mask has"
    yield from _check_areas(layers, record)
    for mask, binary in zip(record["masks"], decode_masks({"mask": label_map, **record}), strict=True):
        yield from (f"mask {mask['id']} ({mask['label']}): {finding}" for finding in _check_mask(mask, binary))


def _check_areas(layers: npt.NDArray[Any], record: dict[str, Any]) -> Iterator[str]:
    counted = [np.bincount(layer.ravel(), minlength=len(record["masks"]) + 1) for layer in layers]
    for mask in record["masks"]:
        here = [int(counts[mask["id"]]) for counts in counted]
        if sum(here) != mask["area"] or here[mask["layer"]] != mask["area"]:
            yield f"mask {mask['id']} ({mask['label']}): {here} pixels by layer, metadata says {mask['area']}"


def _check_mask(mask: dict[str, Any], binary: npt.NDArray[np.bool_]) -> Iterator[str]:
    rows, columns = np.flatnonzero(binary.any(axis=1)), np.flatnonzero(binary.any(axis=0))
    if not rows.size:
        yield "has no pixel inside its bounding box"
        return
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    if box != list(mask["bbox"]):
        yield f"its bounding box is {[int(side) for side in box]}, metadata says {list(mask['bbox'])}"
    components = int(cc3d.connected_components(binary.view(np.uint8), connectivity=8, return_N=True)[1])
    if components != 1:
        yield f"has {components} 8-connected components, expected 1"
