"""How often ``sa-med2d findings`` is wrong, and how many seeded faults it finds; docs/findings.md has the figures.

``pytest tests/benchmarks/test_findings.py -m slow -rP``.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shards.report.findings.checks import CHECKS
from tests.support.command import Command
from tests.support.corpus_sets import SETS as OF_COPIES
from tests.support.places import RECIPES
from tests.support.seeded_faults import EXPECTED, FAULTS, with_fault

SETS = {**OF_COPIES, "StarDist": "stardist-nuclei"}
FEWEST = {"shifted": 3, "mirrored": 3}
"""Images that a set needs to show a fault of its borders."""
IN_A_ROW = 10
"""Slices without a gap that a volume needs to show that they are out of order."""


def found(sa_med2d: Command, out: Path) -> dict[str, set[str]]:
    """Source -> names of what was found in it."""
    ran = sa_med2d("findings", out, "--json", "--workers", 1)
    assert ran.code == 0, ran.err
    names: defaultdict[str, set[str]] = defaultdict(set)
    for one in json.loads(ran.out)["findings"]:
        names[one["source"]].add(one["check"])
    return names


def able(out: Path) -> dict[str, set[str]]:
    """Finding -> the sources in which it can be seen."""
    can: defaultdict[str, set[str]] = defaultdict(set)
    for check in CHECKS:
        can[check].update(SETS if check not in ("sides", "slice_order") else ())
    images = Counter[str]()
    stacks: defaultdict[tuple[str, ...], set[int]] = defaultdict(set)
    for path in (out / "index").rglob("*.parquet"):
        for row in pq.read_table(path, partitioning=None).to_pylist():
            images[row["source"]] += 1
            if row["index"] is not None:
                stacks[row["source"], row["case"], row["axis"]].add(row["index"])
            names = {mask["label"] for mask in row["masks"]}
            both = any("left" in name and name.replace("left", "right") in names for name in names)
            if both and row["plane"] in ("axial", "coronal"):  # a picture does not say which side is which
                can["sides"].add(row["source"])
    for (source, *_), numbers in stacks.items():
        if any(all(number + step in numbers for step in range(IN_A_ROW)) for number in numbers):
            can["slice_order"].add(source)
    for check, fewest in FEWEST.items():
        can[check] = {source for source in can[check] if images[source] >= fewest}
    return can


@pytest.mark.slow
def test_seeded_faults_of_public_sets(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, folder in SETS.items():
        recipe = RECIPES / f"{name}.toml"
        assert sa_med2d("build", recipe, "--raw", corpus / folder, "--out", out, "--workers", 1).code == 0
    assert found(sa_med2d, out) == {}, "false alarms"
    can = able(out)
    lines = ["| fault | finding | sets found | by other findings too | not found in |", "|---|---|--:|---|---|"]
    rates = {}
    for number, (fault, change) in enumerate(FAULTS.items()):
        to = tmp_path / f"{number}"
        with_fault(out, to, change)
        assert sa_med2d("index", to).code == 0
        told, check = found(sa_med2d, to), EXPECTED[fault]
        hit = {source for source in can[check] if check in told[source]}
        others = Counter(one for names in told.values() for one in names - {check})
        also = ", ".join(f"`{name}` {count}" for name, count in others.most_common())
        rates[fault] = len(hit) / len(can[check])
        missed = ", ".join(sorted(can[check] - hit))
        lines.append(f"| {fault} | `{check}` | {len(hit)} of {len(can[check])} | {also} | {missed} |")
    print("\n".join(lines))  # noqa: T201 - shown by pytest -rP
    assert min(rates.values()) > 0.7, rates
