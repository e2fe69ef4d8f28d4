"""From mask files to class layers: volumes in which each voxel says its class.

One layer is enough for a label map. Masks that overlap (files per class, regions) take further layers: each class
stands whole in one layer, in the first where it covers no other class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from builder.problem import CaseError
from builder.recipe import ANY_INSTANCE, Masks, Recipe
from builder.source_classes import SourceClasses
from builder.volume import Picture, Volume, source_values

_TABLE: Final = 1 << 20
_LISTED: Final = 8


@dataclass(frozen=True)
class ClassLayer:
    """A volume of classes or instances.

    Attributes:
        array: (Z, Y, X) unsigned integers, 0 for background.
        class_number: None where values are class numbers; else the class of every object of this instance map.
    """

    array: npt.NDArray[Any]
    class_number: int | None = None


@dataclass(frozen=True)
class MaskFile:
    """A mask file of a case.

    Attributes:
        path: Below the source's root.
        label: What ``{label}`` captured, or None.
    """

    path: str
    label: str | None


def class_layers(
    files: Iterable[MaskFile], read: Callable[[str], Picture | Volume], recipe: Recipe, classes: SourceClasses
) -> list[ClassLayer]:
    """Read the masks of a case, one file in memory at a time.

    Args:
        files: The mask files.
        read: Reads a mask by its path, in LPS axes and on the image's grid; raises CaseError.
        recipe: The recipe.
        classes: The source's classes.

    Raises:
        CaseError: Stage ``labels``: a value or colour without a class, a mask that is no label map.
    """
    if recipe.masks.instances:
        return [_instance_layer(file, read(file.path), recipe, classes) for file in files]
    dtype = np.uint8 if len(classes.classes) < 255 else np.uint16
    layers = _Layers(dtype)
    for file in sorted(files, key=lambda file: (classes.numbers.get(file.label or "", 0), file.path)):
        image = read(file.path)
        if file.label is not None or recipe.masks.threshold is not None or recipe.masks.inverted:
            key = file.label if file.label is not None else next(iter(recipe.labels))
            layers.add(_foreground(image, file, recipe.masks), classes.numbers[key])
        else:
            layers.add_map(
                _class_map(image, file, recipe, classes, dtype), [classes.numbers[key] for key in recipe.labels]
            )
    for region, parts in recipe.regions.items():
        layers.add_region([classes.numbers[str(part)] for part in parts], classes.numbers[region])
    return [ClassLayer(array) for array in layers.arrays]


class _Layers:
    """Class layers while they are filled."""

    def __init__(self, dtype: type) -> None:
        self.arrays: list[npt.NDArray[Any]] = []
        self._dtype = dtype
        self._home: dict[int, int] = {}

    def add_map(self, class_map: npt.NDArray[Any], numbers: Iterable[int]) -> None:
        """Add a label map of some classes, which cannot overlap each other."""
        if not self.arrays:
            self.arrays.append(class_map)
            self._home = dict.fromkeys(numbers, 0)
            return
        for number in sorted(set(numbers)):
            binary = class_map == number
            if binary.any():
                self.add(binary, number)

    def add_region(self, parts: list[int], number: int) -> None:
        """Add the union of classes."""
        table = np.zeros(np.iinfo(self._dtype).max + 1, np.bool_)
        table[parts] = True
        union = _look_up(table, self.arrays[0])
        for layer in self.arrays[1:]:
            union |= _look_up(table, layer)
        self.add(union, number)

    def add(self, binary: npt.NDArray[np.bool_], number: int) -> None:
        """Add the mask of one class, joined with what the class has already."""
        if number in self._home:
            layer = self.arrays[self._home.pop(number)]
            own = layer == number
            layer[own] = 0
            binary = binary | own
        free = next((at for at, layer in enumerate(self.arrays) if not layer[binary].any()), len(self.arrays))
        if free == len(self.arrays):
            self.arrays.append(np.zeros(binary.shape, self._dtype))
        self.arrays[free][binary] = number
        self._home[number] = free


def _look_up(table: npt.NDArray[Any], values: npt.NDArray[Any], first: int = 0) -> npt.NDArray[Any]:
    """``table[values - first]`` plane by plane: NumPy widens indices to 64 bit, eight times a volume of 8 bit."""
    found = np.empty(values.shape, table.dtype)
    for plane, out in zip(values, found, strict=True):
        np.take(table, plane if first == 0 else np.subtract(plane, first, dtype=np.int32), out=out, mode="clip")
    return found


def _volume_of(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values[np.newaxis] if values.ndim == 2 else values


def _grey(image: Picture | Volume, file: MaskFile, *, mix: bool) -> npt.NDArray[Any]:
    """The values of a mask as (Z, Y, X); equal colour channels are one, unequal ones are mixed where that is asked."""
    values = source_values(image)
    if isinstance(image, Volume) or values.ndim == 2:
        return _volume_of(values)
    colour = values[..., :3]
    if (colour == colour[..., :1]).all():
        return _volume_of(colour[..., 0])
    if mix:
        return _volume_of(cv2.cvtColor(np.ascontiguousarray(colour), cv2.COLOR_RGB2GRAY))
    raise CaseError(
        "labels",
        file.path,
        "the mask is coloured; name its classes by colour in [labels] or set masks.threshold",
    )


def _foreground(image: Picture | Volume, file: MaskFile, rule: Masks) -> npt.NDArray[np.bool_]:
    values = _grey(image, file, mix=rule.threshold is not None)
    foreground = values != 0 if rule.threshold is None else values >= rule.threshold
    return ~foreground if rule.inverted else foreground


def _integers(values: npt.NDArray[Any], file: MaskFile) -> npt.NDArray[Any]:
    if values.dtype.kind in "iu":
        return values
    rounded = np.rint(values)
    if not np.isfinite(rounded).all() or np.abs(rounded - values).max(initial=0) > 1e-3:
        example = float(values.ravel()[np.argmax(np.abs(rounded - values))])
        raise CaseError(
            "labels",
            file.path,
            f"the mask holds fractions such as {example:.4g}, expected whole label values; "
            "set masks.threshold if it is a probability map",
        )
    whole: npt.NDArray[Any] = rounded.astype(np.int64 if np.abs(rounded).max(initial=0) > 2**31 else np.int32)
    return whole


def _instance_layer(file: MaskFile, image: Picture | Volume, recipe: Recipe, classes: SourceClasses) -> ClassLayer:
    values = _integers(_grey(image, file, mix=False), file)
    if values.min(initial=0) < 0:
        raise CaseError("labels", file.path, f"an instance map holds {values.min()}, expected 0 for background and up")
    for value in recipe.masks.ignore:
        values = np.where(values == value, 0, values)
    unsigned = values.astype(np.min_scalar_type(int(values.max(initial=0))), copy=False)
    return ClassLayer(unsigned, classes.numbers[file.label if file.label is not None else ANY_INSTANCE])


def _class_map(
    image: Picture | Volume, file: MaskFile, recipe: Recipe, classes: SourceClasses, dtype: type
) -> npt.NDArray[Any]:
    if recipe.colours:
        return _from_colours(image, file, recipe, classes, dtype)
    known = {int(key): classes.numbers[key] for key in recipe.labels}
    ignored = {value: 0 for value in recipe.masks.ignore if isinstance(value, int)}
    return _translate(_integers(_grey(image, file, mix=False), file), {0: 0, **ignored, **known}, file, dtype)


def _translate(values: npt.NDArray[Any], table: dict[int, int], file: MaskFile, dtype: type) -> npt.NDArray[Any]:
    """Replace label values by class numbers; a value without a class is an error."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if high - low >= _TABLE:
        raise _unknown_values([low, high], table, file)
    nameless = np.iinfo(dtype).max
    numbers: npt.NDArray[Any] = np.full(high - low + 1, nameless, dtype)
    for value, number in table.items():
        if low <= value <= high:
            numbers[value - low] = number
    class_map = _look_up(numbers, values, low)
    if class_map.max(initial=0) == nameless:
        raise _unknown_values([int(value) for value in np.unique(values[class_map == nameless])], table, file)
    return class_map


def _unknown_values(values: list[int], table: dict[int, int], file: MaskFile) -> CaseError:
    shown = ", ".join(str(value) for value in values[:_LISTED]) + (", ..." if len(values) > _LISTED else "")
    known = ", ".join(str(value) for value in sorted(table) if value)
    return CaseError(
        "labels",
        file.path,
        f"the mask holds the values {shown}, which [labels] does not name (it names {known}); "
        "add them there, or to masks.ignore",
    )


def _from_colours(
    image: Picture | Volume, file: MaskFile, recipe: Recipe, classes: SourceClasses, dtype: type
) -> npt.NDArray[Any]:
    if isinstance(image, Volume) or image.array.dtype != np.uint8:
        raise CaseError("labels", file.path, "[labels] names colours, but the mask is no 8-bit picture")
    pixels = image.array if image.array.ndim == 3 else cv2.cvtColor(image.array, cv2.COLOR_GRAY2RGB)
    table = {_rgb(recipe.masks.background): 0}
    table |= {_rgb(str(value)): 0 for value in recipe.masks.ignore}
    table |= {_rgb(key): classes.numbers[key] for key in recipe.labels}
    if pixels.shape[2] == 4:  # what is transparent is background
        pixels = np.where(pixels[..., 3:] == 0, np.array(_rgb(recipe.masks.background), np.uint8), pixels[..., :3])
    packed = _pack(pixels)
    present = np.unique(packed)
    colours = np.array([_unpack(int(value)) for value in present], np.int64)
    numbers: npt.NDArray[Any] = _match_colours(colours, table, recipe.masks.color_match, file).astype(dtype)
    class_map: npt.NDArray[Any] = numbers[np.searchsorted(present, packed)]
    return class_map[np.newaxis]


def _match_colours(
    colours: npt.NDArray[np.int64], table: dict[tuple[int, int, int], int], match: str, file: MaskFile
) -> npt.NDArray[np.int64]:
    reference = np.array(list(table), np.int64)
    distance = ((colours[:, np.newaxis] - reference) ** 2).sum(axis=2)
    nearest = distance.argmin(axis=1)
    if match == "exact" and (stray := np.flatnonzero(distance.min(axis=1, initial=1 << 20) > 0)).size:
        shown = ", ".join("#{:02x}{:02x}{:02x}".format(*colours[at]) for at in stray[:_LISTED])
        raise CaseError(
            "labels",
            file.path,
            f"the mask holds {stray.size} colours that [labels] does not name, such as {shown}; add them "
            'there or to masks.ignore, or set masks.color_match = "nearest" if they are blended edges',
        )
    numbers: npt.NDArray[np.int64] = np.array(list(table.values()), np.int64)[nearest]
    return numbers


def _rgb(colour: str) -> tuple[int, int, int]:
    return _unpack(int(colour.removeprefix("#"), 16))


def _unpack(value: int) -> tuple[int, int, int]:
    return value >> 16, value >> 8 & 255, value & 255


def _pack(pixels: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
