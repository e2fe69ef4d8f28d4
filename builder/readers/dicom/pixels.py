"""Decoding the frames of DICOM images: which decoder, what it may not do, and what its values mean.

Standard: DICOM PS3.5 section 8 and annex A.4 (encapsulated pixels), PS3.3 C.7.6.3 (Image Pixel).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
)

from builder.errors import UnreadableError
from builder.readers.dicom.codestream import codestream_size
from builder.readers.dicom.decoder_process import ITK, CompressedFrame, decode_apart
from builder.readers.dicom.file import quiet, text_of
from builder.readers.quiet import caught_stderr

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
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "PlanarConfiguration",
    "RedPaletteColorLookupTableData",
    "RedPaletteColorLookupTableDescriptor",
    "Rows",
    "SamplesPerPixel",
    "SegmentedBluePaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "TransferSyntaxUID",
)
"""Every attribute that is read, next to Pixel Data."""

PLAIN: Final = tuple(uid.name for uid in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian))
"""Names of the transfer syntaxes whose pixels take as many bytes in the file as they have bits."""
_PLUGIN: Final = "python-gdcm"
_PREFERRED: Final = ("pyjpegls", "pylibjpeg", "pillow", "pydicom", "gdcm")
"""pydicom's names of its plug-ins: the first that is installed is asked, and no other after it. GDCM comes last, as it
ends the whole process on some damaged JPEG and JPEG-LS data; see `decoder_process`."""
_CRASHING: Final = ("gdcm", ITK)
_IMAGE_PIXEL: Final = (
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "HighBit",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "PlanarConfiguration",
    "Rows",
    "SamplesPerPixel",
)
"""What the decoder of a single frame must know."""
_PREFERRED_JPEG_2000: Final = ("pylibjpeg", "gdcm", "pillow")
"""Pillow knows fewer kinds of JPEG 2000 than GDCM, which has OpenJPEG decode it."""
_OTHER_PLUGINS: Final = {"High-Throughput": "pylibjpeg-openjpeg"}
"""Beginning of a transfer syntax's name -> package that decodes it where `_PLUGIN` does not."""


def syntax_of(dataset: FileDataset) -> str:
    """Name of the way in which pixels are stored (PS3.6 A).

    Raises:
        UnreadableError: It is not told, none of the standard's, or its decoder is not installed.
    """
    uid = text_of(dataset.file_meta, "TransferSyntaxUID")
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


def decode_frame(dataset: FileDataset, number: int, count: int) -> npt.NDArray[Any]:
    """One frame, in the machine's byte order: (rows, columns), or (rows, columns, 3) RGB.

    Not by pydicom's `iter_pixels`, which fails where JPEG 2000 or JPEG-LS data have another sign than the header says.

    Args:
        dataset: A file with its pixels.
        number: Number of the frame, from 0.
        count: How many frames it has.

    Raises:
        UnreadableError: The frame is missing, damaged, or not of the size that the header says.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        with quiet():
            plugin = _plugin(syntax, dataset)
            frame = _compressed(dataset, number, count) if syntax.is_encapsulated else b""
            _refuse_other_size(dataset, number, frame)
            if plugin in _CRASHING:
                values = {name: dataset[name].value for name in _IMAGE_PIXEL if name in dataset}
                pixels = decode_apart(CompressedFrame(str(syntax), values, frame, plugin))
            else:
                with caught_stderr():  # decoders in C quote no values, but name no file either
                    pixels = pixel_array(dataset, index=number, decoding_plugin=plugin)
    except UnreadableError:
        raise
    except Exception:  # decoders raise nearly anything for damaged data
        if not syntax.is_encapsulated:
            raise UnreadableError("truncated: it has fewer pixels than its size says; fetch it again") from None
        raise UnreadableError(
            f"its pixels, stored in {syntax.name}, cannot be decoded: the file breaks off or is damaged (fetch it "
            "again from its source), or no installed decoder knows this kind of it"
        ) from None
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def look_up_palette(pixels: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[np.uint8]:
    """RGB of a palette (C.7.9); tables of 16 bits span their whole range (C.7.6.3.1.6), so their high byte counts."""
    try:
        with quiet():
            colours = apply_color_lut(pixels, dataset)[..., :3]
    except Exception:  # as above
        raise UnreadableError("damaged: its colour palette is missing or cannot be read") from None
    return colours.astype(np.uint8) if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)


def _compressed(dataset: Dataset, number: int, count: int) -> bytes:
    """The codestream of a frame."""
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    extended = (offsets[0], offsets[1]) if offsets[0] and offsets[1] else None
    return get_frame(dataset.PixelData, number, number_of_frames=count, extended_offsets=extended)


def _refuse_other_size(dataset: Dataset, number: int, frame: bytes) -> None:
    """Refuse compressed data of another size than the header's, before a decoder takes memory for it."""
    size = codestream_size(frame)
    expected = int(dataset.Rows), int(dataset.Columns)
    if size is not None and size != expected:
        raise UnreadableError(
            f"damaged: the compressed pixels of frame {number + 1} are {size[0]} x {size[1]}, the header says "
            f"{expected[0]} x {expected[1]}"
        )


def _plugin(syntax: UID, dataset: FileDataset) -> str:
    """Name of the plug-in that decodes the pixels, empty where they are not compressed."""
    if syntax == JPEGExtended12Bit and dataset.BitsStored > 8:
        return ITK
    available = get_decoder(syntax).available_plugins
    preferred = _PREFERRED_JPEG_2000 if syntax in JPEG2000TransferSyntaxes else _PREFERRED
    return next((name for name in preferred if name in available), "")
