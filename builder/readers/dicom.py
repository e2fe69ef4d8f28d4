"""DICOM images: one file, or a folder with the files of one series.

A single-frame file is a picture; a folder, and a file of many frames that say where they lie, is a volume. Pixels are
decoded by pydicom and its plug-ins. Standard: DICOM PS3.3 C.7.6.3 (Image Pixel), C.11.1 (Modality LUT), C.7.6.16
(Multi-frame Functional Groups).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
)

from builder.readers import UnreadableError, is_dicom
from builder.readers.dicom_file import kind_of, open_dicom, quiet
from builder.readers.dicom_geometry import Frame, Plane, frames_of, spacing_of, stack
from builder.volume import Header, Picture, Volume, axis_codes

ATTRIBUTES: Final = (
    "BitsAllocated",
    "BitsStored",
    "BluePaletteColorLookupTableData",
    "BluePaletteColorLookupTableDescriptor",
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
_PLUGIN: Final = "python-gdcm"
_PREFERRED: Final = ("pyjpegls", "pylibjpeg", "pillow", "pydicom", "gdcm")
"""pydicom's names of its plug-ins: the first that is installed is asked, and no other after it. GDCM comes last, as it
ends the whole process on some damaged JPEG and JPEG-LS data."""
_PREFERRED_JPEG_2000: Final = ("pylibjpeg", "gdcm", "pillow")
"""Pillow knows fewer kinds of JPEG 2000 than GDCM, which has OpenJPEG decode it."""
_OTHER_PLUGINS: Final = {"High-Throughput": "pylibjpeg-openjpeg"}
"""Beginning of a transfer syntax's name -> package that decodes it where `_PLUGIN` does not."""
_COLOURS: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
"""Photometric Interpretations of colour that pydicom turns into RGB (C.7.6.3.1.2)."""
_PLAIN: Final = tuple(uid.name for uid in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian))
_MAX_PIXELS: Final = 2**33
"""As many as a NIfTI file may have; more is a damaged header."""


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
        syntax: Name of its transfer syntax: how the pixels are stored.
        spacing: Distance of rows and of columns in mm, where it is known.
        frames: All frames, as stored.
    """

    path: Path
    modality: str
    sides: tuple[int, int]
    dtype: np.dtype[Any]
    bits: int
    photometric: str
    syntax: str
    spacing: tuple[float, float] | None
    frames: tuple[Frame, ...]

    @property
    def coloured(self) -> bool:
        """Whether a pixel has more than one value."""
        return self.photometric in _COLOURS

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


def _images(path: Path) -> list[_Image]:
    """What the file, or the one series of the folder, says of its images."""
    if not path.is_dir():
        dataset = _open(path)
        return [_parse(path, dataset)]
    images = [list(_parse_all(group)) for group in _by_series(path).values()]
    if len(images) > 1:
        names = "; ".join(sorted(_series_name(group) for group in images))
        raise UnreadableError(
            f"the folder holds {len(images)} image series, expected one: {names}; put each into its own folder"
        )
    return images[0]


def _parse_all(group: list[tuple[Path, FileDataset]]) -> Iterator[_Image]:
    for number, (file, dataset) in enumerate(group, 1):
        with _at(f"image {number} of {len(group)} in the order of names"):
            yield _parse(file, dataset)


def _series_name(images: list[_Image]) -> str:
    count = sum(len(image.frames) for image in images)
    size = " x ".join(map(str, images[0].sides))
    return f"{images[0].modality or 'unknown modality'}, {count} {'image' if count == 1 else 'images'} of {size}"


def _by_series(folder: Path) -> dict[str, list[tuple[Path, FileDataset]]]:
    """The images of a folder, by series; other files and objects are left out."""
    series: defaultdict[str, list[tuple[Path, FileDataset]]] = defaultdict(list)
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    for number, file in enumerate(files, 1):
        with _at(f"file {number} of {len(files)} in the order of names"):
            dataset = _open_member(file)
        if dataset is not None:
            series[_text(dataset, "SeriesInstanceUID")].append((file, dataset))
    if not series:
        held = f"its {len(files)} {'file is' if len(files) == 1 else 'files are'} none" if files else "it holds no file"
        raise UnreadableError(
            f"expected DICOM images in the folder, but {held}; folders further down are not looked into"
        )
    return dict(series)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Say which file of a folder is at fault: by number, as names of DICOM files are often made of UIDs."""
    try:
        yield
    except UnreadableError as error:
        raise UnreadableError(f"{place}: {error}") from None


def _open_member(file: Path) -> FileDataset | None:
    """The header of an image; None for anything else that may lie in a folder of images."""
    size = file.stat().st_size
    if size == 0:
        raise UnreadableError("the file is empty (0 bytes); fetch it again")
    if not is_dicom(file) and not file.name.lower().endswith(_ENDINGS):
        return None
    dataset = _open(file)
    modality = _text(dataset, "Modality")
    if modality in _NOT_IMAGES:
        return None
    looks_like_image = modality in ("CT", "MR", "PT") or "Image Storage" in kind_of(dataset)
    return dataset if "Rows" in dataset or looks_like_image else None


def _open(path: Path, *, pixels: bool = False) -> FileDataset:
    """Take nothing but `ATTRIBUTES` from a file, and the pixels if asked for."""
    return open_dicom(path, (*ATTRIBUTES, _PIXELS), pixels=pixels)


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


def _parse(path: Path, dataset: FileDataset) -> _Image:
    """Take everything but the pixels from a file, as plain numbers."""
    modality, count = _text(dataset, "Modality"), _whole(dataset, "NumberOfFrames", 1)
    if modality in _NOT_IMAGES:
        raise UnreadableError(f"expected an image, but the file is {_NOT_IMAGES[modality]}")
    syntax = _syntax(dataset)
    if "Rows" not in dataset and "Columns" not in dataset:
        raise UnreadableError(f"expected an image, but the file has no size: it is {kind_of(dataset)}, or breaks off")
    sides = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    if math.prod(sides) * count > _MAX_PIXELS:
        raise UnreadableError(f"damaged: it has {count} frames of {sides[0]} x {sides[1]} pixels")
    allocated = _whole(dataset, "BitsAllocated")
    stored = _whole(dataset, "BitsStored", allocated)
    high = _whole(dataset, "HighBit", stored - 1)
    if allocated not in (1, 8, 16, 32) or stored > allocated:
        raise UnreadableError(f"has pixels of {stored} bits in {allocated}, expected 1, 8, 16 or 32 bits")
    if high != stored - 1:
        raise UnreadableError(
            f"keeps values of {stored} bits below bit {high + 1}, which the standard no longer allows"
        )
    if syntax in _PLAIN:
        _refuse_short(path, math.prod(sides) * count * allocated // 8)
    sign = "i" if _whole(dataset, "PixelRepresentation", 0) else "u"
    try:
        with quiet():
            frames, spacing = tuple(frames_of(dataset, count)), spacing_of(dataset)
    except UnreadableError:
        raise
    except Exception:  # values are decoded on access, and damaged ones raise nearly anything
        raise UnreadableError("damaged: its position, orientation, pixel size or rescale cannot be read") from None
    photometric = _text(dataset, "PhotometricInterpretation") or "MONOCHROME2"
    if photometric not in ("MONOCHROME1", "MONOCHROME2", *_COLOURS):
        raise UnreadableError(f"its colours are kept in an unknown way, known are {', '.join(_COLOURS)}")
    dtype = np.dtype(f"{sign}{max(allocated // 8, 1)}")
    return _Image(path, modality, sides, dtype, stored, photometric, syntax, spacing, frames)


def _refuse_short(path: Path, needed: int) -> None:
    """Refuse a file that cannot hold its pixels, before memory is taken for them."""
    size = path.stat().st_size
    if size < needed:
        raise UnreadableError(
            f"truncated: the file has {size:,} bytes, its pixels alone need {needed:,}; fetch it again"
        )


def _syntax(dataset: FileDataset) -> str:
    """Name of the way in which pixels are stored, once that is known and its decoder installed (PS3.6 A)."""
    uid = _text(dataset.file_meta, "TransferSyntaxUID")
    if not uid:
        raise UnreadableError("damaged: it does not say how it is encoded (its Transfer Syntax is missing)")
    with quiet():
        syntax = UID(uid)
        name = syntax.name if syntax.is_valid and syntax.is_transfer_syntax else "a way that is none of the standard's"
    try:
        with quiet():
            decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UnreadableError(f"its pixels are stored in {name}, which is not supported") from None
    if not decoder.is_available:
        plugin = next((package for begin, package in _OTHER_PLUGINS.items() if name.startswith(begin)), _PLUGIN)
        raise UnreadableError(f"its pixels are stored in {name}: to read them, run 'pip install {plugin}'")
    return name


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
    frame = image.frames[0]
    return Picture(next(_decoded(image)), image.spacing, frame.slope, frame.intercept)


def _volume(images: Sequence[_Image]) -> Volume:
    grid = stack(_planes(images))
    frames = [frame for image in images for frame in image.frames]
    rescales = {(frame.slope, frame.intercept) for frame in frames}
    alike = len(rescales) == 1
    dtype = np.result_type(*(image.dtype for image in images)) if alike else np.dtype(np.float32)
    array = np.empty((len(frames), *images[0].sides), dtype)
    places = iter(np.argsort(grid.order).tolist())
    for number, image in enumerate(images, 1):
        with _at(f"image {number} of {len(images)} in the order of names") if len(images) > 1 else nullcontext():
            for frame, pixels in zip(image.frames, _decoded(image), strict=True):
                array[next(places)] = pixels if alike else pixels.astype(np.float64) * frame.slope + frame.intercept
    slope, intercept = rescales.pop() if alike else (1.0, 0.0)
    return Volume(array, grid.affine, slope, intercept, axis_codes(grid.affine))


def _decoded(image: _Image) -> Iterator[npt.NDArray[Any]]:
    """The frames as they are stored, (rows, columns) or (rows, columns, 3) RGB."""
    dataset = _open(image.path, pixels=True)
    if _PIXELS not in dataset:
        raise UnreadableError("it holds no pixels: it breaks off before them, or never had any; fetch it again")
    expected = (*image.sides, 3) if image.coloured and image.photometric != "PALETTE COLOR" else image.sides
    for number in range(len(image.frames)):
        pixels = _decode(dataset, number, image.syntax)
        if pixels.shape != expected:
            raise UnreadableError(
                f"damaged: frame {number + 1} of {len(image.frames)} has {' x '.join(map(str, pixels.shape))} values, "
                f"expected {' x '.join(map(str, expected))}"
            )
        yield _shown(pixels, dataset, image)


def _decode(dataset: FileDataset, number: int, syntax: str) -> npt.NDArray[Any]:
    """One frame, in the machine's byte order.

    Not by pydicom's `iter_pixels`, which fails where JPEG 2000 or JPEG-LS data have another sign than the header says.
    """
    try:
        with quiet():
            pixels = pixel_array(dataset, index=number, decoding_plugin=_plugin(dataset))
    except Exception:  # decoders raise nearly anything for damaged data
        if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            raise UnreadableError("truncated: it has fewer pixels than its size says; fetch it again") from None
        raise UnreadableError(
            f"its pixels, stored in {syntax}, cannot be decoded: the file breaks off or is damaged (fetch it again "
            "from its source), or no installed decoder knows this kind of it"
        ) from None
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _plugin(dataset: FileDataset) -> str:
    """Name of the plug-in that decodes the pixels, empty where they are not compressed."""
    syntax = dataset.file_meta.TransferSyntaxUID
    available = get_decoder(syntax).available_plugins
    preferred = _PREFERRED_JPEG_2000 if syntax in JPEG2000TransferSyntaxes else _PREFERRED
    return next((name for name in preferred if name in available), "")


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
