"""NIfTI and Analyze: series and colour, and files that are damaged."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import PIL.Image
import pytest

from tests.support.command import Command, Ran
from tests.support.nifti import RAS_TO_LPS, lps_affine, write_nifti
from tests.support.output import members
from tests.support.series import VOLUMES, as_single, built, decode, recipe, write_4d
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map


def test_channels_are_submodalities_that_share_masks(sa_med2d: Command, tmp_path: Path) -> None:
    write_4d(tmp_path / "raw/images/a.nii.gz", VOLUMES)
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map())
    found = built(sa_med2d, tmp_path, 'channels = ["t2w", "flair", "t1gd"]')
    for number, name in enumerate(["t2", "flair", "t1ce"]):
        own = [data for key, data in found.items() if key.startswith(f"mr_{name}--") and key.endswith("png")]
        assert own == as_single(sa_med2d, tmp_path / name, VOLUMES[number])


def test_frames_are_cases_of_one_patient(sa_med2d: Command, tmp_path: Path) -> None:
    write_4d(tmp_path / "raw/images/p.nii.gz", VOLUMES)
    moving = [np.roll(organ_map(), shift, axis=2) for shift in range(3)]
    write_4d(tmp_path / "raw/labels/p.nii.gz", moving)
    found = built(sa_med2d, tmp_path, "frames = true")
    records = [json.loads(data) for name, data in found.items() if name.endswith("json")]
    assert {record["case"] for record in records} == {f"p_frame{number:04d}" for number in range(3)}
    assert {record["patient"] for record in records} == {"p"}
    boxes = {record["case"][-1]: record["masks"][0]["bbox"][0] for record in records if record["axis"] == "x"}
    assert boxes["1"] == boxes["0"] + 1
    assert boxes["2"] == boxes["0"] + 2


def test_frames_may_share_a_3d_mask(sa_med2d: Command, tmp_path: Path) -> None:
    write_4d(tmp_path / "raw/images/p.nii.gz", VOLUMES)
    write_nifti(tmp_path / "raw/labels/p.nii.gz", organ_map())
    found = built(sa_med2d, tmp_path, "frames = true")
    masks = [[d for n, d in found.items() if f"_frame000{f}--" in n and n.endswith("mask.png")] for f in range(3)]
    assert masks[0]
    assert masks[0] == masks[1] == masks[2]


@pytest.mark.parametrize(
    ("files", "masks", "said"),
    [
        ("", 1, "read: it holds 3 images (4D, pages or frames), expected one; name them with files.channels"),
        ('channels = ["t1", "t2"]', 1, "read: it holds 3 images, files.channels names 2"),
        ("frames = true", 2, "grid: the mask holds 2 frames, the image 3"),
        ('channels = ["t1", "t2", "pd"]', 3, "read: the mask holds 3 images, expected one"),
    ],
)
def test_series_that_do_not_fit(sa_med2d: Command, tmp_path: Path, files: str, masks: int, said: str) -> None:
    write_4d(tmp_path / "raw/images/a.nii.gz", VOLUMES)
    write_4d(tmp_path / "raw/labels/a.nii.gz", [organ_map()] * masks)
    ran = sa_med2d("build", recipe(tmp_path, files), "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1
    assert said in ran.err


def test_channels_of_a_3d_file(sa_med2d: Command, tmp_path: Path) -> None:
    write_nifti(tmp_path / "raw/images/a.nii.gz", ct_like())
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map())
    files = 'channels = ["t1", "t2"]'
    ran = sa_med2d("build", recipe(tmp_path, files), "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "it holds one image, but files.channels names 2" in ran.err


def test_flat_nifti_is_one_slice(sa_med2d: Command, tmp_path: Path) -> None:
    for folder, array in (("images", ct_like()[12]), ("labels", organ_map()[11])):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        image = nibabel.Nifti1Image(array.T, np.diag([-1.0, -1.0, 1.0, 1.0]))
        assert image.ndim == 2
        nibabel.save(image, tmp_path / "raw" / folder / "a.nii.gz")
    (name, data), *_ = built(sa_med2d, tmp_path, "").items()
    assert name == "mr_00--Series--a--x_0000.png"
    path = tmp_path / "slice.png"
    path.write_bytes(data)
    values = ct_like()[12].astype(float)
    expected = np.round((values - values.min()) / (values.max() - values.min()) * 255)
    assert np.array_equal(np.asarray(PIL.Image.open(path)), expected)


def test_analyze_pair(sa_med2d: Command, tmp_path: Path) -> None:
    for folder, array in (("images", ct_like()), ("labels", organ_map())):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        nibabel.save(nibabel.AnalyzeImage(array.transpose(2, 1, 0), None), tmp_path / "raw" / folder / "a.img")
    text = recipe(tmp_path, "")
    text.write_text(text.read_text().replace(".nii.gz", ".img"))
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    records = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    assert {record["stored_axes"] for record in records} == {"LAS"}  # nibabel's reading of the standard


def test_coloured_nifti(sa_med2d: Command, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (24, 40, 36, 3), np.uint8)
    stored = np.ascontiguousarray(colours.transpose(2, 1, 0, 3)).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    (tmp_path / "raw/images").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(stored, RAS_TO_LPS @ lps_affine()), tmp_path / "raw/images/a.nii.gz")
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map())
    found = built(sa_med2d, tmp_path, "")
    for plane, name in ((colours[6], "x_0006"), (colours[::-1, 9], "y_0009"), (colours[::-1, :, 8], "z_0008")):
        assert np.array_equal(decode(found[f"mr_00--Series--a--{name}.png"]), plane)
    assert json.loads(found["mr_00--Series--a--x_0006.json"])["intensity"]["scaling"] == "none"


def build_frames(sa_med2d: Command, tmp_path: Path, image: Path, masks: Path, tables: str) -> Ran:
    """Build a 4D file and its masks from the corpus, one case a frame."""
    raw = tmp_path / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    (raw / "img").mkdir(parents=True)
    shutil.copy(image, raw / "img/p.nii.gz")
    shutil.copytree(masks, raw / "msk/p") if masks.is_dir() else shutil.copytree(
        masks.parent, raw / "msk/p", ignore=lambda _, names: [name for name in names if name != masks.name]
    )
    head = RECIPE.format(name="Frames", license="MIT", modality="mr").split("[files]")[0]
    (tmp_path / "Frames.toml").write_text(
        f'axes = ["x"]\n{head}[files]\nimage = "img/{{case}}.nii.gz"\nframes = true\n{tables}'
    )
    return sa_med2d("build", tmp_path / "Frames.toml", "--raw", raw, "--out", tmp_path / "out", "--workers", 1)


@pytest.mark.parametrize("name", [pytest.param("mask", marks=pytest.mark.slow), "mask4d"])
def test_1452_frames_of_one_slice(sa_med2d: Command, corpus: Path, tmp_path: Path, name: str) -> None:
    fmri = corpus / "pymvpa-fmri"
    tables = f'mask = "msk/{{case}}/{name}.nii.gz"\n[labels]\n1 = "brain"\n'
    ran = build_frames(sa_med2d, tmp_path, fmri / "bold.nii.gz", fmri / f"{name}.nii.gz", tables)
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    volumes = np.asarray(nibabel.Nifti1Image.from_filename(fmri / "bold.nii.gz").dataobj)
    assert len(found) == 3 * volumes.shape[3] == 3 * 1452
    for frame in (0, 700, 1451):
        values = volumes[:, :, 0, frame].astype(float)
        expected = np.round((values - values.min()) / (values.max() - values.min()) * 255)
        shown = decode(found[f"mr_00--Frames--p_frame{frame:04d}--x_0000.png"])
        assert sorted(shown.ravel()) == sorted(expected.ravel())  # whichever way the axes are turned


def test_mask_of_two_frames_fits_no_1452(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    """Its authors call it the one that must fail."""
    fmri = corpus / "pymvpa-fmri"
    tables = 'mask = "msk/{case}/mask4dfail.nii.gz"\n[labels]\n1 = "brain"\n'
    ran = build_frames(sa_med2d, tmp_path, fmri / "bold.nii.gz", fmri / "mask4dfail.nii.gz", tables)
    assert ran.code == 1
    assert "grid: the mask holds 2 frames, the image 1452" in ran.err
    assert not list(members(tmp_path / "out"))


def test_overlapping_masks_of_121_frames(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    subject = corpus / "pymvpa-fmri/haxby2001/sub001"
    image = subject / "BOLD/task001_run001/bold_25mm.nii.gz"
    tables = 'mask = "msk/{case}/{label}.nii.gz"\n'
    ran = build_frames(sa_med2d, tmp_path, image, subject / "masks/25mm", tables)
    assert ran.code == 0, ran.err
    records = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    assert len({record["case"] for record in records}) == 121
    brain = np.asarray(nibabel.Nifti1Image.from_filename(subject / "masks/25mm/brain.nii.gz").dataobj) != 0
    own = [mask for record in records if record["case"] == "p_frame0000" for mask in record["masks"]]
    assert sum(mask["area"] for mask in own if mask["label"] == "brain") == brain.sum()
    assert {mask["label"] for mask in own} == {"brain", "gray", "white", "hoc", "vt"}


def edited(path: Path, edit: Callable[[bytearray], None]) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    edit(content)
    path.write_bytes(gzip.compress(content))


def set_dimensions(*sides: int) -> Callable[[bytearray], None]:
    return lambda content: struct.pack_into(f"<{len(sides) + 1}h", content, 40, len(sides), *sides)


def four_dimensions(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 5, 4, 3), np.int16), np.eye(4)), path)


def complex_voxels(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((36, 40, 24), np.complex64), np.eye(4)), path)


def no_orientation(path: Path) -> None:
    edited(path, lambda content: struct.pack_into("<12f", content, 280, *[0.0] * 12))


def not_a_number(path: Path) -> None:
    values = ct_like().astype(np.float32)
    values[10, 10, 10] = np.nan
    write_nifti(path, values)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").touch()


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty file": (lambda path: path.write_bytes(b""), "read: the file is empty"),
    "folder": (folder_instead, ""),
    "not gzip": (lambda path: path.write_bytes(b"<html>not found</html>" * 40), "read: damaged gzip file"),
    "not NIfTI": (
        lambda path: path.write_bytes(gzip.compress(bytes(2000))),
        "read: no NIfTI file: its first number is 0",
    ),
    "truncated gzip": (lambda path: path.write_bytes(path.read_bytes()[:-900]), "read: damaged gzip file"),
    "damaged gzip": (
        lambda path: path.write_bytes(path.read_bytes()[:3000] + bytes(300) + path.read_bytes()[3300:]),
        "read: damaged gzip file",
    ),
    "truncated voxels": (
        lambda path: edited(path, lambda content: content.__delitem__(slice(-500, None))),
        "of voxels",
    ),
    "truncated header": (
        lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:200])),
        "truncated",
    ),
    "absurd dimensions": (
        lambda path: edited(path, set_dimensions(32000, 32000, 32000)),
        "it is 32000 x 32000 x 32000 = 32,768,000,000,000 pixels, allowed are",
    ),
    "negative dimension": (lambda path: edited(path, set_dimensions(36, -40, 24)), "its dimensions are 36 x -40"),
    "large promise": (lambda path: edited(path, set_dimensions(1000, 1000, 2000)), "of 4,000,000,000 bytes of voxels"),
    "four dimensions": (four_dimensions, "read: it holds 3 images (4D, pages or frames), expected one"),
    "complex voxels": (complex_voxels, "read: holds complex64 voxels"),
    "singular affine": (no_orientation, "read: its affine is not invertible"),
    "not a number": (not_a_number, "gate: nonfinite_values: the image holds 1 NaN or infinite value"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_nifti_is_quarantined(sa_med2d: Command, tmp_path: Path, kind: str) -> None:
    raw = tmp_path / "raw"
    for case in ("bad", "good"):
        write_nifti(raw / f"images/{case}.nii.gz", ct_like())
        write_nifti(raw / f"labels/{case}.nii.gz", organ_map())
    spoil, reason = BAD[kind]
    spoil(raw / "images/bad.nii.gz")
    recipe = tmp_path / "Bad.toml"
    recipe.write_text(RECIPE.format(name="Bad", license="MIT", modality="ct"))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out", "--workers", 1)
    assert "Traceback" not in ran.err
    assert {name.split("--")[2] for name, _ in members(tmp_path / "out")} == {"good"}
    if kind == "folder":  # a folder is no file that a pattern could match: its mask is alone
        assert ran.code == 0
        assert "1 mask without an image, left out: labels/bad.nii.gz" in ran.err
        return
    assert ran.code == 3
    assert "bad: images/bad.nii.gz: " in ran.err
    assert reason in ran.err, ran.err


def test_pair_without_its_pixels(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "images").mkdir(parents=True)
    for case in ("whole", "half"):
        pair = nibabel.Nifti1Pair(ct_like().transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ lps_affine())
        nibabel.save(pair, raw / f"images/{case}.img")
        write_nifti(raw / f"labels/{case}.nii.gz", organ_map())
    (raw / "images/half.img").unlink()
    recipe = tmp_path / "Pair.toml"
    text = RECIPE.format(name="Pair", license="MIT", modality="ct")
    recipe.write_text(text.replace("images/{case}.nii.gz", "images/{case}.hdr"))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 3
    assert "a pair of .hdr and .img, but the .img is missing" in ran.err
    assert {name.split("--")[2] for name, _ in members(tmp_path / "out")} == {"whole"}
