"""What may be published: every shard is judged by what is in it, and whatever is not clearly allowed is held back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sa_med2d_20m import DatasetError
from shards.description import SourceDescription, read_sources, source_faults
from shards.hub.content import JudgedFile
from shards.license import refusal, tiers
from shards.paths import DATA, ShardId, source_file, stems
from shards.receipt import Receipt
from shards.store import is_here
from shards.verify import CrossShardChecks, verify_shard


@dataclass(frozen=True)
class Choice:
    """What a user wants to publish.

    Attributes:
        tier: Only licences of this tier: ``all``, ``commercial`` or ``permissive``.
        modalities: Only these; empty for all.
        sources: Only these; empty for all.
    """

    tier: str = "all"
    modalities: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def includes(self, shard: ShardId) -> bool:
        """Whether a shard is asked for, by its path; one under a licence of no tier is, and the gate says why not."""
        known = tiers(shard.license)
        return (
            (not self.modalities or shard.modality in self.modalities)
            and (not self.sources or shard.source in self.sources)
            and (self.tier in known or not known)
        )


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a source.

    Attributes:
        name: Name of the source.
        source: What is known of it, None where nothing is.
        receipts: Of its shards, those that can be read.
        files: Its shards and their indexes, by the bytes that were judged.
        reasons: Why it is held back, with the file each is about; empty where it may be published.
    """

    name: str
    source: SourceDescription | None
    receipts: tuple[Receipt, ...]
    files: tuple[JudgedFile, ...]
    reasons: tuple[str, ...]


def judge(out: Path, choice: Choice, on_shard: Callable[[ShardId], None]) -> list[Verdict]:
    """Judge the sources of an output folder.

    A source goes as a whole: one shard that must be held back holds back the source, because half of a source would
    have other splits and another description than its card says.

    Args:
        out: Output folder.
        choice: What is asked for.
        on_shard: Called before each shard.

    Raises:
        DatasetError: A source or modality is asked for that the folder does not hold.
    """
    shards, misnamed = _shards_of(out)
    for name, asked, held in (
        ("source", choice.sources, {shard.source for shard in shards}),
        ("modality", choice.modalities, {shard.modality for shard in shards}),
    ):
        unknown = sorted(set(asked) - held)
        if unknown:
            raise DatasetError(
                f"{out} holds no {name} {', '.join(unknown)}; it holds {', '.join(sorted(held)) or 'none'}"
            )
    sources, damaged = read_sources(out), source_faults(out)
    by_source: dict[str, list[ShardId]] = {}
    for shard in shards:
        if choice.includes(shard):
            by_source.setdefault(shard.source, []).append(shard)
    verdicts = [
        _judge_source(out, chosen, sources.get(name), damaged, on_shard) for name, chosen in sorted(by_source.items())
    ]
    return [*verdicts, *(Verdict(path, None, (), (), (f"{path}: {reason}",)) for path, reason in misnamed)]


def _shards_of(out: Path) -> tuple[list[ShardId], list[tuple[str, str]]]:
    """The shards of a folder, and the tars whose path names none."""
    shards, misnamed = [], []
    for stem in stems(out, DATA, ".tar"):
        try:
            shards.append(ShardId.parse(stem))
        except DatasetError as error:
            misnamed.append((f"{DATA}/{stem}.tar", str(error)))
    return shards, misnamed


def _judge_source(
    out: Path,
    shards: Sequence[ShardId],
    source: SourceDescription | None,
    damaged: Sequence[str],
    on_shard: Callable[[ShardId], None],
) -> Verdict:
    name = shards[0].source
    reasons: list[str] = []
    receipts: list[Receipt] = []
    files: list[JudgedFile] = []
    across = CrossShardChecks()
    for shard in shards:
        on_shard(shard)
        reasons += _links(out, shard)
        verified = verify_shard(out, shard, deep=False, across=across)
        reasons += _license_faults(shard, source, verified.receipt)
        reasons += verified.findings
        files.append(JudgedFile(out, shard.tar, verified.sha256, verified.size))
        if verified.receipt is not None:
            receipts.append(verified.receipt)
        if verified.index_sha256 is not None:
            files.append(JudgedFile(out, shard.index, verified.index_sha256, verified.index_size))
    reasons += across.findings()
    if source is None:
        path = source_file(name)
        own = [fault for fault in damaged if fault.startswith(f"{out / path}:")]
        reasons += own or [f"{path}, which tells licence and evidence, is missing; build it again"]
    return Verdict(name, source, tuple(receipts), tuple(files), tuple(reasons))


def _links(out: Path, shard: ShardId) -> list[str]:
    return [
        f"{path}: is a link that leads out of the folder"
        for path in (shard.tar, shard.index)
        if is_here(out) and not (out / path).resolve().is_relative_to(out.resolve())
    ]


def _license_faults(shard: ShardId, source: SourceDescription | None, receipt: Receipt | None) -> list[str]:
    """What path, source and receipt say against it.

    That index and every sample say the licence of the path is part of verifying the shard.
    """
    evidence, access = (source.license_evidence, source.access) if source else (None, "open")
    said = [shard.license, *([source.license] if source else []), *([receipt.license] if receipt else [])]
    # whichever of them says so, in the spelling of the last
    refused = {refusal(license_id, evidence, access) for license_id in {one.lower(): one for one in said}.values()}
    reasons = [f"{shard.tar}: {reason}" for reason in sorted(filter(None, refused))]
    if source is not None and source.license.lower() != shard.license:
        reasons.append(f"{shard.tar}: its path says {shard.license}, its source {source.license}")
    return reasons
