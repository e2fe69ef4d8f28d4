"""Converting the cases of a batch: what each process of an executor does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from builder.cases.identifiers import shown_error
from builder.conversion.convert import Converted
from builder.errors import CaseError
from builder.readers.files import import_reader
from builder.run.batch import Batch, Outcome
from builder.run.origin import content_of, convert_case, has_changed
from builder.run.pieces import LoggedCase, PieceLog, open_log
from builder.run.plan import CaseTask
from shards.receipt import Piece, Quarantined
from shards.store import is_here, store_errors
from shards.writer import encode_case

_NO_MEMORY: Final = "memory ran out; use fewer --workers, and run the same command again"
_CHANGED: Final = "it changed while it was read; run the same command again"


def _ignore(_: str) -> None:
    return None


def convert_batch(batch: Batch, out: Path, on_start: Callable[[str], None] = _ignore) -> Iterator[Outcome]:
    """Convert the cases of a batch and write them to a log.

    A case that cannot be built leaves the reason and no sample.

    Args:
        batch: The cases.
        out: Output folder.
        on_start: Called before each case with its name.

    Yields:
        What became of each case, as soon as others can read it: in an object store when all are converted.

    Raises:
        OSError: The output folder cannot be written.
    """
    import_reader(batch.cases[0].case.images[0].path)
    with store_errors():
        with open_log(out, batch.shard) as log:
            outcomes = _outcomes(batch, log, on_start)
            unseen = [] if is_here(out) else list(outcomes)
            yield from outcomes
        yield from unseen


def _outcomes(batch: Batch, log: PieceLog, on_start: Callable[[str], None]) -> Iterator[Outcome]:
    for task in batch.cases:
        on_start(task.case.name)
        yield _convert_case(task, batch, log)


def _convert_case(task: CaseTask, batch: Batch, log: PieceLog) -> Outcome:
    source = batch.source
    content, files = content_of(task.case, source)
    try:
        converted = convert_case(task.case, source)
        if content is not None and has_changed(task.case, source, files):
            raise CaseError("read", task.case.images[0].path, _CHANGED)
    except (CaseError, MemoryError) as fault:
        lasting = None if has_changed(task.case, source, files) else content
        return _quarantined(task, batch, fault, lasting, log)
    piece = _piece(task, content, converted)
    stored = log.append(piece, source.recipe.license, encode_case(converted.samples))
    return Outcome(batch.shard, task, stored, files)


def _piece(task: CaseTask, content: str | None, converted: Converted) -> Piece:
    tally = converted.tally
    return Piece(
        case=task.case.name,
        settings=task.settings,
        content=None if any(fault.transient for fault in tally.bad_masks) else content,
        offset=0,
        bytes=0,
        crc32=0,
        samples=len(converted.samples),
        masks=sum(len(sample.metadata.masks) for sample in converted.samples),
        dropped=dict(sorted((+tally.dropped).items())),
        flagged=dict(sorted(tally.flagged.items())),
        lost_pixels=dict(sorted(tally.lost_pixels.items())),
        bad_masks=tuple(_as_quarantined(task, fault) for fault in tally.bad_masks),
        lost_by_class=_by_reason(tally.lost_by_class),
    )


def _by_reason(lost: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Reason -> class -> pixels, sorted."""
    found: dict[str, dict[str, int]] = {}
    for (reason, label), pixels in sorted(lost.items()):
        found.setdefault(reason, {})[label] = pixels
    return found


def _quarantined(
    task: CaseTask, batch: Batch, fault: CaseError | MemoryError, content: str | None, log: PieceLog
) -> Outcome:
    if isinstance(fault, MemoryError):  # another time there may be enough
        fault = CaseError("convert", task.case.images[0].path, _NO_MEMORY, transient=True)
    # only what a file itself says is final
    piece = _bare_piece(task, fault, None if fault.transient else content)
    return Outcome(batch.shard, task, log.append(piece, batch.source.recipe.license, encode_case([])))


def _bare_piece(task: CaseTask, fault: CaseError, content: str | None) -> Piece:
    """What a case became that has no sample, and why."""
    return Piece(task.case.name, task.settings, content, 0, 0, 0, 0, 0, quarantined=_as_quarantined(task, fault))


def _as_quarantined(task: CaseTask, fault: CaseError) -> Quarantined:
    error = shown_error(task.case, fault)
    return Quarantined(task.case.name, error.file, error.stage, error.reason)


def lost_case(task: CaseTask, batch: Batch, reason: str) -> Outcome:
    """The outcome of a case over which processes died: it is quarantined, and tried again by the next build."""
    piece = _bare_piece(task, CaseError("convert", task.case.images[0].path, reason), None)
    return Outcome(batch.shard, task, LoggedCase(piece, batch.source.recipe.license))
