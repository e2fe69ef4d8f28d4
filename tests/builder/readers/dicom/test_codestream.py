"""The size that compressed pixels say of themselves."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from builder.errors import CaseError
from builder.readers.dicom.codestream import codestream_size
from builder.readers.files import read_image
from tests.support.dicom_image import PYDICOM
from tests.support.limits import RULES


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_jp2klossless.dcm",
        "examples_jpeg2k.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "JPGExtended.dcm",
        "JPEGLSNearLossless_16.dcm",
    ],
)
def test_codestreams_say_their_size(name: str) -> None:
    dataset = pydicom.dcmread(PYDICOM / name)
    frame = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    assert codestream_size(frame) == (dataset.Rows, dataset.Columns)


def test_codestream_of_another_size_is_refused(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(PYDICOM / "MR_small_jp2klossless.dcm")
    dataset.Rows = 32
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(CaseError, match="the compressed pixels of frame 1 are 64 x 64, the header says 32 x 64"):
        read_image(tmp_path, "a.dcm", RULES)
