"""Reading the files of a case: images in LPS axes, masks as class layers on their grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.annotations.segments import AnnotationRequest, RunTable, Segment, read_named_masks
from builder.cases.case import Case, ImageFile, MaskFile
from builder.conversion.gates import Tally, apply_gate, has_two_values, without_nonfinite
from builder.conversion.grid import as_stored_like, grid_difference
from builder.conversion.identity_gates import check_identity, check_same_patient
from builder.conversion.masks.class_layers import ClassLayer, class_layers
from builder.conversion.masks.encoding import mask_encoding
from builder.conversion.masks.layers import layer_of
from builder.conversion.masks.values import background_value, count_values
from builder.conversion.masks.votes import by_rater, voted
from builder.conversion.orientation import to_lps
from builder.errors import CaseError
from builder.readers.files import read_again, read_header, read_image, slices_by_name
from builder.readers.image import Image, Picture, PictureSeries, Volume, VolumeSeries
from builder.sources.recipe import Recipe
from builder.sources.source import Source
from shards.console import plural


def read_case_image(case: Case, file: ImageFile, source: Source) -> tuple[Picture | Volume, Tally]:
    """Read an image of a case in LPS axes; of a file that holds several the one that is meant.

    Returns:
        The image, and what the gates did.

    Raises:
        CaseError: It cannot be read, or a gate holds it back.
    """
    number = case.frame if file.channel is None else file.channel
    if isinstance(source.recipe.files.variables.image, list):  # each channel is an array of its own
        number = None
    read = read_image if number is None else read_again
    image = _member(read(source.root, file.path, source.image_rules(file.members, file.channel)), number, file, source)
    gates = source.recipe.gates
    tally = check_identity(image.identity, file.path, source.recipe.modality, gates)
    image, replaced = without_nonfinite(image)
    reason = f"the image holds {plural(replaced, 'NaN or infinite value')}" if replaced else None
    tally += apply_gate(gates, "nonfinite_values", file.path, reason)
    if gates.two_valued_image != "off" and has_two_values(image.array):
        tally += apply_gate(gates, "two_valued_image", file.path, "the image has two values only, as a mask has")
    return _oriented(image), tally


def read_further_image(
    case: Case, file: ImageFile, source: Source, first: Picture | Volume
) -> tuple[Picture | Volume, Tally]:
    """Read another image of a case, on the grid of its first; returns and raises as `read_case_image`."""
    image, tally = read_case_image(case, file, source)
    difference = grid_difference(first, image, source.recipe.masks.grid_tolerance)
    if difference is not None:
        reason = f"it shares masks with {case.images[0].path}, but not its grid: {difference}"
        raise CaseError("grid", file.path, reason)
    return image, tally


def read_case_masks(case: Case, source: Source, image: Picture | Volume) -> tuple[list[ClassLayer], Tally]:
    """Read the masks of a case as class layers on the grid of its image.

    Returns:
        The class layers, at least one, and what the gates did.

    Raises:
        CaseError: A mask cannot be read, lies on another grid, or holds what the recipe does not name.
    """
    gates = source.recipe.gates
    by_index = source.recipe.masks.pair != "space"
    resampled: list[Tally] = []

    def read(file: MaskFile) -> Picture | Volume:
        path = file.path
        rules = replace(source.mask_rules(file.members, file.layer), geometry=not by_index)
        if case.frame is None:
            mask = (read_image if file.layer is None else read_again)(source.root, path, rules)
        else:
            mask = _frame_of_mask(read_again(source.root, path, rules), path, case, source)
        if file.layer is not None and not source.recipe.layers_by_array:
            mask = layer_of(mask, file, source.recipe)
        if isinstance(mask, PictureSeries | VolumeSeries):
            raise CaseError("read", path, f"the mask holds {len(mask.array)} images, expected one")
        mask = _in_stored_order(mask, path, case, source)
        mask = as_stored_like(mask, image) if by_index else _oriented(mask)
        mask, counted = _on_grid(mask, image, path, source)
        resampled.append(counted)
        return mask

    def read_named(file: MaskFile) -> tuple[list[Segment] | None, Tally]:
        threshold = source.recipe.masks.threshold
        request = annotation_request(case, source, 0.5 if threshold is None else threshold)
        named = read_named_masks(source.root, file.path, replace(request, rater=file.layer))
        tally = check_same_patient(image.identity, named.identity, file.path, gates)
        return named.on(image), tally

    sides = image.array.shape
    shape = (1, sides[0], sides[1]) if isinstance(image, Picture) else image.shape
    encoding = mask_encoding(source.recipe, source.classes)

    def layers_of(files: Sequence[MaskFile]) -> tuple[list[ClassLayer], Tally]:
        return class_layers(files, read, read_named, shape, encoding=encoding, gates=gates)

    if case.vote is None:
        layers, tally = layers_of(case.masks)
    else:
        drawn = [layers_of(masks) for masks in by_rater(case.masks)]
        layers = voted([found for found, _ in drawn], shape, encoding.dtype, most=case.vote == "majority")
        tally = sum((counted for _, counted in drawn), Tally())
    tally = sum(resampled, tally)
    if gates.empty_mask != "off" and not any(layer.array.any() for layer in layers):
        reason = "the masks of the case have no pixel of any class"
        tally += apply_gate(gates, "empty_mask", case.masks[0].path, reason)
    return layers, tally


def annotation_request(case: Case, source: Source, threshold: float = 0.5) -> AnnotationRequest:
    """Which named masks of a file are those of a case, and how the recipe wants them read."""
    runs, image_file = source.recipe.masks.runs, case.images[0].path
    told = None if runs.name is None else runs.name.match(case.name)
    if told is not None:
        image_file = told["case"]
    table = None
    if runs.image is not None and runs.pixels is not None:
        table = RunTable(runs.image, runs.pixels, runs.label, runs.order, runs.first, runs.relative)
    return AnnotationRequest(image_file, threshold, source.read_rules, table)


def _in_stored_order(mask: Picture | Volume, path: str, case: Case, source: Source) -> Picture | Volume:
    """A mask whose slices come in the order of the image's, where the recipe says that they are stored in another."""
    pair, first = source.recipe.masks.pair, case.images[0]
    if not isinstance(mask, Volume) or pair in ("space", "index"):
        return mask
    if pair == "reversed":
        return replace(mask, array=mask.array[::-1])
    order = slices_by_name(source.root, first.path, source.rules_for(first.members))
    if len(order) != len(mask.array):
        raise CaseError("grid", path, f"the mask has {len(mask.array)} slices, the series {len(order)} files")
    return replace(mask, array=mask.array[order])


def _on_grid(
    mask: Picture | Volume, image: Picture | Volume, path: str, source: Source
) -> tuple[Picture | Volume, Tally]:
    """A mask on the grid of its image, and what the gates did where it is resampled."""
    tolerance = source.recipe.masks.grid_tolerance
    difference = grid_difference(image, mask, tolerance)
    if difference is None:
        return mask, Tally()
    if not source.recipe.resample_masks:
        raise CaseError("grid", path, difference)
    from builder.conversion.resampling import (  # noqa: PLC0415 - loads ITK, which few need
        may_be_resampled,
        resample_nearest,
        resampling_loss,
    )

    if not (isinstance(mask, Volume) and isinstance(image, Volume) and may_be_resampled(image, mask, tolerance)):
        raise CaseError("grid", path, f"{difference}; it cannot be resampled")
    resampled, lost = resample_nearest(mask, image, background_value(source.recipe.masks)), None
    if source.recipe.gates.resampling_loss != "off":
        lost = resampling_loss(mask, resampled, partial(_parts, recipe=source.recipe))
    return resampled, apply_gate(source.recipe.gates, "resampling_loss", path, lost)


def _parts(values: npt.NDArray[Any], recipe: Recipe) -> dict[str, int]:
    """Class or object of a mask -> number of its voxels."""
    rule = recipe.masks
    if rule.threshold is not None or rule.inverted or (recipe.labels_by_file and not rule.instances):
        inside = values != 0 if rule.threshold is None else values >= rule.threshold
        return {"the mask": int(np.count_nonzero(inside != rule.inverted))}
    counts = count_values(values)
    if rule.instances:
        return {f"object {value}": count for value, count in counts.items() if value not in {0, *rule.ignored_values}}
    parts = Counter[str]()
    for key, label in recipe.labels.items():
        parts[label.label] += 0 if recipe.leaves_out(key) else counts.get(int(key), 0)
    return parts


def _member(image: Image, number: int | None, file: ImageFile, source: Source) -> Picture | Volume:
    """The image that is meant of a file that holds several; planes without a place in space may each be one."""
    channels = source.recipe.files.channels
    if isinstance(image, VolumeSeries | PictureSeries):
        count = len(image.array)
    elif isinstance(image, Volume) and image.affine is None and number is not None:
        count, image = len(image.array), PictureSeries(image.array, None, image.slope, image.intercept, image.identity)
    elif number is None:
        return image
    else:
        wanted = "files.frames is true" if channels is None else f"files.channels names {len(channels)}"
        raise CaseError("read", file.path, f"it holds one image, but {wanted}")
    if number is None:
        advice = "name them with files.channels, or set files.frames = true if each is a case"
        raise CaseError("read", file.path, f"it holds {count} images (4D, pages or frames), expected one; {advice}")
    if channels is not None and len(channels) != count:
        raise CaseError("read", file.path, f"it holds {count} images, files.channels names {len(channels)}")
    return image.volume(number) if isinstance(image, VolumeSeries) else image.picture(number)


def _frame_of_mask(mask: Image, path: str, case: Case, source: Source) -> Picture | Volume:
    """The mask of one frame: a frame of its own, or a mask that all frames share."""
    if isinstance(mask, Volume) and mask.affine is None and source.recipe.masks.pair == "space":
        mask = PictureSeries(mask.array)
    if not isinstance(mask, VolumeSeries | PictureSeries):
        return mask
    assert case.frame is not None
    first = case.images[0]
    frames = read_header(source.root, first.path, source.rules_for(first.members)).shape[0]
    if len(mask.array) != frames:
        raise CaseError("grid", path, f"the mask holds {len(mask.array)} frames, the image {frames}")
    return mask.volume(case.frame) if isinstance(mask, VolumeSeries) else mask.picture(case.frame)


def _oriented(image: Picture | Volume) -> Picture | Volume:
    return image if isinstance(image, Picture) else to_lps(image)
