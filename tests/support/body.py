"""A body in which sides, borders and the order of slices can be told, for what looks for faults."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDE, SLICES = 96, 16


def body(seed: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
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
