"""Decoders that crash: the process that they run in is lost, and one file with it."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from builder.errors import CaseError
from builder.readers.files import read_image
from builder.readers.image import Picture, source_values
from tests.support.limits import RULES
from tests.support.volumes import ct_like


def write_jpeg_lossless(path: Path) -> None:
    """By ITK; the kind of JPEG that GDCM alone decodes here."""
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.Execute(sitk.GetImageFromArray(ct_like()[3]))


def test_a_decoder_that_crashes_costs_one_file(tmp_path: Path) -> None:
    write_jpeg_lossless(tmp_path / "whole.dcm")
    whole = (tmp_path / "whole.dcm").read_bytes()
    start = whole.index(b"\xff\xd8\xff")
    rng = np.random.default_rng(0)
    for number in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(start + 2, len(whole), 6):
            damaged[at] = rng.integers(256)
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(damaged[: rng.integers(start, len(whole))] if number % 3 == 0 else damaged)
        with suppress(CaseError):
            read_image(tmp_path, path.name, RULES)
    image = read_image(tmp_path, "whole.dcm", RULES)
    assert isinstance(image, Picture)
    assert np.array_equal(source_values(image), ct_like()[3])


def test_a_lost_decoder_is_named_and_started_again(tmp_path: Path) -> None:
    write_jpeg_lossless(tmp_path / "a.dcm")
    read_image(tmp_path, "a.dcm", RULES)
    [decoder] = [child for child in multiprocessing.active_children() if child.name.startswith("decoder")]
    decoder.kill()
    decoder.join()
    with pytest.raises(CaseError, match="its compressed pixels crash the decoder"):
        read_image(tmp_path, "a.dcm", RULES)
    assert isinstance(read_image(tmp_path, "a.dcm", RULES), Picture)
