"""The loader beside other containers that hold the very same PNGs and metadata: Parquet, Lance, litData.

320 x 248 slices, every column, pictures decoded to arrays and metadata to Python objects. ``--benchmark-only -m ''`` runs
it; Lance (``pip install pylance``) and litData (``pip install litdata``) are left out where they are not installed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sa_med2d_20m import load
from shards.index_schema import INDEX_SCHEMA
from tests.support.loader_benchmark import build, note_rate, tars, write
from tests.support.output import by_webdataset

SHAPE = (320, 248)
BATCH = 64
"""Rows that are read at once from a table."""


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 noisy slices of which each shows six organs in ten pieces."""
    folder = tmp_path_factory.mktemp("slices")
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.random((10, 8)), SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
    label = np.zeros(SHAPE, np.uint8)
    for number in range(10):
        row, column = 30 * number + 5, 20 * (number % 7) + 10
        label[row : row + 20, column : column + 30] = 1 + number % 6
    for case in range(3):
        image = (smooth[None] * 3000 + rng.normal(0, 30, (200, *SHAPE))).astype(np.int16)
        write(folder / f"Slices/images/{case}.nii.gz", image.transpose(2, 1, 0))
        write(folder / f"Slices/labels/{case}.nii.gz", np.repeat(label[None], 200, 0).transpose(2, 1, 0))
    names = ("liver", "spleen", "pancreas", "gallbladder", "stomach", "aorta")
    return build(folder, "Slices", "\n".join(f'{at} = "{name}"' for at, name in enumerate(names, 1)))


def samples(out: Path) -> list[dict[str, Any]]:
    return [sample for path in tars(out) for sample in by_webdataset(Path(path))]


def as_table(out: Path) -> pa.Table:
    """Pictures as bytes, metadata as nested columns, as this project's own index has them."""
    metadata = pa.schema([field for field in INDEX_SCHEMA if field.name in json.loads(samples(out)[0]["json"])])
    rows = samples(out)
    table = pa.Table.from_pylist([json.loads(row["json"]) for row in rows], schema=metadata)
    for name in ("png", "mask.png"):
        table = table.append_column(name, pa.array([row[name] for row in rows], pa.binary()))
    return table


def decoded(row: dict[str, Any]) -> dict[str, Any]:
    pictures = {n: cv2.imdecode(np.frombuffer(row[n], np.uint8), cv2.IMREAD_UNCHANGED) for n in ("png", "mask.png")}
    return {**row, **pictures}


def this_loader(out: Path, _: Path) -> Callable[[], Iterator[Any]]:
    return lambda: iter(load(out, "mr"))


def parquet_by_datasets(out: Path, folder: Path) -> Callable[[], Iterator[Any]]:
    pq.write_table(as_table(out), folder / "peer.parquet", row_group_size=BATCH)

    def rows() -> Iterator[Any]:
        files = str(folder / "peer.parquet")
        stream = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
        for name in ("png", "mask.png"):
            stream = stream.cast_column(name, datasets.Image())
        return ({**row, "png": np.asarray(row["png"]), "mask.png": np.asarray(row["mask.png"])} for row in stream)

    return rows


def parquet_by_pyarrow(out: Path, folder: Path) -> Callable[[], Iterator[Any]]:
    pq.write_table(as_table(out), folder / "peer.parquet", row_group_size=BATCH)
    file = pq.ParquetFile(folder / "peer.parquet")
    return lambda: (decoded(row) for batch in file.iter_batches(BATCH) for row in batch.to_pylist())


def lance(out: Path, folder: Path) -> Callable[[], Iterator[Any]]:
    peer = pytest.importorskip("lance")
    table = as_table(out)
    table = table.rename_columns([name.replace(".", "_") for name in table.column_names])  # Lance has no dots in names
    peer.write_dataset(table, str(folder / "peer.lance"))
    stored = peer.dataset(str(folder / "peer.lance"))

    def rows() -> Iterator[Any]:
        for batch in stored.to_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                yield decoded({**row, "mask.png": row["mask_png"]})

    return rows


def litdata(out: Path, folder: Path) -> Callable[[], Iterator[Any]]:
    peer = pytest.importorskip("litdata")
    kept = samples(out)
    chosen = partial(
        dict.__getitem__, {at: {n: row[n] for n in ("png", "mask.png", "json")} for at, row in enumerate(kept)}
    )
    peer.optimize(chosen, list(range(len(kept))), output_dir=str(folder / "peer"), chunk_bytes="20MB", num_workers=1)

    def rows() -> Iterator[Any]:
        for row in peer.StreamingDataset(str(folder / "peer")):
            yield {**decoded(row), "json": json.loads(row["json"])}

    return rows


PEERS = {
    "this loader": this_loader,
    "Parquet, datasets": parquet_by_datasets,
    "Parquet, pyarrow and OpenCV": parquet_by_pyarrow,
    "Lance and OpenCV": lance,
    "litData and OpenCV": litdata,
}


@pytest.mark.benchmark(group="stream 320 x 248, every column")
@pytest.mark.parametrize("name", PEERS)
def test_same_pictures_in_other_containers(
    benchmark: BenchmarkFixture, slices: Path, tmp_path: Path, name: str
) -> None:
    rows = PEERS[name](slices, tmp_path)
    with warnings.catch_warnings(action="ignore"):
        # every value is touched, whatever a container puts off until then
        count = benchmark.pedantic(
            lambda: sum(len(list(row.values())) > 1 for row in rows()), rounds=5, warmup_rounds=1
        )
    assert count == 600
    note_rate(benchmark, count)
