"""Named masks that only make sense on the grid of their image: DICOM SEG and RTSTRUCT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Segment:
    """One named mask.

    Attributes:
        name: Segment label or ROI name, as the file has it.
        mask: (Z, Y, X) bool on the grid of the image; (1, H, W) for a picture.
    """

    name: str
    mask: npt.NDArray[np.bool_]
