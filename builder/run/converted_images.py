"""The images of cases that are converted and not yet in their shards, with those that the folder holds already."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from builder.run.earlier_shards import CaseReader, FoundCase
from builder.run.pieces import LoggedCase
from shards.duplicates.built import ROW_COLUMNS, of_tables
from shards.duplicates.images import Images
from shards.duplicates.kept import SCHEMA, fingerprints, fingerprints_of
from shards.paths import ShardId
from shards.tables import folder_rows
from shards.tar import samples_in

_AT_ONCE: Final = 8
"""Cases that a process is given at a time."""


class CaseImages:
    """Gathers images.

    Args:
        out: Output folder.
        workers: Processes that read images.
        on_step: Told how far it is.
    """

    def __init__(self, out: Path, workers: int, on_step: Callable[[str, int, int], None]) -> None:
        self._out, self._workers, self._on_step = out, workers, on_step
        self._rows: list[pa.Table] = []
        self._prints: list[pa.Table] = []
        self._pixels: list[pa.Array] = []

    def add_shards(self, shards: list[ShardId]) -> None:
        """Take in shards that are finished; their fingerprints are kept."""
        on_shard = partial(self._on_step, "reading images, shard")
        rows = folder_rows(self._out)
        for shard, prints in fingerprints(self._out, shards, workers=self._workers, on_shard=on_shard):
            self._add(rows(shard), prints)

    def add_cases(self, cases: list[FoundCase]) -> None:
        """Take in cases, wherever they lie."""
        with_images = [case for case in cases if case.piece.samples]
        for done, (rows, prints) in enumerate(self._read(with_images), 1):
            self._on_step("reading images, case", done, len(with_images))
            self._add(rows, prints)

    def _read(self, cases: list[FoundCase]) -> Iterator[tuple[pa.Table, pa.Table]]:
        made = partial(_of_case, self._out)
        workers = min(self._workers, len(cases) // _AT_ONCE)  # a process takes a second to start
        if workers <= 1:
            yield from map(made, cases)
            return
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(made, cases, chunksize=_AT_ONCE)

    def _add(self, rows: pa.Table, prints: pa.Table) -> None:
        if not rows.num_rows:
            return
        lists = rows["masks"].combine_chunks()
        areas = pc.struct_field(pc.list_flatten(lists), "area")
        sums = (
            pa.table({"image": pc.list_parent_indices(lists), "area": areas})
            .group_by("image")
            .aggregate([("area", "sum")])
        )
        found = dict(zip(sums["image"].to_pylist(), sums["area_sum"].to_pylist(), strict=True))
        self._pixels.append(pa.array([found.get(number, 0) for number in range(rows.num_rows)], pa.int64()))
        self._rows.append(rows.select(ROW_COLUMNS))
        self._prints.append(prints.drop_columns("key"))

    @property
    def mask_pixels(self) -> pa.Array:
        """Of each image, in the order of `gathered`."""
        return pa.concat_arrays(self._pixels)

    def gathered(self) -> Images | None:
        """All that was taken in, None where there is no image."""
        if not self._rows:
            return None
        return of_tables(pa.concat_tables(self._rows), pa.concat_tables(self._prints), self._out)


def _of_case(out: Path, case: FoundCase) -> tuple[pa.Table, pa.Table]:
    """The rows of a case, with places in the file that holds it now, and its fingerprints."""
    stored = CaseReader(out).read(case)
    logged = isinstance(case, LoggedCase)
    columns: dict[str, Any] = {name: stored.rows[name] for name in (*ROW_COLUMNS, "masks")}
    place = case.log if isinstance(case, LoggedCase) else case.place.tar
    columns["shard"] = pa.array([place] * stored.rows.num_rows, pa.string())
    # in a log, offsets count from the first block of the case
    columns["image_offset"] = pc.add(stored.rows["image_offset"], case.piece.offset if logged else 0)
    prints = fingerprints_of(samples_in(b"".join(stored.blocks)))
    return pa.table(columns), prints if prints.num_rows else SCHEMA.empty_table()
