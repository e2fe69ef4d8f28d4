"""Streaming beside what users have: the same shards of 512 x 512 slices, decoded to arrays, in one process and in two.

``--benchmark-only -m ''`` runs it; rounds are whole epochs, and the extra column says samples a second and, where less
than everything is read, how much of the bytes.
"""

from __future__ import annotations

import dataclasses
import tarfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import datasets
import numpy as np
import pytest
import webdataset
from pytest_benchmark.fixture import BenchmarkFixture

from sa_med2d_20m import Output, load
from tests.support.loader_benchmark import build, build_large, note_rate, tars, write
from tests.support.range_server import Served, serve


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_large(tmp_path_factory.mktemp("large"), cases=3, slices=140)


SHARES = {"gallbladder": 0.01, "pancreas": 0.1, "spleen": 0.5, "liver": 1.0}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 slices of 256 x 256, of which 1, 10, 50 and 100 % show a class."""
    folder = tmp_path_factory.mktemp("graded")
    rng = np.random.default_rng(0)
    for case in range(20):
        write(folder / f"Graded/images/{case:02d}.nii.gz", rng.integers(0, 1000, (256, 256, 50), np.int16))
        label = np.zeros((256, 256, 50), np.uint8)
        label[20:60, 20:60] = 1
        label[100:140, 20:60, :25] = 2
        label[20:60, 100:140, :5] = 3
        label[100:140, 100:140, : case % 2] = 4
        write(folder / f"Graded/labels/{case:02d}.nii.gz", label)
    return build(folder, "Graded", "\n".join(f'{at} = "{name}"' for at, name in enumerate(reversed(SHARES), 1)))


def by_loader(out: Path) -> Any:
    return load(out, "mr")


def by_datasets(out: Path) -> Any:
    rows = datasets.load_dataset(str(out), "mr", split="train", streaming=True)
    return ((np.asarray(row["png"]), np.asarray(row["mask.png"])) for row in rows)


def by_webdataset(out: Path) -> Any:
    return webdataset.WebDataset(tars(out), shardshuffle=False).decode("l8")


def by_webdataset_and_opencv(out: Path) -> Any:
    def decode(key: str, data: bytes) -> Any:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if key.endswith("png") else None

    return webdataset.WebDataset(tars(out), shardshuffle=False).decode(decode)


def by_tarfile(out: Path) -> Iterator[object]:
    """The bound: nothing is decoded."""
    for name in tars(out):
        with tarfile.open(name) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None and file.read() and member.name.endswith(".json"):
                    yield member


READERS: dict[str, Callable[[Path], Any]] = {
    "this loader": by_loader,
    "datasets": by_datasets,
    "webdataset, own decoder": by_webdataset,
    "webdataset, OpenCV": by_webdataset_and_opencv,
    "tar members, undecoded": by_tarfile,
}


@pytest.mark.benchmark(group="stream 512 x 512, one process")
@pytest.mark.parametrize("name", READERS)
def test_stream(benchmark: BenchmarkFixture, large: Path, name: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        count = benchmark.pedantic(lambda: sum(1 for _ in READERS[name](large)), rounds=3)
    assert count == sum(1 for _ in by_tarfile(large))
    note_rate(benchmark, count)


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pieces of 24 slices: threads pause between pieces, as they seldom do in a set of millions."""
    return build_large(tmp_path_factory.mktemp("longer"), cases=8, slices=144)


OUTPUTS = {"as stored": Output(), "1024, normalised for SAM": Output(1024, normalise="sam")}


@pytest.mark.benchmark(group="stream 512 x 512, one process, by threads that decode")
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_stream_by_threads(benchmark: BenchmarkFixture, longer: Path, output: str, threads: int) -> None:
    rows: Any = load(longer, "mr", decode=dataclasses.replace(OUTPUTS[output], threads=threads))
    some = rows if output == "as stored" else rows.take(192)
    count = benchmark.pedantic(lambda: sum(1 for _ in some), rounds=5, warmup_rounds=1)
    note_rate(benchmark, count)


@pytest.mark.benchmark(group="stream 512 x 512, two DataLoader workers")
@pytest.mark.parametrize("name", ["this loader", "datasets", "webdataset, own decoder"])
def test_stream_by_two_workers(benchmark: BenchmarkFixture, large: Path, name: str) -> None:
    torch = pytest.importorskip("torch")

    def rows() -> Any:
        if name == "datasets":
            return datasets.load_dataset(str(large), "mr", split="train", streaming=True)
        return READERS[name](large)

    def read() -> int:
        loader = torch.utils.data.DataLoader(rows(), batch_size=None, num_workers=2, collate_fn=_measured)
        return sum(1 for _ in loader)

    with warnings.catch_warnings(action="ignore"):
        count = benchmark.pedantic(read, rounds=3)
    note_rate(benchmark, count)


def _measured(row: dict[str, Any]) -> int:
    """Decode in the worker, and send nothing back but a number: what is compared is reading, not pipes."""
    return sum(np.asarray(row[name]).size for name in ("image", "mask", "png", "mask.png") if name in row)


@pytest.mark.benchmark(group="share of the bytes that a selection reads")
@pytest.mark.parametrize("label", SHARES)
@pytest.mark.parametrize("where", ["disk", "http"])
def test_selection(benchmark: BenchmarkFixture, graded: Path, label: str, where: str) -> None:
    whole = sum(path.stat().st_size for path in graded.glob("data/**/*.tar"))
    with serve(graded) as served:
        place: str | Path = graded if where == "disk" else served.url

        def read() -> int:
            served.sent.clear()
            return sum(1 for _ in load(place, "mr", labels=label))

        count = benchmark.pedantic(read, rounds=2, warmup_rounds=1)
        assert count == 1000 * SHARES[label]
        if where == "http":
            benchmark.extra_info |= _shares_read(served, whole)


def _shares_read(served: Served, whole: int) -> dict[str, Any]:
    return {
        "of the shards' bytes": round(served.bytes_of(".tar") / whole, 4),
        "of the index, in the same unit": round(served.bytes_of(".parquet") / whole, 4),
        "requests for shards": sum(path.endswith(".tar") for path, _ in served.sent),
    }
