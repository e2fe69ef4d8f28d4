"""Sets with faults that people make: a built folder whose shards are written anew with masks or images changed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sa_med2d_20m import decode_png
from shards.png import encode_image, encode_label_map
from shards.tar import Sample, TarWriter, read_shard

Array = npt.NDArray[Any]
Record = dict[str, Any]
Fault = Callable[[list[tuple[Record, Array, Array]]], list[tuple[Record, Array, Array]]]
"""Changes the samples of a shard: metadata, image, and label map as (layers, H, W)."""


def on_masks(change: Callable[[Array], Array]) -> Fault:
    """A change of each label map."""
    return lambda samples: [(record, image, change(layers)) for record, image, layers in samples]


def on_images(change: Callable[[Array], Array]) -> Fault:
    return lambda samples: [(record, change(image), layers) for record, image, layers in samples]


def shifted(down: int, right: int) -> Fault:
    def change(layers: Array) -> Array:
        moved = np.zeros_like(layers)
        height, width = layers.shape[1:]
        moved[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = layers[
            :, max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
        ]
        return moved

    return on_masks(change)


def inverted(samples: list[tuple[Record, Array, Array]]) -> list[tuple[Record, Array, Array]]:
    """All that no mask covers becomes one mask, of the first class of the image."""
    found = []
    for record, image, layers in samples:
        if record["masks"]:
            outside = (layers == 0).all(axis=0)
            found.append(({**record, "masks": record["masks"][:1]}, image, outside[None].astype(np.uint8)))
    return found


def sides_swapped(samples: list[tuple[Record, Array, Array]]) -> list[tuple[Record, Array, Array]]:
    other = {"left": "right", "right": "left"}
    found = []
    for record, image, layers in samples:
        masks = [
            {**mask, "label": re.sub("(?<![a-z])(left|right)(?![a-z])", lambda side: other[side[0]], mask["label"])}
            for mask in record["masks"]
        ]
        found.append(({**record, "masks": masks}, image, layers))
    return found


def shuffled(samples: list[tuple[Record, Array, Array]]) -> list[tuple[Record, Array, Array]]:
    """The slices of each volume in another order: what they show moves, their names stay."""
    random = np.random.default_rng(0)
    volumes: dict[tuple[str, str], list[int]] = {}
    for number, (record, _, _) in enumerate(samples):
        volumes.setdefault((record["case"], record["axis"]), []).append(number)
    found = list(samples)
    for numbers in volumes.values():
        for here, there in zip(numbers, random.permutation(numbers), strict=True):
            record, (other, image, layers) = samples[here][0], samples[there]
            found[here] = ({**record, "masks": other["masks"]}, image, layers)
    return found


def crushed(image: Array) -> Array:
    """One bright corner, as metal or a mark is, takes the range."""
    dim = (image.astype(np.float64) / 20).astype(image.dtype)
    dim[0, 0] = np.iinfo(image.dtype).max
    return dim


def emptied(image: Array) -> Array:
    empty = np.zeros_like(image)
    empty[1, 1] = np.iinfo(image.dtype).max
    return empty


FAULTS: dict[str, Fault] = {
    "masks shifted by 10 pixels to the right": shifted(0, 10),
    "masks shifted by 10 pixels down": shifted(10, 0),
    "masks mirrored left and right": on_masks(lambda layers: layers[:, :, ::-1]),
    "masks mirrored top and bottom": on_masks(lambda layers: layers[:, ::-1]),
    "masks inverted": inverted,
    "left and right swapped": sides_swapped,
    "slices shuffled": shuffled,
    "a bright mark takes the range": on_images(crushed),
    "images empty but for one point": on_images(emptied),
}
"""What is wrong -> how."""
EXPECTED = {
    "masks shifted by 10 pixels to the right": "shifted",
    "masks shifted by 10 pixels down": "shifted",
    "masks mirrored left and right": "mirrored",
    "masks mirrored top and bottom": "mirrored",
    "masks inverted": "inverted",
    "left and right swapped": "sides",
    "slices shuffled": "slice_order",
    "a bright mark takes the range": "intensity",
    "images empty but for one point": "near_empty",
}
"""What is wrong -> the finding that should say so."""


def with_fault(out: Path, to: Path, fault: Fault) -> None:
    """Write the shards of a built folder anew with a fault; index and receipts come by ``sa-med2d index``.

    Args:
        out: The folder, which stays as it is.
        to: Where the other goes.
        fault: What is wrong with it.
    """
    shutil.copytree(out / "build/sources", to / "build/sources")
    for path in sorted((out / "data").rglob("*.tar")):
        samples = []
        for sample, _ in read_shard(path):
            record = json.loads(sample.record)
            layers = decode_png(sample.mask).reshape(-1, record["height"], record["width"])
            samples.append((record, decode_png(sample.image), layers))
        there = to / path.relative_to(out)
        there.parent.mkdir(parents=True, exist_ok=True)
        with there.open("wb") as file:
            tar = TarWriter(file)
            for record, image, layers in fault(samples):
                tar.write(_encoded(record, image, np.ascontiguousarray(layers)))
            tar.finish()


def _encoded(record: Record, image: Array, layers: Array) -> Sample:
    masks = []
    for mask in record["masks"]:
        rows, columns = np.nonzero(layers[mask["layer"]] == mask["id"])
        if len(rows):
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            masks.append({**mask, "bbox": [int(side) for side in box], "area": len(rows)})
    record = {**record, "height": image.shape[0], "width": image.shape[1], "masks": masks}
    label_map = encode_label_map(layers.reshape(-1, layers.shape[2]))
    return Sample(record["key"], encode_image(image), label_map, json.dumps(record).encode())
