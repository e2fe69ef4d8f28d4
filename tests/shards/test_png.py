"""Our PNG is anybody's PNG."""

from __future__ import annotations

import io
import struct
import threading
import tracemalloc
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
FILTERS = {"NONE": 0, "SUB": 1, "UP": 2, "AVG": 3, "PAETH": 4}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, row step, column step of each pass (PNG, section 8.1)."""
SMOOTH = SIDES.map(lambda sides: np.add.outer(np.arange(sides[0]), np.arange(sides[1])).astype(np.uint8))


def by_opencv(data: bytes) -> npt.NDArray[Any]:
    pixels: npt.NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels if pixels.ndim == 2 else pixels[..., ::-1]


def by_pillow(data: bytes) -> npt.NDArray[Any]:
    with PIL.Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def handmade(width: int, height: int, *, interlace: int, colour: int, raw: bytes, pieces: int = 1) -> bytes:
    """A PNG of 8 bit put together here, its pixel data in several IDAT chunks if wanted."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, interlace)
    body = zlib.compress(raw)
    step = -(-len(body) // pieces)
    data = b"".join(chunk(b"IDAT", body[at : at + step]) for at in range(0, len(body), step))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def row_filters(data: bytes, height: int) -> set[int]:
    """The filter types that the rows of a PNG have."""
    at, body = 8, b""
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body += data[at + 8 : at + 8 + length] if data[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    raw = zlib.decompress(body)
    return set(raw[:: len(raw) // height])


@st.composite
def bordered(draw: st.DrawFn) -> npt.NDArray[Any]:
    """Pictures that are empty around a box, which may touch any edge; in one channel, or in three that are often equal."""
    height, width = draw(SIDES)
    box = [
        np.s_[min(ends) : max(ends)] for ends in (draw(st.tuples(*[st.integers(0, n)] * 2)) for n in (height, width))
    ]
    pixels = np.zeros((height, width, draw(st.sampled_from([1, 3]))), draw(st.sampled_from([np.uint8, np.uint16])))
    inside = pixels[tuple(box)]
    one = (*inside.shape[:2], draw(st.sampled_from([1, pixels.shape[2]])))
    inside[...] = draw(st.integers(1, 255) | hnp.arrays(pixels.dtype, one))
    return pixels if pixels.shape[2] == 3 else pixels[..., 0]


@given(PIXELS | SMOOTH | bordered())
@settings(max_examples=300, deadline=None)
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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", FILTERS)
def test_every_row_filter_of_opencv_is_undone(name: str, channels: int, dtype: type) -> None:
    values = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (31, 18, channels))
    pixels: npt.NDArray[Any] = values.astype(dtype)
    options = [cv2.IMWRITE_PNG_FILTER, getattr(cv2, f"IMWRITE_PNG_FILTER_{name}")]
    data = cv2.imencode(".png", pixels, options)[1].tobytes()
    assert FILTERS[name] in row_filters(data, 31)
    expected = pixels[..., 0] if channels == 1 else pixels[..., [2, 1, 0, 3][:channels]]
    decoded = decode_png(data)
    assert decoded.dtype == dtype
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_any_depth_are_read(bits: int) -> None:
    rng = np.random.default_rng(bits)
    image = PIL.Image.fromarray(rng.integers(0, 2**bits, (19, 23), np.uint8), "L").convert("P")
    image.putpalette(rng.integers(0, 256, 3 * 2**bits, np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=bits)
    assert buffer.getvalue()[24:26] == bytes([bits, 3])
    assert np.array_equal(decode_png(buffer.getvalue()), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (8, 8), (33, 21), (33, 21, 3)])
def test_interlaced_png_is_read(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    passes = [pixels[row::down, column::right] for row, column, down, right in ADAM7]
    raw = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    data = handmade(shape[1], shape[0], interlace=1, colour=0 if len(shape) == 2 else 2, raw=raw)
    assert np.array_equal(by_pillow(data), pixels)
    assert np.array_equal(decode_png(data), pixels)


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_pixel_data_in_several_chunks_is_read(pieces: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 20), np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    data = handmade(20, 30, interlace=0, colour=0, raw=raw, pieces=pieces)
    assert data.count(b"IDAT") == pieces
    assert np.array_equal(decode_png(data), pixels)


def as_read(data: bytes) -> npt.NDArray[Any] | None:
    try:
        return decode_png(data)
    except DatasetError:
        return None


@given(PIXELS, st.data())
@settings(max_examples=200, deadline=None)
def test_a_flipped_bit_never_gives_other_pixels(pixels: npt.NDArray[Any], draw: st.DataObject) -> None:
    data = bytearray(encode_image(pixels))
    data[draw.draw(st.integers(0, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    read = as_read(bytes(data))
    assert read is None or np.array_equal(read, pixels)


@given(PIXELS, st.data())
@settings(max_examples=200, deadline=None)
def test_a_cut_never_gives_other_pixels(pixels: npt.NDArray[Any], draw: st.DataObject) -> None:
    data = encode_image(pixels)
    cut = draw.draw(st.integers(0, len(data) - 1))
    read = as_read(data[:cut])
    assert read is None or np.array_equal(read, pixels)
    assert read is None or cut >= len(data) - 16  # only the marks after the pixel data may be missing


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_foreign_png_is_an_error(channels: int, damage: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, channels), np.uint8)
    data = bytearray(cv2.imencode(".png", pixels)[1].tobytes())
    data[len(data) // 2] ^= 255
    with pytest.raises(DatasetError, match="damaged PNG"):
        decode_png(bytes(data) if damage == "flip" else bytes(data[: len(data) // 2]))


def test_absurd_size_of_a_foreign_png_is_an_error() -> None:
    with pytest.raises(DatasetError, match="PNG"):
        decode_png(handmade(60000, 60000, interlace=1, colour=0, raw=b"x"))


@pytest.mark.parametrize("data", [b"GIF89a" + bytes(60), b"\x89PNG\r\n\x1a\n", bytes(100)])
def test_what_is_no_png(data: bytes) -> None:
    with pytest.raises(DatasetError, match="expected a PNG file"):
        decode_png(data)


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


def test_absurd_size_takes_no_memory() -> None:
    """Found by the property above: a flipped bit in the header asked for 69 GB."""
    data = bytearray(encode_image(np.zeros((16, 5), np.uint8)))
    data[16] = 0x7F
    tracemalloc.start()
    with pytest.raises(DatasetError):
        decode_png(bytes(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_the_same_bytes_wherever_memory_lies() -> None:
    """ISA-L files the third byte of a stream under a hash of an address: about one stack in 700 gave other bytes.

    Each thread has a stack of its own; all of them are alive until the last has encoded.
    """
    flat = np.full((24, 40), 7, np.uint8)
    flat[5:9, 5:20] = np.random.default_rng(0).integers(0, 255, (4, 15))
    zeros = np.where(flat == 7, 0, 3).astype(np.uint8)
    found: list[tuple[bytes, ...]] = []
    done = threading.Event()

    def encode() -> None:
        found.append((encode_image(flat), encode_label_map(zeros), encode_label_map(zeros + np.uint8(1))))
        done.wait()

    size = threading.stack_size(256 << 10)
    try:
        threads = [threading.Thread(target=encode) for _ in range(5000)]
        for thread in threads:
            thread.start()
    finally:
        done.set()
        threading.stack_size(size)
    for thread in threads:
        thread.join()
    assert len(found) == 5000
    assert len(set(found)) == 1
