"""The layout ``release`` by what is public of the release: names, folders and its two JSON files."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sa_med2d_20m import load
from tests.support.command import Command, run_quietly
from tests.support.export_source import masks_by_place, read_png
from tests.support.output import tree
from tests.support.release import (
    MAPPING,
    ZIP,
    good_files,
    members_of,
    png,
    with_json,
    write_tree,
    write_zip,
    zip_bytes,
    zip_tool,
)

IMAGE = re.compile(r"images/(?P<tag>\w+)--(?P<source>\w+)--(?P<case>.+)--(?:[xyz]_\d{4}|2d_none)\.png")
MASK = re.compile(r"masks/(?P<image>.+)--(?P<label>\d{4})_\d{3}\.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("release")


@pytest.fixture(scope="module")
def exported(folder: Path, built: Path) -> Path:
    """Nobody writes to it."""
    ran = run_quietly("export", built, "--to", folder / "to", "--layout", "release", "--config", "all", "--workers", 1)
    assert ran.code == 0, ran.err
    return folder / "to"


def test_names_indexes_and_pixels(exported: Path, built: Path) -> None:
    index = json.loads((exported / "SAMed2D_v1.json").read_text())
    classes = json.loads((exported / "SAMed2D_v1_class_mapping_id.json").read_text())
    assert classes["Small"] == {"liver": "0000", "spleen": "0001"}
    on_disk = {path.relative_to(exported).as_posix() for path in exported.rglob("*.png")}
    assert on_disk == {*index, *(path for paths in index.values() for path in paths)}
    rows = [row for split in ("train", "validation", "test") for row in load(built, "all", split=split)]
    assert len(index) == len(rows) == 196
    by_place = {(row["source"], row["key"].rsplit("--", 1)[1], row["case"]): row for row in rows}
    for path, masks in index.items():
        named = IMAGE.fullmatch(path)
        assert named is not None
        case = named["case"].replace("%2D", "-")
        row = by_place[named["source"], path.removesuffix(".png").rsplit("--", 1)[1], case]
        picture = read_png(exported / path)
        assert picture.shape == (row["height"], row["width"], 3)
        if row["image"].ndim == 2:
            assert (picture == picture[..., :1]).all()
        if row["image"].dtype == np.uint8:
            stored = row["image"] if row["image"].ndim == 3 else row["image"][..., None]
            assert (picture == stored).all()
        expected = masks_by_place(row)
        labels = {number: name for name, number in classes[row["source"]].items()}
        assert len(masks) == len(expected)
        for mask_path in masks:
            of = MASK.fullmatch(mask_path)
            assert of is not None
            assert f"images/{of['image']}.png" == path
            mask = read_png(exported / mask_path)
            instance = int(mask_path[-7:-4])
            np.testing.assert_array_equal(mask, expected[labels[of["label"]], instance] * np.uint8(255))


def test_modalities_without_a_second_part_are_written_as_in_the_release(exported: Path) -> None:
    names = {path.name for path in (exported / "images").iterdir()}
    assert "fundus_photography--Rings--a.0--2d_none.png" in names
    assert "mr_t1--Deep--case0--x_0004.png" in names
    assert "ct_00--Small--case00--x_0004.png" in names


def decoded(files: Mapping[str, bytes]) -> dict[str, tuple[str, bytes]]:
    """Mode and pixels of each picture, by Pillow."""
    found = {}
    for path, data in files.items():
        if path.endswith(".png"):
            picture = Image.open(io.BytesIO(data))
            found[path] = (picture.mode, picture.tobytes())
    return found


_RELEASE = ("--layout", "release", "--config", "all-local", "--workers", 1)


def as_folder(files: Mapping[str, bytes], to: Path) -> Path:
    return write_tree(to, files)


def as_split_zip(files: Mapping[str, bytes], to: Path) -> Path:
    return write_zip(to / "raw", zip_bytes(members_of(files), part=4000))


def as_split_zip_by_the_tool(files: Mapping[str, bytes], to: Path) -> Path:
    (to / "raw").mkdir()
    packed = zip_tool(write_tree(to, files), to / "raw" / ZIP, split="64k")
    if packed is None:
        pytest.skip("zip is not installed")
    assert len(list((to / "raw").iterdir())) > 5
    return packed


@pytest.mark.parametrize("packed", [as_folder, as_split_zip, as_split_zip_by_the_tool])
def test_what_was_imported_comes_back(
    packed: Callable[[Mapping[str, bytes], Path], Path], tmp_path: Path, sa_med2d: Command
) -> None:
    """Every image pixel, every mask pixel, every name, and both JSON files."""
    noise = np.random.default_rng(0).integers(0, 255, (6, 200, 200), np.uint8)
    large = {f"images/pet_00--Large--case{at}--2d_none.png": png(one, rgb=True) for at, one in enumerate(noise)}
    files = with_json({**good_files(), **large}, {**MAPPING, "Large": {}})
    release = packed(files, tmp_path)
    ran = sa_med2d("import", release, "--out", tmp_path / "out", "--no-repairs", "--workers", 1)
    assert ran.code == 0, ran.err
    to = tmp_path / "to"
    ran = sa_med2d("export", tmp_path / "out", "--to", to, *_RELEASE)
    assert ran.code == 0, ran.err
    back = {path: data for path, data in tree(to).items() if not path.startswith(".") and path != "SOURCES.md"}
    assert back.keys() == files.keys()
    assert decoded(back) == decoded(files)
    for name in ("SAMed2D_v1.json", "SAMed2D_v1_class_mapping_id.json"):
        assert json.loads(back[name]) == json.loads(files[name])


@pytest.mark.parametrize("layout", ["release", "sam-med2d"])
def test_older_names_come_back(layout: str, corpus: Path, tmp_path: Path, sa_med2d: Command) -> None:
    """Of the data that came with the code of SAM-Med2D; one of its images has no mask."""
    (demo,) = (corpus / "sam-med2d-demo").rglob("data_demo")
    tag = ("--naming", "sam-med2d", "--older-tag", "ct")
    ran = sa_med2d("import", demo, "--out", tmp_path / "out", *tag, "--no-repairs", "--workers", 1)
    assert ran.code == 0, ran.err
    ran = sa_med2d("export", tmp_path / "out", "--to", tmp_path / "to", "--layout", layout, "--config", "all-local")
    assert ran.code == 0, ran.err
    expected, back = decoded(tree(demo)), decoded(tree(tmp_path / "to"))
    assert len(expected) == 35
    if layout == "release":
        assert back == expected
    else:  # an image without a mask is nothing to train on, and grey images have one channel
        assert back.keys() == expected.keys() - {"images/amos_0507_31.png"}
        masks = {path for path in expected if path.startswith("masks/")}
        assert all(back[path] == expected[path] for path in masks)
