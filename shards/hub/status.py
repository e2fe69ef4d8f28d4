"""What is published beside what is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from shards.hub.manifest import Manifest
from shards.hub.repository import Repository
from shards.hub.withdrawals import withdrawn_from
from shards.receipt import Receipt, read_receipts


@dataclass(frozen=True)
class SourceStatus:
    """A source here and there.

    Attributes:
        name: Its name.
        license: Its licence.
        published: Receipts of its published shards by stem.
        built: Receipts of its shards in the output folder by stem; None where no folder was given.
        fault: Why its manifest cannot be read, or None.
        withdrawn: Whether it was withdrawn from there.
    """

    name: str
    license: str
    published: Mapping[str, Receipt]
    built: Mapping[str, Receipt] | None
    fault: str | None = None
    withdrawn: bool = False

    @property
    def state(self) -> str:
        """In words."""
        if self.fault is not None:
            return f"published, but {self.fault}"
        if self.built is None:
            return "published"
        if not self.built:
            return "published, not built here"
        if not self.published:
            return "built, withdrawn from there" if self.withdrawn else "built, not published"
        stems = self.built.keys() | self.published.keys()
        unlike = sum(_sha256(self.built, stem) != _sha256(self.published, stem) for stem in stems)
        return "up to date" if not unlike else f"{unlike} of {len(stems)} shards differ"


def status(repository: Repository, out: Path | None) -> list[SourceStatus]:
    """Compare a repository with an output folder, source by source.

    Raises:
        PublishError: The repository cannot be read.
    """
    head = repository.head()
    there = repository.files(head)
    published, unreadable = repository.manifests(head, there)
    withdrawn = withdrawn_from(repository, head, there)
    built: dict[str, dict[str, Receipt]] = {}
    for stem, receipt in (read_receipts(out) if out is not None else {}).items():
        built.setdefault(receipt.id.source, {})[stem] = receipt
    found = [
        _of_source(name, published.get(name), None if out is None else built.get(name, {}), unreadable.get(name))
        for name in sorted(published.keys() | unreadable.keys() | built.keys())
    ]
    return [replace(one, withdrawn=one.name in withdrawn) for one in found]


def _of_source(
    name: str, manifest: Manifest | None, built: Mapping[str, Receipt] | None, fault: str | None
) -> SourceStatus:
    there = {receipt.shard: receipt for receipt in manifest.receipts} if manifest else {}
    receipts = list((there or built or {}).values())
    return SourceStatus(name, receipts[0].license if receipts else "", there, built, fault)


def _sha256(receipts: Mapping[str, Receipt], stem: str) -> str | None:
    return receipts[stem].sha256 if stem in receipts else None
