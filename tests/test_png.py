"""Our PNG is anybody's PNG."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sa_med2d_20m import DatasetError, decode_png
from shards.png import encode_image, encode_label_map

SIDES = st.tuples(st.integers(1, 70), st.integers(1, 70))
SHAPES = SIDES | SIDES.map(lambda sides: (*sides, 3))
PIXELS = st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))
SMOOTH = SIDES.map(lambda sides: np.add.outer(np.arange(sides[0]), np.arange(sides[1])).astype(np.uint8))


def by_opencv(data: bytes) -> npt.NDArray[Any]:
    pixels: npt.NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels if pixels.ndim == 2 else pixels[..., ::-1]


def by_pillow(data: bytes) -> npt.NDArray[Any]:
    with PIL.Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@given(PIXELS | SMOOTH)
@settings(max_examples=200, deadline=None)
def test_images_read_the_same_everywhere(pixels: npt.NDArray[Any]) -> None:
    data = encode_image(pixels)
    for decoded in (decode_png(data), by_opencv(data)):
        assert decoded.dtype == pixels.dtype
        assert np.array_equal(decoded, pixels)
    if pixels.dtype == np.uint8 or pixels.ndim == 2:  # Pillow has no 16-bit RGB
        assert np.array_equal(by_pillow(data), pixels)


@given(PIXELS.filter(lambda pixels: pixels.ndim == 2))
@settings(max_examples=100, deadline=None)
def test_label_maps_read_the_same_everywhere(pixels: npt.NDArray[Any]) -> None:
    data = encode_label_map(pixels)
    assert all(np.array_equal(decoded, pixels) for decoded in (decode_png(data), by_opencv(data), by_pillow(data)))


@given(PIXELS)
def test_chunks_have_valid_checksums(pixels: npt.NDArray[Any]) -> None:
    data, at, kinds = encode_image(pixels), 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(body)
        kinds.append(body[:4])
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_foreign_png_is_read_too(mode: str) -> None:
    rng = np.random.default_rng(0)
    source = PIL.Image.fromarray(rng.integers(0, 255, (33, 21, 3), np.uint8))
    image = PIL.Image.fromarray(rng.integers(0, 65535, (33, 21), np.uint16)) if mode == "I;16" else source.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    expected = np.asarray(image.convert({"1": "L", "P": "RGB", "LA": "RGBA"}.get(mode, mode)))
    assert np.array_equal(decode_png(buffer.getvalue()), expected)


@pytest.mark.parametrize("cut", [0, 5, 20, 40, 200, -30])
def test_truncated_png_is_an_error(cut: int) -> None:
    data = encode_image(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8))
    with pytest.raises(DatasetError, match="PNG"):
        decode_png(data[:cut])


def test_damaged_png_is_an_error() -> None:
    data = bytearray(encode_image(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)))
    data[60:90] = bytes(30)
    with pytest.raises(DatasetError, match="damaged PNG"):
        decode_png(bytes(data))


@pytest.mark.parametrize("shape", [(5,), (0, 4), (4, 0), (4, 4, 2), (4, 4, 4), (2, 4, 4, 3)])
def test_shapes_that_no_png_has(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected pixels of shape"):
        encode_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.bool_, np.uint32])
def test_dtypes_that_no_png_has(dtype: type) -> None:
    with pytest.raises(ValueError, match="expected uint8 or uint16"):
        encode_image(np.zeros((4, 4), dtype))


def test_label_maps_are_grey() -> None:
    with pytest.raises(ValueError, match="expected a label map"):
        encode_label_map(np.zeros((4, 4, 3), np.uint8))
