"""Pixels of every transfer syntax and photometric interpretation, against GDCM, libjpeg and hand-counted ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.encaps import encapsulate, generate_frames

from builder.readers.dicom import pixels
from builder.readers.image import source_values
from tests.support.dicom_image import (
    PYDICOM,
    image_dataset,
    pixels_of,
    save,
)
from tests.support.dicom_reading import by_itk, read_picture, refusal


def test_jpeg_of_12_bit() -> None:
    """Values by libjpeg, another decoder: it gives these two to the unit, and all others within 1."""
    picture = read_picture(PYDICOM / "JPGExtended.dcm")
    assert picture.array.shape == (1024, 256)
    assert picture.array.dtype == np.uint16
    assert (picture.array[420, 140], picture.array[230, 120]) == (244, 95)


MR_SMALL = [
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_expb.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
]


@pytest.mark.parametrize("name", MR_SMALL)
def test_transfer_syntaxes_of_one_image(name: str) -> None:
    picture = read_picture(PYDICOM / name)
    plain = (PYDICOM / "MR_small.dcm").read_bytes()
    # the last element is Data Set Trailing Padding of 126 bytes after a header of 12
    end = len(plain) - 12 - 126
    expected = np.frombuffer(plain[end - 64 * 64 * 2 : end], "<i2").reshape(64, 64)
    assert_array_equal(picture.array, expected)
    assert picture.array.dtype == np.dtype(np.int16)
    assert picture.spacing == (0.3125, 0.3125)


LIKE_ITK = [
    "693_J2KI.dcm",
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG2000.dcm",
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "SC_rgb_gdcm_KY.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "dicomdirtests/77654033/CR1/6154",
    "dicomdirtests/98892003/MR1/4919",
    "examples_jpeg2k.dcm",
    "examples_overlay.dcm",
    "examples_palette.dcm",
    "examples_rgb_color.dcm",
    "image_dfl.dcm",
]


@pytest.mark.parametrize("name", LIKE_ITK)
def test_pictures_match_itk(name: str) -> None:
    picture = read_picture(PYDICOM / name)
    assert_allclose(source_values(picture), by_itk(PYDICOM / name), rtol=1e-6, atol=1e-6)
    if picture.array.ndim == 3:
        assert picture.array.dtype == np.uint8


@pytest.mark.parametrize(("dtype", "lowest", "highest"), [(np.uint16, 0, 4095), (np.int16, -2048, 2047)])
def test_monochrome1_is_turned_round(tmp_path: Path, dtype: type[np.generic], lowest: int, highest: int) -> None:
    pixels = np.array([[lowest, highest], [lowest + 1, 100]], dtype)
    changes = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    picture = read_picture(save(tmp_path / "dx", image_dataset(pixels, Modality="DX", **changes)))
    assert picture.array.dtype == dtype
    assert_array_equal(picture.array, [[highest, lowest], [highest - 1, lowest + highest - 100]])
    picture = read_picture(save(tmp_path / "ct", image_dataset(pixels, **changes)))
    assert_array_equal(picture.array, pixels)  # HU are HU, whatever is shown white


def test_bits_above_the_stored_ones_are_masked(tmp_path: Path) -> None:
    pixels = np.array([[0x0FFF, 0xF123], [0x8000, 0x7ABC]], np.uint16)
    path = save(tmp_path / "a", image_dataset(pixels, BitsStored=12, HighBit=11))
    assert_array_equal(read_picture(path).array, pixels & 0x0FFF)


def test_palette_of_16_bits(tmp_path: Path) -> None:
    dataset = image_dataset(np.array([[0, 1], [2, 3]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for number, colour in enumerate(("Red", "Green", "Blue")):
        table = np.array([0, 0x1234, 0x8000 + number, 0xFFFF], "<u2")
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table.tobytes())
    picture = read_picture(save(tmp_path / "us", dataset))
    assert picture.array.dtype == np.uint8
    assert_array_equal(picture.array[..., 0], [[0, 0x12], [0x80, 0xFF]])


COMPRESSED = [
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
]


@pytest.mark.parametrize("name", COMPRESSED)
def test_truncated_compressed_pixels(tmp_path: Path, name: str) -> None:
    content = (PYDICOM / name).read_bytes()
    (tmp_path / "half").write_bytes(content[: int(0.8 * len(content))])
    assert "holds no pixels" in refusal(tmp_path / "half")
    dataset = pydicom.dcmread(PYDICOM / name)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: int(0.9 * len(frame))]])
    dataset.save_as(tmp_path / "stream")
    assert "cannot be decoded" in refusal(tmp_path / "stream")


def test_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "get_decoder", lambda _: SimpleNamespace(is_available=False))
    words = refusal(PYDICOM / "MR_small_jpeg_ls_lossless.dcm")
    assert "JPEG-LS Lossless" in words
    assert "pip install python-gdcm" in words
    path = save(tmp_path / "video", image_dataset(pixels_of(0)))
    monkeypatch.undo()
    content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    path.write_bytes(content)
    assert "not supported" in refusal(path)


def test_pixels_of_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    content = (PYDICOM / "MR_small.dcm").read_bytes()
    (tmp_path / "a").write_bytes(content.replace(b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00O^"))
    assert "fewer pixels" in refusal(tmp_path / "a")
