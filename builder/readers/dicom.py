"""DICOM images: one file, or a folder with the files of one series.

A single-frame file is a picture; a folder, and a file of many frames that say where they lie, is a volume. Pixels are
decoded by pydicom and its plug-ins. Standard: DICOM PS3.3 C.7.6.3 (Image Pixel), C.11.1 (Modality LUT), C.7.6.16
(Multi-frame Functional Groups).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, get_decoder, iter_pixels
from pydicom.uid import UID

from builder.readers import UnreadableError
from builder.readers.dicom_geometry import Plane, plane_of, stack
from builder.readers.dicom_seg import kind_of, quiet
from builder.volume import Header, Picture, Volume, axis_codes

ATTRIBUTES: Final = (
    "BitsAllocated",
    "BitsStored",
    "BluePaletteColorLookupTableData",
    "BluePaletteColorLookupTableDescriptor",
    "BurnedInAnnotation",
    "Columns",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "GreenPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableDescriptor",
    "HighBit",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImagerPixelSpacing",
    "Modality",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelMeasuresSequence",
    "PixelRepresentation",
    "PixelSpacing",
    "PixelValueTransformationSequence",
    "PlanarConfiguration",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "RedPaletteColorLookupTableData",
    "RedPaletteColorLookupTableDescriptor",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SOPClassUID",
    "SamplesPerPixel",
    "SegmentedBluePaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SeriesInstanceUID",
    "SharedFunctionalGroupsSequence",
    "TransferSyntaxUID",
)
"""Every attribute that is read, at any depth, next to Pixel Data; the rest of a file is skipped, or left as undecoded
bytes. The UIDs tell what an object is and which images belong together, and never leave this module."""

_PIXELS: Final = "PixelData"
_ENDINGS: Final = (".dcm", ".dicom", ".ima")
_NOT_IMAGES: Final = {
    "SEG": "a segmentation, that is masks: name it as the mask",
    "RTDOSE": "a dose distribution",
    "RTSTRUCT": "a set of contours, that is masks: name it as the mask",
}
"""Modalities of objects that may have pixels, or stand for masks, but are no images."""
_PHYSICAL: Final = ("CT", "PT")
"""Modalities whose values are physical, so that no display convention may turn them round."""
_PLUGINS: Final = {
    "JPEG-LS": "pyjpegls",
    "JPEG 2000": "pylibjpeg-openjpeg",
    "High-Throughput": "pylibjpeg-openjpeg",
    "RLE": "pylibjpeg-rle",
    "JPEG": "pylibjpeg-libjpeg",
}
"""Beginning of a transfer syntax's name -> package that decodes it; the first that fits."""
_MAX_PIXELS: Final = 2**33
"""As many as a NIfTI file may have; more is a damaged header."""


@dataclass(frozen=True)
class _Frame:
    """What a frame says of itself.

    Attributes:
        plane: Its place in the patient, None where it has none.
        slope: Source units per stored value (C.11.1.1.2).
        intercept: Source value of stored value 0.
    """

    plane: Plane | None
    slope: float
    intercept: float


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
        frames: All frames, as stored.
    """

    path: Path
    modality: str
    sides: tuple[int, int]
    dtype: np.dtype[Any]
    bits: int
    photometric: str
    spacing: tuple[float, float] | None
    frames: tuple[_Frame, ...]

    @property
    def coloured(self) -> bool:
        """Whether a pixel has more than one value."""
        return not self.photometric.startswith("MONOCHROME")

    @property
    def placed(self) -> bool:
        """Whether all frames say where they lie."""
        return all(frame.plane for frame in self.frames)


def read_header(path: Path) -> Header:
    """See `builder.readers.Reader`."""
    images = _images(path)
    sides = images[0].sides
    if _is_picture(path, images):
        return Header(sides)
    planes = _planes(images)
    stack(planes)
    return Header((len(planes), *sides))


def read(path: Path) -> Picture | Volume:
    """Read a file, or a folder with the files of one series; see `builder.readers.Reader`.

    Stored values stay integers; those of CT and PET become HU and Bq/ml (not SUV) with slope and intercept. Where
    these differ from slice to slice, as in PET, they are applied, and the array is float32. Values of MONOCHROME1
    images, where the lowest is white (C.7.6.3.1.2), are turned round within the range that Bits Stored gives, so that
    bright means dense; not so in CT and PET, whose values are physical. Colour is RGB, uint8 unless it has more bits.

    A folder with one image is a volume of one slice, or a picture if the image does not say where it lies.
    """
    images = _images(path)
    return _picture(images[0]) if _is_picture(path, images) else _volume(images)


def burned_in(path: Path) -> bool:
    """Whether a file, or any image of a folder, says that text is burned into its pixels (C.7.6.1.1.6).

    Raises:
        UnreadableError: It is no DICOM image, or damaged.
        OSError: It cannot be opened.
    """
    found = _by_series(path) if path.is_dir() else {"": [(path, _open(path))]}
    return any(_text(dataset, "BurnedInAnnotation") == "YES" for group in found.values() for _, dataset in group)


def _images(path: Path) -> list[_Image]:
    """What the file, or the one series of the folder, says of its images."""
    if not path.is_dir():
        dataset = _open(path)
        return [_parse(path, dataset)]
    series = list(_by_series(path).values())
    images = [[_parse(file, dataset) for file, dataset in group] for group in series]
    if len(images) > 1:
        names = "; ".join(sorted(_series_name(group) for group in images))
        raise UnreadableError(
            f"the folder holds {len(images)} image series, expected one: {names}; put each into its own folder"
        )
    return images[0]


def _series_name(images: list[_Image]) -> str:
    count = sum(len(image.frames) for image in images)
    size = " x ".join(map(str, images[0].sides))
    return f"{images[0].modality or 'unknown modality'}, {count} {'image' if count == 1 else 'images'} of {size}"


def _by_series(folder: Path) -> dict[str, list[tuple[Path, FileDataset]]]:
    """The images of a folder, by series; other files and objects are left out."""
    series: defaultdict[str, list[tuple[Path, FileDataset]]] = defaultdict(list)
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    for number, file in enumerate(files, 1):
        try:
            dataset = _open_member(file)
        except UnreadableError as error:  # by number: names of DICOM files are often made of UIDs
            raise UnreadableError(f"file {number} of {len(files)}, by name: {error}") from None
        if dataset is not None:
            series[_text(dataset, "SeriesInstanceUID")].append((file, dataset))
    if not series:
        others = f"{len(files)} {'file' if len(files) == 1 else 'files'} that {'is' if len(files) == 1 else 'are'} none"
        raise UnreadableError(
            f"expected DICOM images in the folder, {others if files else 'no file at all'} came; "
            "images in folders further down are not looked for"
        )
    return dict(series)


def _open_member(file: Path) -> FileDataset | None:
    """The header of an image; None for anything else that may lie in a folder of images."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        marked = opened.read(132)[128:] == b"DICM"
    if size == 0:
        raise UnreadableError("the file is empty (0 bytes); fetch it again")
    if not marked and not file.name.lower().endswith(_ENDINGS):
        return None
    dataset = _open(file)
    modality = _text(dataset, "Modality")
    if modality in _NOT_IMAGES:
        return None
    looks_like_image = modality in ("CT", "MR", "PT") or kind_of(dataset).endswith("Image Storage")
    return dataset if "Rows" in dataset or looks_like_image else None


def _open(path: Path, *, pixels: bool = False) -> FileDataset:
    """Open a DICOM file and take nothing but `ATTRIBUTES` from it, and the pixels if asked for."""
    wanted = [*ATTRIBUTES, _PIXELS] if pixels else list(ATTRIBUTES)
    try:
        with quiet():
            return pydicom.dcmread(path, specific_tags=wanted, stop_before_pixels=not pixels)  # type: ignore[arg-type]
    except InvalidDicomError:
        raise UnreadableError(
            "no DICOM file: expected the mark DICM after 128 bytes; files of the time before that mark are not "
            "supported, convert them first (dcmconv of DCMTK does so)"
        ) from None
    except Exception as error:  # a damaged file raises nearly anything, OSError without a number among it
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnreadableError(
            "damaged DICOM file: it breaks off or holds what no DICOM file may; fetch it again"
        ) from None


def _text(dataset: Dataset, keyword: str) -> str:
    """A value as text, empty where there is none or it cannot be decoded."""
    try:
        with quiet():
            return str(dataset.get(keyword) or "").strip()
    except Exception:  # values are decoded on access, and damaged ones raise nearly anything
        return ""


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


def _numbers(dataset: Dataset, keyword: str) -> list[float] | None:
    """A list of numbers, None where there is none."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    return [float(number) for number in ([value] if isinstance(value, (int, float, str)) else value)] or None


def _parse(path: Path, dataset: FileDataset) -> _Image:
    """Take everything but the pixels from a file, as plain numbers."""
    modality, count = _text(dataset, "Modality"), _whole(dataset, "NumberOfFrames", 1)
    if modality in _NOT_IMAGES:
        raise UnreadableError(f"expected an image, but the file is {_NOT_IMAGES[modality]}")
    if "Rows" not in dataset and "Columns" not in dataset:
        raise UnreadableError(f"expected an image, but the file has no size: it is {kind_of(dataset)}, or breaks off")
    sides = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    if math.prod(sides) * count > _MAX_PIXELS:
        raise UnreadableError(f"damaged: it has {count} frames of {sides[0]} x {sides[1]} pixels")
    _check_decodable(dataset)
    allocated = _whole(dataset, "BitsAllocated")
    stored = _whole(dataset, "BitsStored", allocated)
    high = _whole(dataset, "HighBit", stored - 1)
    if allocated not in (1, 8, 16, 32) or stored > allocated:
        raise UnreadableError(f"has pixels of {stored} bits in {allocated}, expected 1, 8, 16 or 32 bits")
    if high != stored - 1:
        raise UnreadableError(
            f"keeps values of {stored} bits below bit {high + 1}, which the standard no longer allows"
        )
    sign = "i" if _whole(dataset, "PixelRepresentation", 0) else "u"
    try:
        with quiet():
            frames, spacing = tuple(_frames(dataset, count)), _spacing(dataset)
    except UnreadableError:
        raise
    except Exception:  # values are decoded on access, and damaged ones raise nearly anything
        raise UnreadableError("damaged: its position, orientation, pixel size or rescale cannot be read") from None
    photometric = _text(dataset, "PhotometricInterpretation") or "MONOCHROME2"
    dtype = np.dtype(f"{sign}{max(allocated // 8, 1)}")
    return _Image(path, modality, sides, dtype, stored, photometric, spacing, frames)


def _check_decodable(dataset: FileDataset) -> None:
    """Whether the way in which pixels are stored is known, and its decoder installed."""
    syntax = _text(dataset.file_meta, "TransferSyntaxUID")
    if not syntax:
        raise UnreadableError("damaged: it does not say how it is encoded (its Transfer Syntax is missing)")
    name = UID(syntax).name if UID(syntax).is_transfer_syntax else "a way that is none of the standard's"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UnreadableError(f"its pixels are stored in {name}, which is not supported") from None
    if not decoder.is_available:
        plugin = next((package for begin, package in _PLUGINS.items() if name.startswith(begin)), "pylibjpeg")
        raise UnreadableError(f"its pixels are stored in {name}: to read them, run 'pip install {plugin}'")


def _frames(dataset: Dataset, count: int) -> Iterator[_Frame]:
    """Geometry and rescale of each frame: its own, that of all frames, or that of the file (C.7.6.16.1)."""
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or []), Dataset())
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if groups and len(groups) != count:
        raise UnreadableError(f"damaged: it has {count} frames and describes {len(groups)}")
    for own in groups or [Dataset()] * count:
        position = None if count > 1 and not groups else dataset
        plane = _plane(
            _group("PlanePositionSequence", own, shared) or position,
            _group("PlaneOrientationSequence", own, shared) or dataset,
            _group("PixelMeasuresSequence", own, shared) or dataset,
        )
        values = _group("PixelValueTransformationSequence", own, shared) or dataset
        slope, intercept = (_numbers(values, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
        yield _frame(plane, 1.0 if slope is None else slope[0], 0.0 if intercept is None else intercept[0])


def _frame(plane: Plane | None, slope: float, intercept: float) -> _Frame:
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise UnreadableError("damaged: its Rescale Slope or Intercept is 0 or no number")
    return _Frame(plane, slope, intercept)


def _group(macro: str, own: Dataset, shared: Dataset) -> Dataset | None:
    return next(iter(own.get(macro) or shared.get(macro) or []), None)


def _plane(position: Dataset | None, orientation: Dataset, measures: Dataset) -> Plane | None:
    """Where a frame lies; None where a part of that is missing."""
    where = None if position is None else _numbers(position, "ImagePositionPatient")
    axes, spacing = _numbers(orientation, "ImageOrientationPatient"), _numbers(measures, "PixelSpacing")
    return None if where is None or axes is None or spacing is None else plane_of(where, axes, spacing)


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Pixel size: in the patient, else on the detector, which is larger by the magnification (10.7.1.3)."""
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or []), Dataset())
    own = next(iter(dataset.get("PerFrameFunctionalGroupsSequence") or []), Dataset())
    measures = _group("PixelMeasuresSequence", own, shared) or dataset
    spacing = _numbers(measures, "PixelSpacing") or _numbers(dataset, "ImagerPixelSpacing")
    if spacing is None or len(spacing) != 2 or not all(0 < side < math.inf for side in spacing):
        return None
    return spacing[0], spacing[1]


def _is_picture(path: Path, images: Sequence[_Image]) -> bool:
    single = len(images) == 1 and len(images[0].frames) == 1
    return single and not (path.is_dir() and images[0].placed and not images[0].coloured)


def _planes(images: Sequence[_Image]) -> list[Plane]:
    """The places of all frames of a series, checked for what a volume needs but for its distances."""
    count = sum(len(image.frames) for image in images)
    planes = [frame.plane for image in images for frame in image.frames if frame.plane]
    if len(planes) < count:
        raise UnreadableError(_unplaced(images, count))
    if any(image.coloured for image in images):
        raise UnreadableError("its images are coloured, and a volume must be grey: expected one value per voxel")
    sizes = Counter(image.sides for image in images)
    if len(sizes) > 1:
        named = ", ".join(f"{number} of {sides[0]} x {sides[1]}" for sides, number in sizes.most_common())
        raise UnreadableError(f"its images are of unlike size ({named} pixels): expected one size in a volume")
    if len({image.photometric for image in images}) > 1:
        raise UnreadableError("in some of its images the lowest value is black, in others white: expected one kind")
    return planes


def _unplaced(images: Sequence[_Image], count: int) -> str:
    if len(images) == 1:
        return (
            f"it has {count} frames that do not say where in the patient they lie, as a cine or a tiled slide: such "
            "frames cannot be a volume; export those that are wanted as single images"
        )
    return (
        f"not all of its {count} images say where in the patient they lie (position, orientation and pixel size), so "
        "they cannot be stacked to a volume; name them in the recipe one by one, as pictures"
    )


def _picture(image: _Image) -> Picture:
    dataset = _open(image.path, pixels=True)
    array = next(_decoded(dataset, image))
    frame = image.frames[0]
    return Picture(array, image.spacing, frame.slope, frame.intercept)


def _volume(images: Sequence[_Image]) -> Volume:
    planes = _planes(images)
    grid = stack(planes)
    slices = {number: place for place, number in enumerate(grid.order)}
    frames = [frame for image in images for frame in image.frames]
    rescales = {(frame.slope, frame.intercept) for frame in frames}
    dtype = np.dtype(np.float32) if len(rescales) > 1 else np.result_type(*(image.dtype for image in images))
    array = np.empty((len(frames), *images[0].sides), dtype)
    number = 0
    for image in images:
        dataset = _open(image.path, pixels=True)
        for frame, pixels in zip(image.frames, _decoded(dataset, image), strict=True):
            same = len(rescales) == 1
            array[slices[number]] = pixels if same else pixels.astype(np.float64) * frame.slope + frame.intercept
            number += 1
    slope, intercept = rescales.pop() if len(rescales) == 1 else (1.0, 0.0)
    return Volume(array, grid.affine, slope, intercept, axis_codes(grid.affine))


def _decoded(dataset: FileDataset, image: _Image) -> Iterator[npt.NDArray[Any]]:
    """The frames as they are stored, (rows, columns) or (rows, columns, 3) RGB."""
    if not dataset.get(_PIXELS):
        raise UnreadableError("it holds no pixels: it breaks off before them, or never had any; fetch it again")
    expected = (*image.sides, 3) if image.coloured and image.photometric != "PALETTE COLOR" else image.sides
    frames = iter_pixels(dataset)
    for number in range(1, len(image.frames) + 1):
        pixels = _next(frames)
        if pixels is None or pixels.shape != expected:
            raise UnreadableError(f"damaged: frame {number} of {len(image.frames)} is missing or incomplete")
        yield _shown(pixels, dataset, image)


def _next(frames: Iterator[npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
    try:
        with quiet():
            return next(frames, None)
    except Exception:  # decoders raise nearly anything for damaged data
        raise UnreadableError(
            "its pixels cannot be decoded: the file breaks off, or is damaged; fetch it again from its source"
        ) from None


def _shown(pixels: npt.NDArray[Any], dataset: FileDataset, image: _Image) -> npt.NDArray[Any]:
    """Palettes looked up (C.7.9), and MONOCHROME1 turned round; everything else as it is."""
    if image.photometric == "PALETTE COLOR":
        return _looked_up(pixels, dataset)
    if image.photometric == "MONOCHROME1" and image.modality not in _PHYSICAL:
        # lowest and highest of the stored range change places: -1 - value if signed, 2**bits - 1 - value if not
        return ~pixels if image.dtype.kind == "i" else pixels.dtype.type(2**image.bits - 1) - pixels
    return pixels


def _looked_up(pixels: npt.NDArray[Any], dataset: FileDataset) -> npt.NDArray[np.uint8]:
    """RGB of a palette; tables of 16 bits span their whole range (C.7.6.3.1.6), so their high byte is the colour."""
    try:
        with quiet():
            colours = apply_color_lut(pixels, dataset)[..., :3]
    except Exception:
        raise UnreadableError("damaged: its colour palette is missing or cannot be read") from None
    return colours.astype(np.uint8) if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)
