"""Sources for tests of sizes and grey levels: pictures whose thin masks get lost when they shrink, and CT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from tests.support.nifti import write_nifti
from tests.support.sources import write_source

_RECIPE = """\
name = "Pictures"
title = "Pictures of several sizes"
license = "CC-BY-4.0"
modality = "endoscopy"

[files]
image = "images/{case}.png"
mask = "masks/{case}.png"

[labels]
1 = "polyp"
2 = "vein"
3 = "cancer"

[masks]
min_area = 0

[splits]
train = ["*"]
"""


def drawn(height: int, width: int) -> npt.NDArray[np.uint8]:
    """A disc, a line of one pixel across, a single pixel in a corner."""
    label = np.zeros((height, width), np.uint8)
    cv2.circle(label, (width // 2, height // 2), min(height, width) // 4, 1, -1)
    cv2.line(label, (1, 1), (width - 3, height // 3), 2, 1)
    label[height - 2, width - 2] = 3
    return label


def write_pictures(raw: Path, shapes: Mapping[str, tuple[int, ...]], *, second_pixel: bool = False) -> Path:
    """Write pictures of noise, (H, W) or (H, W, 3) by their names, with the masks above; returns their recipe."""
    rng = np.random.default_rng(0)
    for case, shape in shapes.items():
        label = drawn(*shape[:2])
        if second_pixel:
            label[2, shape[1] - 9] = 3
        for kind, pixels in (("images", rng.integers(0, 256, shape)), ("masks", label)):
            path = raw / "Pictures" / kind / f"{case}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(path)
    recipe = raw / "Pictures.toml"
    recipe.write_text(_RECIPE)
    return recipe


def write_ct(raw: Path, name: str, intensity: str, image: npt.NDArray[Any], *, cases: int) -> Path:
    """Write a source of CT with all of its slices, whose first case is this image; returns its recipe.

    Args:
        raw: Where it is written.
        name: Of the source.
        intensity: Lines of ``[intensity]``.
        image: (Z, Y, X).
        cases: How many it has.
    """
    recipe = write_source(raw, name, cases=cases)
    write_nifti(raw / name / "images/case00.nii.gz", image)
    recipe.write_text(f'keep_empty = true\n{recipe.read_text()}[intensity]\n{intensity}\n[splits]\ntrain = ["*"]\n')
    return recipe
