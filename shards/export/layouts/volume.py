"""Volumes out of their slices, where all slices along an axis are there."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shards.description import SourceDescription
from shards.export.layout import Gathered, Unit
from shards.export.layouts.semantic import class_map
from shards.export.sample import Sample

_AXES: Final = {"x": 0, "y": 1, "z": 2}
"""Axis of a key -> axis of the LPS volume in z, y, x order."""
_LEVEL: Final = 1
"""Of gzip: the files are read once, or packed anew by what reads them."""


@dataclass(frozen=True)
class Volume:
    """A volume and the class of each voxel.

    Attributes:
        name: The part of the keys that its slices share.
        image: (Z, Y, X) in LPS axes, in the source's own values: int16 or int32 where all are whole, else float32.
        classes: (Z, Y, X) number of the class.
        hidden: Voxels of masks that another class hides.
        spacing: x, y, z in mm.
        origin: x, y, z of the first voxel in LPS mm.
        direction: 3 x 3, columns are the directions of x, y, z.
        stored_axes: Axis codes of the volume as its source stored it.
        record: Metadata of its first slice.
    """

    name: str
    image: npt.NDArray[Any]
    classes: npt.NDArray[np.uint8 | np.uint16]
    hidden: int
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: npt.NDArray[np.float64]
    stored_axes: str | None
    record: Mapping[str, Any]


class Slices:
    """Takes the slices of a case, and makes volumes of them.

    Args:
        sources: What is known of their sources.
    """

    def __init__(self, sources: Mapping[str, SourceDescription]) -> None:
        self._imported = {name for name, about in sources.items() if about.repacked is not None}
        self._case: tuple[str, str] | None = None
        self._held: dict[str, dict[str, list[Sample]]] = {}

    def begins(self, sample: Sample) -> bool:
        """Whether a sample is of another case than those that are held."""
        return self._case is not None and self._case != _case_of(sample)

    def hold(self, sample: Sample, unit: Unit) -> None:
        """Keep a slice, as it is stored, until its case is there; pictures are counted alone."""
        self._case = _case_of(sample)
        if sample.record["axis"] not in _AXES:
            unit.count("pictures")
            return
        name = sample.key.rsplit("--", 1)[0]
        self._held.setdefault(name, {}).setdefault(sample.record["axis"], []).append(sample)

    def volumes(self, numbers: Mapping[str, Mapping[str, int]]) -> Iterable[Volume | str]:
        """The volumes of what is held, and names of those whose slices are not all there; nothing is held afterwards.

        Args:
            numbers: Source -> class name -> number.
        """
        held, self._held, self._case = self._held, {}, None
        for name, by_axis in held.items():
            whole = next((by_axis[axis] for axis in _AXES if _is_whole(by_axis.get(axis, ()))), None)
            source = "" if whole is None else whole[0].record["source"]
            reversed_rows = source not in self._imported  # the release has slices as they lie
            yield name if whole is None else _stacked(name, whole, numbers[source], reversed_rows=reversed_rows)


def _case_of(sample: Sample) -> tuple[str, str]:
    return sample.record["source"], sample.record["case"]


def _is_whole(slices: Sequence[Sample]) -> bool:
    """Whether these are all slices of a volume along an axis, of one size."""
    if not slices:
        return False
    count = slices[0].record.get("slices")
    indices = {one.record["index"] for one in slices}
    shapes = {(one.record["height"], one.record["width"]) for one in slices}
    return count is not None and indices == set(range(count)) and len(slices) == count and len(shapes) == 1


def _stacked(name: str, slices: Sequence[Sample], numbers: Mapping[str, int], *, reversed_rows: bool) -> Volume:
    slices = sorted(slices, key=lambda one: int(one.record["index"]))
    first = slices[0].record
    axis = _AXES[first["axis"]]
    turned = slice(None, None, -1 if axis and reversed_rows else 1)  # coronal and sagittal ones are stored head up
    image = np.stack([_values(one)[turned] for one in slices], axis=axis)
    painted = [class_map(one, numbers) for one in slices]
    classes = np.stack([plane[turned] for plane, _ in painted], axis=axis)
    rows, columns = first["spacing"] or (1.0, 1.0)
    between = first.get("slice_spacing") or 1.0
    spacing = {0: (columns, rows, between), 1: (columns, between, rows), 2: (between, columns, rows)}[axis]
    origin = first.get("origin") or (0.0, 0.0, 0.0)
    direction = np.array(first.get("direction") or np.eye(3).ravel(), np.float64).reshape(3, 3)
    hidden = sum(pixels for _, pixels in painted)
    return Volume(
        name, _narrowed(image), classes, hidden, spacing, tuple(origin), direction, first.get("stored_axes"), first
    )


def _values(sample: Sample) -> npt.NDArray[np.float64]:
    """Values of the source, see `sa_med2d_20m.Intensity`."""
    intensity = sample.record["intensity"]
    values: npt.NDArray[np.float64] = sample.pixels.astype(np.float64) * intensity["slope"] + intensity["intercept"]
    return values


def _narrowed(image: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """The smallest kind of number in use that holds the values."""
    if (image == np.rint(image)).all():
        for kind in (np.int16, np.int32):
            limits = np.iinfo(kind)
            if limits.min <= image.min() and image.max() <= limits.max:
                return image.astype(kind)
    return image.astype(np.float32)


def nifti(volume: Volume, voxels: npt.NDArray[Any]) -> bytes:
    """Voxels of a volume as a gzipped NIfTI file, in the axes in which the source stored it.

    Args:
        volume: Says where they lie.
        voxels: (Z, Y, X) in LPS axes.
    """
    import nibabel  # noqa: PLC0415 - only layouts with volumes need it
    from nibabel.orientations import axcodes2ornt, ornt_transform  # noqa: PLC0415

    affine = np.eye(4)
    affine[:3, :3] = volume.direction * np.array(volume.spacing)
    affine[:3, 3] = volume.origin
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # from LPS to the RAS of NIfTI
    picture = nibabel.Nifti1Image(np.ascontiguousarray(voxels.transpose(2, 1, 0)), affine)
    if volume.stored_axes is not None:
        turn = ornt_transform(nibabel.io_orientation(affine), axcodes2ornt(tuple(volume.stored_axes)))
        picture = picture.as_reoriented(turn)
    picture.header.set_xyzt_units("mm")
    data: bytes = picture.to_bytes()
    return gzip.compress(data, _LEVEL, mtime=0)


def left_out_said(gathered: Gathered) -> list[str]:
    """What the user should know of what is not in volumes."""
    said = {
        "incomplete": "volumes are left out, as not all of their slices along one axis are there: a recipe with "
        "keep_empty = true keeps slices without a mask",
        "pictures": "pictures are left out: they are no volumes",
    }
    return [f"{int(gathered.counted(name)):,} {what}" for name, what in said.items() if gathered.counted(name)]
