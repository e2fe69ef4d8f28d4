"""Slides in tiles, and the segments drawn on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import scipy.ndimage

from sa_med2d_20m import decode_masks, decode_png
from tests.support.command import Command
from tests.support.dicom_source import build
from tests.support.output import members

SLIDE = """[files]
image = "{{case}}/image.dcm"
mask = "{{case}}/seg.dcm"
[labels]
"rgb(*" = "cell"
[masks]
segments = true
instances = true
"""


@pytest.mark.parametrize("seg", ["seg_image_sm_control.dcm", "seg_image_sm_control_labelmap.dcm"])
def test_slide_and_its_segments(sa_med2d: Command, corpus: Path, tmp_path: Path, seg: str) -> None:
    files, case = corpus / "highdicom-seg/test_files", tmp_path / "raw/a"
    case.mkdir(parents=True)
    shutil.copyfile(files / "sm_image_control.dcm", case / "image.dcm")
    shutil.copyfile(files / seg, case / "seg.dcm")
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", SLIDE.format(), "microscopy")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    key = "microscopy_00--Dicom--a--2d_none"
    tiles = pydicom.dcmread(case / "image.dcm").pixel_array.reshape(5, 5, 10, 10, 3)
    assert np.array_equal(decode_png(found[f"{key}.png"]), tiles.transpose(0, 2, 1, 3, 4).reshape(50, 50, 3))
    masks = decode_masks({"json": found[f"{key}.json"], "mask.png": found[f"{key}.mask.png"]})
    judge = highdicom.seg.segread(case / "seg.dcm")
    whole = judge.get_total_pixel_matrix(combine_segments=True, relabel=True, skip_overlap_checks=True)
    expected = sum(
        int((areas >= 100 / 256**2 * 50 * 50).sum())
        for number in np.unique(whole[whole > 0])
        for areas in [np.bincount(scipy.ndimage.label(whole == number, np.ones((3, 3)))[0].ravel())[1:]]
    )
    assert len(masks) == expected
    assert np.array_equal(masks.any(axis=0), whole > 0)
