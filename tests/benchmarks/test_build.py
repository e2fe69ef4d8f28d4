"""How fast a case becomes samples, beside what a user would write or pick instead, on the same files.

MNI152 is the template with its grey and white matter maps, as the package nilearn ships it: three gzipped files of 8.7
million voxels, sliced along three axes. The other sets are those of the corpus, where it is. Run with
``pytest tests/benchmarks --benchmark-only``; the table shows each contestant relative to the fastest.
"""

from __future__ import annotations

import gzip
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import datasets
import nibabel
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import scipy.ndimage
import webdataset
from isal import isal_zlib
from pytest_benchmark.fixture import BenchmarkFixture

from builder.command_line import main
from builder.conversion.convert import convert
from builder.run.plan import SourcePlan
from tests.support.nifti import read_nifti, write_nifti
from tests.support.places import CORPUS_SETS
from tests.support.shard_build import build_shard
from tests.support.sources import write_source
from tests.support.volumes import ct_like, organ_map

SETS = pytest.mark.parametrize("plan", ["MNI152", *CORPUS_SETS], indirect=True)


@SETS
def test_our_conversion(benchmark: BenchmarkFixture, plan: SourcePlan) -> None:
    benchmark.group = f"{plan.source.recipe.name} to samples"
    converted = benchmark(lambda: [convert(task.case, plan.source) for task in plan.shards[0].cases])
    benchmark.extra_info["samples"] = sum(len(one.samples) for one in converted)


@SETS
def test_our_build_of_a_shard(benchmark: BenchmarkFixture, plan: SourcePlan, tmp_path: Path) -> None:
    benchmark.group = f"{plan.source.recipe.name} to samples"
    benchmark(build_shard, plan, tmp_path)


@SETS
def test_bound_with_opencv(
    benchmark: BenchmarkFixture, plan: SourcePlan, files: list[Path], pictures: list[npt.NDArray[np.uint8]]
) -> None:
    """Only what cannot be left out: decompress the input, and code the very same pictures."""

    def bound() -> None:
        for path in files:
            pixels_of(path, gzip.decompress)
        for picture in pictures:
            cv2.imencode(".png", picture)

    benchmark.group = f"{plan.source.recipe.name} to samples"
    cv2.setNumThreads(1)
    benchmark(bound)


@SETS
def test_bound_with_isal(
    benchmark: BenchmarkFixture,
    plan: SourcePlan,
    files: list[Path],
    pictures: list[npt.NDArray[np.uint8]],
    tmp_path: Path,
) -> None:
    """The same bound with the codec of this project, and the very same bytes written and flushed to disk."""
    from shards.png import encode_image, encode_label_map  # noqa: PLC0415 - only this contestant uses it

    shard = build_shard(plan, tmp_path).read_bytes()

    def bound() -> None:
        for path in files:
            pixels_of(path, by_isal)
        for image, label_map in zip(pictures[0::2], pictures[1::2], strict=True):
            encode_image(image)
            encode_label_map(label_map)
        with (tmp_path / "bytes").open("wb") as file:
            file.write(shard)
            file.flush()
            os.fsync(file.fileno())

    benchmark.group = f"{plan.source.recipe.name} to samples"
    benchmark(bound)


def pixels_of(path: Path, unzip: Callable[[bytes], bytes]) -> None:
    """Decompress an input, and no more."""
    if path.suffix == ".gz":
        unzip(path.read_bytes())
    else:
        cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def by_isal(data: bytes) -> bytes:
    """Into memory of the right size at once: the last four bytes say it."""
    return isal_zlib.decompress(data, 31, int.from_bytes(data[-4:], "little"))


def slices_by_script(files: list[Path]) -> Iterator[tuple[str, npt.NDArray[np.uint8], list[npt.NDArray[np.uint8]]]]:
    """What comes with most papers: nibabel, NumPy, scipy.ndimage.label; image of three channels, a picture per mask."""
    image, *masks = (read_nifti(path).get_fdata() for path in files)
    for axis in range(3):
        for index in range(image.shape[axis]):
            plane = np.take(image, index, axis)
            objects = []
            for mask in masks:
                labels, count = scipy.ndimage.label(np.take(mask, index, axis) >= 128, np.ones((3, 3)))
                for number in range(1, count + 1):
                    component = labels == number
                    if component.sum() >= 100 / 256**2 * component.size:
                        objects.append(np.uint8(255) * component)
            if objects and plane.min() < plane.max():
                scaled = np.round((plane - plane.min()) / (plane.max() - plane.min()) * 255).astype(np.uint8)
                yield f"{axis}_{index:04d}", np.stack([scaled] * 3, axis=-1), objects


def as_files(files: list[Path], folder: Path) -> int:
    """The script, with Pillow and a file per picture."""
    written = 0
    for name, image, objects in slices_by_script(files):
        for number, picture in enumerate((image, *objects)):
            PIL.Image.fromarray(picture).save(folder / f"{name}_{number:03d}.png")
        written += 1
    return written


def as_webdataset(files: list[Path], folder: Path) -> int:
    """The script, with webdataset's own writer and encoders."""
    with webdataset.ShardWriter(str(folder / "%05d.tar"), verbose=0) as writer:
        for name, image, objects in slices_by_script(files):
            masks = {f"mask{number}.png": picture for number, picture in enumerate(objects)}
            writer.write({"__key__": name, "png": image, **masks, "json": {"masks": len(objects)}})
        return int(writer.total)


def as_parquet(files: list[Path], folder: Path) -> int:
    """The script, with datasets: rows from a generator, images as its feature, written as Parquet."""

    def rows() -> Iterator[dict[str, Any]]:
        for name, image, objects in slices_by_script(files):
            yield {"name": name, "image": image, "masks": objects}

    kinds = datasets.Features(
        {"name": datasets.Value("string"), "image": datasets.Image(), "masks": [datasets.Image()]}
    )
    made = datasets.Dataset.from_generator(rows, features=kinds, cache_dir=str(folder / "cache"))
    made.to_parquet(str(folder / "rows.parquet"))
    return len(made)


@pytest.mark.slow
@pytest.mark.parametrize("script", [as_files, as_webdataset, as_parquet])
def test_script(
    benchmark: BenchmarkFixture, files: list[Path], tmp_path: Path, script: Callable[[list[Path], Path], int]
) -> None:
    benchmark.group = "MNI152 to samples"
    benchmark.extra_info["samples"] = benchmark.pedantic(script, (files, tmp_path), rounds=1)


def test_nifti_reading(benchmark: BenchmarkFixture, files: list[Path]) -> None:
    from builder.readers.nifti import read  # noqa: PLC0415

    benchmark.group = "reading one volume"
    benchmark(read, files[0])


def test_nifti_reading_by_nibabel(benchmark: BenchmarkFixture, files: list[Path]) -> None:
    benchmark.group = "reading one volume"
    benchmark(lambda: np.asarray(nibabel.load(files[0]).dataobj))  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("cases", "shard_size"), [(256, "40MB"), (12, "1GiB")], ids=["256 volumes", "12 in one shard"])
def test_workers(benchmark: BenchmarkFixture, tmp_path: Path, cases: int, shard_size: str, workers: int) -> None:
    """A generated source of volumes, eight of them unlike, built by one process and by two that start warm."""
    recipe = write_volumes(tmp_path, cases)
    runs = iter(range(99))

    def build() -> None:
        out = tmp_path / f"out{next(runs)}"
        arguments = ["build", recipe, "--raw", tmp_path, "--out", out, "--shard-size", shard_size, "--workers", workers]
        assert main([str(argument) for argument in arguments]) == 0

    benchmark.group = f"workers, {cases} volumes"
    benchmark.pedantic(build, rounds=3, warmup_rounds=1)


def write_volumes(raw: Path, cases: int, shape: tuple[int, int, int] = (160, 192, 192)) -> Path:
    """Write a source of volumes, eight of them unlike, all in training; returns the recipe."""
    recipe = write_source(raw, cases=0)
    recipe.write_text(recipe.read_text() + '\n[splits]\ntrain = ["*"]\n')
    for number in range(min(8, cases)):
        write_nifti(raw / f"Small/images/case{number:03d}.nii.gz", ct_like(number, shape))
        write_nifti(raw / f"Small/labels/case{number:03d}.nii.gz", organ_map(shape))
    for number in range(8, cases):
        for folder in ("images", "labels"):
            original = raw / f"Small/{folder}/case{number % 8:03d}.nii.gz"
            (raw / f"Small/{folder}/case{number:03d}.nii.gz").hardlink_to(original)
    return recipe


@pytest.mark.slow
def test_five_patients_more(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """1,000 patients are built; then 5 come, whose names lie among theirs, so that every shard after them changes.

    Beside it stand the full build and the copy of its bytes: in ``extra_info``, as shares of the full build.
    """
    recipe = write_volumes(tmp_path, 1_000, (64, 96, 96))
    arguments = ["build", str(recipe), "--raw", str(tmp_path), "--shard-size", "100MB", "--workers", "2"]
    whole = seconds_of(lambda: main([*arguments, "--out", str(tmp_path / "out")]))
    for number in range(5):
        for folder in ("images", "labels"):
            original = tmp_path / f"Small/{folder}/case{number:03d}.nii.gz"
            (tmp_path / f"Small/{folder}/case{number * 200:03d}b.nii.gz").write_bytes(original.read_bytes())
    copy = seconds_of(lambda: shutil.copytree(tmp_path / "out/data", tmp_path / "copy"))
    benchmark.group = "five patients more"
    more = benchmark.pedantic(seconds_of, args=(lambda: main([*arguments, "--out", str(tmp_path / "out")]),), rounds=1)
    benchmark.extra_info |= {"full build": whole, "copy": copy, "share": more / whole}


def seconds_of(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
