"""A body in which sides, borders and the order of slices can be told, for what looks for faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from builder.command_line import main
from tests.support.nifti import write_nifti
from tests.support.sources import RECIPE

Labels = npt.NDArray[np.uint8]
SIDE, SLICES = 96, 16


def body(seed: int) -> tuple[npt.NDArray[np.int16], Labels]:
    """A trunk in air with a kidney on each side and a spine, (Z, Y, X) LPS, and the kidneys: 1 is the left one."""
    random = np.random.default_rng(seed)
    z, y, x = np.mgrid[:SLICES, :SIDE, :SIDE]
    volume = np.full(z.shape, -1000.0)
    volume[((x - 48) / 44) ** 2 + ((y - 50) / 36) ** 2 < 1] = 0
    volume[(x - 48) ** 2 + (y - 70) ** 2 < 60] = 500
    kidneys = np.zeros(z.shape, np.uint8)
    for value, centre, down in ((1, 68, 52), (2, 26, 46)):  # the patient's left is on the viewer's right
        wide = 9 + 3 * np.sin(np.pi * z / SLICES)
        kidneys[((x - centre - z / 4) / wide) ** 2 + ((y - down + z / 5) / (wide + 3)) ** 2 < 1] = value
    volume[kidneys > 0] = 200
    return (volume + random.normal(0, 12, z.shape)).astype(np.int16), kidneys


def built_kidneys(folder: Path, change: Callable[[Labels], Labels] = np.array) -> Path:
    """Build the source ``Kidneys`` of two such patients.

    Args:
        folder: An empty one, for raw data and output.
        change: What becomes of the labels of each, (Z, Y, X).

    Returns:
        The output folder.
    """
    for case in range(2):
        volume, kidneys = body(case)
        write_nifti(folder / "Kidneys/images" / f"case{case}.nii.gz", volume)
        write_nifti(folder / "Kidneys/labels" / f"case{case}.nii.gz", change(kidneys))
    recipe = folder / "Kidneys.toml"
    text = RECIPE.format(name="Kidneys", license="CC-BY-4.0", modality="ct")
    recipe.write_text(text.replace('"liver"', '"kidney_left"').replace('"spleen"', '"kidney_right"'))
    out = folder / "out"
    assert main([str(one) for one in ("build", recipe, "--raw", folder, "--out", out, "--workers", 1)]) == 0
    return out
