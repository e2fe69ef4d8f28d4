"""Every way in which a source may draw its masks."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sa_med2d_20m import decode_masks
from tests.support.command import Command, Ran
from tests.support.nifti import read_nifti, write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map

HEAD = RECIPE.format(name="Drawn", license="MIT", modality="endoscopy").split("[files]")[0]
ONE_FILE = '[files]\nimage = "i/{case}.png"\nmask = "m/{case}.png"\n'
BY_LABEL = '[files]\nimage = "i/{case}.png"\nmask = "m/{case}_{label}.png"\n'
SHAPE = (60, 80)


def box(top: int, left: int, bottom: int, right: int) -> npt.NDArray[np.bool_]:
    binary = np.zeros(SHAPE, np.bool_)
    binary[top:bottom, left:right] = True
    return binary


A, B = box(5, 5, 30, 40), box(20, 30, 50, 70)


def write(path: Path, pixels: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    assert cv2.imwrite(str(path), pixels)


def build(sa_med2d: Command, tmp_path: Path, text: str, masks: Mapping[str, npt.NDArray[Any]]) -> Ran:
    rng = np.random.default_rng(0)
    write(tmp_path / "raw/i/a.png", rng.integers(0, 255, (*SHAPE, 3), np.uint8))
    for name, pixels in masks.items():
        write(tmp_path / "raw/m" / name, pixels)
    (tmp_path / "Drawn.toml").write_text(HEAD + text)
    return sa_med2d("build", tmp_path / "Drawn.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")


def built(sa_med2d: Command, tmp_path: Path, text: str, masks: Mapping[str, npt.NDArray[Any]]) -> list[tuple[str, Any]]:
    """Label and pixels of each mask, by id; the layers are counted through `layers`."""
    ran = build(sa_med2d, tmp_path, text, masks)
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    key = next(name for name in found if name.endswith(".json")).removesuffix(".json")
    record = json.loads(found[f"{key}.json"])
    decoded = decode_masks({"mask.png": found[f"{key}.mask.png"], "json": found[f"{key}.json"]})
    return [(mask["label"], pixels) for mask, pixels in zip(record["masks"], decoded, strict=True)]


def assert_masks(found: list[tuple[str, Any]], expected: list[tuple[str, npt.NDArray[np.bool_]]]) -> None:
    assert [label for label, _ in found] == [label for label, _ in expected]
    assert all(np.array_equal(ours, theirs) for (_, ours), (_, theirs) in zip(found, expected, strict=True))


def test_label_map(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.where(B, 200, np.where(A, 7, 0)).astype(np.uint8)
    found = built(sa_med2d, tmp_path, ONE_FILE + '[labels]\n200 = "polyp"\n7 = "liver"\n', {"a.png": drawn})
    assert_masks(found, [("polyp", B), ("liver", A & ~B)])


def test_file_per_class_with_overlap(sa_med2d: Command, tmp_path: Path) -> None:
    masks = {"a_liver.png": A * np.uint8(255), "a_gallbladder.png": B * np.uint8(1)}
    found = built(sa_med2d, tmp_path, BY_LABEL, masks)
    assert_masks(found, [("gallbladder", B), ("liver", A)])


def test_file_names_may_be_renamed_to_classes(sa_med2d: Command, tmp_path: Path) -> None:
    masks = {"a_L.png": A * np.uint8(255), "a_GB.png": B * np.uint8(255)}
    found = built(sa_med2d, tmp_path, BY_LABEL + '[labels]\nL = "liver"\nGB = "gallbladder"\n', masks)
    assert_masks(found, [("liver", A), ("gallbladder", B)])


def test_overlapping_masks_of_one_class_are_merged(sa_med2d: Command, tmp_path: Path) -> None:
    masks = {"a_1.png": A * np.uint8(255), "a_2.png": B * np.uint8(255)}
    found = built(sa_med2d, tmp_path, BY_LABEL + '[labels]\n1 = "polyp"\n2 = "polyp"\n', masks)
    assert_masks(found, [("polyp", A | B)])


def test_colours(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.zeros((*SHAPE, 3), np.uint8)
    drawn[A], drawn[B] = (255, 0, 0), (0, 128, 255)
    found = built(
        sa_med2d, tmp_path, ONE_FILE + '[labels]\n"#FF0000" = "polyp"\n"#0080ff" = "liver"\n', {"a.png": drawn}
    )
    assert_masks(found, [("polyp", A & ~B), ("liver", B)])


def test_transparent_pixels_are_background(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.full((*SHAPE, 4), (255, 0, 0, 0), np.uint8)
    drawn[A] = (255, 0, 0, 255)
    assert_masks(
        built(sa_med2d, tmp_path, ONE_FILE + '[labels]\n"#ff0000" = "polyp"\n', {"a.png": drawn}), [("polyp", A)]
    )


def test_blended_edges_go_to_the_nearest_colour_only_when_asked(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.zeros((*SHAPE, 3), np.uint8)
    drawn[A] = (255, 0, 0)
    drawn[4, 5:40], drawn[30, 5:40] = (100, 0, 0), (160, 0, 0)
    labels = '[labels]\n"#ff0000" = "polyp"\n'
    ran = build(sa_med2d, tmp_path, ONE_FILE + labels, {"a.png": drawn})
    assert ran.code == 1
    assert "holds 2 colours that [labels] does not name, such as #640000, #a00000" in ran.err
    assert 'color_match = "nearest"' in ran.err
    found = built(sa_med2d, tmp_path, ONE_FILE + labels + '[masks]\ncolor_match = "nearest"\n', {"a.png": drawn})
    assert_masks(found, [("polyp", A | box(30, 5, 31, 40))])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_threshold(sa_med2d: Command, tmp_path: Path, dtype: type) -> None:
    drawn: npt.NDArray[Any] = np.where(A, 130, 120).astype(dtype)
    found = built(
        sa_med2d, tmp_path, ONE_FILE + '[labels]\n1 = "polyp"\n[masks]\nthreshold = 128.0\n', {"a.png": drawn}
    )
    assert_masks(found, [("polyp", A)])


def test_threshold_takes_whole_numbers_too_and_colour_by_brightness(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.zeros((*SHAPE, 3), np.uint8)
    drawn[A] = (250, 255, 251)
    found = built(sa_med2d, tmp_path, ONE_FILE + '[labels]\n1 = "polyp"\n[masks]\nthreshold = 128\n', {"a.png": drawn})
    assert_masks(found, [("polyp", A)])


def test_inverted(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.where(A, 0, 255).astype(np.uint8)
    found = built(sa_med2d, tmp_path, ONE_FILE + '[labels]\n1 = "polyp"\n[masks]\ninverted = true\n', {"a.png": drawn})
    assert_masks(found, [("polyp", A)])


def test_regions_overlap_their_parts(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.where(B, 2, np.where(A, 1, 0)).astype(np.uint8)
    text = (
        ONE_FILE + '[labels]\n1 = "brain_edema"\n2 = "brain_enhancing_tumor"\n[regions]\nbrain_whole_tumor = [1, 2]\n'
    )
    found = built(sa_med2d, tmp_path, text, {"a.png": drawn})
    assert [label for label, _ in found][:2] == ["brain_edema", "brain_enhancing_tumor"]
    assert len(found) == 3
    assert np.array_equal(found[2][1], A | B)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_instance_map(sa_med2d: Command, tmp_path: Path, dtype: type) -> None:
    left, right = box(10, 10, 40, 30), box(10, 30, 40, 60)  # they touch along a whole edge
    drawn: npt.NDArray[Any] = np.where(left, 900, np.where(right, 17, 0)).astype(dtype)
    text = (ONE_FILE + '[labels]\n"*" = "nucleus"\n[masks]\ninstances = true\n').replace("m/{case}.png", "m/{case}.tif")
    found = built(sa_med2d, tmp_path, text, {"a.tif": drawn})
    assert_masks(found, [("nucleus", left), ("nucleus", right)])


def test_value_without_a_class_is_named(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.where(B, 9, np.where(A, 1, 0)).astype(np.uint8)
    text = ONE_FILE + '[labels]\n1 = "polyp"\n'
    ran = build(sa_med2d, tmp_path, text, {"a.png": drawn})
    assert ran.code == 1
    assert (
        "m/a.png: gate: unnamed_values: the mask holds the values 9, which [labels] does not name (it names 1)"
        in ran.err
    )
    assert_masks(built(sa_med2d, tmp_path, text + "[masks]\nignore = [9]\n", {"a.png": drawn}), [("polyp", A & ~B)])


def test_probability_map_without_threshold_is_refused(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.where(A, 0.7, 0).astype(np.float32)
    text = (ONE_FILE + '[labels]\n1 = "polyp"\n').replace("m/{case}.png", "m/{case}.tif")
    ran = build(sa_med2d, tmp_path, text, {"a.tif": drawn})
    assert ran.code == 1
    assert "fractions such as 0.7" in ran.err
    assert "masks.threshold" in ran.err


def test_coloured_mask_without_colours_is_refused(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.zeros((*SHAPE, 3), np.uint8)
    drawn[A] = (255, 0, 0)
    ran = build(sa_med2d, tmp_path, ONE_FILE + '[labels]\n255 = "polyp"\n', {"a.png": drawn})
    assert ran.code == 1
    assert "the mask is coloured" in ran.err


def test_mask_of_another_size_is_never_resized(sa_med2d: Command, tmp_path: Path) -> None:
    ran = build(sa_med2d, tmp_path, ONE_FILE + '[labels]\n1 = "polyp"\n', {"a.png": np.ones((30, 40), np.uint8)})
    assert ran.code == 1
    assert "m/a.png: grid: the image has 80 x 60 pixels, the mask 40 x 30" in ran.err


def test_class_ids_follow_the_recipe(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.where(B, 2, np.where(A, 1, 0)).astype(np.uint8)
    build(sa_med2d, tmp_path, ONE_FILE + '[labels]\n2 = "liver"\n3 = "polyp"\n1 = "spleen"\n', {"a.png": drawn})
    record = next(json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json"))
    assert {mask["label"]: (mask["class_id"], mask["organ"], mask["group"]) for mask in record["masks"]} == {
        "liver": ("0000", "liver", "abdomen"),
        "spleen": ("0002", "spleen", "abdomen"),
    }


def test_small_masks_are_dropped_and_counted(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = A.astype(np.uint8)
    drawn[45:47, 2:5] = 1  # 6 pixels; 100 / 65536 of 60 x 80 is 7.3
    drawn[45:47, 60:64] = 1  # 8 pixels
    found = built(sa_med2d, tmp_path, ONE_FILE + '[labels]\n1 = "polyp"\n', {"a.png": drawn})
    assert [int(pixels.sum()) for _, pixels in found] == [A.sum(), 8]
    receipt = json.loads(next((tmp_path / "out/build/receipts").rglob("*.json")).read_text())
    assert receipt["dropped"] == {"small_mask": 1}


def test_empty_image_is_dropped_unless_asked_for(sa_med2d: Command, tmp_path: Path) -> None:
    text, masks = ONE_FILE + '[labels]\n1 = "polyp"\n', {"a.png": np.zeros(SHAPE, np.uint8)}
    assert build(sa_med2d, tmp_path, text, masks).code == 1  # no sample at all
    assert not list(members(tmp_path / "out"))
    assert built(sa_med2d, tmp_path, text.replace("[files]", "keep_empty = true\n[files]"), masks) == []
    assert len(list(members(tmp_path / "out"))) == 3


def test_images_of_one_case_share_masks(sa_med2d: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for sequence in ("t1", "t2"):
        write(tmp_path / f"raw/i/p_{sequence}.png", rng.integers(0, 255, SHAPE, np.uint8))
    write(tmp_path / "raw/m/p.png", A.astype(np.uint8))
    text = '[files]\nimage = "i/{case}_{submodality}.png"\nmask = "m/{case}.png"\n[labels]\n1 = "polyp"\n'
    (tmp_path / "Drawn.toml").write_text(HEAD + text)
    ran = sa_med2d("build", tmp_path / "Drawn.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    names = [f"endoscopy_{sequence}--Drawn--p--2d_none" for sequence in ("t1", "t2")]
    assert found[f"{names[0]}.mask.png"] == found[f"{names[1]}.mask.png"]
    assert found[f"{names[0]}.png"] != found[f"{names[1]}.png"]


def test_noise_of_jpeg_asks_for_a_threshold(sa_med2d: Command, tmp_path: Path) -> None:
    text = ONE_FILE.replace("m/{case}.png", "m/{case}.jpg") + '[labels]\n255 = "polyp"\n'
    ran = build(sa_med2d, tmp_path, text, {"a.jpg": A.astype(np.uint8) * 255})
    assert ran.code == 1
    assert "around edges: where the mask has one class, set masks.threshold, such as 128" in ran.err
    assert "masks.ignore" not in ran.err
    assert build(sa_med2d, tmp_path, f"{text}[masks]\nthreshold = 128\n", {}).code == 0


def test_every_unnamed_value_stands_in_the_file(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = np.zeros(SHAPE, np.uint16)
    drawn.flat[:3000] = np.arange(3000) * 2
    drawn.flat[-5:] = (7001, 7002, 7003, 7004, 7006)
    ran = build(sa_med2d, tmp_path, ONE_FILE + '[labels]\n2 = "polyp"\n4 = "liver"\n', {"a.png": drawn})
    assert ran.code == 1
    assert "holds 3,002 values that [labels] does not name (it names 2, 4); add them there" in ran.err
    assert "... (whole in build/quarantine/Drawn.json)" in ran.err
    assert max(map(len, ran.err.splitlines())) < 700
    (entry,) = json.loads((tmp_path / "out/build/quarantine/Drawn.json").read_text())
    listed = entry["reason"].rpartition("masks.ignore: ")[2].partition("; [gates]")[0].split(", ")
    assert listed == [*(str(value) for value in range(6, 6000, 2)), "7001 to 7004", "7006"]


@pytest.mark.parametrize(("slope", "intercept"), [(2.0, -3.0), (70000.0, 5.0), (0.5, 0.0)])
def test_label_values_take_the_header_scaling(
    sa_med2d: Command, tmp_path: Path, slope: float, intercept: float
) -> None:
    """Stored 0, 1, 2 mean intercept, slope + intercept, 2 slope + intercept."""
    volume = tmp_path / "raw"
    write_nifti(volume / "images/a.nii.gz", ct_like())
    write_nifti(volume / "labels/a.nii.gz", organ_map())
    stored = bytearray(gzip.decompress((volume / "labels/a.nii.gz").read_bytes()))
    struct.pack_into("<2f", stored, 112, slope, intercept)  # scl_slope and scl_inter of NIfTI-1
    (volume / "labels/a.nii.gz").write_bytes(gzip.compress(stored))
    read = np.unique(read_nifti(volume / "labels/a.nii.gz").dataobj)
    assert read.tolist() == [intercept, slope + intercept, 2 * slope + intercept]
    values = {name: value * slope + intercept for name, value in (("nothing", 0), ("liver", 1), ("spleen", 2))}
    if slope == 0.5:
        values["liver"] = 0.0  # a half is no label: the file is refused
    labels = "".join(f'{int(value)} = "{name}"\n' for name, value in values.items() if name != "nothing")
    recipe = RECIPE.format(name="Scaled", license="MIT", modality="ct").split('1 = "liver"')[0] + labels
    (tmp_path / "Scaled.toml").write_text(recipe + f"[masks]\nignore = [{int(values['nothing'])}]\n")
    ran = sa_med2d("build", tmp_path / "Scaled.toml", "--raw", volume, "--out", tmp_path / "out")
    assert ran.code == (1 if slope == 0.5 else 0), ran.err
    if slope == 0.5:
        assert "fractions such as 0.5" in ran.err
        return
    labelled = {
        mask["label"] for n, d in members(tmp_path / "out") if n.endswith("json") for mask in json.loads(d)["masks"]
    }
    assert labelled == {"liver", "spleen"}


def test_label_values_may_lie_far_apart(sa_med2d: Command, tmp_path: Path) -> None:
    text = RECIPE.format(name="Far", license="MIT", modality="ct").replace('2 = "spleen"', '5000000 = "spleen"')
    (tmp_path / "Far.toml").write_text(text)
    drawn = organ_map().astype(np.int32)
    image, mask = tmp_path / "raw/images/a.nii.gz", tmp_path / "raw/labels/a.nii.gz"
    write_nifti(image, ct_like())
    write_nifti(mask, np.where(drawn == 2, 5_000_000, drawn))
    ran = sa_med2d("build", tmp_path / "Far.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "far")
    assert ran.code == 0, ran.err
    (tmp_path / "Near.toml").write_text(RECIPE.format(name="Near", license="MIT", modality="ct"))
    write_nifti(mask, drawn)
    assert sa_med2d("build", tmp_path / "Near.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "near").code == 0
    far, near = (
        [data for name, data in members(tmp_path / out) if name.endswith("mask.png")] for out in ("far", "near")
    )
    assert far == near
    write_nifti(mask, np.where(drawn == 2, 4_999_999, drawn))
    ran = sa_med2d("build", tmp_path / "Far.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "far")
    assert ran.code == 1
    assert "the mask holds the values 4999999, which [labels] does not name (it names 1, 5000000)" in ran.err
