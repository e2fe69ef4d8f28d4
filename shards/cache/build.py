"""Making a cache: shard by shard, each whole or not there, none written twice."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import cv2
import numpy as np

from sa_med2d_20m import (
    CACHE,
    CACHE_CLASS,
    CACHE_COLUMNS,
    CACHE_PARTS,
    CacheReceipt,
    CacheSettings,
    DatasetError,
    cache_settings,
    fitted_samples,
    quoted_command,
)
from shards.arguments import nearest
from shards.atomic import TEMPORARY, open_atomic, write_atomic
from shards.cache.plan import Plan, Task, files_of, plan, read_index, read_receipts, size_on_disk, write_bytes
from shards.lock import locked
from shards.paths import BUILD, DATA, ShardId, stems
from shards.workers import each

_RECORD: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which shards a cache shall hold; empty for all of them."""

    sources: Collection[str] = ()
    modalities: Collection[str] = ()
    splits: Collection[str] = ()

    def of(self, every: Collection[ShardId], out: Path) -> list[ShardId]:
        """Those of the shards of an output folder that are wanted.

        Raises:
            DatasetError: None is, or there is none of a value.
        """
        kinds = (("source", self.sources), ("modality", self.modalities), ("split", self.splits))
        chosen = [shard for shard in every if all(not asked or getattr(shard, kind) in asked for kind, asked in kinds)]
        missing = {value for kind, asked in kinds for value in {*asked} - {getattr(shard, kind) for shard in every}}
        if missing or not chosen:
            named = ", ".join(sorted(missing or {*self.sources, *self.modalities, *self.splits}))
            held = ", ".join(sorted({shard.source for shard in every})) or "none"
            raise DatasetError(f"{out} holds no shard{f' of {named}' if named else ''}; it has these sources: {held}")
        return chosen

    def words(self, sources: Iterable[str]) -> list[str]:
        """Options that ask for the same of these sources only."""
        kinds = (("--source", sources), ("--modality", self.modalities), ("--split", self.splits))
        return [word for option, values in kinds for value in values for word in (option, value)]


def build(
    out: Path,
    to: Path,
    settings: CacheSettings,
    wanted: Wanted,
    *,
    limit: int | None,
    workers: int,
    on_plan: Callable[[Plan], None],
    on_shard: Callable[[int, int], None],
) -> Plan:
    """Make a cache, or bring one up to date.

    Args:
        out: Output folder.
        to: Folder of the cache, which lies on this machine.
        settings: Of the cache; one that is there must have the same.
        wanted: Which shards it shall hold.
        limit: Most bytes that it may have on disk.
        workers: Processes.
        on_plan: Called before anything is written.
        on_shard: Called with how many shards are done, of how many.

    Returns:
        What was done.

    Raises:
        DatasetError: There is no such shard, the folder holds something else, it does not fit, or a shard is damaged.
    """
    every = [ShardId.parse(stem) for stem in stems(out, DATA, ".tar")]
    chosen = wanted.of(every, out)
    with _named(to), ExitStack() as stack:
        begun = (to / BUILD).exists()
        if begun:
            stack.enter_context(locked(to, "cache"))
        _refuse_other(to, settings)
        planned = plan(out, to, settings, chosen, every)
        if planned.receipts and len(planned.gone) == len(planned.receipts):
            raise DatasetError(f"{to} is a cache of another folder: {out} has none of its shards; choose a new folder")
        _refuse_unfit(out, to, settings, wanted, planned)
        _refuse_large(to, planned, limit)
        on_plan(planned)
        if not begun:  # a lock is the first that is written, of what is not refused
            stack.enter_context(locked(to, "cache"))
            _refuse_other(to, settings)
            if read_receipts(to) != planned.receipts:  # another command did it meanwhile
                planned = plan(out, to, settings, chosen, every)
        write_atomic(to / CACHE, json.dumps(dataclasses.asdict(settings), indent=1).encode() + b"\n")
        for path in _outdated(to, planned):
            path.unlink(missing_ok=True)  # workers whose command was killed end a little later
        work = _Work(out, to, settings, planned.tasks)
        try:
            with closing(each(work, range(len(work.tasks)), workers)) as written:
                for done, _ in enumerate(written, 1):
                    on_shard(done, len(work.tasks))
        finally:
            for path in _unfinished(to):
                path.unlink(missing_ok=True)
    return planned


@contextmanager
def _named(to: Path) -> Iterator[None]:
    """Say where it was of an error that names no file, as that of a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or str(to)) from error


def _refuse_other(to: Path, settings: CacheSettings) -> None:
    if (to / CACHE).exists():
        held = cache_settings((to / CACHE).read_bytes(), f"{to}/{CACHE}")
        pairs = zip(dataclasses.asdict(held).items(), dataclasses.asdict(settings).values(), strict=True)
        other = [f"{name} {value!r}, not {asked!r}" for (name, value), asked in pairs if value != asked]
        if other:
            raise DatasetError(f"{to} is a cache with {' and '.join(other)}; choose another folder, or delete this one")
    elif to.exists() and (not to.is_dir() or {path.name for path in to.iterdir()} - {"build"}):
        raise DatasetError(f"{to} holds something that is no cache; choose a new folder")


def _refuse_unfit(out: Path, to: Path, settings: CacheSettings, wanted: Wanted, planned: Plan) -> None:
    unfit = {task.shard.source: scaling for task in planned.tasks for scaling in task.unfit}
    if not unfit:
        return
    named = ", ".join(f"{source} ({scaling})" for source, scaling in sorted(unfit.items()))
    others = sorted({task.shard.source for task in planned.tasks} - {*unfit})
    rest = f", or cache the others: {settings.command(str(out), str(to), *wanted.words(others))}" if others else ""
    raise DatasetError(
        f"window {settings.window!r} needs the values of the source, but {out} has these in another scaling: {named}; "
        f"nothing was written. Build them with intensity.mode = 'lossless', or leave --window out{rest}"
    )


def _outdated(to: Path, planned: Plan) -> list[Path]:
    """Files of a cache that are not of a shard that it keeps, receipts first, and what killed processes left."""
    kept = {path for receipt in planned.held for path in files_of(to, receipt.shard)}
    files = [path for part in ("json", *CACHE_PARTS) for path in sorted(to.glob(f"*/*/*/*.{part}"))]
    return [path for path in files if path not in kept] + _unfinished(to)


def _unfinished(to: Path) -> list[Path]:
    """Files that a process which has ended was writing."""
    return list(to.rglob(f".*{TEMPORARY}"))


def _refuse_large(to: Path, planned: Plan, limit: int | None) -> None:
    if limit is not None and planned.total > limit:
        raise DatasetError(
            f"the cache would take {planned.total:,} bytes, and --limit is {limit:,}; nothing was written. Choose "
            "fewer sources or splits, a smaller size, or a higher limit"
        )
    free = shutil.disk_usage(nearest(to)).free + sum(map(size_on_disk, _outdated(to, planned)))
    if planned.bytes > free:
        raise DatasetError(
            f"the cache needs {planned.bytes:,} bytes, and {to} has {free:,} left; nothing was written. Choose fewer "
            "sources or splits, a smaller size, or another disk"
        )


@dataclasses.dataclass(frozen=True)
class _Work:
    """Writes a shard by its number among the tasks."""

    out: Path
    to: Path
    settings: CacheSettings
    tasks: tuple[Task, ...]

    def __call__(self, number: int) -> None:
        write_shard(self.out, self.to, self.settings, self.tasks[number])


def write_shard(out: Path, to: Path, settings: CacheSettings, task: Task) -> None:
    """Write what a cache keeps of a shard, its receipt last.

    Raises:
        DatasetError: The shard cannot be read, or is not what its index says.
    """
    stem = task.shard.stem
    with ExitStack() as stack:
        files = [stack.enter_context(open_atomic(to / f"{stem}.{part}")) for part in CACHE_PARTS]
        images, layers, masks, places, records = files
        for file, shape, kind in zip(files, task.shapes(settings.size), task.types, strict=False):
            header: dict[str, Any] = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        starts = read_index(out, task.shard, ["json_offset"])["json_offset"].to_pylist()
        lines, layer, table = 0, 0, []
        rows: list[list[int]] = []
        classes: dict[tuple[str | None, ...], int] = {}
        for start, (record, fitted) in zip(starts, fitted_samples(out, task.shard.tar, settings), strict=True):
            table.append((start, lines, layer, len(rows)))
            image = fitted.image
            if task.coloured and image.ndim == 2:
                image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
            images.write(np.ascontiguousarray(image, task.types[0]).data)
            layers.write(np.ascontiguousarray(fitted.layers, task.types[1]).data)
            types = [fitted.image.dtype.itemsize, fitted.layers.dtype.itemsize]
            for entry, box in zip(record.pop("masks"), fitted.boxes, strict=True):
                of = classes.setdefault(tuple(entry[name] for name in CACHE_CLASS), len(classes))
                rows.append([of, entry["instance"], entry["area"], *entry["bbox"], *box])
            kept = {"metadata": record, "lost": fitted.lost, "types": types}
            lines += records.write(_RECORD.encode(kept).encode() + b"\n")
            layer += len(fitted.layers)
        if (len(table), layer) != (task.samples, task.layers):
            raise DatasetError(
                f"{task.shard.tar} has {len(table)} samples with {layer} layers, and its index says {task.samples} "
                f"with {task.layers}; {quoted_command('index', out)} writes it again"
            )
        listed = [dict(zip(CACHE_CLASS, values, strict=True)) for values in classes]
        records.write(_RECORD.encode(listed).encode() + b"\n")
        table.append((-1, lines, layer, len(rows)))
        for file, numbers in ((places, table), (masks, np.reshape(rows, (-1, len(CACHE_COLUMNS))))):
            np.lib.format.write_array(file, np.array(numbers, np.int64), version=(1, 0))
        size = sum(_size(file) for file in files)
    receipt = CacheReceipt(stem, task.index, task.tar, task.samples, task.layers, size)
    write_atomic(to / f"{stem}.json", write_bytes(receipt))


def _size(file: BinaryIO) -> int:
    return file.tell()
