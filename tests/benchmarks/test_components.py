"""Finding and measuring the components of slices, and packing tars: what was tried, beside what is used.

The slices are all of the MNI152 template's class map along three axes. All contestants give the area and the box of each
component, except where they say otherwise.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import cc3d
import cv2
import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import webdataset
from pytest_benchmark.fixture import BenchmarkFixture

from builder.conversion.extent import bounding_box
from builder.conversion.inputs import read_case_image, read_case_masks
from builder.conversion.masks.components import find_components
from builder.conversion.slicing import AXES, blocks, contiguous_slices
from builder.run.plan import SourcePlan
from shards.tar import Sample, TarWriter

Block = npt.NDArray[np.uint8]
CLASSES = (1, 2)
EIGHT = np.ones((3, 3), int)


@pytest.fixture(scope="module")
def class_maps(plan: SourcePlan) -> list[Block]:
    """Blocks of 32 slices, (S, H, W), cut to what is not empty."""
    case, source = plan.shards[0].cases[0].case, plan.source
    image, _ = read_case_image(case, case.images[0], source)
    (layer,), _ = read_case_masks(case, source, image)
    cut = [contiguous_slices(block) for axis in AXES.values() for _, block in blocks(layer.array, axis, range(180))]
    boxes = [(block, bounding_box(block)) for block in cut if block.any()]
    return [block[:, rows, columns] for block, (_, rows, columns) in boxes]


def ours(block: Block) -> int:
    return int(find_components(np.ascontiguousarray(block)).area.size)


def as_strip(block: Block) -> Block:
    """The slices below each other, with an empty row and column between."""
    strip = np.zeros([block.shape[0], block.shape[1] + 1, block.shape[2] + 1], np.uint8)
    strip[:, :-1, :-1] = block
    return strip.reshape(-1, strip.shape[2])


def cc3d_statistics(block: Block) -> int:
    """One pass over the class map, then cc3d's own measurements."""
    labels, count = cc3d.connected_components(as_strip(block), connectivity=8, return_N=True)
    cc3d.statistics(labels[..., np.newaxis], no_slice_conversion=True)
    return int(count)


def opencv_with_statistics(block: Block) -> int:
    """A pass for each class."""
    strip = as_strip(block)
    return sum(
        cv2.connectedComponentsWithStats((strip == number).view(np.uint8), connectivity=8)[0] - 1 for number in CLASSES
    )


def opencv_labels_and_bincount(block: Block) -> int:
    """A pass for each class; areas only, no boxes."""
    strip, found = as_strip(block), 0
    for number in CLASSES:
        count, labels = cv2.connectedComponents((strip == number).view(np.uint8), connectivity=8, ltype=cv2.CV_16U)
        np.bincount(labels.reshape(-1), minlength=count)
        found += count - 1
    return found


def scipy_slice_by_slice(block: Block) -> int:
    """What scripts do: a pass for each class of each slice."""
    found = 0
    for plane in block:
        for number in CLASSES:
            labels, count = scipy.ndimage.label(plane == number, EIGHT)
            np.bincount(labels.reshape(-1), minlength=count + 1)
            scipy.ndimage.find_objects(labels)
            found += count
    return found


WAYS: list[Callable[[Block], int]] = [
    ours,
    cc3d_statistics,
    opencv_with_statistics,
    opencv_labels_and_bincount,
    scipy_slice_by_slice,
]


@pytest.mark.parametrize("way", WAYS)
def test_components(benchmark: BenchmarkFixture, class_maps: list[Block], way: Callable[[Block], int]) -> None:
    benchmark.group = "components of MNI152 along three axes"
    cv2.setNumThreads(1)
    found = benchmark(lambda: sum(way(block) for block in class_maps))
    assert found == sum(ours(block) for block in class_maps)


def samples() -> Iterator[Sample]:
    for number in range(1000):
        yield Sample(f"ct_00--Small--case{number:04d}--x_0000", bytes(20_000), bytes(2_000), bytes(1_000))


def by_tar_writer() -> None:
    writer = TarWriter(io.BytesIO())
    for sample in samples():
        writer.write(sample)


def by_tarfile() -> None:
    with tarfile.open(fileobj=io.BytesIO(), mode="w") as tar:
        for sample in samples():
            for name, data in (("png", sample.image), ("mask.png", sample.mask), ("json", sample.record)):
                info = tarfile.TarInfo(f"{sample.key}.{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def by_webdataset() -> None:
    with webdataset.TarWriter(io.BytesIO(), encoder=False) as tar:
        for sample in samples():
            record: dict[str, Any] = {"png": sample.image, "mask.png": sample.mask, "json": sample.record}
            tar.write({"__key__": sample.key, **record})


@pytest.mark.parametrize("way", [by_tar_writer, by_tarfile, by_webdataset])
def test_tar(benchmark: BenchmarkFixture, way: Callable[[], None]) -> None:
    """A thousand samples of 23 kB into memory; ours also hashes them and says where they lie."""
    benchmark.group = "tar of 1,000 samples"
    benchmark(way)
