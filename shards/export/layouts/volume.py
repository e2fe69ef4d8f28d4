"""Volumes out of their slices, where all slices along an axis are there."""

from __future__ import annotations

import gzip
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from sa_med2d_20m import DatasetError, decode_png
from shards.console import plural
from shards.description import SourceDescription
from shards.export.layout import Gathered, Layout, Overview, Unit
from shards.export.layouts.semantic import class_map
from shards.export.sample import Sample

_AXES: Final = {"x": 0, "y": 1, "z": 2}
"""Axis of a key -> axis of the LPS volume in z, y, x order."""
_PAIRS: Final = {"L": "L", "R": "L", "A": "A", "P": "A", "S": "S", "I": "S"}
"""Axis code -> the code of its line."""
_LARGEST: Final = 1e6
"""Millimetres between voxels, which nothing reaches."""
_LARGEST_VALUE: Final = 1e30
"""Of slope and intercept: with 16 bit, the values are within what 32 bit floats hold."""
_FLATTEST: Final = 0.1
"""Volume that the directions of the axes span: 1 where they stand on each other, less where a gantry is tilted."""
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

    def volumes(
        self, numbers: Mapping[str, Mapping[str, int]], ground: Callable[[Mapping[str, Any]], int] = lambda _: 0
    ) -> Iterable[Volume | str]:
        """The volumes of what is held, and names of those whose slices are not all there; nothing is held afterwards.

        Args:
            numbers: Source -> class name -> number.
            ground: Number of voxels without a mask, by the metadata of a slice.
        """
        held, self._held, self._case = self._held, {}, None
        for name, by_axis in held.items():
            whole = next((by_axis[axis] for axis in _AXES if _is_whole(by_axis.get(axis, ()))), None)
            source = "" if whole is None else whole[0].record["source"]
            # the release has slices as they lie
            turned = source not in self._imported
            yield name if whole is None else _stacked(name, whole, numbers[source], ground, turned=turned)


class OfVolumes(Layout):
    """What layouts of volumes share: the slices of a case are held until all of them are there."""

    whole_cases: ClassVar[bool] = True

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self.slices = Slices(overview.sources)

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        if self.slices.begins(sample):
            self.end(unit)
        self.slices.hold(sample, unit)

    def end(self, unit: Unit) -> None:
        """See `Layout`."""
        for volume in self.volumes():
            if isinstance(volume, Volume):
                self.write(volume, unit)
            else:
                unit.count("incomplete")

    @abstractmethod
    def volumes(self) -> Iterable[Volume | str]:
        """See `Slices.volumes`."""

    @abstractmethod
    def write(self, volume: Volume, unit: Unit) -> None:
        """Write what a volume becomes."""


def _case_of(sample: Sample) -> tuple[str, str]:
    return sample.record["source"], sample.record["case"]


def _is_whole(slices: Sequence[Sample]) -> bool:
    """Whether these are all slices of a volume along an axis, of one size."""
    if not slices:
        return False
    if slices[0].record.get("slices") != len(slices):  # before anything is made of a number that data say
        return False
    shapes = {(one.record["height"], one.record["width"]) for one in slices}
    return {one.record["index"] for one in slices} == set(range(len(slices))) and len(shapes) == 1


def _stacked(
    name: str,
    slices: Sequence[Sample],
    numbers: Mapping[str, int],
    ground: Callable[[Mapping[str, Any]], int],
    *,
    turned: bool,
) -> Volume:
    slices = sorted(slices, key=lambda one: int(one.record["index"]))
    first = slices[0].record
    axis = _AXES[first["axis"]]
    rows = slice(None, None, -1 if turned and axis else 1)  # those of coronal and sagittal slices are stored head up
    painted = [class_map(one, numbers, ground(one.record)) for one in slices]
    classes = np.stack([plane[rows] for plane, _ in painted], axis=axis)
    spacing, direction = _geometry(first)
    origin = first.get("origin") or (0.0, 0.0, 0.0)
    return Volume(
        name,
        np.stack([plane[rows] for plane in _narrowed(slices)], axis=axis),
        classes,
        sum(pixels for _, pixels in painted),
        spacing,
        tuple(origin),
        direction,
        first.get("stored_axes"),
        first,
    )


def _geometry(record: Mapping[str, Any]) -> tuple[tuple[float, float, float], npt.NDArray[np.float64]]:
    """Spacing and direction of a volume as `Volume` has them; 1 mm and straight where the source does not tell.

    Raises:
        DatasetError: No volume lies so.
    """
    rows, columns = record["spacing"] or (1.0, 1.0)
    between = record.get("slice_spacing") or 1.0
    spacing = {
        0: (columns, rows, between),
        1: (columns, between, rows),
        2: (between, columns, rows),
    }[_AXES[record["axis"]]]
    direction = np.array(record.get("direction") or np.eye(3).ravel(), np.float64).reshape(3, 3)
    axes = record.get("stored_axes")
    turned = axes is None or sorted(_PAIRS.get(axis, "") for axis in axes) == ["A", "L", "S"]
    lengths, volume = np.linalg.norm(direction, axis=0), abs(np.linalg.det(direction))
    spans = np.abs(lengths - 1).max() < 0.1 and volume > _FLATTEST
    if not (turned and spans and all(0 < size < _LARGEST for size in spacing)):
        said = {name: record.get(name) for name in ("spacing", "slice_spacing", "direction", "stored_axes")}
        raise DatasetError(f"{record['key']}: no volume lies as it says: {said!s:.300}")
    return spacing, direction


def _values(sample: Sample) -> npt.NDArray[np.float64]:
    """Values of the source, see `sa_med2d_20m.Intensity`.

    Raises:
        DatasetError: It is in colour, or has values that no volume has.
    """
    pixels, intensity = decode_png(sample.image), sample.record["intensity"]
    if pixels.ndim != 2:
        raise DatasetError(f"{sample.key}: is in colour; a volume of values has one channel")
    if max(abs(intensity[name]) for name in ("slope", "intercept")) > _LARGEST_VALUE:
        raise DatasetError(f"{sample.key}: its values, {intensity!s:.200}, are beyond what a volume holds")
    values: npt.NDArray[np.float64] = pixels.astype(np.float64) * intensity["slope"] + intensity["intercept"]
    return values


def _narrowed(slices: Sequence[Sample]) -> list[npt.NDArray[Any]]:
    """Their values in the smallest kind of number in use that holds all of them.

    Slices are decoded twice: in 64 bit, a CT of 512 x 512 x 1000 would be 2 GB.
    """
    kinds = {_kind(_values(one)) for one in slices}
    kind = next(kind for kind in ("float32", "int32", "int16") if kind in kinds)
    return [_values(one).astype(kind) for one in slices]


def _kind(values: npt.NDArray[np.float64]) -> str:
    if (values == np.rint(values)).all():
        for kind in ("int16", "int32"):
            limits = np.iinfo(kind)
            if limits.min <= values.min() and values.max() <= limits.max:
                return kind
    return "float32"


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
        "incomplete": ("volume", "of which not all slices along one axis are there: a recipe with keep_empty = true "
        "keeps slices without a mask"),
        "pictures": ("picture", "as a volume has slices"),
    }  # fmt: skip
    return [
        f"left out: {plural(int(gathered.counted(name)), noun)}, {why}"
        for name, (noun, why) in said.items()
        if gathered.counted(name)
    ]
