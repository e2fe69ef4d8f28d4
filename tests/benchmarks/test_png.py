"""The PNG codec beside OpenCV and Pillow, on the very images and label maps that the builder writes of the MNI152 volume."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sa_med2d_20m import decode_png
from shards.png import encode_image, encode_label_map

Pictures = list[npt.NDArray[np.uint8]]


def by_pillow(pixels: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def by_opencv(pixels: npt.NDArray[Any]) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def decode_by_pillow(data: bytes) -> npt.NDArray[Any]:
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


def decode_by_opencv(data: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


KINDS = {"images": (slice(0, None, 2), encode_image), "label maps": (slice(1, None, 2), encode_label_map)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", ["ours", "opencv", "pillow"])
def test_encode(benchmark: BenchmarkFixture, pictures: Pictures, kind: str, codec: str) -> None:
    every, ours = KINDS[kind]
    encode: Callable[[Any], bytes] = {"ours": ours, "opencv": by_opencv, "pillow": by_pillow}[codec]
    cv2.setNumThreads(1)
    benchmark.group = f"encode {kind}"
    files = benchmark(lambda: [encode(picture) for picture in pictures[every]])
    benchmark.extra_info["bytes"] = sum(map(len, files))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", ["ours", "opencv", "pillow"])
def test_decode(benchmark: BenchmarkFixture, pictures: Pictures, kind: str, codec: str) -> None:
    every, encode = KINDS[kind]
    decode = {"ours": decode_png, "opencv": decode_by_opencv, "pillow": decode_by_pillow}[codec]
    files = [encode(picture) for picture in pictures[every]]
    cv2.setNumThreads(1)
    benchmark.group = f"decode {kind}"
    benchmark(lambda: [decode(file) for file in files])
