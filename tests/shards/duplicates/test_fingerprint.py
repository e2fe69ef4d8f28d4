"""What a fingerprint does not see: how an image is mirrored, what grey values mean, how it is stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shards.duplicates.fingerprint import fingerprint
from shards.duplicates.ranks import content_box, ranks
from shards.duplicates.sign_hash import BITS, FLIP_MASKS, FLIPS, distances
from shards.duplicates.verification import flipped

Array = npt.NDArray[Any]

IMAGES = st.tuples(st.integers(33, 60), st.integers(33, 60)).flatmap(
    lambda shape: st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    )
)
MONOTONE = arrays(np.int64, 256, elements=st.integers(1, 255)).map(np.cumsum)
"""Strictly rising maps from 8 to 16 bit."""


@given(IMAGES, MONOTONE)
@settings(max_examples=40, deadline=None)
def test_strictly_monotone_maps_change_no_rank_and_no_bit(image: Array, rising: Array) -> None:
    mapped = rising[image].astype(np.uint16)
    assert np.array_equal(ranks(image), ranks(mapped))
    assert np.array_equal(fingerprint(image).hashes[0], fingerprint(mapped).hashes[0])


@given(IMAGES, st.sampled_from(range(len(FLIPS))))
@settings(max_examples=40, deadline=None)
def test_the_hash_of_a_mirrored_image_is_the_hash_with_some_bits_the_other_way(image: Array, flip: int) -> None:
    mirrored = np.ascontiguousarray(flipped(image, flip))
    expected = fingerprint(image).hashes ^ FLIP_MASKS[flip]
    # a coefficient that is next to zero may fall on either side
    assert distances(fingerprint(mirrored).hashes, expected).max() <= 2


@given(arrays(np.uint8, (40, 50)))
@settings(max_examples=40, deadline=None)
def test_ranks_are_those_of_scipy(image: Array) -> None:
    from scipy.stats import rankdata  # noqa: PLC0415

    expected = (rankdata(image.reshape(-1)) - 0.5) / image.size
    assert np.allclose(ranks(image).reshape(-1), expected, atol=1e-6)


def test_three_equal_channels_are_the_same_image() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    assert fingerprint(grey).exact == fingerprint(np.dstack([grey] * 3)).exact


def test_other_pixels_size_and_depth_are_another_image() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    other = grey.copy()
    other[3, 4] ^= 1
    colour = np.dstack([grey, grey, other])
    every: list[Array] = [grey, other, colour, grey.reshape(50, 40), grey.astype(np.uint16)]
    assert len({fingerprint(image).exact for image in every}) == len(every)


def test_the_content_of_an_image_is_what_an_even_border_encloses() -> None:
    image = np.full((100, 120), 7, np.uint8)
    image[20:80, 30:110] = np.random.default_rng(0).integers(0, 256, (60, 80))
    box = content_box(image)
    assert box is not None
    assert (box.top, box.bottom, box.left, box.right) == (20, 80, 30, 110)
    assert content_box(np.random.default_rng(0).integers(0, 256, (60, 80)).astype(np.uint8)) is None


def test_hashes_of_unrelated_images_differ_in_half_of_their_bits() -> None:
    random = np.random.default_rng(0)
    hashes = np.stack([fingerprint(random.integers(0, 256, (64, 64)).astype(np.uint8)).hashes[0] for _ in range(60)])
    apart = distances(hashes[:, None], hashes[None])[np.triu_indices(60, 1)]
    assert abs(apart.mean() - BITS / 2) < 1
    assert apart.min() > 35
