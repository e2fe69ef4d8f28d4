"""The fingerprint of an image: what is kept of it so that copies are found without looking at it again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shards.duplicates.ranks import Box, content_box, one_channel, ranks
from shards.duplicates.sign_hash import WORDS, sign_hash

VERSION: Final = 1
"""Raised when the same pixels get another fingerprint, so that those that are kept are made anew."""
FRAMINGS: Final = ("frame", "content", "inner")
"""The parts of an image that are hashed: all of it, what an even border encloses, and that without its outer parts."""
CROPPED: Final = 0.05
"""Part of each side that is not in the inner part. A hash bears a crop of 3 %, so the three together bear 8 %."""
EXACT_BYTES: Final = 16
HASH_BYTES: Final = len(FRAMINGS) * WORDS * 8


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of an image.

    Attributes:
        exact: 128 bits of BLAKE2b, of size, depth and pixels; the same for a grey image in one channel and in three.
        hashes: (3, 2) `sign_hash` of each of `FRAMINGS`; where there is no border the content is the frame.
    """

    exact: bytes
    hashes: npt.NDArray[np.uint64]


def fingerprint(pixels: npt.NDArray[Any]) -> Fingerprint:
    """Take the fingerprint of an image.

    Args:
        pixels: (H, W), (H, W, 3) or (H, W, 4); uint8 or uint16.
    """
    grey = one_channel(pixels)
    digest = hashlib.blake2b(f"{pixels.shape[:2]} {pixels.dtype}".encode(), digest_size=EXACT_BYTES)
    equal = pixels.ndim == 2 or bool((pixels[..., :3] == grey[..., None]).all())
    digest.update((grey if equal else np.ascontiguousarray(pixels[..., :3])).data)
    return Fingerprint(digest.digest(), np.stack([sign_hash(part) for part in framings(grey)]))


def framings(grey: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
    """The parts of an image that are compared, as ranks, in the order of `FRAMINGS`.

    Args:
        grey: (H, W) uint8 or uint16.
    """
    frame = ranks(grey)
    box = content_box(grey)
    content = frame if box is None else ranks(np.ascontiguousarray(box.cut(grey)))
    height, width = content.shape
    down, right = int(height * CROPPED), int(width * CROPPED)
    return [frame, content, Box(down, height - down, right, width - right).cut(content)]
