"""Bad files: each goes to quarantine with a reason in words, and the good case beside it is built."""

from __future__ import annotations

import ctypes
import gzip
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from builder.errors import CaseError
from builder.readers.files import read_header, read_image
from builder.readers.rules import DEFAULT_RULES
from tests.conftest import RECIPE, Command, ct_like, lps_affine, members, organ_map, write_nifti, write_source


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
    "not a number": (not_a_number, "gate: nonfinite_values: the image holds 1 values that are NaN or infinite"),
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
        assert "1 masks without an image were left out: labels/bad.nii.gz" in ran.err
        return
    assert ran.code == 3
    assert "bad: images/bad.nii.gz: " in ran.err
    assert reason in ran.err, ran.err


def spoilt(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd", ".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.7])
def test_truncated_file_of_each_format_is_quarantined(
    sa_med2d: Command, tmp_path: Path, ending: str, share: float
) -> None:
    raw, picture = tmp_path / "raw", ending in (".png", ".jpg", ".bmp", ".tif")
    (raw / "images").mkdir(parents=True)
    (raw / "labels").mkdir()
    if picture:
        values = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8), (0, 0), 1)
        cv2.imwrite(str(raw / f"images/bad{ending}"), values)
        cv2.imwrite(str(raw / "labels/bad.png"), np.ones((90, 120), np.uint8))
    else:
        image = sitk.GetImageFromArray(ct_like())
        sitk.WriteImage(image, str(raw / f"images/bad{ending}"))
        sitk.WriteImage(sitk.GetImageFromArray(organ_map()), str(raw / "labels/bad.nrrd"))
    spoilt(raw / "images" / ("bad.raw" if ending == ".mhd" and share > 0.5 else f"bad{ending}"), share)
    recipe = tmp_path / "Bad.toml"
    text = RECIPE.format(name="Bad", license="MIT", modality="ct").replace(
        "images/{case}.nii.gz", "images/{case}" + ending
    )
    recipe.write_text(text.replace("labels/{case}.nii.gz", "labels/{case}" + (".png" if picture else ".nrrd")))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 3, ran.err
    assert f"bad: images/bad{ending}: read: " in ran.err
    assert "Traceback" not in ran.err
    assert str(tmp_path) not in ran.err.split("in quarantine", 1)[1]


def test_unknown_format_names_the_known_ones(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "images").mkdir(parents=True)
    (raw / "images/a.xyz").write_text("?")
    write_nifti(raw / "labels/a.nii.gz", organ_map())
    recipe = tmp_path / "Bad.toml"
    text = RECIPE.format(name="Bad", license="MIT", modality="ct")
    recipe.write_text(text.replace("images/{case}.nii.gz", "images/{case}.xyz"))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 3
    assert "no reader knows this kind of file; known are .nii, .nii.gz" in ran.err


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
    assert "a pair of .hdr and .img, but half.img is missing" in ran.err
    assert {name.split("--")[2] for name, _ in members(tmp_path / "out")} == {"whole"}


@pytest.mark.parametrize("name", ["1.2.840.113", "a--b", "-a-", "spa ce", "umläut", "100%"])
def test_awkward_case_names_build_and_come_back(sa_med2d: Command, tmp_path: Path, name: str) -> None:
    raw = tmp_path / "raw"
    write_nifti(raw / f"images/{name}.nii.gz", ct_like())
    write_nifti(raw / f"labels/{name}.nii.gz", organ_map())
    recipe = tmp_path / "Names.toml"
    recipe.write_text(RECIPE.format(name="Names", license="MIT", modality="ct"))
    assert sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out").code == 0
    assert sa_med2d("verify", tmp_path / "out", "--deep").code == 0
    keys = {member.split(".")[0] for member, _ in members(tmp_path / "out")}
    assert all(len(key.split("--")) == 4 for key in keys)


def test_link_that_leaves_the_source_is_quarantined(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for case in ("inside", "outside"):
        write_nifti(raw / f"images/{case}.nii.gz", ct_like())
        write_nifti(raw / f"labels/{case}.nii.gz", organ_map())
    (raw / "images/outside.nii.gz").rename(tmp_path / "secret.nii.gz")
    (raw / "images/outside.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    recipe = tmp_path / "Links.toml"
    recipe.write_text(RECIPE.format(name="Links", license="MIT", modality="ct"))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 3
    assert "images/outside.nii.gz: read: it is a link that leads out of the source's folder" in ran.err
    assert {name.split("--")[2] for name, _ in members(tmp_path / "out")} == {"inside"}


def test_name_that_is_no_utf8(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_nifti(raw / "images/a.nii.gz", ct_like())
    write_nifti(raw / "labels/a.nii.gz", organ_map())
    for folder in ("images", "labels"):
        odd = os.fsencode(raw / folder) + b"/caf\xe9.nii.gz"
        os.link(os.fsencode(raw / folder / "a.nii.gz"), odd)
    recipe = tmp_path / "Odd.toml"
    recipe.write_text(RECIPE.format(name="Odd", license="MIT", modality="ct"))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out")
    assert "Traceback" not in ran.err
    assert ran.code == 3
    assert "its name is no UTF-8" in ran.err
    assert {name.split("--")[2] for name, _ in members(tmp_path / "out")} == {"a"}


def obey_permissions() -> None:
    """Give up the administrator's right to read everything, which tests may run with."""
    drop_from_bounding_set, override, read_search = 24, 1, 2
    for capability in (override, read_search):
        ctypes.CDLL(None).prctl(drop_from_bounding_set, capability)


@pytest.mark.skipif(sys.platform != "linux", reason="permissions are taken away in Linux's way")
def test_files_and_folders_without_the_right_to_read(tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=4)
    (tmp_path / "raw/Small/closed").mkdir()
    for name in ("images/case01.nii.gz", "labels/case02.nii.gz", "closed"):
        (tmp_path / "raw/Small" / name).chmod(0)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "builder",
        "build",
        recipe,
        "--raw",
        tmp_path / "raw",
        "--out",
        tmp_path / "out",
    ]
    ran = subprocess.run(command, text=True, capture_output=True, check=False, preexec_fn=obey_permissions)
    (tmp_path / "raw/Small/closed").chmod(0o700)
    assert ran.returncode == 3, ran.stderr
    assert "case01: images/case01.nii.gz: read: it cannot be opened: Permission denied" in ran.stderr
    assert "case02: labels/case02.nii.gz: read: it cannot be opened: Permission denied" in ran.stderr
    assert "closed/: match: the folder cannot be looked into: Permission denied" in ran.stderr
    assert len({name.split("--")[2] for name, _ in members(tmp_path / "out")}) == 2


def test_ten_thousand_files_in_one_folder(sa_med2d: Command, tmp_path: Path) -> None:
    folder = tmp_path / "raw/Many"
    folder.mkdir(parents=True)
    picture = cv2.imencode(".png", np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))[1].tobytes()
    mask = cv2.imencode(".png", np.tri(64, dtype=np.uint8))[1].tobytes()
    for number in range(5000):
        (folder / f"{number}.png").write_bytes(picture)
        (folder / f"{number}_mask.png").write_bytes(mask)
    recipe = tmp_path / "Many.toml"
    text = RECIPE.format(name="Many", license="MIT", modality="ct").replace("images/{case}.nii.gz", "{case}.png")
    recipe.write_text(text.replace("labels/{case}.nii.gz", "{case}_mask.png"))
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 0, ran.err
    assert sum(name.endswith(".json") for name, _ in members(tmp_path / "out")) == 5000


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.mhd", "ObjectType = Image\nNDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = {}\n"),
        (
            "a.mhd",
            "ObjectType = Image\nNDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = LIST\n{}\n",
        ),
        ("a.nhdr", "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 4 4\nencoding: raw\ndata file: {}\n\n"),
    ],
)
def test_headers_may_not_name_pixels_elsewhere(tmp_path: Path, name: str, header: str) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(range(16)))
    (tmp_path / "source").mkdir()
    for named in ("../secret.raw", str(tmp_path / "secret.raw")):
        (tmp_path / "source" / name).write_text(header.format(named))
        with pytest.raises(CaseError, match="a file outside of the source's folder"):
            read_image(tmp_path / "source", name, DEFAULT_RULES)


def test_too_many_dimensions_do_not_end_the_process(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text("ObjectType = Image\nNDims = 65536\nDimSize = 4 4\nElementDataFile = a.raw\n")
    with pytest.raises(CaseError, match="expected one number of dimensions, got 65536"):
        read_header(tmp_path, "a.mhd", DEFAULT_RULES)
