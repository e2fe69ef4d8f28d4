"""Pictures: the pages of a TIFF as channels and as frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile

from tests.support.command import Command
from tests.support.output import members
from tests.support.series import decode, recipe


def test_pages_of_a_tiff_are_channels(sa_med2d: Command, tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 256, (3, 64, 80), np.uint8)
    mask = np.zeros((64, 80), np.uint8)
    mask[10:40, 20:60] = 1
    (tmp_path / "raw").mkdir()
    tifffile.imwrite(tmp_path / "raw/a_img.tif", pages, photometric="minisblack")
    tifffile.imwrite(tmp_path / "raw/a_seg.tif", mask)
    text = recipe(tmp_path, 'channels = ["dapi", "gfp", "rfp"]')
    pattern = (
        text.read_text()
        .replace("images/{case}.nii.gz", "{case}_img.tif")
        .replace("labels/{case}.nii.gz", "{case}_seg.tif")
    )
    text.write_text(pattern)
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    for page, name in zip(pages, ("dapi", "gfp", "rfp"), strict=True):
        assert np.array_equal(decode(found[f"mr_{name}--Series--a--2d_none.png"]), page)
    text.write_text(pattern.replace(', "rfp"', ""))
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert "it holds 3 images, files.channels names 2" in ran.err


def test_pages_of_a_tiff_are_frames(sa_med2d: Command, tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 256, (3, 64, 80, 3), np.uint8)
    masks = np.zeros((3, 64, 80), np.uint8)
    for number in range(3):
        masks[number, 10 : 30 + number, 20:60] = 1
    (tmp_path / "raw").mkdir()
    tifffile.imwrite(tmp_path / "raw/a_img.tif", pages, photometric="rgb")
    tifffile.imwrite(tmp_path / "raw/a_seg.tif", masks, photometric="minisblack")
    text = recipe(tmp_path, "frames = true")
    text.write_text(
        text.read_text()
        .replace("images/{case}.nii.gz", "{case}_img.tif")
        .replace("labels/{case}.nii.gz", "{case}_seg.tif")
    )
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    for number, page in enumerate(pages):
        key = f"mr_00--Series--a_frame{number:04d}--2d_none"
        assert np.array_equal(decode(found[f"{key}.png"]), page)
        assert json.loads(found[f"{key}.json"])["masks"][0]["area"] == (20 + number) * 40
