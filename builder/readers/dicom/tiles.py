"""Where the tiles of a slide lie in the whole picture, for images and for their segmentations.

Standard: DICOM PS3.3 C.7.6.17.3 (Dimension Organization Type), C.8.12.6.1 (Plane Position Slide) and C.8.12.14
(Total Pixel Matrix). The file counts rows and columns from 1, we from 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset

from builder.errors import UnreadableError

ATTRIBUTES: Final = (
    "ColumnPositionInTotalImagePixelMatrix",
    "DimensionOrganizationType",
    "PlanePositionSlideSequence",
    "RowPositionInTotalImagePixelMatrix",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixFocalPlanes",
    "TotalPixelMatrixRows",
)
"""Every attribute that is read."""


def matrix_of(dataset: Dataset) -> tuple[int, int] | None:
    """Rows and columns of the total pixel matrix; None where the frames are no tiles.

    Raises:
        UnreadableError: There are several focal planes.
    """
    if "TotalPixelMatrixRows" not in dataset or "TotalPixelMatrixColumns" not in dataset:
        return None
    planes = int(dataset.get("TotalPixelMatrixFocalPlanes") or 1)
    if planes != 1:
        raise UnreadableError(f"tiles of {planes} focal planes, only one is supported")
    return int(dataset.TotalPixelMatrixRows), int(dataset.TotalPixelMatrixColumns)


def is_full(dataset: Dataset) -> bool:
    """Whether tiles lie in their regular order without saying where."""
    return str(dataset.get("DimensionOrganizationType") or "") == "TILED_FULL"


def full_corners(sides: tuple[int, int], matrix: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Row and column of the first pixel of each tile of a full matrix: along a row, row by row."""
    yield from itertools.product(range(0, matrix[0], sides[0]), range(0, matrix[1], sides[1]))


def full_count(sides: tuple[int, int], matrix: tuple[int, int]) -> int:
    """How many tiles a full matrix has."""
    return math.ceil(matrix[0] / sides[0]) * math.ceil(matrix[1] / sides[1])


def corner_of(own: Dataset, number: int) -> tuple[int, int]:
    """Row and column of the first pixel of a frame by its own functional groups.

    Args:
        own: Its item of the Per-Frame Functional Groups Sequence.
        number: Its number, from 1, for the message.

    Raises:
        UnreadableError: It does not say.
    """
    group = next(iter(own.get("PlanePositionSlideSequence") or []), None)
    if group is None:
        raise UnreadableError(f"tiles of a slide, of which frame {number} does not say where it lies")
    return int(group.RowPositionInTotalImagePixelMatrix) - 1, int(group.ColumnPositionInTotalImagePixelMatrix) - 1
