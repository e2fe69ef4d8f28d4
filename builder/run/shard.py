"""Building one shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from builder.cases.case import Case
from builder.cases.identifiers import shown_error
from builder.conversion.convert import convert
from builder.errors import CaseError
from builder.run.plan import Task, file_states
from shards.index import receipt_of, write_index
from shards.receipt import Quarantined, Receipt, write_receipt
from shards.store import store_errors
from shards.writer import EncodedSample, write_shard

_DISTRIBUTIONS: Final = (
    "sa-med2d-20m",
    "connected-components-3d",
    "isal",
    "nibabel",
    "numpy",
    "opencv-python-headless",
    "pyarrow",
    "simpleitk",
)
_NO_MEMORY: Final = "memory ran out; use fewer --workers, and run the same command again"


@dataclass(frozen=True)
class CaseDone:
    """Progress: a case was converted or quarantined.

    Attributes:
        samples: Number of samples.
        masks: Number of masks.
        raw_bytes: Size of its input files.
        quarantined: Why it is in quarantine, or None.
    """

    samples: int
    masks: int
    raw_bytes: int
    quarantined: Quarantined | None


@store_errors()
def build_shard(
    task: Task,
    out: Path,
    *,
    strict: bool,
    on_case: Callable[[CaseDone], None],
    on_start: Callable[[str], None] = lambda _: None,
) -> Receipt:
    """Build a shard: tar, then index, then receipt, each whole or not there.

    A case that cannot be built goes to the receipt's quarantine and leaves no sample.

    Args:
        task: The shard.
        out: Output folder.
        strict: Stop at the first case that cannot be built.
        on_case: Called after each case.
        on_start: Called before each case with its name.

    Raises:
        CaseError: With ``strict``.
        OSError: The output folder cannot be written.
    """
    quarantined: list[Quarantined] = []
    dropped: Counter[str] = Counter()
    flagged: Counter[str] = Counter()

    lost = {case.name: case.reason for case in task.lost}
    counted: set[str] = set()

    def raw_bytes(case: Case) -> int:
        """Size of its files, without those that earlier cases share."""
        own = set(case.paths) - counted
        counted.update(own)
        return sum(size for path in own for _, size, _ in file_states(task.source.root, path))

    def samples() -> Iterator[EncodedSample]:
        for case in task.cases:
            raw = raw_bytes(case)
            on_start(case.name)
            try:
                if case.name in lost:
                    raise CaseError("convert", case.images[0].path, lost[case.name])
                converted = convert(case, task.source)
            except (CaseError, MemoryError) as fault:
                if isinstance(fault, MemoryError):  # another time there may be enough
                    lost[case.name] = _NO_MEMORY
                    fault = CaseError("convert", case.images[0].path, _NO_MEMORY)
                error = shown_error(case, fault)
                if strict:
                    raise error from None
                quarantined.append(Quarantined(case.name, error.file, error.stage, error.reason))
                on_case(CaseDone(0, 0, raw, quarantined[-1]))
                continue
            yield from converted.samples
            dropped.update(converted.tally.dropped)
            flagged.update(converted.tally.flagged)
            masks = sum(len(sample.metadata.masks) for sample in converted.samples)
            on_case(CaseDone(len(converted.samples), masks, raw, None))

    written = write_shard(out, task.shard, samples())
    write_index(out / task.shard.index, written.rows)
    receipt = replace(
        receipt_of(task.shard, written.rows, written.sha256, written.bytes),
        license=task.source.recipe.license,
        quarantined=tuple(quarantined),
        dropped=dict(sorted((+dropped).items())),
        flagged=dict(sorted(flagged.items())),
        fingerprint=None if lost else task.fingerprint,  # they are tried again by the next build
        versions=versions(),
    )
    write_receipt(out, receipt)
    return receipt


@cache
def versions() -> dict[str, str]:
    """Versions of the distributions that shape the bytes of a shard."""
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # OpenCV is also distributed under other names
            found[name] = "unknown"
    return found
