"""A sample on its way into a layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sa_med2d_20m import DatasetError, decode_png, draw_mask, split_layers


@dataclass(frozen=True)
class Sample:
    """One image with its masks.

    Attributes:
        image: PNG file.
        label_map: PNG file, see docs/contract.md.
        record: The metadata; its masks are those that are exported.
        number: Of the image within the export, from 0: the same on one worker or many.
        first_mask: Number of its first mask within the export, from 0.
    """

    image: bytes
    label_map: bytes
    record: dict[str, Any]
    number: int
    first_mask: int

    @property
    def key(self) -> str:
        """Its key."""
        return str(self.record["key"])

    @property
    def split(self) -> str:
        """Its split."""
        return str(self.record["split"])

    @cached_property
    def pixels(self) -> npt.NDArray[np.uint8 | np.uint16]:
        """(H, W) or (H, W, 3), as stored."""
        return decode_png(self.image)

    def masks(self) -> Iterator[tuple[dict[str, Any], npt.NDArray[np.bool_]]]:
        """Entry and (H, W) bool of each mask, in their order, one at a time: a stack of all may be large.

        Raises:
            DatasetError: A mask has not the area that its entry says.
        """
        if not self.record["masks"]:
            return
        layers = split_layers(decode_png(self.label_map), self.record["height"])
        for at, entry in enumerate(self.record["masks"]):
            mask = draw_mask(layers, entry, np.zeros(layers.shape[1:], np.bool_))
            area = int(np.count_nonzero(mask))
            if area != entry["area"]:
                raise DatasetError(
                    f"{self.key}: masks[{at}]: area: expected {entry['area']} pixels, its label map has {area}; "
                    "'sa-med2d verify --deep' finds all such samples"
                )
            yield entry, mask
