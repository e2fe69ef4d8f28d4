"""Picture files as OpenCV reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy.typing as npt


def read_picture(path: Path | str) -> npt.NDArray[Any]:
    """(H, W), or (H, W, 3) in RGB, with the depth that the file has."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, f"{path} is no picture"
    return picture[..., ::-1] if picture.ndim == 3 else picture
