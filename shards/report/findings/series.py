"""What is looked at: the slices of a volume in order, or a picture, with the masks of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from sa_med2d_20m import DatasetError, draw_mask, split_layers
from shards.duplicates.ranks import one_channel

_LARGEST: Final = 512
"""Pixels of the longer side from which on an image is made smaller: faults that matter are seen there."""
_NEIGHBOURS: Final = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class View:
    """A sample as faults are looked for in it.

    Attributes:
        key: Its key.
        plane: ``axial`` and so on.
        index: Number of the slice, None for a picture.
        grey: (H, W) float32, 0 to 1 over the range of the image; at most 512 pixels a side.
        masks: Class -> (H, W) bool, all its objects together.
    """

    key: str
    plane: str
    index: int | None
    grey: npt.NDArray[np.float32]
    masks: dict[str, npt.NDArray[np.bool_]]

    @cached_property
    def edges(self) -> npt.NDArray[np.float32]:
        """(H, W) how strong the edge at a pixel is: the part of the image whose edges are weaker, 0 to 1."""
        smooth = cv2.GaussianBlur(self.grey, (0, 0), 1.0)
        gradient = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
        steps = np.minimum((gradient / max(float(gradient.max()), 1e-9) * 1023).astype(np.int64), 1023)
        counts = np.bincount(steps.reshape(-1), minlength=1024)
        ranks: npt.NDArray[np.float32] = ((np.cumsum(counts) - counts / 2) / steps.size).astype(np.float32)[steps]
        return ranks

    @cached_property
    def border(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows and columns of the pixels at the borders of masks."""
        lines = np.zeros(self.grey.shape, np.uint8)
        for mask in self.masks.values():
            lines |= np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, _NEIGHBOURS), np.uint8)
        lines[[0, -1]] = 0  # where a mask ends with the image it has no border
        lines[:, [0, -1]] = 0
        rows, columns = np.nonzero(lines)
        return rows, columns

    @cached_property
    def annotated(self) -> npt.NDArray[np.bool_]:
        """(H, W) what any mask covers."""
        every = np.zeros(self.grey.shape, np.bool_)
        for mask in self.masks.values():
            every |= mask
        return every


@dataclass(frozen=True)
class Series:
    """The slices of a volume along one axis, or a picture.

    Attributes:
        source: Its source.
        modality: Its modality.
        case: Its case.
        views: In the order of their numbers.
    """

    source: str
    modality: str
    case: str
    views: Sequence[View]


def view_of(record: dict[str, Any], pixels: npt.NDArray[Any], label_map: npt.NDArray[Any]) -> View:
    """Make a view of a sample.

    Args:
        record: Its metadata, or its row of the index.
        pixels: The image as it is decoded.
        label_map: (layers * H, W), as it is decoded.

    Raises:
        DatasetError: Image and label map are not of one size.
    """
    grey = one_channel(pixels).astype(np.float32)
    low, high = float(grey.min()), float(grey.max())
    grey = (grey - low) / max(high - low, 1)
    layers = split_layers(label_map, record["height"])
    if layers.shape[1:] != grey.shape:
        raise DatasetError(f"{record['key']}: its masks are of {layers.shape[1:]} pixels, its image of {grey.shape}")
    by_label: dict[str, npt.NDArray[np.bool_]] = {}
    for entry in record["masks"]:
        own = by_label.setdefault(entry["label"], np.zeros(grey.shape, np.bool_))
        own |= draw_mask(layers, entry, np.zeros(grey.shape, np.bool_))
    longest = max(grey.shape)
    if longest > _LARGEST:
        size = tuple(max(1, round(side * _LARGEST / longest)) for side in grey.shape[::-1])
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
        by_label = {
            label: cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
            for label, mask in by_label.items()
        }
    return View(record["key"], record["plane"], record["index"], grey, by_label)
