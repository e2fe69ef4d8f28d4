"""What is published of a source, kept beside the shards: so that a card can be written from the repository alone."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

from sa_med2d_20m import DatasetError
from shards.contract import first_faults, type_faults
from shards.description import SourceDescription, source_from
from shards.foreign_json import json_in
from shards.receipt import Receipt, refuse_impossible

_COUNTS = ("samples", "masks", "labels", "dropped", "mask_pixels", "lost_pixels", "lost_by_class")
_LATER: Final = frozenset({"lost_by_class"})
"""What manifests of earlier versions do not have."""
_TYPES: Final = get_type_hints(Receipt)
_KEPT = ("shard", "license", "sha256", "bytes", *_COUNTS, "schema")


@dataclass(frozen=True)
class Manifest:
    """What is published of a source.

    Attributes:
        source: The source.
        receipts: Of its shards, without what stays at home: cases, quarantine and fingerprints.
    """

    source: SourceDescription
    receipts: tuple[Receipt, ...]

    def to_json(self) -> bytes:
        """The manifest as a file; the same manifest gives the same bytes."""
        record = {
            "source": dataclasses.asdict(self.source),
            "shards": [{name: getattr(receipt, name) for name in _KEPT} for receipt in self.receipts],
        }
        return json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n"


def read_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest.

    Raises:
        DatasetError: It is none of this version; the message begins with ``where``.
    """
    record = json_in(data, where)
    if not isinstance(record, dict) or not isinstance(record.get("shards"), list):
        raise DatasetError(f"{where} is no manifest that this version reads: expected 'source' and a list of 'shards'")
    source = source_from(record.get("source"), where)
    receipts = tuple(_receipt(entry, f"{where}: shards[{number}]") for number, entry in enumerate(record["shards"]))
    for receipt in receipts:
        if receipt.id.source != source.name:
            raise DatasetError(f"{where} is about {source.name} and lists the shard {receipt.shard}")
    return Manifest(source, receipts)


def _receipt(record: Any, where: str) -> Receipt:
    if not isinstance(record, dict) or not set(_KEPT) - _LATER <= record.keys() <= set(_KEPT):
        raise DatasetError(f"{where}: expected a record of {', '.join(_KEPT)}")
    faults = first_faults(fault for name in record for fault in type_faults(record[name], _TYPES[name], name))
    if faults:
        raise DatasetError(f"{where}: {faults}")
    receipt = Receipt(**record, cases=())
    refuse_impossible(receipt, where)
    return receipt
