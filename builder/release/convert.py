"""A case of the release becomes samples: pixels and names as they stand there, but for the repairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from builder.conversion.convert import Converted
from builder.conversion.gates import Tally, lost
from builder.errors import CaseError, TransientError, UnreadableError
from builder.release.names import FileName, Tag, older_image, older_mask, parse, stem_of
from builder.release.picture import has_grey_levels, read_image, read_mask
from builder.release.place import Reader
from builder.release.repairs import INVERTED, WHOLE
from builder.release.rows import Row
from builder.release.source import ReleaseCase, ReleaseSource
from sa_med2d_20m import SCHEMA, Dropped, Intensity, Mask, Metadata
from shards.description import SourceClass
from shards.key import SampleKey
from shards.png import encode_image, encode_label_map
from shards.stage import Stage
from shards.writer import EncodedSample

VERSION: Final = 1
"""Number of this code: raised with every change after which some case gives other bytes than before."""
_MOST_IDS: Final = 255
_MOST_PIXELS: Final = 2**28
"""Objects in a layer, and pixels of all layers, of a label map: `builder.conversion.masks.label_map` says why."""
_PLANES: Final = {"x": "axial", "y": "coronal", "z": "sagittal"}
_AXIAL_SCANNERS: Final = ("ct", "pet")
"""Their volumes are stacks of axial slices. MR lies in any plane, which the release does not tell."""


@dataclass(frozen=True)
class _Image:
    """An image with its masks, before any is read."""

    row: Row
    name: FileName
    submodality: str
    masks: tuple[tuple[Row, FileName], ...]

    @property
    def order(self) -> tuple[str, str, int, str]:
        """By sub-modality, axis and slice, as a build orders samples."""
        return self.submodality, self.name.axis, -1 if self.name.index is None else self.name.index, self.row.path


@dataclass
class _Counts:
    """What is counted while a case is converted."""

    dropped: Counter[str]
    flagged: Counter[str]
    lost: Counter[str]  # by class, by the repair mask-size
    bad: list[CaseError]


def convert_release(case: ReleaseCase, source: ReleaseSource) -> Converted:
    """Convert a case.

    A file that cannot be used costs itself alone: an image its sample, a mask its place in the sample, whose
    ``not_annotated`` then names the class.

    Args:
        case: The case.
        source: Its source.

    Raises:
        CaseError: No image of it can be used, or in a strict import any file.
    """
    counts, reader = _Counts(Counter(), Counter(), Counter(), []), source.reader()
    samples, order = [], sorted(images_of(case, source), key=lambda image: image.order)
    keys: dict[str, str] = {}
    for image in order:
        first = keys.setdefault(_key(image, case, source), image.row.path)
        if first != image.row.path:
            counts.dropped["bad_image"] += 1
            reason = f"it has the key of {first}: modality, sub-modality, case and slice are the same"
            counts.bad.append(CaseError("match", image.row.path, reason))
        else:
            sample = _sample(image, case, source, reader, counts)
            samples += [] if sample is None else [sample]
        if counts.bad and source.strict:
            raise counts.bad[0]
    if counts.bad and not samples and len(counts.bad) >= len(order):
        raise counts.bad[0]
    tally = Tally(+counts.dropped, +counts.flagged, bad_masks=tuple(counts.bad)) + lost("mask-size", counts.lost)
    return Converted(_with_slices(samples), tally)


def _key(image: _Image, case: ReleaseCase, source: ReleaseSource) -> str:
    name = image.name
    return str(SampleKey(case.modality, image.submodality, source.recipe.name, case.name, name.axis, name.index))


def images_of(case: ReleaseCase, source: ReleaseSource) -> list[_Image]:
    """The images of a case, each with its masks by class and instance."""
    rows = case.rows
    masks: dict[str, list[tuple[Row, FileName]]] = defaultdict(list)
    images = []
    if source.naming == "sam-med2d":
        named = {row.path: (row, older_image(row.path, "", source.recipe.name)) for row in rows}
        stems = frozenset(stem_of(path) for path, (_, name) in named.items() if name is not None)
    for row in rows:
        if source.naming == "release":
            name = parse(row.path)
        else:
            name = named[row.path][1] or older_mask(row.path, stems, "", source.recipe.name)
        assert name is not None, "the listing holds names that can be read"
        if not name.is_mask:
            images.append((row, name))
        elif source.naming == "release":
            masks[_image_of(row.path)].append((row, name))
        else:
            masks[f"images/{name.case}.png"].append((row, name))
    return [
        _Image(
            row,
            name,
            _submodality(case, name, source),
            tuple(sorted(masks[row.path], key=lambda mask: (mask[1].label, mask[1].instance))),
        )
        for row, name in images
    ]


def _image_of(path: str) -> str:
    """The image that a mask of the release belongs to."""
    return f"images/{path.removeprefix('masks/').rpartition('--')[0]}.png"


def _submodality(case: ReleaseCase, name: FileName, source: ReleaseSource) -> str:
    tag = Tag.parse(name.tag)
    return source.tags.submodality(case.modality, "00" if tag is None else tag.submodality)


def _sample(
    image: _Image, case: ReleaseCase, source: ReleaseSource, reader: Reader, counts: _Counts
) -> EncodedSample | None:
    """The sample of an image; None where it cannot be used or a repair leaves it out."""
    try:
        pixels = read_image(reader.read(image.row))
    except UnreadableError as error:
        counts.dropped["bad_image"] += 1
        counts.bad.append(_fault("read", image.row.path, error))
        return None
    if "grey-values" in source.repairs and not has_grey_levels(pixels):
        counts.dropped["grey-values"] += 1
        return None
    layers, missing = _packed_masks(image, pixels.shape[:2], source, reader, counts)
    for repair in ("modality", "synonyms"):
        counts.flagged[repair] += _is_renamed(image, case, repair)
    metadata = _metadata(image, case, source, pixels)
    metadata = replace(metadata, masks=tuple(layers.masks), not_annotated=tuple(sorted(missing)))
    return EncodedSample(metadata, encode_image(pixels), encode_label_map(layers.stack()))


def _packed_masks(
    image: _Image, size: tuple[int, ...], source: ReleaseSource, reader: Reader, counts: _Counts
) -> tuple[_Layers, set[str]]:
    """The masks of an image in a label map, and the labels of which nothing is known here."""
    height, width = size
    layers, missing = _Layers(height, width), set[str]()
    for row, name in image.masks:
        known = source.by_written[name.label]
        if source.labels and known.label not in source.labels:
            missing.add(known.label)
            continue
        whole = _whole(source, name.label)
        if whole is not None:
            counts.dropped[whole] += 1
            continue
        try:
            mask = _mask(row, (height, width), known.label, source, reader=reader, counts=counts)
        except UnreadableError as error:
            counts.dropped["bad_mask"] += 1
            counts.bad.append(_fault("read" if isinstance(error, TransientError) else "labels", row.path, error))
            missing.add(known.label)
            continue
        if mask is not None:
            counts.flagged["unions"] += bool(known.parts)
            layers.add(mask, known, name.instance, image.row.path)
    return layers, missing


def _whole(source: ReleaseSource, label: str) -> str | None:
    """The repair that leaves a class out, since it is others together; None for none."""
    found = (name for name, whole in WHOLE.items() if whole == (source.recipe.name, label))
    return next((name for name in found if name in source.repairs), None)


def _fault(stage: Stage, path: str, error: UnreadableError) -> CaseError:
    return CaseError(stage, path, str(error), transient=True)  # the next import reads it anew: it may be fetched again


def _mask(
    row: Row, size: tuple[int, int], label: str, source: ReleaseSource, *, reader: Reader, counts: _Counts
) -> npt.NDArray[np.uint8] | None:
    """A mask, (H, W) of 0 and 255; None where a repair leaves it out or nothing is in it."""
    inverted = "inverted" in source.repairs and source.recipe.name in INVERTED
    mask, other_values = read_mask(reader.read(row), inverted=inverted, any_value="mask-values" in source.repairs)
    if mask.shape != size:
        if "mask-size" not in source.repairs:
            sizes = f"{mask.shape[1]} x {mask.shape[0]} pixels, its image {size[1]} x {size[0]}"
            raise UnreadableError(f"it has {sizes}; the repair mask-size leaves such out")
        counts.dropped["mask-size"] += 1
        counts.lost[label] += int(cv2.countNonZero(mask))
        return None
    if not cv2.countNonZero(mask):
        counts.dropped["empty_mask"] += 1
        return None
    counts.flagged["mask-values"] += other_values
    counts.flagged["inverted"] += inverted
    return mask


class _Layers:
    """The label map of an image, while masks are put into it: each into the first layer where it covers no other."""

    def __init__(self, height: int, width: int) -> None:
        self._shape = height, width
        self._layers: list[npt.NDArray[np.uint8]] = [np.zeros(self._shape, np.uint8)]
        self._held = [0]
        self.masks: list[Mask] = []

    def add(self, mask: npt.NDArray[np.uint8], known: SourceClass, instance: int, path: str) -> None:
        """Put a mask in.

        Raises:
            CaseError: So many masks overlap that hardly anybody could decode their layers.
        """
        x, y, width, height = cv2.boundingRect(mask)
        box = np.s_[y : y + height, x : x + width]
        inside = mask[box]
        area = int(cv2.countNonZero(inside))
        place = next((place for place in range(len(self._layers)) if self._fits(place, box, inside)), len(self._layers))
        if place == len(self._layers):
            if (place + 1) * mask.size > _MOST_PIXELS:
                raise CaseError("convert", path, f"its masks need more than {place} layers of a label map")
            self._layers.append(np.zeros(self._shape, np.uint8))
            self._held.append(0)
        self._held[place] += 1
        self._layers[place][box] |= inside & np.uint8(self._held[place])  # 0 where the mask is, which is 255
        self.masks.append(
            Mask(
                id=self._held[place],
                layer=place,
                label=known.label,
                class_id=known.class_id,
                organ=known.organ,
                group=known.group,
                instance=instance,
                bbox=(int(x), int(y), int(width), int(height)),
                area=area,
            )
        )

    def _fits(self, place: int, box: tuple[slice, slice], inside: npt.NDArray[np.uint8]) -> bool:
        if self._held[place] >= _MOST_IDS:
            return False
        return not self._held[place] or not np.bitwise_and(self._layers[place][box], inside).any()

    def stack(self) -> npt.NDArray[np.uint8]:
        """(layers * H, W)."""
        return self._layers[0] if len(self._layers) == 1 else np.concatenate(self._layers)


def _is_renamed(image: _Image, case: ReleaseCase, repair: str) -> bool:
    tag = Tag.parse(image.name.tag)
    if tag is None:
        return False
    if repair == "modality":
        return tag.modality != case.modality
    return tag.submodality != image.submodality


def _metadata(image: _Image, case: ReleaseCase, source: ReleaseSource, pixels: npt.NDArray[Any]) -> Metadata:
    """What is known of an image, without its masks."""
    name, recipe = image.name, source.recipe
    low, high = float(pixels.min()), float(pixels.max())
    plane = _PLANES.get(name.axis, "2d") if case.modality in _AXIAL_SCANNERS else "unknown"
    return Metadata(
        key=_key(image, case, source),
        source=recipe.name,
        modality=case.modality,
        submodality=image.submodality,
        license=recipe.license,
        patient=case.patient,
        case=case.name,
        split=case.split,
        plane="2d" if name.index is None else plane,
        axis=name.axis,
        index=name.index,
        height=pixels.shape[0],
        width=pixels.shape[1],
        spacing=None,
        stored_axes=None,
        schema=SCHEMA,
        intensity=Intensity(low, high, "none" if pixels.dtype == np.uint8 else "lossless", 1.0, 0.0, 0),
        image_file=image.row.path,
        slice_spacing=None,
        slices=None,
        origin=None,
        direction=None,
        official_split=case.official_split,
        dropped=Dropped(0, 0, ()),
        not_annotated=(),
        rater=None,
        masks=(),
    )


_SIDES: Final = {"x": (("y", 0), ("z", 0)), "y": (("x", 0), ("z", 1)), "z": (("x", 1), ("y", 1))}
"""Axis -> axes whose slices have it as their rows (0) or columns (1), of a volume (z, y, x) that is cut along all."""


def _with_slices(samples: Sequence[EncodedSample]) -> list[EncodedSample]:
    """Samples that say how many slices their volume has along the axis, where slices along the others tell."""
    shapes: dict[tuple[str, str], set[tuple[int, int]]] = defaultdict(set)
    for sample in samples:
        about = sample.metadata
        shapes[about.submodality, about.axis].add((about.height, about.width))
    found = []
    for sample in samples:
        about = sample.metadata
        sides = _SIDES.get(about.axis, ())
        counts = {shape[side] for axis, side in sides for shape in shapes[about.submodality, axis]}
        highest = -1 if about.index is None else about.index
        slices = counts.pop() if len(counts) == 1 else None
        known = slices if slices is not None and slices > highest else None
        found.append(replace(sample, metadata=replace(about, slices=known)) if known is not None else sample)
    return found
