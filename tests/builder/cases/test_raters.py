"""Several raters of one image: each by itself, one of them, what most say, or any."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import h5py
import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from datasets import load_dataset
from PIL import Image

from sa_med2d_20m import Where, load
from tests.support.command import Command
from tests.support.nifti import RAS_TO_LPS, lps_affine, write_nifti
from tests.support.output import members

RECIPE = """
name = "Rated"
title = "Pictures that several raters drew"
license = "MIT"
license_evidence = "https://example.org/license"
modality = "endoscopy"

[files]
image = "images/{case}.png"
mask = "masks/{case}_{rater}.png"

[labels]
1 = "polyp"
2 = "surgical_instrument"

[masks]
min_area = 0

[raters]
use = "%s"
"""
LABELS = {1: "polyp", 2: "surgical_instrument"}
SIDES = (24, 31)
LayerMap = npt.NDArray[np.uint8]


def blocks(random: np.random.Generator) -> LayerMap:
    """A label map of a few squares, so that raters agree here and there."""
    drawn = np.zeros(SIDES, np.uint8)
    for _ in range(random.integers(1, 6)):
        row, column = random.integers(0, SIDES[0] - 6), random.integers(0, SIDES[1] - 6)
        drawn[row : row + 9, column : column + 9] = random.integers(0, 3)
    drawn[random.random(SIDES) < 0.05] = random.integers(0, 3)
    return drawn


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, LayerMap]]]:
    """24 pictures, each drawn by one to six raters, and what they drew."""
    raw, random = tmp_path_factory.mktemp("rated"), np.random.default_rng(1)
    drawn: dict[str, dict[str, LayerMap]] = {}
    for folder in ("images", "masks"):
        (raw / "Rated" / folder).mkdir(parents=True)
    for number in range(24):
        case, raters = f"p-{number}", sorted(random.choice(list("abcdef"), 1 + number % 6, replace=False))
        drawn[case] = {str(rater): blocks(random) for rater in raters}
        picture = random.integers(0, 255, SIDES, np.uint8)
        assert cv2.imwrite(str(raw / f"Rated/images/{case}.png"), picture)
        for rater, mask in drawn[case].items():
            assert cv2.imwrite(str(raw / f"Rated/masks/{case}_{rater}.png"), mask)
    return raw, drawn


def build(sa_med2d: Command, raw: Path, out: Path, recipe: str) -> list[dict[str, Any]]:
    """The records of all samples, each with the pixels of its classes under ``drawn``."""
    path = out.with_suffix(".toml")
    path.write_text(recipe)
    ran = sa_med2d("build", path, "--raw", raw, "--out", out, "--workers", 1)
    assert ran.code == 0, ran.err + ran.out
    return list(samples(out))


def samples(out: Path) -> Iterator[dict[str, Any]]:
    files = dict(members(out))
    for name, data in files.items():
        if name.endswith(".json"):
            record = json.loads(data)
            pixels = np.asarray(Image.open(io.BytesIO(files[name.removesuffix(".json") + ".mask.png"])))
            layers = pixels.reshape(-1, record["height"], record["width"])
            drawn = {label: np.zeros(layers.shape[1:], bool) for label in LABELS.values()}
            for mask in record["masks"]:
                drawn[mask["label"]] |= layers[mask["layer"]] == mask["id"]
            yield {**record, "drawn": drawn}


@pytest.mark.parametrize(("use", "quorum"), [("majority", 0.5), ("union", 0.0)])
def test_masks_are_joined_as_counting_votes_does(
    sa_med2d: Command, tmp_path: Path, rated: tuple[Path, dict[str, dict[str, LayerMap]]], use: str, quorum: float
) -> None:
    raw, drawn = rated
    found = {record["case"]: record for record in build(sa_med2d, raw, tmp_path / "out", RECIPE % use)}
    ties = 0
    for case, masks in drawn.items():
        votes = {value: sum((mask == value).astype(int) for mask in masks.values()) for value in LABELS}
        expected = {LABELS[value]: count / len(masks) > quorum for value, count in votes.items()}
        ties += sum(int((2 * count == len(masks)).sum()) for count in votes.values())
        if not any(pixels.any() for pixels in expected.values()):
            assert case not in found
            continue
        for label, pixels in expected.items():
            np.testing.assert_array_equal(found[case]["drawn"][label], pixels)
        assert found[case]["rater"] == f"{use} of {len(masks)}"
    assert ties > 100


def test_each_rater_is_a_mask_set_of_its_own(
    sa_med2d: Command, tmp_path: Path, rated: tuple[Path, dict[str, dict[str, LayerMap]]]
) -> None:
    raw, drawn = rated
    found = build(sa_med2d, raw, tmp_path / "out", RECIPE % "each")
    assert len({record["key"] for record in found}) == len(found)
    expected = {(case, rater): mask for case, masks in drawn.items() for rater, mask in masks.items() if mask.any()}
    assert {(record["patient"], record["rater"]) for record in found} == set(expected)
    splits: dict[str, set[str]] = {}
    for record in found:
        mask = expected[record["patient"], record["rater"]]
        assert record["case"] == f"{record['patient']}@{record['rater']}"
        assert record["image_file"] == f"images/{record['patient']}.png"
        for value, label in LABELS.items():
            np.testing.assert_array_equal(record["drawn"][label], mask == value)
        splits.setdefault(record["patient"], set()).add(record["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert sa_med2d("verify", tmp_path / "out", "--deep").code == 0
    rows = list(load(tmp_path / "out", split="train", where=Where(raters=["a", "b"])))
    assert {row["rater"] for row in rows} == {"a", "b"}
    assert len(rows) == sum(record["rater"] in "ab" and record["split"] == "train" for record in found)
    stock = load_dataset(str(tmp_path / "out"), "all", split="train", streaming=True)
    assert sorted(row["json"]["rater"] for row in stock) == sorted(
        record["rater"] for record in found if record["split"] == "train"
    )


def test_one_rater_is_chosen_and_names_say_who_counts(
    sa_med2d: Command, tmp_path: Path, rated: tuple[Path, dict[str, dict[str, LayerMap]]]
) -> None:
    raw, drawn = rated
    found = build(sa_med2d, raw, tmp_path / "one", RECIPE % "c")
    expected = {case: masks["c"] for case, masks in drawn.items() if "c" in masks and masks["c"].any()}
    assert {record["case"] for record in found} == set(expected)
    assert {record["rater"] for record in found} == {"c"}
    for record in found:
        np.testing.assert_array_equal(record["drawn"]["polyp"], expected[record["case"]] == 1)
    found = build(sa_med2d, raw, tmp_path / "two", RECIPE % "union" + 'names = ["a", "b"]\n')
    counted = {case: len({"a", "b"} & set(masks)) for case, masks in drawn.items()}
    assert found
    assert all(record["rater"] == f"union of {counted[record['case']]}" for record in found)


def test_a_source_of_one_mask_set_has_no_rater(sa_med2d: Command, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        assert cv2.imwrite(str(tmp_path / f"raw/{folder}/p.png"), np.eye(40, dtype=np.uint8))
    text = (RECIPE % "each").split("[raters]")[0].replace("_{rater}", "") + '[gates]\ntwo_valued_image = "off"\n'
    (record,) = build(sa_med2d, tmp_path / "raw", tmp_path / "out", text)
    assert record["rater"] is None
    assert load(tmp_path / "out", "all-local", split=record["split"], streaming=False)["rater"] == [None]


def stacks(raw: Path, random: np.random.Generator) -> dict[str, list[LayerMap]]:
    """Two pictures with masks as pages of a TIFF, of three raters and of one."""
    drawn = {"p": [blocks(random) for _ in range(3)], "q": [blocks(random)]}
    for folder in ("images", "masks"):
        (raw / folder).mkdir(parents=True)
    for case, pages in drawn.items():
        assert cv2.imwrite(str(raw / f"images/{case}.png"), random.integers(0, 255, SIDES, np.uint8))
        tifffile.imwrite(
            raw / f"masks/{case}.tif", np.stack(pages) if len(pages) > 1 else pages[0], photometric="minisblack"
        )
    return drawn


@pytest.mark.parametrize("use", ["each", "majority", "c"])
def test_raters_are_layers_of_a_mask_file(sa_med2d: Command, tmp_path: Path, use: str) -> None:
    drawn = stacks(tmp_path / "raw", np.random.default_rng(5))
    text = (RECIPE % use).replace("_{rater}.png", ".tif") + 'names = ["a", "b", "c"]\n'
    found = {record["case"]: record for record in build(sa_med2d, tmp_path / "raw", tmp_path / "out", text)}
    expected = {
        "each": {f"{case}@{'abc'[at]}": page == 1 for case, pages in drawn.items() for at, page in enumerate(pages)},
        "majority": {case: 2 * sum(page == 1 for page in pages) > len(pages) for case, pages in drawn.items()},
        "c": {"p": drawn["p"][2] == 1},
    }[use]
    assert set(found) == set(expected)
    for case, pixels in expected.items():
        np.testing.assert_array_equal(found[case]["drawn"]["polyp"], pixels)


def test_raters_are_volumes_of_a_4d_mask_or_the_last_side_of_an_array(sa_med2d: Command, tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    pages = np.stack([np.stack([blocks(random) for _ in range(4)]) for _ in range(2)])  # (rater, Z, Y, X)
    image = random.integers(0, 900, pages.shape[1:]).astype(np.int16)
    write_nifti(tmp_path / "raw/images/p.nii.gz", image)
    (tmp_path / "raw/masks").mkdir()
    nibabel.save(
        nibabel.Nifti1Image(pages.transpose(3, 2, 1, 0), RAS_TO_LPS @ lps_affine()), tmp_path / "raw/masks/p.nii.gz"
    )
    np.save(tmp_path / "raw/images/q.npy", image[0])
    np.save(tmp_path / "raw/masks/q.npy", np.moveaxis(pages[:, 0], 0, -1))
    end = 'names = ["a", "b"]\n'
    text = (RECIPE % "each").replace("_{rater}", "").replace("min_area = 0", 'min_area = 0\nlayer_axis = "%s"') + end
    volume = text.replace(".png", ".nii.gz") % "first"
    found = build(sa_med2d, tmp_path / "raw", tmp_path / "volume", volume)
    assert {record["case"] for record in found} == {"p@a", "p@b"}
    for record in found:
        own = pages["ab".index(record["rater"]), record["index"]]
        np.testing.assert_array_equal(record["drawn"]["polyp"], own == 1)
    found = build(sa_med2d, tmp_path / "raw", tmp_path / "array", text.replace(".png", ".npy") % "last")
    assert {record["case"] for record in found} == {"q@a", "q@b"}
    for record in found:
        np.testing.assert_array_equal(record["drawn"]["polyp"], pages["ab".index(record["rater"]), 0] == 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('[raters]\nuse = "each"', ""), "raters: use is missing, as {rater} in the mask pattern tells several raters"),
        (
            ("_{rater}", ""),
            "neither does a mask pattern capture {rater}, nor do names say which raters drew the layers",
        ),
        (('use = "each"', 'use = "z"'), "raters: no mask is by z; {rater} captures a, b"),
        (('use = "each"', 'use = "a"\nnames = ["b"]'), "raters: use: 'a': expected each, majority, union, or one of"),
        (('use = "each"', 'names = ["b"]'), "raters: use: is missing: each, majority, union, or one of the names"),
        (('use = "each"', 'use = "each"\nnames = ["union"]'), "names: union is no name of a rater"),
        (("images/{case}", "images/{case}_{rater}"), "files.image: {rater} belongs into a mask pattern"),
        (
            ('1 = "polyp"\n2 = "surgical_instrument"\n\n[masks]', '"*" = "polyp"\n[masks]\ninstances = true'),
            None,
        ),
    ],
)
def test_what_cannot_be_is_told(sa_med2d: Command, tmp_path: Path, change: tuple[str, str], said: str | None) -> None:
    for name in ("images/p.png", "masks/p_a.png", "masks/p_b.png"):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / "raw" / name), np.random.default_rng(1).integers(0, 2, (30, 30), np.uint8))
    text = RECIPE % ("majority" if said is None else "each")
    assert change[0] in text
    (tmp_path / "Rated.toml").write_text(text.replace(*change))
    ran = sa_med2d("build", tmp_path / "Rated.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1
    assert (said or "use = 'majority' joins classes, and goes not with masks.instances") in ran.err


def test_a_rater_whose_name_cannot_be_in_a_case_is_held_back(sa_med2d: Command, tmp_path: Path) -> None:
    for name in ("images/p.png", "masks/p_a@b.png", "images/q.png", "masks/q_a.png"):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / "raw" / name), np.eye(30, dtype=np.uint8) * 2)
    (tmp_path / "Rated.toml").write_text(RECIPE % "each" + '[gates]\ntwo_valued_image = "off"\n')
    ran = sa_med2d("build", tmp_path / "Rated.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 3
    (held,) = json.loads((tmp_path / "out/build/quarantine/Rated.json").read_text())
    assert held["case"] == "p"
    assert "captured the rater 'a@b', which is no name of one" in held["reason"]


def test_more_layers_than_raters_are_an_error(sa_med2d: Command, tmp_path: Path) -> None:
    stacks(tmp_path / "raw", np.random.default_rng(5))
    text = (RECIPE % "union").replace("_{rater}.png", ".tif") + 'names = ["a", "b"]\n'
    (tmp_path / "Rated.toml").write_text(text)
    ran = sa_med2d("build", tmp_path / "Rated.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 3
    (held,) = json.loads((tmp_path / "out/build/quarantine/Rated.json").read_text())
    assert held == {
        "case": "p",
        "file": "masks/p.tif",
        "stage": "read",
        "reason": "the mask has 3 layers, raters.names names 2",
    }


def test_raters_and_channels_are_arrays_of_one_file(sa_med2d: Command, tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    drawn = {rater: np.stack([blocks(random) for _ in range(3)]) for rater in ("label_a1", "label_a2")}
    images = {name: random.integers(0, 900, (3, *SIDES)).astype(np.float32) for name in ("t1", "t2")}
    (tmp_path / "raw").mkdir()
    with h5py.File(tmp_path / "raw/p.h5", "w") as file:
        for name, array in {**images, **drawn}.items():
            file.create_dataset(name, data=array, compression="gzip")
        file["voxel_spacing"] = np.ones(3)
    text = (
        (RECIPE % "each")
        .replace('"images/{case}.png"', '"{case}.h5"')
        .replace('"masks/{case}_{rater}.png"', '"{case}.h5"')
    )
    text = text.replace(
        "[labels]",
        'channels = ["t1", "t2"]\nvariables = { image = ["t1", "t2"], mask = ["label_a1", "label_a2"] }\n[labels]',
    ).replace('"endoscopy"', '"mr"')
    found = build(sa_med2d, tmp_path / "raw", tmp_path / "out", text + 'names = ["1", "2"]\n')
    assert {(record["case"], record["submodality"]) for record in found} == {
        (f"p@{rater}", channel) for rater in "12" for channel in ("t1", "t2")
    }
    for record in found:
        own = drawn[f"label_a{record['rater']}"][record["index"]]
        np.testing.assert_array_equal(record["drawn"]["polyp"], own == 1)
        stored = images[record["submodality"]][record["index"]]
        assert record["intensity"]["min"] == stored.min()


CELLS = """
name = "Rated"
title = "Pictures in one array, with the cells of a class in each layer of another"
license = "MIT"
modality = "histopathology"

[files]
image = "{case}/images.npy"
mask = "{case}/masks.npy"
frames = true

[labels]
first = "neoplastic_cell"
second = "dead_cell"

[masks]
instances = true
layers = ["first", "second", "background"]
layer_axis = "last"
ignore = ["background"]
min_area = 0
"""


def test_layers_of_a_mask_are_classes_of_objects(sa_med2d: Command, tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    pictures = random.integers(0, 255, (4, *SIDES, 3), np.uint8)
    masks = np.zeros((4, *SIDES, 3), np.int32)
    for number in range(4):  # two cells that touch, and a cell of the other class
        masks[number, 2:8, 2:8, 0], masks[number, 2:8, 8:12, 0] = 7 + number, 5000
        masks[number, 12:20, number : number + 9, 1] = 3
    masks[..., 2] = (masks[..., :2] == 0).all(axis=-1)
    (tmp_path / "raw/fold1").mkdir(parents=True)
    np.save(tmp_path / "raw/fold1/images.npy", pictures.astype(np.float64))
    np.save(tmp_path / "raw/fold1/masks.npy", masks.astype(np.float64))
    (tmp_path / "Rated.toml").write_text(CELLS)
    ran = sa_med2d("build", tmp_path / "Rated.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = {record["case"]: record for record in map(json.loads, json_members(tmp_path / "out"))}
    assert set(found) == {f"fold1_frame{number:04d}" for number in range(4)}
    for number in range(4):
        held = found[f"fold1_frame{number:04d}"]["masks"]
        assert [(mask["label"], mask["area"]) for mask in held] == [
            ("neoplastic_cell", 36),
            ("neoplastic_cell", 24),
            ("dead_cell", 72),
        ]
        assert held[2]["bbox"] == [number, 12, 9, 8]
    checked = sa_med2d("sources", "check", tmp_path / "Rated.toml", "--raw", tmp_path / "raw")
    assert checked.code == 0, checked.err + checked.out
    assert "background" not in checked.out.split("first")[0]


CLASSED = """
name = "Rated"
title = "Pictures in one array, with numbers and classes of cells in the two layers of another"
license = "MIT"
modality = "histopathology"

[files]
image = "{case}_images.npy"
mask = "{case}_labels.npy"
frames = true

[labels]
1 = "neoplastic_cell"
2 = "epithelial_cell"
3 = "dead_cell"

[masks]
instances = true
layers = ["objects", "classes"]
layer_axis = "last"
ignore = ["dead_cell"]
min_area = 0
"""


def test_numbers_and_classes_of_objects_in_two_layers(sa_med2d: Command, tmp_path: Path) -> None:
    pictures = np.random.default_rng(3).integers(0, 255, (2, *SIDES, 3), np.uint8)
    masks = np.zeros((2, *SIDES, 2), np.uint16)
    masks[0, 2:8, 2:8], masks[0, 2:8, 8:12], masks[0, 12:20, 3:9] = (7, 1), (900, 1), (8, 2)
    masks[1, 4:9, 4:9] = (1, 3)  # a class that is left out
    masks[1, 4:9, 9:12] = (2, 2)
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw/x_images.npy", pictures)
    np.save(tmp_path / "raw/x_labels.npy", masks)
    (tmp_path / "Rated.toml").write_text(CLASSED)
    ran = sa_med2d("build", tmp_path / "Rated.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = {record["case"]: record["masks"] for record in map(json.loads, json_members(tmp_path / "out"))}
    drawn = {case: [(mask["label"], mask["area"], mask["bbox"]) for mask in held] for case, held in found.items()}
    assert drawn == {
        "x_frame0000": [
            ("neoplastic_cell", 36, [2, 2, 6, 6]),
            ("neoplastic_cell", 24, [8, 2, 4, 6]),
            ("epithelial_cell", 48, [3, 12, 6, 8]),
        ],
        "x_frame0001": [("epithelial_cell", 15, [9, 4, 3, 5])],
    }


def json_members(out: Path) -> list[bytes]:
    return [data for name, data in members(out) if name.endswith(".json")]
