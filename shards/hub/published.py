"""What is known of the sources of a set, wherever it is: a built folder has receipts, a repository manifests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sa_med2d_20m import DatasetError
from shards.description import SourceDescription, read_sources
from shards.foreign_json import LARGEST
from shards.hub.manifest import Manifest, read_manifest
from shards.paths import MANIFESTS
from shards.receipt import Receipt, read_receipts
from shards.store import contents


def known_of(out: Path) -> tuple[tuple[Receipt, ...], Mapping[str, SourceDescription]]:
    """Read receipts and descriptions of an output folder, or the manifests of a repository.

    What cannot be read is left out: the index decides what there is.

    Returns:
        Receipts of the shards, none where nothing has them; and the sources by name.
    """
    receipts = read_receipts(out)
    if receipts:
        return tuple(receipts.values()), read_sources(out)
    manifests = _manifests(out)
    held = tuple(receipt for manifest in manifests for receipt in manifest.receipts)
    return held, {manifest.source.name: manifest.source for manifest in manifests}


def _manifests(out: Path) -> list[Manifest]:
    found = []
    for name, data in contents(out, MANIFESTS, ".json", LARGEST):
        if isinstance(data, bytes):
            try:
                found.append(read_manifest(data, name))
            except DatasetError:
                continue
    return found
