"""DICOM images: one file, or a folder with the files of one series.

A single-frame file is a picture; a folder, and a file of many frames that say where they lie, is a volume. Pixels are
decoded by pydicom and its plug-ins. Standard: DICOM PS3.3 C.7.6.3 (Image Pixel), C.11.1 (Modality LUT), C.7.6.16
(Multi-frame Functional Groups).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset

from builder.errors import UnreadableError
from builder.readers.dicom.file import kind_of, open_dicom, quiet, text_of
from builder.readers.dicom.geometry import GRID_TOLERANCE, Frame, ImagePlane, frames_of, grid_of, places_of, spacing_of
from builder.readers.dicom.identity import ATTRIBUTES as IDENTITY_ATTRIBUTES
from builder.readers.dicom.identity import identity_of, identity_of_series
from builder.readers.dicom.pixels import ATTRIBUTES as PIXEL_ATTRIBUTES
from builder.readers.dicom.pixels import PLAIN, decode_frame, look_up_palette, syntax_of
from builder.readers.dicom.series import NOT_IMAGES, members, place_named, series_files
from builder.readers.dicom.temporal import ATTRIBUTES as TEMPORAL_ATTRIBUTES
from builder.readers.dicom.temporal import Moment, moments_of, volumes_of
from builder.readers.dicom.tiles import ATTRIBUTES as TILE_ATTRIBUTES
from builder.readers.dicom.tiles import corner_of, full_corners, full_count, is_full, matrix_of
from builder.readers.identity import Identity
from builder.readers.image import Header, Picture, PictureSeries, Volume, VolumeSeries, axis_codes
from builder.readers.rules import DEFAULT_RULES, ReadRules
from builder.readers.stack import name_order

ATTRIBUTES: Final = (
    *PIXEL_ATTRIBUTES,
    *TILE_ATTRIBUTES,
    *TEMPORAL_ATTRIBUTES,
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImagerPixelSpacing",
    "Modality",
    "PerFrameFunctionalGroupsSequence",
    "PixelMeasuresSequence",
    "PixelSpacing",
    "PixelValueTransformationSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "SOPClassUID",
    "SharedFunctionalGroupsSequence",
)
"""Every attribute that is read, at any depth, next to Pixel Data and what `builder.readers.dicom.identity` reads; the
rest of a file is skipped, or left as undecoded bytes. The UID tells what an object is, and never leaves this module."""

CARRIES_IDENTIFIERS: Final = True
"""See `builder.readers.files.Reader`: folders of DICOM files are named after patients, dates and UIDs."""

_PIXELS: Final = "PixelData"
_PHYSICAL: Final = ("CT", "PT")
"""Modalities whose values are physical, so that no display convention may turn them round."""
_COLOURS: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
"""Photometric Interpretations of colour that pydicom turns into RGB (C.7.6.3.1.2)."""


@dataclass(frozen=True)
class _Image:
    """What a file says before its pixels are decoded.

    Attributes:
        path: The file.
        modality: Such as CT.
        sides: Rows and columns.
        dtype: Of the stored values.
        bits: Bits Stored.
        photometric: Photometric Interpretation.
        spacing: Distance of rows and of columns in mm, where it is known.
        matrix: Rows and columns of the whole picture if the frames are its tiles, else None.
        corners: Row and column of each tile's first pixel.
        frames: All frames, as stored.
        moments: What each of them says of time.
        identity: What it says of itself.
    """

    path: Path
    modality: str
    sides: tuple[int, int]
    dtype: np.dtype[Any]
    bits: int
    photometric: str
    spacing: tuple[float, float] | None
    matrix: tuple[int, int] | None
    corners: tuple[tuple[int, int], ...]
    frames: tuple[Frame, ...]
    moments: tuple[Moment, ...]
    identity: Identity

    @property
    def coloured(self) -> bool:
        """Whether a pixel has more than one value."""
        return self.photometric in _COLOURS

    @property
    def placed(self) -> bool:
        """Whether all frames say where they lie."""
        return all(frame.plane for frame in self.frames)


def files_of(path: Path) -> tuple[Path, ...]:
    """See `builder.readers.files.Reader`."""
    return members(path) if path.is_dir() else (path,)


def read_header(path: Path, rules: ReadRules = DEFAULT_RULES) -> Header:
    """See `builder.readers.files.Reader`."""
    images = _images(path, rules)
    sides = images[0].sides
    if images[0].matrix is not None and len(images) == 1:
        return Header(images[0].matrix)
    if _is_picture(images, is_series=_is_series(path, rules)):
        return Header(sides)
    if _is_unplaced(images):
        return Header((len(images[0].frames), *sides), placed=False)
    volumes, _ = _volumes(images)
    count = (len(volumes),) if len(volumes) > 1 else ()
    return Header((*count, len(volumes[0]), *sides))


def read(path: Path, rules: ReadRules = DEFAULT_RULES) -> Picture | Volume | PictureSeries | VolumeSeries:
    """Read a file, or a folder with the files of one series; see `builder.readers.files.Reader`.

    Stored values stay integers; those of CT and PET become HU and Bq/ml (not SUV) with slope and intercept. Where
    these differ from slice to slice, as in PET, they are applied, and the array is float32. Values of MONOCHROME1
    images, where the lowest is white (C.7.6.3.1.2), are turned round within the range that Bits Stored gives, so that
    bright means dense; not so in CT and PET, whose values are physical. Colour is RGB, uint8 unless it has more bits.

    Several images at each place are a series of volumes, told apart by `builder.readers.dicom.temporal`. A folder with
    one image is a volume of one slice, or a picture if the image does not say where it lies. Frames of one file that do
    not say where they lie, as those of a cine, are a series of pictures; tiles of a slide are put together to one.
    """
    images = _images(path, rules)
    sides = images[0].matrix or images[0].sides
    values = 3 if images[0].coloured else 1
    count = 1 if images[0].matrix else sum(len(image.frames) for image in images)
    rules.check_size((count, *sides), values * images[0].dtype.itemsize)
    if images[0].matrix is not None and len(images) == 1:
        return _slide(images[0], rules)
    if _is_picture(images, is_series=_is_series(path, rules)):
        return _picture(images[0], rules)
    return _pictures(images[0], rules) if _is_unplaced(images) else _volume(images, rules)


def read_patient(path: Path, rules: ReadRules = DEFAULT_RULES) -> str | None:
    """The PatientID of a file, or of the first image of a series folder; see `builder.readers.files.Reader`."""
    file = series_files(path, rules)[0] if path.is_dir() else path
    return text_of(open_dicom(file, ("PatientID",), pixels=False, rules=rules), "PatientID") or None


def slices_by_name(path: Path, rules: ReadRules = DEFAULT_RULES) -> list[int]:
    """Where each slice of a series stands in the order of the names of its files.

    Returns:
        For each slice of the volume that `read` gives, from its first on, the number of its file from 0 on.

    Raises:
        UnreadableError: It is no series of one volume with a file for each slice.
    """
    images = _images(path, rules)
    volumes, _ = _volumes(images)
    if len(volumes) > 1 or any(len(image.frames) > 1 for image in images):
        raise UnreadableError("several images lie at each place, or in one file; expected a file for each slice")
    places = {image.path: place for place, image in enumerate(sorted(images, key=lambda one: name_order(one.path)))}
    return [places[images[number].path] for number in volumes[0]]


def _images(path: Path, rules: ReadRules) -> list[_Image]:
    """What the file, the files of the series that is meant, or the one series of the folder, say of their images."""
    if rules.members:
        return list(_parse_all(list(rules.members), rules))
    if not path.is_dir():
        return [_parse(path, rules)]
    return list(_parse_all(series_files(path, rules), rules))


def _parse_all(files: list[Path], rules: ReadRules) -> Iterator[_Image]:
    for number, file in enumerate(files, 1):
        with place_named(f"image {number} of {len(files)} in the order of names"):
            yield _parse(file, rules)


def _open(path: Path, rules: ReadRules, *, pixels: bool = False) -> FileDataset:
    """Take nothing but the listed attributes from a file, and the pixels if asked for."""
    return open_dicom(path, (*ATTRIBUTES, *IDENTITY_ATTRIBUTES, _PIXELS), pixels=pixels, rules=rules)


def _whole(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """A whole number above or at 0."""
    try:
        with quiet():
            value = dataset.get(keyword)
            number = int(value) if value not in (None, "") else default
    except Exception:
        raise UnreadableError(f"damaged: its {_words(keyword)} is no whole number") from None
    if number is None:
        raise UnreadableError(f"no image, or damaged: expected {_words(keyword)}, which is missing")
    if number < 0 or (number == 0 and keyword in ("Rows", "Columns", "NumberOfFrames", "BitsStored")):
        raise UnreadableError(f"damaged: its {_words(keyword)} is {number}")
    return number


def _words(keyword: str) -> str:
    """A keyword as the standard's name of it: ``NumberOfFrames`` -> ``Number Of Frames``."""
    return "".join(f" {letter}" if letter.isupper() else letter for letter in keyword).strip()


def _parse(path: Path, rules: ReadRules) -> _Image:
    """Take everything but the pixels from a file, as plain numbers."""
    dataset = _open(path, rules)
    modality, count = text_of(dataset, "Modality"), _whole(dataset, "NumberOfFrames", 1)
    if modality in NOT_IMAGES:
        raise UnreadableError(f"expected an image, but the file is {NOT_IMAGES[modality]}")
    if "MOSAIC" in text_of(dataset, "ImageType"):
        raise UnreadableError(
            "a mosaic, that is all slices of a volume side by side in one image, as Siemens scanners write them; "
            "convert it first (dcm2niix does so)"
        )
    syntax = syntax_of(dataset)
    if "Rows" not in dataset and "Columns" not in dataset:
        raise UnreadableError(f"expected an image, but the file has no size: it is {kind_of(dataset)}, or breaks off")
    sides = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    rules.check_size((count, *sides), 1)  # each frame takes memory for its place already
    allocated = _whole(dataset, "BitsAllocated")
    stored = _whole(dataset, "BitsStored", allocated)
    high = _whole(dataset, "HighBit", stored - 1)
    if allocated not in (1, 8, 16, 32) or stored > allocated:
        raise UnreadableError(f"has pixels of {stored} bits in {allocated}, expected 1, 8, 16 or 32 bits")
    if high != stored - 1:
        raise UnreadableError(
            f"keeps values of {stored} bits below bit {high + 1}, which the standard no longer allows"
        )
    if syntax in PLAIN:
        _refuse_short(path, math.prod(sides) * count * allocated // 8)
    sign = "i" if _whole(dataset, "PixelRepresentation", 0) else "u"
    try:
        with quiet():
            frames, spacing = tuple(frames_of(dataset, count)), spacing_of(dataset)
            moments = tuple(moments_of(dataset, count))
            matrix = matrix_of(dataset) if count > 1 else None
            corners = tuple(_corners(dataset, sides, matrix, count)) if matrix else ()
    except UnreadableError:
        raise
    except Exception:  # values are decoded on access, and damaged ones raise nearly anything
        raise UnreadableError("damaged: its position, orientation, pixel size or rescale cannot be read") from None
    photometric = text_of(dataset, "PhotometricInterpretation") or "MONOCHROME2"
    if photometric not in ("MONOCHROME1", "MONOCHROME2", *_COLOURS):
        raise UnreadableError(f"its colours are kept in an unknown way, known are {', '.join(_COLOURS)}")
    dtype = np.dtype(f"{sign}{max(allocated // 8, 1)}")
    return _Image(
        path=path,
        modality=modality,
        sides=sides,
        dtype=dtype,
        bits=stored,
        photometric=photometric,
        spacing=spacing,
        matrix=matrix,
        corners=corners,
        frames=frames,
        moments=moments,
        identity=identity_of(dataset),
    )


def _corners(
    dataset: FileDataset, sides: tuple[int, int], matrix: tuple[int, int], count: int
) -> Iterator[tuple[int, int]]:
    full = is_full(dataset)
    groups = [] if full else dataset.get("PerFrameFunctionalGroupsSequence") or []
    stated = [corner_of(own, number) for number, own in enumerate(groups, 1)]
    places = full_count(sides, matrix) if full else len(set(stated))
    if places != count:
        raise UnreadableError(
            f"a slide of {count} tiles at {places} places: it has gaps that it does not tell, or several optical paths "
            "or focal planes, which no picture can show at once"
        )
    yield from full_corners(sides, matrix) if full else stated


def _refuse_short(path: Path, needed: int) -> None:
    """Refuse a file that cannot hold its pixels, before memory is taken for them."""
    size = path.stat().st_size
    if size < needed:
        raise UnreadableError(
            f"truncated: the file has {size:,} bytes, its pixels alone need {needed:,}; fetch it again"
        )


def _is_series(path: Path, rules: ReadRules) -> bool:
    return bool(rules.members) or path.is_dir()


def _is_picture(images: Sequence[_Image], *, is_series: bool) -> bool:
    single = len(images) == 1 and len(images[0].frames) == 1
    return single and not (is_series and images[0].placed and not images[0].coloured)


def _is_unplaced(images: Sequence[_Image]) -> bool:
    """Whether it is one file whose frames do not say where they lie: a cine, a video, pages."""
    return len(images) == 1 and not any(frame.plane for frame in images[0].frames)


def _planes(images: Sequence[_Image]) -> list[ImagePlane]:
    """The places of all frames of a series, checked for what a volume needs but for its distances."""
    count = sum(len(image.frames) for image in images)
    planes = [frame.plane for image in images for frame in image.frames if frame.plane]
    if len(planes) < count:
        raise UnreadableError(_unplaced(images, count))
    sizes = Counter(image.sides for image in images)
    if len(sizes) > 1:
        named = ", ".join(f"{number} of {sides[0]} x {sides[1]}" for sides, number in sizes.most_common())
        raise UnreadableError(f"its images are of unlike size ({named} pixels): expected one size in a volume")
    if len({image.coloured for image in images}) > 1:
        raise UnreadableError("some of its images are coloured and others grey: expected one kind")
    if len({image.photometric == "MONOCHROME1" for image in images}) > 1:
        raise UnreadableError("in some of its images the lowest value is black, in others white: expected one kind")
    return planes


def _unplaced(images: Sequence[_Image], count: int) -> str:
    if len(images) == 1:
        return f"some of its {count} frames say where in the patient they lie and others do not; expected all or none"
    return (
        f"not all of its {count} images say where in the patient they lie (position, orientation and pixel size), so "
        "they cannot be stacked to a volume; name them in the recipe one by one, as pictures"
    )


def _picture(image: _Image, rules: ReadRules) -> Picture:
    frame = image.frames[0]
    return Picture(next(_decoded(image, rules)), image.spacing, frame.slope, frame.intercept, image.identity)


def _pictures(image: _Image, rules: ReadRules) -> PictureSeries:
    frame = image.frames[0]
    pictures = np.stack(list(_decoded(image, rules)))
    return PictureSeries(pictures, image.spacing, frame.slope, frame.intercept, image.identity)


def _slide(image: _Image, rules: ReadRules) -> Picture:
    """The whole picture; where a slide has no tile it is black, and what a tile has beyond the edge is left out."""
    assert image.matrix is not None
    colours = (3,) if image.coloured else ()
    whole: npt.NDArray[Any] = np.zeros((*image.matrix, *colours), np.uint8 if image.coloured else image.dtype)
    for (row, column), tile in zip(image.corners, _decoded(image, rules), strict=True):
        if not (0 <= row < image.matrix[0] and 0 <= column < image.matrix[1]):
            raise UnreadableError("damaged: a tile lies outside of the whole slide")
        part = whole[row : row + image.sides[0], column : column + image.sides[1]]
        part[...] = tile[: part.shape[0], : part.shape[1]]
    return Picture(whole, image.spacing, image.frames[0].slope, image.frames[0].intercept, image.identity)


def _volumes(images: Sequence[_Image]) -> tuple[list[list[int]], npt.NDArray[np.float64]]:
    """The numbers of the frames of each volume of a series, by place, and the affine that all volumes share."""
    planes = _planes(images)
    volumes = volumes_of(places_of(planes), [moment for image in images for moment in image.moments])
    affines = [grid_of([planes[number] for number in numbers]) for numbers in volumes]
    off = max(np.abs(np.linalg.solve(affines[0], affine) - np.eye(4)).max() for affine in affines)
    if off > GRID_TOLERANCE:
        raise UnreadableError(
            f"its {len(volumes)} volumes lie up to {off:.2g} voxels beside each other (allowed are "
            f"{GRID_TOLERANCE:g}); put each into its own folder"
        )
    return volumes, affines[0]


def _volume(images: Sequence[_Image], rules: ReadRules) -> Volume | VolumeSeries:
    volumes, affine = _volumes(images)
    frames = [frame for image in images for frame in image.frames]
    rescales = {(frame.slope, frame.intercept) for frame in frames}
    alike = len(rescales) == 1
    dtype = np.result_type(*(image.dtype for image in images)) if alike else np.dtype(np.float32)
    colours = (3,) if images[0].coloured else ()
    if colours and (not alike or dtype != np.uint8):
        raise UnreadableError("a volume of colours that are not of 8 bit; expected those")
    array = np.empty((len(volumes), len(volumes[0]), *images[0].sides, *colours), dtype)
    places = {number: (at, z) for at, numbers in enumerate(volumes) for z, number in enumerate(numbers)}
    stored = iter(range(len(frames)))
    for number, image in enumerate(images, 1):
        with (
            place_named(f"image {number} of {len(images)} in the order of names") if len(images) > 1 else nullcontext()
        ):
            for frame, pixels in zip(image.frames, _decoded(image, rules), strict=True):
                place = places[next(stored)]
                array[place] = pixels if alike else pixels.astype(np.float64) * frame.slope + frame.intercept
    slope, intercept = rescales.pop() if alike else (1.0, 0.0)
    identity = identity_of_series([image.identity for image in images])
    series = VolumeSeries(array, affine, slope, intercept, axis_codes(affine), identity)
    return series if len(volumes) > 1 else series.volume(0)


def _decoded(image: _Image, rules: ReadRules) -> Iterator[npt.NDArray[Any]]:
    """The frames as they are stored, (rows, columns) or (rows, columns, 3) RGB."""
    dataset = _open(image.path, rules, pixels=True)
    if _PIXELS not in dataset:
        raise UnreadableError("it holds no pixels: it breaks off before them, or never had any; fetch it again")
    expected = (*image.sides, 3) if image.coloured and image.photometric != "PALETTE COLOR" else image.sides
    count = len(image.frames)
    for number in range(count):
        pixels = decode_frame(dataset, number, count)
        if pixels.shape != expected:
            raise UnreadableError(
                f"damaged: frame {number + 1} of {count} has {' x '.join(map(str, pixels.shape))} values, "
                f"expected {' x '.join(map(str, expected))}"
            )
        yield _shown(pixels, dataset, image)


def _shown(pixels: npt.NDArray[Any], dataset: FileDataset, image: _Image) -> npt.NDArray[Any]:
    """Palettes looked up, and MONOCHROME1 turned round; everything else as it is."""
    if image.photometric == "PALETTE COLOR":
        return look_up_palette(pixels, dataset)
    if image.photometric == "MONOCHROME1" and image.modality not in _PHYSICAL:
        # lowest and highest of the stored range change places: -1 - value if signed, 2**bits - 1 - value if not
        return ~pixels if image.dtype.kind == "i" else pixels.dtype.type(2**image.bits - 1) - pixels
    return pixels
