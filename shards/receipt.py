"""Receipts: the mark that a shard is finished, and what is in it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sa_med2d_20m import SCHEMA, DatasetError
from shards.atomic import write_atomic
from shards.contract import first_faults, type_faults
from shards.foreign_json import LARGEST, json_in, too_large
from shards.paths import RECEIPTS, ShardId
from shards.stage import Stage
from shards.store import contents


@dataclass(frozen=True)
class Quarantined:
    """A case that could not be built, or a mask file that its case was built without.

    Attributes:
        case: Name of the case.
        file: The file at fault, relative to the source's root.
        stage: Where it stopped.
        reason: What was expected, what came, what to do.
    """

    case: str
    file: str
    stage: Stage
    reason: str


@dataclass(frozen=True)
class Piece:
    """What a case became: a run of samples in a shard, or none.

    Attributes:
        case: Name of the case.
        settings: Hash of all that its bytes depend on but the content of its files and the licence.
        content: Hash of the content of its files; null for a case that is tried again by the next build.
        offset: Where its samples begin in the shard, in bytes.
        bytes: Size of its samples in the shard.
        crc32: Of these bytes, against damage before they are copied into another shard.
        samples: Number of samples.
        masks: Number of masks.
        dropped: As in `Receipt`.
        flagged: As in `Receipt`.
        lost_pixels: As in `Receipt`.
        quarantined: Why it has none, or null.
        bad_masks: Mask files that could not be used, without which it was built; of an import images too.
        lost_by_class: As in `Receipt`.
    """

    case: str
    settings: str
    content: str | None
    offset: int
    bytes: int
    crc32: int
    samples: int
    masks: int
    dropped: dict[str, int] = field(default_factory=dict)
    flagged: dict[str, int] = field(default_factory=dict)
    lost_pixels: dict[str, int] = field(default_factory=dict)
    quarantined: Quarantined | None = None
    bad_masks: tuple[Quarantined, ...] = ()
    lost_by_class: dict[str, dict[str, int]] = field(default_factory=dict)


def piece_from(record: Any, where: str) -> Piece:
    """A piece from its record.

    Raises:
        DatasetError: It is none; the message begins with ``where``.
    """
    faults = first_faults(type_faults(record, Piece, where))
    if faults:
        raise DatasetError(faults)
    return _piece(record)


def _piece(record: dict[str, Any]) -> Piece:
    reason = record.get("quarantined")
    return Piece(
        **{
            **record,
            "quarantined": None if reason is None else Quarantined(**reason),
            "bad_masks": tuple(Quarantined(**bad) for bad in record.get("bad_masks", ())),
        }
    )


@dataclass(frozen=True)
class Receipt:
    """What a finished shard holds. Depends on input and settings alone, never on time, machine or worker.

    Attributes:
        shard: Its stem, see `shards.paths.ShardId`.
        license: SPDX identifier as spelled in the metadata of its samples.
        sha256: Of the tar.
        bytes: Size of the tar.
        samples: Number of samples.
        masks: Number of masks.
        labels: Class name -> number of masks.
        cases: Cases that have samples in it.
        quarantined: Cases that could not be built.
        dropped: Reason -> slices left out by rule: ``edge``, ``no_mask``, ``emptied`` (none of its masks was large
            enough) and gates; ``small_mask`` -> masks left out by the area rule; ``bad_mask`` -> mask files that could
            not be used; of an import repairs by their names, ``bad_image`` and ``empty_mask``.
        flagged: Quality gate -> slices (or files) kept in spite of it; repair of an import -> what it changed.
        mask_pixels: Sum of the areas of the masks.
        lost_pixels: Reason -> pixels of masks left out by it; they and ``mask_pixels`` are all that would have been.
        lost_by_class: The same by reason, then class. Reasons that leave out whole files or cases have no classes here,
            nor has what earlier versions wrote.
        pieces: What each of its cases became, in the order of the plan; empty when made from the tar alone.
        versions: Distribution -> version that wrote it.
        schema: `sa_med2d_20m.SCHEMA`.
    """

    shard: str
    license: str
    sha256: str
    bytes: int
    samples: int
    masks: int
    labels: dict[str, int]
    cases: tuple[str, ...]
    quarantined: tuple[Quarantined, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)
    flagged: dict[str, int] = field(default_factory=dict)
    mask_pixels: int = 0
    lost_pixels: dict[str, int] = field(default_factory=dict)
    lost_by_class: dict[str, dict[str, int]] = field(default_factory=dict)
    pieces: tuple[Piece, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def id(self) -> ShardId:
        """The shard's name in parts."""
        return ShardId.parse(self.shard)


def summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of counts by reason, sorted; reasons that count nothing are left out."""
    total = sum(map(Counter, counts), Counter[str]())
    return dict(sorted((+total).items()))


def summed_by_reason(counts: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """The sums of counts by reason and class, sorted."""
    held: dict[str, list[Mapping[str, int]]] = {}
    for by_reason in counts:
        for reason, by_class in by_reason.items():
            held.setdefault(reason, []).append(by_class)
    return {reason: summed(own) for reason, own in sorted(held.items())}


def lost_shares(receipts: Collection[Receipt]) -> dict[str, float]:
    """What part of the mask pixels each rule and gate left out, of all that would be there without them; sorted.

    Axes that the edge rule leaves out do not count where others are left: they would show the same objects once more.
    """
    kept = sum(receipt.mask_pixels for receipt in receipts)
    lost = summed(receipt.lost_pixels for receipt in receipts)
    if kept or len(lost) > 1:
        lost.pop("edge", None)
    annotated = kept + sum(lost.values())
    return {reason: pixels / annotated for reason, pixels in lost.items()}


def write_receipt(out: Path, receipt: Receipt) -> None:
    """Write a receipt to its place below the output folder."""
    text = json.dumps(dataclasses.asdict(receipt), indent=1, ensure_ascii=False)
    write_atomic(out / receipt.id.receipt, text.encode("utf-8", "surrogateescape") + b"\n")


def read_receipt(path: Path) -> Receipt:
    """Read a receipt.

    Raises:
        DatasetError: The file is no receipt of this version.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise too_large(str(path), size)
    return _receipt_from(path.read_bytes(), str(path))


def _receipt_from(data: bytes, where: str) -> Receipt:
    record = json_in(data, where, any_names=True)
    faults = first_faults(type_faults(record, Receipt, "the record"))
    if faults:
        raise DatasetError(f"{where} is no receipt that this version reads: {faults}")
    parts = {
        "cases": tuple(record["cases"]),
        "quarantined": tuple(Quarantined(**entry) for entry in record.get("quarantined", ())),
        "pieces": tuple(_piece(entry) for entry in record.get("pieces", ())),
    }
    receipt = Receipt(**{**record, **parts})
    refuse_impossible(receipt, where)
    return receipt


def refuse_impossible(receipt: Receipt, where: str) -> None:
    """Refuse what no shard can be, of a receipt whose fields have the right types.

    Raises:
        DatasetError: The message begins with ``where``.
    """
    try:
        ShardId.parse(receipt.shard)
    except DatasetError as error:
        raise DatasetError(f"{where}: shard: {error}") from None
    if not re.fullmatch("[0-9a-f]{64}", receipt.sha256):
        raise DatasetError(f"{where}: sha256: expected 64 digits of 0-9 and a-f, got {receipt.sha256!r:.80}")
    for name, counts in _counts_of(receipt):
        least = min(counts, default=0)
        if least < 0:
            raise DatasetError(f"{where}: {name}: expected 0 or more, got {least}")


def _counts_of(receipt: Receipt) -> Iterator[tuple[str, Collection[int]]]:
    for name in ("bytes", "samples", "masks", "mask_pixels"):
        yield name, (getattr(receipt, name),)
    for name in ("labels", "dropped", "flagged", "lost_pixels"):
        yield name, getattr(receipt, name).values()
    for by_class in receipt.lost_by_class.values():
        yield "lost_by_class", by_class.values()
    for number, piece in enumerate(receipt.pieces):
        yield f"pieces[{number}]", (piece.offset, piece.bytes, piece.samples, piece.masks)
        for table in (piece.dropped, piece.flagged, piece.lost_pixels):
            yield f"pieces[{number}]", table.values()


def read_receipts(out: Path) -> dict[str, Receipt]:
    """All receipts of an output folder by stem, sorted.

    One that cannot be read counts as missing, and so does one that is about another shard than its path says.
    """
    found = {}
    for name, data in contents(out, RECEIPTS, ".json", LARGEST):
        if isinstance(data, int):
            continue
        try:
            receipt = _receipt_from(data, name)
        except DatasetError:
            continue
        if name == f"{receipt.shard}.json":
            found[receipt.shard] = receipt
    return dict(sorted(found.items()))
