"""How fast the release is imported, beside unpacking and reading it, and what it takes before and after.

The pictures are those of MNI152, as OpenCV writes them, named and packed as the release is: three equal channels, a mask
file for each object. They are taken as they are (about 200 x 200), and enlarged to 512 x 512 with the noise of a scanner,
which is about what the release has: 629 GB of 3.8 million images. Each contestant leaves decoded pictures or finished
shards behind, on one core.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from isal import isal_zlib
from pytest_benchmark.fixture import BenchmarkFixture

from builder.command_line import main
from builder.conversion.convert import convert
from builder.run.origin import convert_case
from builder.run.plan import SourcePlan
from builder.run.release_plan import ImportOptions, plan_import
from sa_med2d_20m import decode_masks, decode_png, split_layers
from shards.png import encode_image, encode_label_map
from tests.support.release import with_json, write_tree, zip_tool

READ = 1_000
SIZES = pytest.mark.parametrize("release", ["as they are", "512 x 512"], indirect=True)


def scanned(pixels: npt.NDArray[Any], seed: int) -> npt.NDArray[np.uint8]:
    """A picture in 512 x 512, with noise; a mask (0 and 255) without."""
    if set(np.unique(pixels)) <= {0, 255}:
        return cv2.resize(pixels, (512, 512), interpolation=cv2.INTER_NEAREST)  # type: ignore[return-value]
    large = cv2.resize(pixels, (512, 512), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, 3, (512, 512))
    return np.clip(large + noise, 0, 255).astype(np.uint8)


def as_png(pixels: npt.NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


@pytest.fixture(scope="module")
def release(
    request: pytest.FixtureRequest, plan: SourcePlan, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The folder that holds a release and its zip."""
    files: dict[str, bytes] = {}
    enlarge = getattr(request, "param", "") == "512 x 512"
    samples = [sample for task in plan.shards[0].cases for sample in convert(task.case, plan.source).samples]
    for number, sample in enumerate(samples[:: 3 if enlarge else 1]):
        about, image = sample.metadata, decode_png(sample.image)
        image = scanned(image, number) if enlarge else image
        stem = f"mr_{about.submodality}--MNI152--{about.case}--{about.axis}_{about.index:04d}"
        files[f"images/{stem}.png"] = as_png(np.repeat(image[..., None], 3, axis=2))
        layers = split_layers(decode_png(sample.label_map), about.height)
        for mask in about.masks:
            pixels = (layers[mask.layer] == mask.id).astype(np.uint8) * 255
            pixels = scanned(pixels, number) if enlarge else pixels
            files[f"masks/{stem}--{mask.class_id}_{mask.instance:03d}.png"] = as_png(pixels)
    folder = tmp_path_factory.mktemp("release")
    names = {known.label: known.class_id for known in plan.source.classes.classes}
    if zip_tool(write_tree(folder, with_json(files, {"MNI152": names})), folder / "release.zip") is None:
        pytest.skip("zip is not installed")
    cv2.setNumThreads(1)
    yield folder
    shutil.rmtree(folder)


def size_of(release: Path) -> str:
    first = decode_png(pictures(release)[0].read_bytes())
    return "512 x 512" if first.shape[0] == 512 else "as they are"


def pictures(release: Path) -> list[Path]:
    return sorted((release / "SAMed2Dv1").rglob("*.png"))


def bytes_and_files(folder: Path) -> tuple[int, int]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files), len(files)


@SIZES
def test_our_import_from_zip(benchmark: BenchmarkFixture, release: Path, tmp_path: Path) -> None:
    benchmark.group = f"release to decoded pictures, {size_of(release)}"

    def fresh() -> tuple[tuple[()], dict[str, Any]]:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return (), {}

    def run() -> None:
        assert main(["import", str(release / "release.zip"), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0

    benchmark.pedantic(run, setup=fresh, rounds=5, warmup_rounds=1)
    images = sum("/images/" in path.as_posix() for path in pictures(release))
    before, after = bytes_and_files(release / "SAMed2Dv1"), bytes_and_files(tmp_path / "out")
    benchmark.extra_info |= {"images": images, "files": len(pictures(release)), "before": before, "after": after}


@SIZES
def test_our_conversion_of_a_case(benchmark: BenchmarkFixture, release: Path) -> None:
    """Without start, plan, shard, index and card: what each further image takes."""
    benchmark.group = f"release to decoded pictures, {size_of(release)}"
    [plan] = plan_import(release / "release.zip", ImportOptions()).sources
    benchmark(lambda: [convert_case(task.case, plan.source) for shard in plan.shards for task in shard.cases])


@SIZES
def test_unzip_and_read(benchmark: BenchmarkFixture, release: Path, tmp_path: Path) -> None:
    """What a user does today: unpack all, then decode each file."""
    benchmark.group = f"release to decoded pictures, {size_of(release)}"
    tool = shutil.which("unzip")
    if tool is None:
        pytest.skip("unzip is not installed")

    def fresh() -> tuple[tuple[()], dict[str, Any]]:
        shutil.rmtree(tmp_path / "unpacked", ignore_errors=True)
        return (), {}

    def run() -> None:
        subprocess.run([tool, "-q", release / "release.zip", "-d", tmp_path / "unpacked"], check=True)
        for path in (tmp_path / "unpacked").rglob("*.png"):
            cv2.imread(str(path), cv2.IMREAD_UNCHANGED)

    benchmark.pedantic(run, setup=fresh, rounds=5, warmup_rounds=1)


@SIZES
def test_codec_bound(benchmark: BenchmarkFixture, release: Path) -> None:
    """What cannot be left out: inflate and decode every member, and encode every image and one label map for each."""
    benchmark.group = f"release to decoded pictures, {size_of(release)}"
    packed = list(packed_members(release / "release.zip"))

    def bound() -> None:
        for deflated, data in packed:
            pixels = decode_png(isal_zlib.decompress(data, -15) if deflated else data)
            if pixels.ndim == 3:
                grey = np.ascontiguousarray(pixels[..., 0])
                encode_image(grey)
                encode_label_map(grey)

    benchmark(bound)


def packed_members(path: Path) -> Iterator[tuple[bool, bytes]]:
    """The pictures of a zip as they lie there, and whether they are deflated."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            if info.filename.endswith(".png"):
                file.seek(info.header_offset + 26)
                file.seek(sum(struct.unpack("<2H", file.read(4))), os.SEEK_CUR)
                yield info.compress_type == zipfile.ZIP_DEFLATED, file.read(info.compress_size)


@pytest.fixture(scope="module")
def imported(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "out"
    assert main(["import", str(release / "release.zip"), "--out", str(out), "--workers", "1"]) == 0
    return out


def test_random_images_from_our_shards(benchmark: BenchmarkFixture, imported: Path) -> None:
    benchmark.group = f"{READ} random images with their masks"
    rows = [row for path in sorted((imported / "index").rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    chosen = random.Random(1).choices(rows, k=READ)

    def read() -> None:
        for row in chosen:
            with (imported / row["shard"]).open("rb", buffering=0) as shard:
                shard.seek(row["image_offset"])
                image = decode_png(shard.read(row["image_size"]))
                shard.seek(row["mask_offset"])
                sample = {**row, "mask.png": shard.read(row["mask_size"])}
            assert len(decode_masks(sample)) == len(row["masks"])
            assert image.shape == (row["height"], row["width"])

    benchmark(read)


def test_random_images_from_the_files_of_the_release(benchmark: BenchmarkFixture, release: Path) -> None:
    benchmark.group = f"{READ} random images with their masks"
    root = release / "SAMed2Dv1"
    masks: dict[str, list[str]] = {}
    for path in sorted((root / "masks").iterdir()):
        masks.setdefault(path.name.rpartition("--")[0], []).append(str(path))
    chosen = random.Random(1).choices(sorted((root / "images").iterdir()), k=READ)

    def read() -> None:
        for path in chosen:
            image = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
            found = [np.asarray(cv2.imread(mask, cv2.IMREAD_UNCHANGED)) > 0 for mask in masks.get(path.stem, ())]
            if found:
                assert np.stack(found).shape[1:] == image.shape[:2]

    benchmark(read)
