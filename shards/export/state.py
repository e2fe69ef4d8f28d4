"""What a target folder knows of its own export: what was asked for, which units are finished, whether all is done."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from sa_med2d_20m import Selection
from shards.atomic import make_folder, open_atomic, write_atomic
from shards.export.errors import ExportError
from shards.export.unit import MARK, space_told

STATE: Final = ".sa-med2d-export"
"""Folder in the target folder that is ours."""
_ASKED: Final = f"{STATE}/export.json"
_UNITS: Final = f"{STATE}/units"
_UNIT: Final = 1000
"""Samples of a unit, unless a case has more: what is done again at most after an interruption, by each worker."""


@dataclass(frozen=True)
class Run:
    """The samples of one unit.

    Attributes:
        number: Of the unit, from 0.
        part: Number of the part of the selection.
        start: Number of its first sample within the part.
        stop: Number of the sample behind its last.
        first_image: Number of its first sample within the export.
        first_mask: Number of its first mask within the export.
        masks: How many masks it has.
    """

    number: int
    part: int
    start: int
    stop: int
    first_image: int
    first_mask: int
    masks: int


def units_of(selection: Selection) -> list[Run]:
    """Cut a selection into units, which never divide a case."""
    runs: list[Run] = []
    images = masks = 0
    for number, part in enumerate(selection.parts):
        starts = [0]
        for first in part.cases:
            if first - starts[-1] >= _UNIT:
                starts.append(first)
        before = {**dict(zip(part.cases, part.masks_before, strict=True)), part.samples: part.masks}
        for start, stop in zip(starts, [*starts[1:], part.samples], strict=True):
            own = before[stop] - before[start]
            runs.append(Run(len(runs), number, start, stop, images + start, masks + before[start], own))
        images, masks = images + part.samples, masks + part.masks
    return runs


def digest_of(selection: Selection) -> str:
    """Changes when the samples do."""
    digest = hashlib.sha256()
    for part in selection.parts:
        digest.update(f"{part.path} {part.digest} {part.masks}\n".encode())
    return digest.hexdigest()


class Target:
    """The folder that an export is written to.

    Args:
        folder: The folder.
        asked: What was asked for, as plain data: name -> value.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any]) -> None:
        self.folder = folder
        self._asked = json.loads(json.dumps(asked))

    def begin(self) -> bool:
        """Take the folder for this export, or go on with it.

        Returns:
            Whether it was finished before.

        Raises:
            ExportError: It holds something else.
        """
        with space_told(self.folder):
            return self._begin()

    def _begin(self) -> bool:
        path = self.folder / _ASKED
        if path.is_file():
            state = self._state(path)
            self._refuse_other(state["asked"])
            return bool(state["finished"])
        if self.folder.exists() and not self.folder.is_dir():
            raise ExportError(f"{self.folder}: is a file; choose an empty folder, or one that is not there")
        if self.folder.exists() and any(one.name != STATE for one in self.folder.iterdir()):
            raise ExportError(
                f"{self.folder}: is not empty and holds no export; choose an empty folder, or one that is not there"
            )
        make_folder(self.folder)
        self._write(finished=False)
        return False

    def _state(self, path: Path) -> dict[str, Any]:
        try:
            state = json.loads(path.read_bytes())
            if not isinstance(state["asked"], dict) or not isinstance(state["finished"], bool):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise ExportError(f"{path}: is damaged; delete {self.folder} and export again") from None
        return dict(state)

    def _refuse_other(self, before: Mapping[str, Any]) -> None:
        if before == self._asked:
            return
        different = [
            f"{name} {_in_words(before.get(name))}, now {_in_words(self._asked.get(name))}"
            for name in sorted({*before, *self._asked})
            if before.get(name) != self._asked.get(name) and name != "samples"
        ]
        reason = "; ".join(different) or "the dataset has changed since"
        raise ExportError(
            f"{self.folder}: holds an export that was asked for otherwise: {reason}; choose another folder, or delete "
            "this one"
        )

    def _write(self, *, finished: bool) -> None:
        text = json.dumps({"asked": self._asked, "finished": finished}, indent=1, sort_keys=True)
        write_atomic(self.folder / _ASKED, text.encode() + b"\n")

    @property
    def lock(self) -> Path:
        """File that is held while an export writes to the folder."""
        return self.folder / STATE / "lock"

    def kept(self, number: int) -> Path:
        """Folder of a unit's own."""
        return self.folder / _UNITS / f"{number:06d}"

    def mark(self, number: int) -> dict[str, Any] | None:
        """What a finished unit says of itself; None for one that is not finished."""
        try:
            return dict(json.loads((self.kept(number) / MARK).read_bytes()))
        except FileNotFoundError:
            return None

    def end(self) -> None:
        """Say that all is done, and delete what only unfinished exports need."""
        with space_told(self.folder):
            self._write(finished=True)
            self.clear()

    def clear(self) -> None:
        """Delete what only unfinished exports need."""
        shutil.rmtree(self.folder / _UNITS, ignore_errors=True)


def _in_words(value: Any) -> str:
    """What was asked for, as a message gives it."""
    if value is None:
        return "not given"
    return f"{' and '.join(map(str, value)) if isinstance(value, list) else value:.80}"


class GatheredUnits:
    """See `shards.export.layout.Gathered`.

    Args:
        target: Whose units all are finished.
        runs: The units.
    """

    def __init__(self, target: Target, runs: Sequence[Run]) -> None:
        self._target, self._runs = target, runs
        self._counts: dict[str, float] = defaultdict(float)
        self._notes: dict[str, set[str]] = {}
        self.files = self.bytes = 0
        for run in runs:
            mark = target.mark(run.number)
            if mark is None:
                raise ExportError(f"{target.kept(run.number)}: was deleted meanwhile; run the same command again")
            for name, by in mark["counts"].items():
                self._counts[name] += by
            for name, values in mark["notes"].items():
                self._notes.setdefault(name, set()).update(values)
            self.files, self.bytes = self.files + mark["files"], self.bytes + mark["bytes"]

    def lines(self, document: str) -> Iterator[bytes]:
        """See there."""
        for run in self._runs:
            path = self._target.kept(run.number) / document
            if path.is_file():
                with path.open("rb") as file:
                    yield from (line.removesuffix(b"\n") for line in file)

    def counted(self, name: str) -> float:
        """See there."""
        return self._counts.get(name, 0)

    def counts(self, prefix: str) -> dict[str, float]:
        """The sums whose names begin so, by the rest of the name, sorted."""
        return {
            name.removeprefix(prefix): value for name, value in sorted(self._counts.items()) if name.startswith(prefix)
        }

    def notes(self, name: str) -> list[Any]:
        """See there."""
        return [json.loads(value) for value in sorted(self._notes.get(name, ()))]

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        """See there."""
        return self._open(path)

    @contextmanager
    def _open(self, path: str) -> Iterator[BinaryIO]:
        with space_told(self._target.folder / path), open_atomic(self._target.folder / path) as file:
            yield file
            self.files, self.bytes = self.files + 1, self.bytes + file.tell()
