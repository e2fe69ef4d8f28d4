"""Whatever masks go in come out, by the rules of the design and by no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from builder.conversion.masks.components import find_components, smallest_area
from builder.conversion.masks.label_map import LabelMap, LayerComponents, pack
from builder.sources.classes import SourceClasses
from sa_med2d_20m import decode_masks
from shards.description import SourceClass
from shards.png import encode_label_map

EIGHT = np.ones((3, 3), int)
CLASSES = SourceClasses(
    tuple(SourceClass(f"{number:04d}", f"class_{number + 1}", None, "other") for number in range(6)), {}, {}
)
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
    packed = pack(block.shape, [LayerComponents(find_components(block), None)], CLASSES)
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
    for at, label_map in enumerate(pack(size, planes, CLASSES)):
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
        block, pack(block.shape, [LayerComponents(find_components(block), 1)], CLASSES), strict=True
    ):
        theirs = [c for value in np.unique(plane) if value for c in expected_components(plane == value)]
        assert as_set(list(decoded(label_map, plane.shape[0]))) == as_set(theirs)


@given(blobs(5))
@settings(max_examples=60, deadline=None)
def test_masks_describe_their_pixels(block: npt.NDArray[np.uint8]) -> None:
    for label_map in pack(block.shape, [LayerComponents(find_components(block), None)], CLASSES):
        assert [mask.id for mask in label_map.masks] == list(range(1, len(label_map.masks) + 1))
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
    whole = pack(block.shape, [LayerComponents(find_components(block), None)], CLASSES)
    singly = [
        pack((1, *plane.shape), [LayerComponents(find_components(plane[np.newaxis]), None)], CLASSES)[0]
        for plane in block
    ]
    assert [m.masks for m in whole] == [m.masks for m in singly]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(whole, singly, strict=True))


def test_more_than_255_masks_take_16_bit() -> None:
    instances = np.kron(np.arange(1, 401, dtype=np.uint16).reshape(1, 20, 20), np.ones((1, 8, 8), np.uint16))
    (label_map,) = pack(instances.shape, [LayerComponents(find_components(instances), 1)], CLASSES)
    assert len(label_map.masks) == 400
    assert label_map.pixels.dtype == np.uint16
    assert np.array_equal(np.unique(label_map.pixels), np.arange(1, 401))


def test_area_rule_is_relative_to_the_image() -> None:
    for height, width in ((256, 256), (258, 181), (512, 512), (31, 57)):
        share = 100 / (256 * 256) * height * width
        assert smallest_area(height, width) - 1 < share <= smallest_area(height, width)
