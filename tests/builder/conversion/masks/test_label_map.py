"""Whatever masks go in come out, by the rules of the design and by no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from builder.conversion.masks.components import find_components, smallest_area
from builder.conversion.masks.label_map import LabelMap, LayerComponents, TooManyMasksError, pack
from builder.sources.classes import SourceClasses
from sa_med2d_20m import decode_masks
from shards.description import SourceClass
from shards.png import encode_label_map

EIGHT = np.ones((3, 3), int)
CLASSES = SourceClasses(
    tuple(SourceClass(f"{number:04d}", f"class_{number + 1}", None, "other") for number in range(6)), {}, {}
)
RULE = 100 / (256 * 256)
"""The area rule of SA-Med2D-20M."""
SIDES = st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40))


def blobs(values: int, dtype: type = np.uint8) -> st.SearchStrategy[npt.NDArray[Any]]:
    """Blocks of slices with patches: coarse random maps, enlarged so that areas differ, with noise on top."""

    def enlarge(drawn: tuple[npt.NDArray[Any], int, int, int]) -> npt.NDArray[Any]:
        coarse, scale, height, width = drawn
        return np.kron(coarse, np.ones((1, scale, scale), coarse.dtype))[:, :height, :width]

    coarse = hnp.arrays(dtype, SIDES, elements=st.integers(0, values))
    return st.tuples(coarse, st.integers(1, 4), st.integers(1, 120), st.integers(1, 120)).map(enlarge)


def expected_components(binary: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """The components of one class by SciPy, those that are too small left out."""
    labels, count = scipy.ndimage.label(binary, EIGHT)
    found = [labels == number for number in range(1, count + 1)]
    return [component for component in found if component.sum() * 65536 >= 100 * binary.size]


def decoded(label_map: LabelMap, height: int) -> npt.NDArray[np.bool_]:
    record = {"height": height, "masks": [vars(mask) for mask in label_map.masks]}
    return decode_masks({"mask": encode_label_map(label_map.pixels), **record})


def as_set(components: list[npt.NDArray[np.bool_]]) -> set[bytes]:
    return {np.packbits(component).tobytes() for component in components}


@given(blobs(5))
@settings(max_examples=150, deadline=None)
def test_label_maps_survive(block: npt.NDArray[np.uint8]) -> None:
    packed = pack(block.shape, [LayerComponents(find_components(block), None)], CLASSES, RULE)
    assert len(packed) == block.shape[0]
    for plane, label_map in zip(block, packed, strict=True):
        masks = decoded(label_map, plane.shape[0])
        for number in range(1, 6):
            ours = [m for m, e in zip(masks, label_map.masks, strict=True) if e.label == f"class_{number}"]
            theirs = expected_components(plane == number)
            assert len(ours) == len(theirs)
            assert as_set(ours) == as_set(theirs)


@given(st.integers(1, 3).flatmap(lambda n: st.lists(blobs(1), min_size=n, max_size=4)))
@settings(max_examples=100, deadline=None)
def test_overlapping_classes_survive_in_layers(drawn: list[npt.NDArray[np.uint8]]) -> None:
    size = tuple(min(sides) for sides in zip(*(block.shape for block in drawn), strict=True))
    blocks = [block[: size[0], : size[1], : size[2]] for block in drawn]
    planes = [LayerComponents(find_components(block * np.uint8(n)), None) for n, block in enumerate(blocks, start=1)]
    for at, label_map in enumerate(pack(size, planes, CLASSES, RULE)):
        masks = decoded(label_map, size[1])
        for number, block in enumerate(blocks, start=1):
            ours = [m for m, e in zip(masks, label_map.masks, strict=True) if e.label == f"class_{number}"]
            assert as_set(ours) == as_set(expected_components(block[at] != 0))
        layers = label_map.pixels.shape[0] // size[1]
        assert layers <= max(1, len(blocks))


@given(blobs(70000, np.uint32))
@settings(max_examples=60, deadline=None)
def test_instances_keep_their_ids_apart_where_they_touch(block: npt.NDArray[np.uint32]) -> None:
    for plane, label_map in zip(
        block, pack(block.shape, [LayerComponents(find_components(block), 1)], CLASSES, RULE), strict=True
    ):
        theirs = [c for value in np.unique(plane) if value for c in expected_components(plane == value)]
        assert as_set(list(decoded(label_map, plane.shape[0]))) == as_set(theirs)


@given(blobs(5))
@settings(max_examples=60, deadline=None)
def test_masks_describe_their_pixels(block: npt.NDArray[np.uint8]) -> None:
    for label_map in pack(block.shape, [LayerComponents(find_components(block), None)], CLASSES, RULE):
        order = []
        for mask, binary in zip(label_map.masks, decoded(label_map, block.shape[1]), strict=True):
            rows, columns = scipy.ndimage.find_objects(binary.astype(int))[0]
            box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            assert (mask.area, mask.bbox) == (binary.sum(), box)
            order.append((mask.class_id, int(np.flatnonzero(binary)[0])))
        assert order == sorted(order)
        per_class = [
            [m.instance for m in label_map.masks if m.class_id == c] for c in {m.class_id for m in label_map.masks}
        ]
        assert all(instances == list(range(len(instances))) for instances in per_class)


def test_numbering_does_not_depend_on_how_slices_are_batched() -> None:
    rng = np.random.default_rng(1)
    block = np.kron(rng.integers(0, 4, (7, 12, 9), np.uint8), np.ones((1, 5, 5), np.uint8))
    whole = pack(block.shape, [LayerComponents(find_components(block), None)], CLASSES, RULE)
    singly = [
        pack((1, *plane.shape), [LayerComponents(find_components(plane[np.newaxis]), None)], CLASSES, RULE)[0]
        for plane in block
    ]
    assert [m.masks for m in whole] == [m.masks for m in singly]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(whole, singly, strict=True))


def assert_numbered(label_map: LabelMap, height: int) -> None:
    """Ids count from 1 in each layer, and each layer holds just these values."""
    layers = label_map.pixels.reshape(-1, height, label_map.pixels.shape[1])
    assert label_map.pixels.dtype == np.uint8
    assert len(layers) == label_map.layers
    held = [[mask.id for mask in label_map.masks if mask.layer == number] for number in range(len(layers))]
    assert sum(map(len, held)) == len(label_map.masks)
    for ids, layer in zip(held, layers, strict=True):
        assert ids == list(range(1, len(ids) + 1))
        assert len(ids) <= 255
        assert np.array_equal(np.unique(layer[layer > 0]), ids)


def expected_layers(masks: Sequence[npt.NDArray[np.bool_]]) -> list[int]:
    """The rule in its plainest form: the first layer that is free there and has fewer than 255."""
    layers: list[npt.NDArray[np.bool_]] = []
    counts: list[int] = []
    found = []
    for mask in masks:
        at = next((n for n, layer in enumerate(layers) if counts[n] < 255 and not (layer & mask).any()), len(layers))
        if at == len(layers):
            layers.append(np.zeros_like(mask))
            counts.append(0)
        layers[at] |= mask
        counts[at] += 1
        found.append(at)
    return found


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 700),
    st.integers(1, 3),
    st.sampled_from([(64, 90), (40, 33), (130, 70)]),
    st.sampled_from([0, 3, 0.001]),
)
@settings(max_examples=60, deadline=None)
def test_many_overlapping_objects_survive(seed: int, count: int, maps: int, size: tuple[int, int], rule: float) -> None:
    """Up to 700 rectangles in instance maps that lie over each other, each a class of its own."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((maps, 1, *size), np.uint16)
    for number in range(1, count + 1):
        top, left = rng.integers(0, size)
        drawn[rng.integers(maps), 0, top : top + rng.integers(1, 6), left : left + rng.integers(1, 6)] = number
    parts = [LayerComponents(find_components(block), at + 1) for at, block in enumerate(drawn)]
    (label_map,) = pack((1, *size), parts, CLASSES, rule)
    assert_numbered(label_map, size[0])
    smallest = rule if isinstance(rule, int) else rule * size[0] * size[1]
    theirs, small = [], []
    for block in drawn:
        for number in np.unique(block[block > 0]):
            labels, found = scipy.ndimage.label(block[0] == number, EIGHT)
            pieces = [labels == at for at in range(1, found + 1)]
            theirs += [piece for piece in pieces if piece.sum() >= smallest]
            small += [int(piece.sum()) for piece in pieces if piece.sum() < smallest]
    ours = list(decoded(label_map, size[0]))
    assert sorted(map(bytes, map(np.packbits, ours))) == sorted(map(bytes, map(np.packbits, theirs)))
    assert [mask.layer for mask in label_map.masks] == expected_layers(ours)
    assert (label_map.dropped.masks, label_map.dropped.pixels) == (len(small), sum(small))


@pytest.mark.parametrize("count", [1, 254, 255, 256, 510, 511])
def test_a_layer_takes_255_objects(count: int) -> None:
    cells = np.zeros(529, np.uint16)
    cells[:count] = np.arange(1, count + 1)
    instances = np.kron(cells.reshape(1, 23, 23), np.ones((1, 8, 8), np.uint16))
    (label_map,) = pack(instances.shape, [LayerComponents(find_components(instances), 1)], CLASSES, RULE)
    assert_numbered(label_map, instances.shape[1])
    assert [(mask.layer, mask.id) for mask in label_map.masks] == [(n // 255, n % 255 + 1) for n in range(count)]
    assert label_map.layers == {1: 1, 254: 1, 255: 1, 256: 2, 510: 2, 511: 3}[count]


def test_few_and_many_objects_in_one_block() -> None:
    """Slices of a block are packed together, and only those with many objects have further layers."""
    many = np.kron(np.arange(1, 401, dtype=np.uint16).reshape(20, 20), np.ones((8, 8), np.uint16))
    few = np.where(many < 4, many, 0)
    block = np.stack([few, many, np.zeros_like(many)])
    packed = pack(block.shape, [LayerComponents(find_components(block), 1)], CLASSES, RULE)
    assert [label_map.layers for label_map in packed] == [1, 2, 1]
    assert [len(label_map.masks) for label_map in packed] == [3, 400, 0]
    for label_map in packed:
        assert_numbered(label_map, many.shape[0])


@pytest.mark.parametrize("maps", [1, 2])
def test_more_layers_than_anybody_decodes_are_refused(maps: int) -> None:
    """A picture of 4000 x 4000 may have 16 layers, and 4,335 objects need 17."""
    cells = np.arange(1, 4901, dtype=np.uint16).reshape(70, 70)
    instances = np.zeros((maps, 1, 4000, 4000), np.uint16)
    instances[0, 0, :140, :140] = np.kron(cells, np.ones((2, 2), np.uint16))
    parts = [LayerComponents(find_components(block), at + 1) for at, block in enumerate(instances)]
    with pytest.raises(TooManyMasksError, match=r"in one image of 4000 x 4000 need .* layers .* at most 16; raise"):
        pack((1, 4000, 4000), parts, CLASSES, 0)


def test_400_masks_take_two_layers() -> None:
    instances = np.kron(np.arange(1, 401, dtype=np.uint16).reshape(1, 20, 20), np.ones((1, 8, 8), np.uint16))
    (label_map,) = pack(instances.shape, [LayerComponents(find_components(instances), 1)], CLASSES, RULE)
    assert len(label_map.masks) == 400
    assert label_map.pixels.dtype == np.uint8
    assert np.array_equal(label_map.pixels[:160], np.where(instances[0] <= 255, instances[0], 0))
    assert np.array_equal(label_map.pixels[160:], np.where(instances[0] > 255, instances[0] - 255, 0))


def test_area_rule_is_relative_to_the_image() -> None:
    for height, width in ((256, 256), (258, 181), (512, 512), (31, 57)):
        share = 100 / (256 * 256) * height * width
        assert smallest_area(height, width, RULE) - 1 < share <= smallest_area(height, width, RULE)


@pytest.mark.parametrize(("rule", "fewest"), [(0, 0), (1, 1), (50, 50), (0.07, 7), (0.071, 8), (0.999, 100)])
def test_area_rule_is_a_number_of_pixels_or_a_fraction(rule: float, fewest: int) -> None:
    assert smallest_area(10, 10, rule) == fewest
