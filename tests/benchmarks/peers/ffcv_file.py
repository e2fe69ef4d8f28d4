"""FFCV: arrays of one size, and the metadata as bytes; its workers are threads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ffcv.fields import BytesField, NDArrayField
from ffcv.fields.decoders import BytesDecoder, NDArrayDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.writer import DatasetWriter

from tests.benchmarks.peers.row import ROWS_OF_A_BATCH, Row, all_samples, by_opencv, touched

END = b"\0"
"""Behind the metadata, as `ffcv.fields.JSONField` has it: rows of a batch are as long as the longest of the file."""


class _Pixels:
    """Samples by number, decoded when FFCV asks for them."""

    def __init__(self, built: Path) -> None:
        self._samples = all_samples(built)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> tuple[npt.NDArray[np.uint8], ...]:
        image, mask, record = self._samples[number]
        return by_opencv(image), by_opencv(mask), np.frombuffer(record + END, np.uint8)


def write(built: Path, to: Path) -> None:
    pixels = _Pixels(built)
    image, mask, _ = pixels[0]
    fields = {
        "image": NDArrayField(image.dtype, image.shape),
        "mask": NDArrayField(mask.dtype, mask.shape),
        "record": BytesField(),
    }
    DatasetWriter(str(to / "samples.beton"), fields, num_workers=1).from_indexed_dataset(pixels)


def _loader(folder: Path, threads: int) -> Any:
    decoders = {"image": [NDArrayDecoder()], "mask": [NDArrayDecoder()], "record": [BytesDecoder()]}
    return Loader(
        str(folder / "samples.beton"),
        batch_size=ROWS_OF_A_BATCH,
        num_workers=threads,
        order=OrderOption.SEQUENTIAL,
        os_cache=True,
        drop_last=False,
        pipelines=decoders,
    )


def _rows_of(batch: Any) -> Iterator[Row]:
    for image, mask, record in zip(*batch, strict=True):
        yield {"image": image, "mask": mask, **json.loads(record.tobytes().partition(END)[0])}


class _Rows(Iterable[Row]):
    def __init__(self, folder: Path) -> None:
        self._batches = _loader(folder, 1)

    def __iter__(self) -> Iterator[Row]:
        for batch in self._batches:
            yield from _rows_of(batch)


class _Counts(Iterable[int]):
    def __init__(self, folder: Path) -> None:
        self._batches = _loader(folder, 2)

    def __iter__(self) -> Iterator[int]:
        return (touched(_rows_of(batch)) for batch in self._batches)


def rows(folder: Path) -> Iterable[Row]:
    return _Rows(folder)


def workers(folder: Path) -> Iterable[int]:
    return _Counts(folder)
