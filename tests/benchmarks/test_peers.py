"""The loader and its cache beside other formats that hold the very same samples; see README.md beside this file.

``make peers`` installs them and runs it, which prints the table; by hand ``pytest tests/benchmarks/test_peers.py -m slow
-rP``. Formats that cannot be imported are left out, and the table says why.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.peers.measure import digest
from tests.benchmarks.peers.row import all_samples
from tests.benchmarks.peers.table import PEERS, Peer
from tests.support.loader_benchmark import build_large
from tests.support.warm_process import COMMANDS, WarmProcess

pytestmark = pytest.mark.slow

ROUNDS = 5
LIMIT = 120
"""Seconds that one measurement may take."""
COLUMNS = (
    "format, and what reads it",
    "holds",
    "MB",
    "written, s",
    "first batch, ms",
    "one process, first epoch",
    "second",
    "processor, µs a row",
    "two workers, first epoch",
    "second",
)

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """512 slices of 512 x 512 in four shards, which two workers can share evenly in every format."""
    return build_large(tmp_path_factory.mktemp("peers"), cases=4, slices=128)


@pytest.fixture(scope="module")
def missing() -> dict[str, str]:
    """Peers that cannot be measured here, and why."""
    pytest.importorskip("torch", reason="two workers are those of a DataLoader")
    reasons = {name: peer.missing() for name, peer in PEERS.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, missing: dict[str, str]) -> Iterator[Run]:
    """Measure in a new process, which has imported all formats and opened none."""
    folder = tmp_path_factory.mktemp("home")
    modules = [f"tests.benchmarks.peers.{peer.module}" for name, peer in PEERS.items() if name not in missing]
    environment = {**os.environ, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    with WarmProcess(environment, [*COMMANDS, "torch.utils.data", *modules]) as warm:

        def measured(*arguments: object) -> Any:
            command = ["-m", "tests.benchmarks.peers.measure", *map(str, arguments)]
            process = warm.start(command, environment, Path.cwd())
            out, err = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, err
            return json.loads(out.splitlines()[-1])

        yield measured


@pytest.fixture(scope="module")
def written(run: Run, built: Path, missing: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each module that writes one."""
    folder = tmp_path_factory.mktemp("written")
    for name, peer in PEERS.items():
        if name not in missing and peer.reads is None:
            run("write", name, built, folder / peer.module)
    return folder


def files_of(peer: Peer) -> str:
    return (PEERS[peer.reads] if peer.reads else peer).module


@pytest.mark.parametrize("name", PEERS)
def test_every_format_gives_the_same_rows(
    run: Run, written: Path, built: Path, missing: dict[str, str], name: str
) -> None:
    """What is compared is compared in full: all pixels, and all metadata."""
    if name in missing:
        pytest.skip(missing[name])
    assert run("digest", name, written / files_of(PEERS[name])) == [digest(row) for row in by_pillow(built)]


def by_pillow(built: Path) -> Iterator[dict[str, Any]]:
    for sample in all_samples(built):
        pictures = {"image": sample.image, "mask": sample.mask}
        yield {
            **{name: np.asarray(Image.open(io.BytesIO(data))) for name, data in pictures.items()},
            **json.loads(sample.record),
        }


def test_epochs(run: Run, written: Path, built: Path, missing: dict[str, str]) -> None:
    """Rounds go through all formats, so that what else the machine does meets each of them alike."""
    present = {name: peer for name, peer in PEERS.items() if name not in missing}
    found: dict[str, dict[str, list[Any]]] = {name: {"write": [], "one": [], "workers": []} for name in present}
    for _ in range(ROUNDS):
        for name, peer in present.items():
            if peer.reads is None:
                shutil.rmtree(written / peer.module)
                found[name]["write"].append(run("write", name, built, written / peer.module))
        for name, peer in present.items():
            for action in ("one", "workers"):
                found[name][action].append(run(action, name, written / files_of(peer)))
    assert {one["rows"] for name in present for action in ("one", "workers") for one in found[name][action]} == {512}
    print(*lines(found, written), *map(": ".join, missing.items()), sep="\n")  # noqa: T201 - shown by pytest -rP


def lines(found: dict[str, dict[str, list[Any]]], written: Path) -> Iterator[str]:
    """A table in Markdown: medians, in rows a second where nothing else is said."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|---|---|{'--:|' * (len(COLUMNS) - 2)}"
    for name, measured in found.items():
        peer = PEERS[name]

        def rate(action: str, epoch: str, measured: dict[str, list[Any]] = measured) -> str:
            return f"{median(one['rows'] / one[epoch] for one in measured[action]):,.0f}"

        yield (
            "| "
            + " | ".join(
                (
                    name if peer.needs == "sa-med2d-20m" else f"{name} ({peer.needs} {version(peer.needs)})",
                    peer.holds,
                    f"{size(written / files_of(peer)) / 1e6:.0f}",
                    f"{median(measured['write']):.2f}" if measured["write"] else "",
                    f"{median(one['begun'] for one in measured['one']) * 1000:.0f}",
                    rate("one", "first"),
                    rate("one", "second"),
                    f"{median(one['processor'] / one['rows'] for one in measured['one']) * 1e6:.0f}",
                    rate("workers", "first"),
                    rate("workers", "second"),
                )
            )
            + " |"
        )


def size(folder: Path) -> int:
    """Bytes of the files that lie there, without those of folders that links lead to."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
