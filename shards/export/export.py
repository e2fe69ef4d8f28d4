"""An export from start to end: survey, units, documents over all, licences."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sa_med2d_20m import Selection
from shards.arguments import nearest
from shards.export.errors import ExportError
from shards.export.layout import Overview
from shards.export.layouts import LAYOUTS, layout
from shards.export.provenance import DOCUMENT, descriptions, provenance
from shards.export.state import STATE, GatheredUnits, Target, digest_of, units_of
from shards.export.unit import space_told
from shards.export.work import UnitWork
from shards.workers import each

_FORMAT: Final = 2
"""Raised when a layout changes, so that no export goes on with half of its files in an older form."""

_OF_PARTS: Final = ("source", "split", "license")


@dataclass(frozen=True)
class Expected:
    """What an export will be, by the index and by a few samples.

    Attributes:
        images: Number of images.
        masks: Number of masks.
        read: Bytes of images and label maps that are read.
        files: About how many files are written.
        bytes: About how many bytes.
        free_bytes: Bytes that are free where the target folder is.
        free_files: Files that can still be made there; None where the file system does not say.
    """

    images: int
    masks: int
    read: int
    files: int
    bytes: int
    free_bytes: int
    free_files: int | None

    @property
    def fits(self) -> bool:
        """Whether there is room, as far as that can be told."""
        return self.bytes <= self.free_bytes and (self.free_files is None or self.files <= self.free_files)


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        images: Number of images.
        masks: Number of masks.
        files: Number of files, with the documents over all.
        bytes: Their bytes.
        remarks: Sentences of the layout.
        was_finished: Whether all of it was there before.
    """

    images: int
    masks: int
    files: int
    bytes: int
    remarks: tuple[str, ...]
    was_finished: bool


class Export:
    """One export.

    Args:
        selection: What is exported.
        name: Of the layout.
        target: Folder to write to, as the user named it.
        asked: The filters, as plain data.
    """

    def __init__(self, selection: Selection, name: str, target: Path, asked: Mapping[str, Any]) -> None:
        if name not in LAYOUTS:
            raise ExportError(f"there is no layout {name!r}; there are {', '.join(LAYOUTS)}")
        self._selection, self._target = selection, target
        images, masks = (sum(getattr(part, kind) for part in selection.parts) for kind in ("samples", "masks"))
        names = {name: sorted({getattr(part, name) for part in selection.parts}) for name in _OF_PARTS}
        kinds = {(part.source, part.modality, one) for part in selection.parts for one in part.submodalities}
        overview = Overview(
            target=str(target),
            labels=selection.labels,
            labels_of={source: _labels_of(selection, source) for source in names["source"]},
            kinds=tuple(sorted(kinds)),
            sources=descriptions(selection, names["source"]),
            splits=tuple(names["split"]),
            licenses=tuple(names["license"]),
            images=images,
            masks=masks,
        )
        self._work = UnitWork(selection, tuple(units_of(selection)), name, overview, target)
        self._asked = {"layout": name, **asked, "samples": digest_of(selection), "format": _FORMAT}

    @property
    def has_begun(self) -> bool:
        """Whether an earlier run has begun it."""
        return (self._target / STATE).exists()

    def expected(self) -> Expected:
        """What it will be, all of it.

        Raises:
            DatasetError: A sample breaks the contract.
        """
        measure, overview = self._work.measure(), self._work.overview
        read = sum(part.bytes for part in self._selection.parts)
        files = _scaled(measure.files, measure.pictures, overview.images + overview.masks)
        size = _scaled(measure.bytes, measure.read, read)
        return Expected(overview.images, overview.masks, read, files, size, *_room(self._target))

    def run(self, workers: int, on_unit: Callable[[int, int], None]) -> Exported:
        """Write it, or what is missing of it.

        Args:
            workers: Processes.
            on_unit: Told how many images, of how many, are done.

        Raises:
            DatasetError: A sample breaks the contract.
            ExportError: The target folder holds something else, or cannot be written, or the layout can hold nothing of
                what is chosen.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - half of the commands need it not

        target = Target(self._target, self._asked)
        finished = target.begin()
        try:
            with FileLock(target.lock, timeout=0):
                if finished:
                    target.clear()
                    return self._told(0, 0, (), was_finished=True)
                self._units(target, workers, on_unit)
                return self._end(target)
        except Timeout:
            raise ExportError(f"{self._target}: another export is writing to this folder; wait for it to end") from None

    def _units(self, target: Target, workers: int, on_unit: Callable[[int, int], None]) -> None:
        runs, total = self._work.runs, self._work.overview.images
        missing = [run.number for run in runs if target.mark(run.number) is None]
        done = total - sum(runs[number].stop - runs[number].start for number in missing)
        on_unit(done, total)
        for number in each(self._work, missing, workers):
            done += runs[number].stop - runs[number].start
            on_unit(done, total)

    def _end(self, target: Target) -> Exported:
        gathered = GatheredUnits(target, self._work.runs)
        pictures = gathered.files
        remarks = layout(self._work.layout, self._work.overview).finish(gathered)
        if not pictures:
            why = "".join(f"; {remark}" for remark in remarks)
            raise ExportError(f"{self._target}: {self._work.layout} can hold none of the chosen images{why}")
        counted: dict[tuple[str, str], tuple[int, int]] = {}
        for name, images in gathered.counts("images ").items():
            source, license_id = name.split(" ", 1)
            counted[source, license_id] = (int(images), int(gathered.counted(f"masks {name}")))
        with gathered.open(DOCUMENT) as file:
            file.write(provenance(counted, self._work.overview.sources))
        target.end()
        return self._told(gathered.files, gathered.bytes, tuple(remarks), was_finished=False)

    def _told(self, files: int, size: int, remarks: tuple[str, ...], *, was_finished: bool) -> Exported:
        overview = self._work.overview
        return Exported(overview.images, overview.masks, files, size, remarks, was_finished)


def _labels_of(selection: Selection, source: str) -> tuple[str, ...]:
    return tuple(sorted({label for part in selection.parts if part.source == source for label in part.labels}))


def _scaled(number: int, of: int, to: int) -> int:
    """What is a number of some things, of more of them."""
    return -(-number * to // of) if of else 0


def _room(folder: Path) -> tuple[int, int | None]:
    """Bytes and files that are free where a folder is, or will be."""
    with space_told(folder):
        there = nearest(folder)
        free = shutil.disk_usage(there).free
        files = os.statvfs(there).f_favail if hasattr(os, "statvfs") else 0
    return free, files or None  # some file systems count no files and say 0
