"""Looking at a set: some whole cases of each source, once, by all checks."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sa_med2d_20m import INDEX, DatasetError, decode_png, quoted_command
from shards.paths import ShardId, stems
from shards.report.findings.checks import CHECKS
from shards.report.findings.finding import Finding, Group, Value
from shards.report.findings.series import Series, View, view_of
from shards.report.rows import Rows, batches
from shards.store import part_of_shard
from shards.tables import folder_rows

_PLACES = ("image", "mask")


@dataclass(frozen=True)
class Looked:
    """What was found.

    Attributes:
        findings: Ordered by source, then by check.
        images: How many images were looked at.
        of: How many the set has.
        sources: How many sources it has.
        rows: Key -> row of the index, of each example.
    """

    findings: tuple[Finding, ...]
    images: int
    of: int
    sources: int
    rows: Mapping[str, Mapping[str, Any]]

    def record(self) -> dict[str, Any]:
        """As plain data, each finding with what was measured and why its threshold is what it is."""
        counts = {"images": self.images, "of": self.of, "sources": self.sources}
        return {**counts, "findings": [{**asdict(one), **_in_words(one.check)} for one in self.findings]}

    def examples(self, most: int) -> list[Mapping[str, Any]]:
        """Rows of examples: one of each finding, then a second of each, until there are enough."""
        turns = zip_longest(*(one.examples for one in self.findings))
        keys = dict.fromkeys(key for turn in turns for key in turn if key is not None)
        return [self.rows[key] for key in list(keys)[:most]]


def _in_words(check: str) -> dict[str, str]:
    return {"meaning": CHECKS[check].MEANING, "reason": CHECKS[check].REASON}


def look(out: Path, *, images: int, workers: int, on_case: Callable[[int, int], None]) -> Looked:
    """Look for faults.

    Args:
        out: Output folder, store or repository.
        images: How many images of each source are looked at, at least; cases are taken whole, chosen by a hash.
        workers: Threads.
        on_case: Told how many cases, of how many, are done.

    Raises:
        DatasetError: It holds no index, or a sample cannot be read.
    """
    shards = [ShardId.parse(stem) for stem in stems(out, INDEX, ".parquet")]
    if not shards:
        raise DatasetError(f"{out}: holds no index; expected a folder that 'sa-med2d build' wrote, or a repository")
    total, chosen = _chosen(out, shards, images)
    measured: dict[str, defaultdict[Group, list[Value]]] = {name: defaultdict(list) for name in CHECKS}
    with ThreadPoolExecutor(workers) as pool:
        for done, (group, values) in enumerate(pool.map(partial(_measured, out), chosen), 1):
            for name, of, value in values:
                measured[name][group._replace(of=of)].append(value)
            on_case(done, len(chosen))
    found = [one for name, check in CHECKS.items() for one in check.judge(measured[name])]
    order = list(CHECKS)
    found.sort(key=lambda one: (one.source, order.index(one.check), one.of or ""))
    named = {key for one in found for key in one.examples}
    rows = {row["key"]: row for case in chosen for row in case if row["key"] in named}
    return Looked(tuple(found), sum(map(len, chosen)), total, len({shard.source for shard in shards}), rows)


def _chosen(out: Path, shards: Iterable[ShardId], images: int) -> tuple[int, list[list[dict[str, Any]]]]:
    """How many images there are, and the rows of some cases of each source, a list for each case."""
    every = 0
    chosen: list[list[dict[str, Any]]] = []
    by_source: defaultdict[str, list[ShardId]] = defaultdict(list)
    for shard in shards:
        by_source[shard.source].append(shard)
    rows = folder_rows(out)
    for source, own in by_source.items():
        counts = {shard: _cases(out, shard) for shard in own}  # whole rows of a large source have no room in memory
        total = sum(counts.values(), Counter[str]())
        every += total.total()
        taken: set[str] = set()
        looked_at = 0
        for case in sorted(total, key=lambda one: _hash(source, one)):
            if looked_at >= images:
                break
            taken.add(case)
            looked_at += total[case]
        for shard in (shard for shard in own if taken & counts[shard].keys()):
            table = rows(shard)
            found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
            for row in table.filter(pc.is_in(table["case"], pa.array(sorted(taken), pa.string()))).to_pylist():
                found[row["case"]].append(row)
            chosen += found.values()
    return every, chosen


def _cases(out: Path, shard: ShardId) -> Counter[str]:
    """The cases of a shard, and how many images each has."""
    counts = Counter[str]()
    for part in batches(Rows(out, (shard.index,)), ["case"], lambda _done, _of: None):
        named = pc.value_counts(part["case"].combine_chunks())
        counts.update({one["values"].as_py(): one["counts"].as_py() for one in named})
    return counts


def _hash(source: str, case: str) -> bytes:
    return hashlib.sha256(f"{source}\0{case}".encode("utf-8", "surrogateescape")).digest()


def _measured(out: Path, rows: list[dict[str, Any]]) -> tuple[Group, list[tuple[str, str, Value]]]:
    """What all checks measure of a case.

    Raises:
        DatasetError: Its shard does not hold what its index says.
    """
    try:
        return Group(rows[0]["modality"], rows[0]["source"], ""), _values(out, rows)
    except DatasetError as error:
        where = f"{out / rows[0]['shard']}: case {rows[0]['case']}"
        raise DatasetError(f"{where}: {error}; {quoted_command('verify', out)} says what is wrong") from None


def _values(out: Path, rows: list[dict[str, Any]]) -> list[tuple[str, str, Value]]:
    series: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        series[row["submodality"], row["axis"]].append(row)
    first = rows[0]
    data, start = _bytes_of(out, rows)
    found = []
    for own in series.values():
        own.sort(key=lambda row: row["index"] or 0)
        views = [_view(data, start, row) for row in own]
        made = Series(first["source"], first["modality"], first["case"], views)
        found += [(name, of, value) for name, check in CHECKS.items() for of, value in check.measure(made)]
    return found


def _bytes_of(out: Path, rows: list[dict[str, Any]]) -> tuple[bytes, int]:
    """The part of a shard that holds a case, and the byte at which it begins: one request where a store has it."""
    start = min(row["image_offset"] for row in rows)
    end = max(row["mask_offset"] + row["mask_size"] for row in rows)
    return part_of_shard(out / rows[0]["shard"], start, end - start), start


def _view(data: bytes, start: int, row: dict[str, Any]) -> View:
    begins = {name: row[f"{name}_offset"] - start for name in _PLACES}
    image, label_map = (decode_png(data[at : at + row[f"{name}_size"]]) for name, at in begins.items())
    return view_of(row, image, label_map)
