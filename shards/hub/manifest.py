"""What is published of a source, kept beside the index: so that a card can be written from the repository alone."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from sa_med2d_20m import DatasetError
from shards.description import SourceDescription, source_from
from shards.receipt import Receipt

_KEPT = ("shard", "license", "sha256", "bytes", "samples", "masks", "labels", "schema")


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
    try:
        record: dict[str, Any] = json.loads(data)
        receipts = tuple(Receipt(**shard, cases=()) for shard in record["shards"])
        return Manifest(source_from(record["source"], "its source"), receipts)
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"{where}: no manifest that this version reads ({error})") from None
