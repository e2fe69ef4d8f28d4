"""Pictures of samples, small enough that a page may hold a thousand of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from sa_med2d_20m import DatasetError, decode_png, quoted_command, split_layers
from shards.show.overlay import eight_bit
from shards.show.sample import members_of

_SIZES: Final = ((512, 82), (512, 65), (512, 45), (384, 45), (256, 45))
"""Longest side in pixels and quality of WebP, tried in this order."""
_LARGEST: Final = 27_000
"""Bytes that a picture with its label map may have: a thousand of them, in base64, are 36 MB."""
_READERS: Final = 8
"""Samples that are read at once."""


@dataclass(frozen=True)
class Picture:
    """A sample as a page shows it.

    Attributes:
        record: Its metadata.
        height: Rows of the picture.
        width: Columns of the picture.
        layers: Layers of the label map.
        image: The picture, WebP.
        label_map: The label map, PNG: as in the sample, each layer of the size of the picture.
    """

    record: Mapping[str, Any]
    height: int
    width: int
    layers: int
    image: bytes
    label_map: bytes


def read_pictures(out: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[Picture]:
    """Read samples, in their order, and make pictures of them.

    Args:
        out: Output folder, wherever it lies.
        rows: Of the index: shard, and places of the members.

    Raises:
        DatasetError: A shard does not hold what its index says.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        yield from readers.map(lambda row: _picture(out, row), rows)


def _picture(out: Path, row: Mapping[str, Any]) -> Picture:
    where = f"{out / row['shard']}: {row['key']}"
    try:
        image, label_map, text = members_of(out, row)
        record = json.loads(text)
        pixels, layers = decode_png(image), split_layers(decode_png(label_map), record["height"])
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{where}: cannot be shown: {error}; {quoted_command('verify', out)} says why") from None
    if pixels.shape[:2] != layers.shape[1:]:
        raise DatasetError(f"{where}: cannot be shown: its image and its label map have other sizes")
    return _small(record, eight_bit(pixels), np.asarray(layers))


def _small(record: Mapping[str, Any], pixels: npt.NDArray[np.uint8], layers: npt.NDArray[Any]) -> Picture:
    """The largest and best picture that is small enough, or else the smallest."""
    made = (_of_size(record, pixels, layers, *size) for size in _SIZES)
    picture = next(made)
    while len(picture.image) + len(picture.label_map) > _LARGEST and (smaller := next(made, None)) is not None:
        picture = smaller
    return picture


def _of_size(
    record: Mapping[str, Any], pixels: npt.NDArray[np.uint8], layers: npt.NDArray[Any], side: int, quality: int
) -> Picture:
    scale = min(1.0, side / max(pixels.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    shown: npt.NDArray[Any] = pixels
    if scale < 1:
        shown = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    # the label map keeps its numbers: each pixel is the one that lies under its middle
    rows = ((np.arange(height) + 0.5) * layers.shape[1] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * layers.shape[2] / width).astype(int)
    stacked = layers[:, rows][:, :, columns].reshape(-1, width)
    return Picture(record, height, width, len(layers), webp(shown, quality), _png(stacked))


def webp(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    """A picture as WebP.

    Args:
        pixels: (H, W) or (H, W, 3), RGB.
        quality: 1 to 100.
    """
    bgr = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    _, data = cv2.imencode(".webp", np.ascontiguousarray(bgr), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return bytes(data)


def _png(label_map: npt.NDArray[Any]) -> bytes:
    _, data = cv2.imencode(".png", np.ascontiguousarray(label_map.astype(np.uint8)), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return bytes(data)
