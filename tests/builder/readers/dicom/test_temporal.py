"""Several volumes at one place: told apart by what their files say, and built as cases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.dataset import Dataset

from builder.readers.dicom import reader as dicom
from builder.readers.image import VolumeSeries
from sa_med2d_20m import decode_png
from tests.support.command import Command
from tests.support.dicom_image import (
    axial,
    enhanced,
    pixels_of,
    save,
    write_series,
)
from tests.support.dicom_source import CASE, build, write_case, write_ct_series
from tests.support.output import members
from tests.support.volumes import ct_like


def test_points_in_time_of_a_series_are_cases(sa_med2d: Command, tmp_path: Path) -> None:
    """Two volumes of one patient in one folder, one mask for both; without a word in the recipe it is asked for one."""
    volumes = np.stack([ct_like(), ct_like(8)])

    def change(number: int, data: Dataset) -> None:
        point, place = divmod(number, volumes.shape[1])
        data.ImagePositionPatient = [-10, -20, 30 + 2 * place]
        data.TemporalPositionIdentifier = point + 1

    write_case(tmp_path / "raw")
    shutil.rmtree(tmp_path / "raw/p1/ct")
    write_ct_series(tmp_path / "raw/p1/ct", volumes.reshape(-1, *volumes.shape[2:]), change)
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE)
    assert ran.code == 1
    assert "it holds 2 images (4D, pages or frames), expected one" in ran.err
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE.replace("[labels]", "frames = true\n[labels]"))
    assert ran.code == 0, ran.err
    records = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    cases = sorted({record["case"] for record in records})
    assert len(cases) == 2
    for case, volume in zip(cases, volumes, strict=True):
        axial = {
            record["index"]: record["intensity"]
            for record in records
            if (record["case"], record["axis"]) == (case, "x")
        }
        assert axial
        for index, intensity in axial.items():
            assert (intensity["min"], intensity["max"]) == (volume[index].min() - 1024, volume[index].max() - 1024)
    assert len({record["patient"] for record in records}) == 1


def test_frames_of_a_cine_are_cases(sa_med2d: Command, tmp_path: Path) -> None:
    file = next(Path(pydicom.__file__).parent.glob("data/test_files/examples_ybr_color.dcm"))
    (tmp_path / "raw").mkdir()
    shutil.copyfile(file, tmp_path / "raw/a.dcm")
    frames = pydicom.dcmread(file).pixel_array
    mask = np.zeros(frames.shape[1:3], np.uint8)
    mask[50:100, 80:200] = 1
    sitk.WriteImage(sitk.GetImageFromArray(mask), tmp_path / "raw/a.png")
    text = '[files]\nimage = "{case}.dcm"\nmask = "{case}.png"\nFRAMES\n[labels]\n1 = "heart"\n[gates]\nburned_in_text = "off"\n'
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", text.replace("FRAMES", ""), "ultrasound")
    assert "it holds 30 images (4D, pages or frames), expected one; name them" in ran.err
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", text.replace("FRAMES", "frames = true"), "ultrasound")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    assert len(found) == 90
    for number in (0, 17, 29):
        shown = decode_png(found[f"ultrasound_00--Dicom--a_frame{number:04d}--2d_none.png"])
        assert np.array_equal(shown, frames[number])


@pytest.mark.parametrize("indices", [None, (2, 2, 1, 1)], ids=["in the order of frames", "by temporal position"])
def test_enhanced_with_several_frames_at_one_place(tmp_path: Path, indices: tuple[int, ...] | None) -> None:
    dataset = enhanced(axial([0, 1, 0, 1]))
    for number, index in enumerate(indices or ()):
        content = Dataset()
        content.TemporalPositionIndex = index
        dataset.PerFrameFunctionalGroupsSequence[number].FrameContentSequence = [content]
    path = save(tmp_path / "ct", dataset)
    series = dicom.read(path)
    assert isinstance(series, VolumeSeries)
    volumes = np.stack([pixels_of(number) for number in range(4)]).reshape(2, 2, 6, 8)
    assert_array_equal(series.array, volumes[::-1] if indices else volumes)
    assert dicom.read_header(path).shape == (2, 2, 6, 8)


TIMES: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "TemporalPositionIdentifier": lambda volume, _: {"TemporalPositionIdentifier": 3 - volume},
    "TriggerTime": lambda volume, place: {"TriggerTime": f"{300 - 90.5 * volume + place:g}"},
    "EchoTime": lambda volume, _: {"EchoTime": ["6.9", "4.6", "2.3"][volume]},
    "DiffusionBValue": lambda volume, _: {"DiffusionBValue": [1000.0, 50.0, 0.0][volume]},
    "AcquisitionNumber": lambda volume, _: {"AcquisitionNumber": 9 - volume},
    "InstanceNumber": lambda volume, place: {"InstanceNumber": 20 - 4 * volume - place},
}
"""What tells them apart -> what an image of a volume, in the order they are written, says at a place."""


@pytest.mark.parametrize("name", TIMES)
def test_several_volumes_in_one_place(tmp_path: Path, name: str) -> None:
    """Three volumes of four slices, written last volume first, places in no order."""
    written = [(volume, place) for volume in range(3) for place in (2, 0, 3, 1)]

    def change(number: int) -> dict[str, Any]:
        by_instance = {} if "InstanceNumber" in TIMES[name](0, 0) else {"InstanceNumber": number}
        return {**by_instance, **TIMES[name](*written[number])}

    arrays = write_series(tmp_path, axial([1.5 * place for _, place in written]), change=change)
    expected = np.empty((3, 4, 6, 8), np.int16)
    for (volume, place), array in zip(written, arrays, strict=True):
        expected[2 - volume, place] = array
    series = dicom.read(tmp_path)
    assert isinstance(series, VolumeSeries)
    assert_array_equal(series.array, expected)
    assert series.affine is not None
    assert_allclose(series.affine, [[0.75, 0, 0, -10], [0, 0.5, 0, 20], [0, 0, 1.5, 0], [0, 0, 0, 1]])  # type: ignore[arg-type]
    assert dicom.read_header(tmp_path).shape == (3, 4, 6, 8)


def test_several_slices_of_one_place(tmp_path: Path) -> None:
    """A cine of one slice, as scanners send it: a file for each phase."""
    arrays = write_series(tmp_path, axial([7] * 5), change=lambda number: {"TriggerTime": 10 * number})
    series = dicom.read(tmp_path)
    assert isinstance(series, VolumeSeries)
    assert_array_equal(series.array[:, 0], arrays)
