"""Slices put together again as a NIfTI file."""

from __future__ import annotations

import gzip
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sa_med2d_20m import DatasetError, decode_png, volume_affine
from shards.export.layout import Gathered
from shards.export.sample import Sample
from shards.export.stacks import Stack, Stacking

_LEVEL: Final = 1
"""Of zlib, for files that are read far more often than they are sent. ISA-L would not give the same bytes each time."""
_MILLIMETRES: Final = 2
"""Code of NIfTI for units of space."""


class WholeVolumes:
    """Chooses, among stacks as they come, the first axis of each image of which all slices are there.

    Attributes:
        stacking: Where the slices are collected.
    """

    def __init__(self) -> None:
        self.stacking = Stacking()
        self._taken: set[str] = set()
        self._missed: set[str] = set()

    def take(self, stack: Stack | None) -> bool:
        """Whether a stack is such an axis."""
        if stack is None:
            return False
        image = image_name(stack)
        if image in self._taken:
            return False
        if stack.is_whole:
            self._taken.add(image)
            self._missed.discard(image)
            return True
        self._missed.add(image)
        return False

    @property
    def missed(self) -> int:
        """Images, of those that have ended, of which some slices are missing along every axis."""
        return len(self._missed)


def left_out(gathered: Gathered) -> list[str]:
    """What the user should know of images that are in no volume: counted as ``pictures`` and ``incomplete``."""
    said = {
        "pictures": "images are left out: they are no slices of a volume",
        "incomplete": "images of volumes are left out: slices are missing along every axis; those without a mask are "
        "there after a build with keep_empty = true",
    }
    return [f"{int(gathered.counted(name)):,} {what}" for name, what in said.items() if gathered.counted(name)]


def image_name(stack: Stack) -> str:
    """The key of a stack without its axis."""
    return stack.name.rpartition("--")[0]


def volume_file(volume: npt.NDArray[Any], stack: Stack) -> bytes:
    """A ``.nii.gz`` file whose voxels (i, j, k) are column, row and slice.

    Its affine is that of the source, for the turned axes; where the source does not tell it, spacing alone, or 1 mm.

    Args:
        volume: (slices, H, W), of a dtype that NIfTI has.
        stack: The slices.
    """
    import nibabel  # noqa: PLC0415 - one layout in ten needs it

    affine = volume_affine(stack.first.record)
    image = nibabel.Nifti1Image(
        volume.transpose(2, 1, 0), _spacing_alone(stack) if affine is None else np.array(affine)
    )
    image.header.set_xyzt_units(_MILLIMETRES)
    return gzip.compress(image.to_bytes(), _LEVEL, mtime=0)


def _spacing_alone(stack: Stack) -> npt.NDArray[np.float64]:
    record = stack.first.record
    row, column = record.get("spacing") or (1.0, 1.0)
    return np.diag([column, row, record.get("slice_spacing") or 1.0, 1.0])


def source_values(stack: Stack) -> npt.NDArray[Any]:
    """The values of the source, ``slope * pixel + intercept``; see `sa_med2d_20m.Intensity` for how exact they are.

    Slices are decoded twice, so that a volume is never in memory as 64 bit.

    Returns:
        (slices, H, W): int16 where all values fit it, else float32.
    """
    record = stack.first.record
    exact = all(_fits(sample, np.iinfo(np.int16)) for sample in stack.samples)
    volume = np.empty((len(stack.samples), record["height"], record["width"]), np.int16 if exact else np.float32)
    for at, sample in enumerate(stack.samples):
        volume[at] = _values(sample)
    return volume


def _values(sample: Sample) -> npt.NDArray[np.float64]:
    scale = sample.record["intensity"]
    pixels = decode_png(sample.image)
    if pixels.ndim != 2:
        raise DatasetError(f"{sample.key}: is in colour, so it is no slice of a volume of values")
    return pixels * np.float64(scale["slope"]) + np.float64(scale["intercept"])


def _fits(sample: Sample, limits: Any) -> bool:
    """Whether its values are whole numbers within limits."""
    if not all(float(sample.record["intensity"][name]).is_integer() for name in ("slope", "intercept")):
        return False
    values = _values(sample)
    return bool(limits.min <= values.min() and values.max() <= limits.max)
