"""Reading the files of a case: images in LPS axes, masks as class layers on their grid."""

from __future__ import annotations

from builder.discovery import Case, ImageFile
from builder.gates import Tally, apply_gate, has_two_values, without_nonfinite
from builder.grid import grid_difference
from builder.label_maps import ClassLayer, class_layers
from builder.mask_values import Labelling
from builder.problem import CaseError
from builder.readers import may_be_dicom, read_again, read_header, read_image
from builder.segments import Segment, read_segments
from builder.source import Source
from builder.volume import Picture, Volume, VolumeSeries, to_lps


def read_case_image(case: Case, file: ImageFile, source: Source, tally: Tally) -> Picture | Volume:
    """An image of a case in LPS axes; of a 4D file the volume that is meant.

    Raises:
        CaseError: It cannot be read, or a gate holds it back.
    """
    number = case.frame if file.channel is None else file.channel
    read = read_image if number is None else read_again
    image = read(source.root, file.path)
    if isinstance(image, VolumeSeries):
        image = image.volume(_checked_number(number, len(image.array), file.path, source))
    elif file.channel is not None:
        raise CaseError("read", file.path, f"it has one volume, files.channels names {len(case.images)}")
    gates = source.recipe.gates
    if may_be_dicom(source.root / file.path):
        from builder.dicom_gates import check_image  # noqa: PLC0415 - loads pydicom, which few sources need

        check_image(file.path, source, tally)
    image, replaced = without_nonfinite(image)
    if replaced:
        reason = f"the image holds {replaced} values that are NaN or infinite"
        apply_gate("nonfinite_values", gates.nonfinite_values, file.path, reason, tally)
    if gates.two_valued_image != "off" and has_two_values(image.array):
        reason = "the image has two values only, as a mask has"
        apply_gate("two_valued_image", gates.two_valued_image, file.path, reason, tally)
    return _oriented(image)


def read_further_image(
    case: Case, file: ImageFile, source: Source, first: Picture | Volume, tally: Tally
) -> Picture | Volume:
    """Another image of a case, on the grid of its first; raises as `read_case_image`."""
    image = read_case_image(case, file, source, tally)
    difference = grid_difference(first, image, source.recipe.masks.grid_tolerance)
    if difference is not None:
        reason = f"it shares masks with {case.images[0].path}, but not its grid: {difference}"
        raise CaseError("grid", file.path, reason)
    return image


def read_case_masks(case: Case, source: Source, image: Picture | Volume, tally: Tally) -> list[ClassLayer]:
    """The masks of a case as class layers on the grid of its image.

    Raises:
        CaseError: A mask cannot be read, lies on another grid, or holds what the recipe does not name.
    """

    def read(path: str) -> Picture | Volume:
        mask = read_image(source.root, path) if case.frame is None else read_again(source.root, path)
        if isinstance(mask, VolumeSeries):
            mask = _frame_of_mask(mask, path, case, source)
        return _on_grid(_oriented(mask), image, path, source)

    def read_named(path: str) -> list[Segment]:
        from builder.dicom_gates import check_pair  # noqa: PLC0415 - as above

        check_pair(case.images[0].path, path, source, tally)
        return read_segments(source.root, path, image)

    sides = image.array.shape
    shape = (1, sides[0], sides[1]) if isinstance(image, Picture) else (sides[0], sides[1], sides[2])
    return class_layers(case.masks, read, read_named, shape, Labelling(source.recipe, source.classes, tally))


def _on_grid(mask: Picture | Volume, image: Picture | Volume, path: str, source: Source) -> Picture | Volume:
    tolerance = source.recipe.masks.grid_tolerance
    difference = grid_difference(image, mask, tolerance)
    if difference is None:
        return mask
    if not source.recipe.resample_masks:
        raise CaseError("grid", path, difference)
    from builder.resampling import may_be_resampled, resample_nearest  # noqa: PLC0415 - loads ITK, which few need

    if not (isinstance(mask, Volume) and isinstance(image, Volume) and may_be_resampled(image, mask, tolerance)):
        raise CaseError("grid", path, f"{difference}; it cannot be resampled")
    return resample_nearest(mask, image)


def _checked_number(number: int | None, count: int, path: str, source: Source) -> int:
    if number is None:
        advice = "name them with files.channels, or set files.frames = true if each is a case"
        raise CaseError("read", path, f"it holds {count} volumes (4D), expected one; {advice}")
    channels = source.recipe.files.channels
    if channels is not None and len(channels) != count:
        raise CaseError("read", path, f"it holds {count} volumes, files.channels names {len(channels)}")
    return number


def _frame_of_mask(mask: VolumeSeries, path: str, case: Case, source: Source) -> Volume:
    if case.frame is None:
        raise CaseError("read", path, f"the mask holds {len(mask.array)} volumes (4D), expected one")
    frames = read_header(source.root, case.images[0].path).shape[0]
    if len(mask.array) != frames:
        raise CaseError("grid", path, f"the mask holds {len(mask.array)} frames, the image {frames}")
    return mask.volume(case.frame)


def _oriented(image: Picture | Volume) -> Picture | Volume:
    return image if isinstance(image, Picture) else to_lps(image)
