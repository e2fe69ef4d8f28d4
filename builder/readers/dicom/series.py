"""Which files of a folder are the images of the series that is meant."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from builder.errors import UnreadableError
from builder.readers.dicom.file import kind_of, open_dicom, text_of
from builder.readers.dicom.identity import MODALITIES
from builder.readers.files import is_dicom
from builder.readers.rules import ReadRules

ATTRIBUTES: Final = (
    "Columns",
    "Modality",
    "NumberOfFrames",
    "Rows",
    "SOPClassUID",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
)
"""Every attribute that is read. The UIDs tell what an object is and which images belong together, and the description
which series a recipe means; they never leave this module."""

NOT_IMAGES: Final = {
    "SEG": "a segmentation, that is masks: name it as the mask",
    "RTDOSE": "a dose distribution",
    "RTSTRUCT": "a set of contours, that is masks: name it as the mask",
}
"""Modalities of objects that may have pixels, or stand for masks, but are no images."""
_ENDINGS: Final = (".dcm", ".dicom", ".ima")
_Series = list[tuple[Path, Dataset]]


def members(folder: Path) -> tuple[Path, ...]:
    """The files of a folder in the order of their names: those that are looked into for images."""
    with os.scandir(folder) as entries:
        return tuple(
            folder / name for name in sorted(one.name for one in entries if one.is_file() and one.name[0] != ".")
        )


def series_files(folder: Path, rules: ReadRules) -> list[Path]:
    """The images of the one series of a folder, or of that which the rules name, in the order of their names.

    Raises:
        UnreadableError: There is none, several, or none that is meant.
    """
    found = list(_by_series(folder, rules).values())
    chosen = found if rules.series is None else [series for series in found if _is_meant(series, rules.series)]
    if len(chosen) == 1:
        return [file for file, _ in chosen[0]]
    held = f"{len(found)} image series" if len(found) > 1 else "one image series"
    told, withheld = ("; ".join(sorted(_name(series, known=known) for series in found)) for known in (False, True))
    if rules.series is None:
        wanted = "say which is meant with files.series (its number, or a pattern over its description)"
        reason = f"the folder holds {held}, expected one: {{}}; {wanted}, or give each its own folder"
    else:
        which = f"of which {len(chosen)} fit files.series = {rules.series!r}".replace("{", "{{").replace("}", "}}")
        reason = f"the folder holds {held} ({{}}), {which}; expected one"
    raise UnreadableError(reason.format(told), withheld=reason.format(withheld))


@contextmanager
def place_named(place: str) -> Iterator[None]:
    """Say which file of a folder is at fault: by number, as names of DICOM files are often made of UIDs."""
    try:
        yield
    except UnreadableError as error:
        withheld = None if error.withheld is None else f"{place}: {error.withheld}"
        raise UnreadableError(f"{place}: {error}", withheld=withheld) from None


def _by_series(folder: Path, rules: ReadRules) -> dict[str, _Series]:
    """The images of a folder, by series; other files and objects are left out."""
    series: defaultdict[str, _Series] = defaultdict(list)
    files = members(folder)
    for number, file in enumerate(files, 1):
        with place_named(f"file {number} of {len(files)} in the order of names"):
            dataset = _open_member(file, rules)
        if dataset is not None:
            series[text_of(dataset, "SeriesInstanceUID")].append((file, dataset))
    if not series:
        held = f"its {len(files)} {'file is' if len(files) == 1 else 'files are'} none" if files else "it holds no file"
        raise UnreadableError(
            f"expected DICOM images in the folder, but {held}; folders further down are not looked into"
        )
    return dict(series)


def _open_member(file: Path, rules: ReadRules) -> Dataset | None:
    """The header of an image; None for anything else that may lie in a folder of images."""
    if file.stat().st_size == 0:
        raise UnreadableError("the file is empty (0 bytes); fetch it again")
    if not is_dicom(file) and not file.name.lower().endswith(_ENDINGS):
        return None
    dataset = open_dicom(file, ATTRIBUTES, pixels=False, rules=rules)
    modality = text_of(dataset, "Modality")
    if modality in NOT_IMAGES:
        return None
    looks_like_image = modality in ("CT", "MR", "PT") or "Image Storage" in kind_of(dataset)
    return dataset if "Rows" in dataset or looks_like_image else None


def _is_meant(series: _Series, wanted: int | str) -> bool:
    first = series[0][1]
    if isinstance(wanted, int):
        return text_of(first, "SeriesNumber") == str(wanted)
    return fnmatchcase(text_of(first, "SeriesDescription").lower(), wanted.lower())


def _name(series: _Series, *, known: bool) -> str:
    """What tells a series from others; not its description, which is free text and may name anyone.

    Args:
        series: Its images.
        known: Only modalities of the standard; what stands there instead may be anything.
    """
    first = series[0][1]
    count = sum(int(text_of(dataset, "NumberOfFrames") or 1) for _, dataset in series)
    size = f"{text_of(first, 'Rows')} x {text_of(first, 'Columns')}"
    number = text_of(first, "SeriesNumber")
    images = f"{count} {'image' if count == 1 else 'images'} of {size}"
    modality = text_of(first, "Modality")
    if known and not any(modality in fitting for fitting in MODALITIES.values()):
        modality = ""
    return f"{f'number {number}, ' if number else ''}{modality or 'unknown modality'}, {images}"
