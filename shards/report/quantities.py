"""The quantities whose distribution a report shows: what is measured, in which unit, and how finely it is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """A quantity of images or masks.

    Attributes:
        title: What it is, for a figure.
        unit: Its unit; empty for a pure number.
        of: ``images`` or ``masks``.
        columns: Columns of the index that it is made from.
        measure: Gives a value for each image, or each mask, of a part of the rows; NaN where there is none.
        integral: Whether values are whole numbers, which are counted one by one; others are counted to three digits.
    """

    title: str
    unit: str
    of: str
    columns: tuple[str, ...]
    measure: Callable[[pa.Table], Values]
    integral: bool = False

    def rounded(self, values: Values) -> Values:
        """Values as they are counted."""
        if self.integral:
            return values
        power = np.floor(np.log10(np.where(values == 0, 1.0, np.abs(values))))
        # a tenth and its like have no exact float: the last rounding makes equal what differs in the last bit
        digits = np.round(values / 10.0 ** (power - _DIGITS + 1))
        return np.asarray(np.round(digits * 10.0 ** (power - _DIGITS + 1), 15))


_DIGITS: Final = 3


def _numbers(column: Any) -> Values:
    """A column as numbers, NaN for null."""
    found: Values = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    return found


def _sides(rows: pa.Table) -> tuple[Values, Values]:
    return _numbers(rows["height"]), _numbers(rows["width"])


def _spacings(rows: pa.Table) -> tuple[Values, Values]:
    """Mm between rows, and between columns."""
    pairs = rows["spacing"].combine_chunks()
    known = pc.fill_null(pc.equal(pc.list_value_length(pairs), 2), False)
    both = np.full((len(pairs), 2), np.nan)
    both[known.to_numpy(zero_copy_only=False)] = _numbers(pc.list_flatten(pairs.filter(known))).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _share(rows: pa.Table) -> Values:
    """Area of each mask over that of its image."""
    masks = rows["masks"].combine_chunks()
    height, width = _sides(rows)
    image = np.repeat(height * width, _numbers(pc.fill_null(pc.list_value_length(masks), 0)).astype(np.int64))
    return _numbers(pc.struct_field(pc.list_flatten(masks), "area")) / image


def _range(rows: pa.Table) -> Values:
    intensity = rows["intensity"]
    return _numbers(pc.struct_field(intensity, "max")) - _numbers(pc.struct_field(intensity, "min"))


def _aspect(rows: pa.Table) -> Values:
    height, width = _sides(rows)
    return np.maximum(height, width) / np.minimum(height, width)


_SIDES: Final = ("height", "width")

QUANTITIES: Final[Mapping[str, Quantity]] = {
    "longer_side": Quantity(
        "Longer side of the image", "pixels", "images", _SIDES, lambda rows: np.maximum(*_sides(rows)), integral=True
    ),
    "shorter_side": Quantity(
        "Shorter side of the image", "pixels", "images", _SIDES, lambda rows: np.minimum(*_sides(rows)), integral=True
    ),
    "aspect": Quantity("Longer side over shorter side", "", "images", _SIDES, _aspect),
    "masks_per_image": Quantity(
        "Masks in an image",
        "",
        "images",
        ("masks.area",),
        lambda rows: _numbers(pc.list_value_length(rows["masks"])),
        integral=True,
    ),
    "mask_share": Quantity("Area of a mask over that of its image", "", "masks", (*_SIDES, "masks.area"), _share),
    "finer_spacing": Quantity(
        "Finer pixel spacing", "mm", "images", ("spacing",), lambda rows: np.minimum(*_spacings(rows))
    ),
    "coarser_spacing": Quantity(
        "Coarser pixel spacing", "mm", "images", ("spacing",), lambda rows: np.maximum(*_spacings(rows))
    ),
    "slice_spacing": Quantity(
        "Distance of slices", "mm", "images", ("slice_spacing",), lambda rows: _numbers(rows["slice_spacing"])
    ),
    "intensity_range": Quantity(
        "Source values from lowest to highest",
        "source units",
        "images",
        ("intensity.min", "intensity.max"),
        _range,
    ),
}
"""By name; a further one is a further entry."""
