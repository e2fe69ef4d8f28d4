"""Which samples a gallery shows: of every source and class, the rare ones first, always the same ones."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sa_med2d_20m import PLACES

_NAMES: Final = ("source", "plane", "axis", "case", "submodality", "key", "shard")
_OF_EACH: Final = 3
"""Candidates of each class in each source and plane."""
_PENDING: Final = 2**17
"""Candidates that are held before the best of them are chosen."""
SLICES: Final = 16
"""Slices of a volume that are shown one after another."""
_FEWEST_SLICES: Final = 3


@dataclass(frozen=True)
class Entry:
    """What the gallery shows as one: a picture, or a volume by some of its slices.

    Attributes:
        rows: The samples: name -> value of the columns that say who they are and where they lie.
    """

    rows: tuple[Mapping[str, Any], ...]


class Chooser:
    """Sees all rows, and holds some candidates of each class in each source.

    Who is a candidate depends on a hash of the key alone, so other sources change nothing.

    Args:
        samples: How many samples are wanted.
        volumes: How many of these are volumes shown by some of their slices; None for a quarter of the samples.
    """

    columns: Final = (*_NAMES, "index", *PLACES, "masks.label")
    """Columns of the index that it needs."""

    def __init__(self, samples: int, volumes: int | None = None) -> None:
        self._samples = samples
        self._of_volumes = samples // (4 * SLICES) if volumes is None else volumes
        self._by_class = _Best(("source", "plane", "label"), _OF_EACH)
        self._of_all = _Best((), samples)
        self._volumes = _Volumes()
        self._counts = Counter[str]()

    def add(self, rows: pa.Table) -> None:
        """Take rows in.

        Args:
            rows: With at least `columns`.
        """
        known = pa.table({name: _plain(rows[name]) for name in (*_NAMES, "index", *PLACES)})
        known = known.append_column("rank", pa.array(_ranks(known["key"])))
        masks = rows["masks"].combine_chunks()
        shown = pa.table(
            {"row": pc.list_parent_indices(masks), "label": pc.struct_field(pc.list_flatten(masks), "label")}
        )
        per_image = shown.group_by(["row", "label"], use_threads=False).aggregate([([], "count_all")])
        labels = _plain(per_image["label"])
        self._by_class.add(known.take(per_image["row"]).append_column("label", labels))
        self._of_all.add(known)
        self._volumes.add(known)
        for label, count in zip(labels.to_pylist(), per_image["count_all"].to_pylist(), strict=True):
            self._counts[label] += count

    def chosen(self, also: Sequence[Mapping[str, Any]] = ()) -> list[Entry]:
        """The entries in the order in which they are shown.

        Args:
            also: Rows of samples that must be among them. They stand last, and are no more than are wanted.
        """
        volumes = self._volumes.chosen(self._of_volumes)
        shown = [row for volume in volumes for row in volume.rows]
        keys = {row["key"] for row in shown}
        last = [row for row in also if row["key"] not in keys]
        picks = _Picks(self._samples, [*shown, *last])
        self._pick(picks)
        return [*_spread([Entry((row,)) for row in picks.found], volumes), *(Entry((row,)) for row in last)]

    def _pick(self, picks: _Picks) -> None:
        """A sample of each source; rounds over the classes, the rarest first; then any."""
        candidates = self._by_class.table().to_pylist()
        by_source, by_label = _grouped(candidates, "source"), _grouped(candidates, "label")
        for source in sorted(by_source):
            picks.use(min(by_source[source], key=lambda row: (self._counts[row["label"]], row["label"], row["rank"])))
        rare_first = sorted(by_label, key=lambda label: (self._counts[label], label))
        turn = 0
        while any(by_label.values()) and not picks.full:
            turn += 1
            for label in rare_first:
                left = by_label[label] = [row for row in by_label[label] if row["key"] not in picks.keys]
                if left and picks.of_label[label] < turn:
                    picks.use(min(left, key=picks.order))
        for row in self._of_all.table().sort_by("rank").to_pylist():
            picks.use({**row, "label": None})


def _grouped(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row[key]].append(row)
    return found


class _Picks:
    """Samples that were picked, and how many of what they show.

    Args:
        samples: How many there may be.
        others: Samples that are shown already, and are among these.
    """

    def __init__(self, samples: int, others: Sequence[Mapping[str, Any]]) -> None:
        self.found: list[Mapping[str, Any]] = []
        self.keys = {row["key"] for row in others}
        self.of_label = Counter[str | None]()
        self._of_source = Counter[str]()
        self._of_case = Counter[tuple[str, str]]()
        self._of_plane = Counter[tuple[str, str]]()
        self._samples = samples

    @property
    def full(self) -> bool:
        """Whether there is no room left."""
        return len(self.keys) >= self._samples

    def use(self, row: Mapping[str, Any]) -> None:
        """Pick a sample, if there is room and it was not picked already."""
        if row["key"] in self.keys or self.full:
            return
        self.found.append(row)
        self.keys.add(row["key"])
        self.of_label[row["label"]] += 1
        self._of_source[row["source"]] += 1
        self._of_case[row["source"], row["case"]] += 1
        self._of_plane[row["source"], row["plane"]] += 1

    def order(self, row: Mapping[str, Any]) -> tuple[int, ...]:
        """What is picked first: of sources, cases and planes that were shown least."""
        source = row["source"]
        return (
            self._of_source[source],
            self._of_case[source, row["case"]],
            self._of_plane[source, row["plane"]],
            row["rank"],
        )


def _spread(singles: Sequence[Entry], volumes: Sequence[Entry]) -> list[Entry]:
    """Volumes among the samples by themselves, evenly from the second place on."""
    found, step = list(singles), max(1, len(singles) // (len(volumes) + 1))
    for number, volume in enumerate(volumes):
        found.insert(1 + number * (step + 1), volume)
    return found


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _ranks(texts: Any) -> npt.NDArray[np.uint64]:
    """A number for each text that has nothing to do with its order."""
    sums = np.fromiter((zlib.crc32(text.encode("utf-8", "replace")) for text in texts.to_pylist()), np.uint64)
    # a check sum of texts that are nearly alike is nearly alike: the finalizer of MurmurHash3 mixes its bits
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53), (33, 1)):
        sums = (sums ^ (sums >> np.uint64(shift))) * np.uint64(factor)
    return sums >> np.uint64(1)  # into what Arrow and Python take for a signed number


class _Best:
    """Of each group of rows those that rank first.

    Args:
        keys: Columns that make the groups.
        count: How many of each.
    """

    def __init__(self, keys: Sequence[str], count: int) -> None:
        self._keys, self._count = keys, count
        self._parts: list[pa.Table] = []
        self._pending = 0

    def add(self, rows: pa.Table) -> None:
        self._parts.append(self._first(rows))
        self._pending += self._parts[-1].num_rows
        if self._pending > _PENDING:
            self._parts, self._pending = [self._first(pa.concat_tables(self._parts))], 0

    def table(self) -> pa.Table:
        if not self._parts:
            return pa.table({"rank": pa.array([], pa.int64())})
        return self._first(pa.concat_tables(self._parts))

    def _first(self, rows: pa.Table) -> pa.Table:
        group = np.zeros(rows.num_rows, np.int64)
        for key in self._keys:
            codes = rows[key].combine_chunks().dictionary_encode()
            group = group * len(codes.dictionary) + codes.indices.to_numpy(zero_copy_only=False)
        order = np.lexsort((rows["rank"].to_numpy(), group))
        ordered = group[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, np.int64)
        within = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
        return rows.take(pa.array(order[within < self._count]))


class _Volumes:
    """Of each source the slices of one volume along one axis: the one that ranks first."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, list[pa.Table]]] = {}

    def add(self, rows: pa.Table) -> None:
        slices = rows.filter(pc.not_equal(rows["axis"], "2d"))
        if not slices.num_rows:
            return
        parts = [slices[name] for name in ("source", "case", "submodality", "axis")]
        volume = pc.binary_join_element_wise(*parts, "\n").combine_chunks().dictionary_encode()
        ranks = _ranks(volume.dictionary)
        sources = [text.split("\n")[0] for text in volume.dictionary.to_pylist()]
        codes = volume.indices.to_numpy(zero_copy_only=False)
        for number, source in enumerate(sources):
            rank = int(ranks[number])
            best = self._held.get(source)
            if best is None or rank <= best[0]:
                own = slices.filter(pa.array(codes == number))
                self._held[source] = (rank, [*best[1], own] if best is not None and rank == best[0] else [own])

    def chosen(self, count: int) -> list[Entry]:
        """The volumes of some sources, each by slices that lie evenly."""
        found: list[Entry] = []
        for _, parts in sorted(self._held.values(), key=lambda held: held[0]):
            rows = pa.concat_tables(parts).sort_by("index").to_pylist()
            if len(rows) >= _FEWEST_SLICES and len(found) < count:
                places = np.unique(np.linspace(0, len(rows) - 1, min(SLICES, len(rows))).round().astype(int))
                found.append(Entry(tuple(rows[place] for place in places)))
        return found
