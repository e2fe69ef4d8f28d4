"""Mask files become class layers: volumes in which each voxel says its class.

One layer is enough for a label map. Masks that overlap (files per class, regions) take further layers: each class
stands whole in one layer, in the first where it covers no other class.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from builder.annotations.segments import Segment
from builder.cases.case import MaskFile
from builder.conversion.extent import bounding_box
from builder.conversion.gates import Tally, apply_gate
from builder.conversion.masks.encoding import MaskEncoding
from builder.conversion.masks.values import foreground, instance_numbers, listed, look_up, read_class_map
from builder.errors import CaseError
from builder.readers.image import Picture, Volume
from builder.sources.recipe import ANY_INSTANCE, CLASSES, OBJECTS, Gates
from shards.console import plural

ReadNamed = Callable[[MaskFile], tuple[list[Segment] | None, Tally]]
"""A file -> its named masks on the grid of the image, None where it has none for it, and what gates did."""


@dataclass(frozen=True)
class ClassLayer:
    """A volume of classes or instances.

    Attributes:
        array: (Z, Y, X) unsigned integers, 0 for background.
        class_number: None where values are class numbers; else the class of every object of this instance map.
    """

    array: npt.NDArray[Any]
    class_number: int | None = None


def class_layers(
    files: Sequence[MaskFile],
    read: Callable[[MaskFile], Picture | Volume],
    read_named: ReadNamed,
    shape: tuple[int, int, int],
    *,
    encoding: MaskEncoding,
    gates: Gates,
) -> tuple[list[ClassLayer], Tally]:
    """Read the masks of a case, one file in memory at a time.

    Args:
        files: The mask files, at least one.
        read: Reads a mask, in LPS axes and on the image's grid; raises CaseError.
        read_named: Reads named masks by their file; raises CaseError.
        shape: (Z, Y, X) of the image; Z is 1 for a picture.
        encoding: How the files encode classes.
        gates: ``[gates]`` of the recipe.

    Returns:
        The class layers, at least one, and what the gates did.

    Raises:
        CaseError: Stage ``labels``: a mask that is no label map; stage ``gate``: a value, colour or segment without a
            class.
    """
    rule, numbers = encoding.rule, encoding.numbers
    usable = _UsableMasks(files, gates)
    if rule.segments:
        return _segment_layers(usable, read_named, shape, encoding=encoding, gates=gates)
    if rule.classed_objects:
        return _classed_objects(usable, read, shape, encoding=encoding, gates=gates)
    if rule.instances:
        return _instance_layers(usable, read, encoding)
    layers, tally = JoinedLayers(shape, encoding.dtype), Tally()

    def read_map(file: MaskFile) -> tuple[npt.NDArray[Any], Tally]:
        class_map, unnamed = read_class_map(read(file), file, encoding)
        return class_map, apply_gate(gates, "unnamed_values", file.path, unnamed)

    for file in sorted(files, key=lambda file: (numbers.get(file.label or "", 0), file.path, file.layer or 0)):
        if file.label is not None or rule.threshold is not None or rule.inverted:
            key = file.label if file.label is not None else next(iter(encoding.labels))
            binary = usable.take(file, lambda file: foreground(read(file), file, rule))
            if binary is not None:
                layers.add(binary, numbers[key])
        else:
            taken = usable.take(file, read_map)
            if taken is not None:
                layers.add_map(taken[0], encoding.labels.values())
                tally += taken[1]
    return layers.finished(encoding.regions), tally + usable.tally


_Taken = TypeVar("_Taken")


class _UsableMasks:
    """The mask files of a case that can be used. One that cannot costs the case, or only itself: the recipe says so.

    Args:
        files: The mask files of the case.
        gates: ``[gates]`` of the recipe.
    """

    def __init__(self, files: Sequence[MaskFile], gates: Gates) -> None:
        self.files = files
        self._drop = gates.bad_mask == "drop"
        self._bad: list[CaseError] = []

    def take(self, file: MaskFile, read: Callable[[MaskFile], _Taken]) -> _Taken | None:
        """What is read of a file; None for one that is left out.

        Raises:
            CaseError: The file cannot be used, and the recipe does not leave such out, or no other is left, or another
                try may be luckier.
        """
        try:
            return read(file)
        except CaseError as fault:
            if fault.transient or not self._drop:
                raise
            self._bad.append(CaseError(fault.stage, file.path, fault.reason, withheld=fault.withheld))
            if len(self._bad) == len(self.files):
                raise self._bad[0] from None
            return None

    @property
    def tally(self) -> Tally:
        """The files that are left out."""
        return Tally(Counter(bad_mask=len(self._bad)), bad_masks=tuple(self._bad)) if self._bad else Tally()


def _instance_layers(
    usable: _UsableMasks, read: Callable[[MaskFile], Picture | Volume], encoding: MaskEncoding
) -> tuple[list[ClassLayer], Tally]:
    """A layer for each instance map."""
    layers = []
    for file in usable.files:
        objects = usable.take(file, lambda file: instance_numbers(read(file), file, encoding.rule))
        if objects is not None:
            layers.append(ClassLayer(objects, encoding.numbers[ANY_INSTANCE if file.label is None else file.label]))
    return layers, usable.tally


def _classed_objects(
    usable: _UsableMasks,
    read: Callable[[MaskFile], Picture | Volume],
    shape: tuple[int, int, int],
    *,
    encoding: MaskEncoding,
    gates: Gates,
) -> tuple[list[ClassLayer], Tally]:
    """A layer for each class of each file, in which objects keep their numbers; their class stands in another layer."""
    layers, tally = list[ClassLayer](), Tally()

    def read_both(file: MaskFile) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Tally]:
        numbers, classes = (replace(file, layer=encoding.rule.layers.index(name)) for name in (OBJECTS, CLASSES))
        objects = instance_numbers(read(numbers), file, encoding.rule)
        class_map, unnamed = read_class_map(read(classes), file, encoding)
        return objects, class_map, apply_gate(gates, "unnamed_values", file.path, unnamed)

    for file in usable.files:
        if file.layer != encoding.rule.layers.index(OBJECTS):
            continue
        taken = usable.take(file, read_both)
        if taken is not None:
            objects, class_map, counted = taken
            tally += counted
            present = [number for number in np.unique(class_map).tolist() if number]
            layers += [ClassLayer(np.where(class_map == number, objects, 0), number) for number in present]
    return layers or [ClassLayer(np.zeros(shape, encoding.dtype))], tally + usable.tally


def _segment_layers(
    usable: _UsableMasks,
    read_named: ReadNamed,
    shape: tuple[int, int, int],
    *,
    encoding: MaskEncoding,
    gates: Gates,
) -> tuple[list[ClassLayer], Tally]:
    """Layers of named masks: of their classes, or of single objects where the recipe says so."""

    def read(file: MaskFile) -> tuple[list[tuple[Segment, int]] | None, Tally]:
        segments, counted = read_named(file)
        found = _named(segments or [], encoding)
        unnamed = _unnamed((segment.name for segment, number in found if number is None), encoding)
        counted += apply_gate(gates, "unnamed_values", file.path, *unnamed)
        named = [(segment, number) for segment, number in found if number]
        for segment, _ in named:
            counted += apply_gate(gates, "contours_without_slice", file.path, segment.without_slice)
        if gates.bad_mask == "drop":  # a file is left out as a whole, so damage must show before any of it is used
            for segment, _ in named:
                segment.draw()
        return None if segments is None else named, counted

    found = [(file, taken) for file in usable.files if (taken := usable.take(file, read)) is not None]
    if all(named is None for _, (named, _) in found):
        names = listed(file.path for file, _ in found)
        raise CaseError("match", found[0][0].path, f"the image is none of those that {names} is about")
    layers = JoinedLayers(shape, encoding.dtype)
    objects: dict[int, _InstanceLayers] = defaultdict(_InstanceLayers)
    for _, (named, _) in found:
        for segment, number in named or ():
            if encoding.rule.instances:
                objects[number].add(segment.mask)
            else:
                layers.add(segment.mask, number)
    single = [ClassLayer(array, number) for number in sorted(objects) for array in objects[number].arrays]
    return single or layers.finished(encoding.regions), sum((counted for _, (_, counted) in found), usable.tally)


def _named(segments: Iterable[Segment], encoding: MaskEncoding) -> list[tuple[Segment, int | None]]:
    """Segments with the classes that ``[labels]`` gives their names, in any case and with its wildcards.

    The class is 0 for what is left out, and None for what nothing names.
    """
    found: list[tuple[Segment, int | None]] = []
    for segment in segments:
        key = key_of(segment.name.lower(), encoding.labels)
        nameless = 0 if encoding.rule.only_named else None
        number = nameless if key is None else encoding.labels[key]
        found.append((segment, 0 if encoding.rule.ignores(segment.name) else number))
    return found


def _unnamed(names: Iterable[str], encoding: MaskEncoding) -> tuple[str | None, str | None]:
    """What is wrong with names that ``[labels]`` has not, with these and without; None if there are none.

    Labels of segments and names of ROIs are typed in by hand, and now and then hold the patient's name.
    """
    unnamed = dict.fromkeys(names)
    if not unnamed:
        return None, None
    which = f"which [labels] does not name (it names {listed(encoding.labels)})"
    withheld = f"the file holds {plural(len(unnamed), 'named mask')}, {which}; {_WITHHELD}"
    return f"the file holds {listed(unnamed)}, {which}", withheld


_WITHHELD: Final = "their names are not shown, as they may be a person's: look at them in a viewer of such files"


def key_of(name: str, labels: Iterable[str]) -> str | None:
    """The key that is the name itself, else the first pattern that fits it."""
    same = (key for key in labels if key.lower() == name)
    fitting = (key for key in labels if fnmatchcase(name, key.lower()))
    return next(itertools.chain(same, fitting), None)


class _InstanceLayers:
    """Instance maps of one class while they are filled: objects that overlap go to further layers.

    So do objects beyond what 16 bit can number.
    """

    def __init__(self) -> None:
        self.arrays: list[npt.NDArray[np.uint16]] = []
        self._full = 0  # layers before this one have all their numbers given away
        self._count = 0

    def add(self, binary: npt.NDArray[np.bool_]) -> None:
        """Add one object."""
        if self._count == np.iinfo(np.uint16).max:
            self._full, self._count = len(self.arrays), 0
        self._count += 1
        _add_mask(self.arrays, binary, np.uint16(self._count), self._full)


class JoinedLayers:
    """Class layers while they are filled: each class stands whole in one of them."""

    def __init__(self, shape: tuple[int, int, int], dtype: type) -> None:
        self.arrays: list[npt.NDArray[Any]] = []
        self._shape = shape
        self._dtype = dtype
        self._layer_of: dict[int, int] = {}

    def add_map(self, class_map: npt.NDArray[Any], numbers: Iterable[int]) -> None:
        """Add a label map of some classes, which cannot overlap each other."""
        if not self.arrays:
            self.arrays.append(class_map)
            self._layer_of = dict.fromkeys(numbers, 0)
            return
        for number in sorted(set(numbers) - {0}):
            binary = class_map == number
            if binary.any():
                self.add(binary, number)

    def add_region(self, parts: Sequence[int], number: int) -> None:
        """Add the union of classes."""
        table = np.zeros(np.iinfo(self._dtype).max + 1, np.uint8)
        table[list(parts)] = 1
        union = np.zeros(self._shape, np.uint8)
        for layer in self.arrays:
            union |= look_up(table, layer)
        self.add(union.view(np.bool_), number)

    def finished(self, regions: Iterable[tuple[int, tuple[int, ...]]]) -> list[ClassLayer]:
        """Add regions, given by their class numbers and those of their parts; one empty layer where nothing is."""
        for number, parts in regions:
            self.add_region(parts, number)
        return [ClassLayer(array) for array in self.arrays or [np.zeros(self._shape, self._dtype)]]

    def add(self, binary: npt.NDArray[np.bool_], number: int) -> None:
        """Add the mask of one class, joined with what the class has already."""
        if number in self._layer_of:
            layer = self.arrays[self._layer_of.pop(number)]
            own = layer == number
            layer[own] = 0
            binary = binary | own
        self._layer_of[number] = _add_mask(self.arrays, binary, self._dtype(number))


def _add_mask(
    layers: list[npt.NDArray[Any]], binary: npt.NDArray[np.bool_], number: np.uint8 | np.uint16, first: int = 0
) -> int:
    """Add a mask to the first layer from ``first`` on where it covers nothing, or to a new one; returns which it is."""
    box = bounding_box(binary)
    mask = binary[box]
    open_layers = enumerate(layers[first:], first)
    free = next((at for at, layer in open_layers if not np.minimum(layer[box], mask).any()), len(layers))
    if free == len(layers):
        layers.append(np.zeros(binary.shape, number.dtype))
    room = layers[free][box]
    room += mask * number  # where the mask is, the layer holds zeros
    return free
