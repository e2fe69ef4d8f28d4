"""Damaged files: each is read or refused with CaseError, in bounded time and memory, and ends no process.

Every file follows from its number alone, so that ``replay(number)`` brings a finding back. It is read in a process of
its own, where a crash, a hang or too much memory is laid to the file that was read, and the run goes on behind it.
"""

from __future__ import annotations

import faulthandler
import gzip
import io
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import struct
import tempfile
import time
import traceback
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import h5py
import nibabel
import numpy as np
import numpy.typing as npt
import PIL.Image
import pydicom
import pytest
import scipy.io
import SimpleITK
import tifffile
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGLosslessSV1

from builder.annotations.segments import AnnotationRequest, RunTable, read_named_masks
from builder.errors import CaseError
from builder.readers.dicom import decoder_process
from builder.readers.files import read_header, read_image
from builder.readers.image import Picture, Volume
from builder.readers.rules import ReadRules
from tests.support import dicom_image, dicom_masks
from tests.support.nifti import write_nifti
from tests.support.outlines import APERIO, ASAP
from tests.support.volumes import ct_like

RUNS = RunTable("image", "pixels", None, "columns", 1, relative=False)
RULES = ReadRules(pixels=2**26, bytes=2**28)
ADDRESSES = 2**32
"""Bytes of address space that a process may take beyond what it starts with."""
RESIDENT = 4 * RULES.bytes
"""Bytes of memory that one file may take: what the rules allow, its content, and two copies on the way."""
PATIENCE = 30.0
"""Seconds that one file may take."""
BATCH = 1000
GOOD = ("read", "refused")

PYDICOM = dicom_image.PYDICOM
NIBABEL = Path(nibabel.__file__).parent / "tests" / "data"
DICOM = """
693_J2KI CT_small ExplVR_BigEnd GDCMJ2K_TextGBR JPEG-lossy JPEG2000 JPEGLSNearLossless_08 JPEGLSNearLossless_16
JPGExtended MR_small MR_small_RLE MR_small_bigendian MR_small_expb MR_small_implicit MR_small_jp2klossless
MR_small_jpeg_ls_lossless SC_jpeg_no_color_transform SC_rgb_dcmtk_+eb+cy+s4 SC_rgb_gdcm_KY SC_rgb_jls_lossy_line
SC_rgb_jls_lossy_sample SC_rgb_jpeg_dcmtk SC_rgb_jpeg_gdcm SC_rgb_rle_16bit_2frame SC_rgb_rle_2frame SC_rgb_rle_32bit
SC_rgb_small_odd_big_endian SC_rgb_small_odd_jpeg SC_ybr_full_422_uncompressed UN_sequence image_dfl liver_1frame
no_meta_group_length rtdose rtplan test-SR
""".split()  # noqa: SIM905 - as a list it is a page long
NIFTI = [
    "anatomical.nii",
    "example_nifti2.nii.gz",
    "resampled_anat_moved.nii",
    "row_major.dconn.nii",
    "standard.nii.gz",
]


@dataclass(frozen=True)
class Seed:
    """A whole file that damaged ones are made of.

    Attributes:
        name: The file to damage.
        content: Of it.
        beside: Other files that it needs.
        target: What is read: the file itself, or its folder.
        image: For named masks, the image that they are drawn on.
    """

    name: str
    content: bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)
    target: str = ""
    image: Picture | Volume | None = None


# --- whole files


def all_seeds(folder: Path) -> list[Seed]:
    """All whole files, the same in every run; ``folder`` is for writing them."""
    uids = [f"1.2.3.{number}" for number in range(1000, 2000)]
    with (
        mock.patch.object(pydicom.uid, "generate_uid", side_effect=uids),
        mock.patch.object(dicom_masks, "generate_uid", side_effect=uids),
    ):
        return [
            *nifti_seeds(folder),
            *itk_seeds(folder),
            *array_seeds(folder),
            *picture_seeds(),
            *dicom_seeds(folder),
            *mask_seeds(folder),
        ]


def nifti_seeds(folder: Path) -> Iterator[Seed]:
    for name in NIFTI:
        yield Seed(name, (NIBABEL / name).read_bytes())
    write_nifti(folder / "plain.nii", ct_like(shape=(5, 7, 9)))
    plain = (folder / "plain.nii").read_bytes()
    yield Seed("plain.nii", plain)
    yield Seed("packed.nii.gz", gzip.compress(plain, mtime=0))
    colours = np.zeros((6, 5, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    yield Seed("colours.nii", nibabel.Nifti1Image(colours, np.eye(4)).to_bytes())
    yield Seed("series.nii", nibabel.Nifti2Image(np.zeros((4, 3, 2, 3), ">f4"), np.eye(4)).to_bytes())
    kinds: dict[str, Any] = {"pair": nibabel.Nifti1Pair, "pair2": nibabel.Nifti2Pair, "old": nibabel.AnalyzeImage}
    for name, kind in kinds.items():
        nibabel.save(kind(ct_like(shape=(4, 5, 6)), np.eye(4)), folder / f"{name}.hdr")
        header, pixels = ((folder / name).with_suffix(ending).read_bytes() for ending in (".hdr", ".img"))
        yield Seed(f"{name}.hdr", header, {f"{name}.img": pixels})
        yield Seed(f"{name}.img", pixels, {f"{name}.hdr": header})


def itk_seeds(folder: Path) -> Iterator[Seed]:
    plain = SimpleITK.GetImageFromArray(ct_like(shape=(5, 7, 9)))
    vectors = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    for name, image, packed, beside in (
        ("plain.nrrd", plain, False, ""),
        ("packed.nrrd", plain, True, ""),
        ("vectors.nrrd", vectors, True, ""),
        ("apart.nhdr", plain, False, "apart.raw"),
        ("apart_packed.nhdr", plain, True, "apart_packed.raw.gz"),
        ("packed.mha", plain, True, ""),
        ("vectors.mha", vectors, False, ""),
        ("text.mhd", plain, False, "text.raw"),
        ("text_packed.mhd", plain, True, "text_packed.zraw"),
    ):
        SimpleITK.WriteImage(image, folder / name, packed)
        yield Seed(name, (folder / name).read_bytes(), {beside: (folder / beside).read_bytes()} if beside else {})


def array_seeds(folder: Path) -> Iterator[Seed]:
    volume = ct_like(shape=(5, 7, 9))
    for name, order in (("rows.npy", "C"), ("columns.npy", "F")):
        np.save(folder / name, np.asarray(volume, order="F" if order == "F" else "C"))
    np.savez_compressed(folder / "packed.npz", volume)
    np.savez(folder / "plain.npz", volume)
    for name, packed in (("plain.mat", False), ("packed.mat", True)):
        held = {"struct": {"image": volume}, "text": "words"}
        scipy.io.savemat(folder / f"struct_{name}", held, do_compression=packed)
        scipy.io.savemat(folder / name, {"image": volume}, do_compression=packed)
    with h5py.File(folder / "hdf5.mat", "w", userblock_size=512) as file:
        file.create_dataset("image", data=volume)
    with h5py.File(folder / "hdf5_packed.mat", "w") as file:
        file.create_dataset("image", data=volume, compression="gzip", shuffle=True, fletcher32=True)
    for name, options in (("plain.h5", {}), ("packed.h5", {"compression": "gzip", "fletcher32": True})):
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("image", data=volume, **options)
    for path in sorted([*folder.glob("*.np[yz]"), *folder.glob("*.mat"), *folder.glob("*.h5")]):
        yield Seed(path.name, path.read_bytes())


def picture_seeds() -> Iterator[Seed]:
    grey = (np.arange(19 * 23) % 251).reshape(19, 23).astype(np.uint8)
    colour = np.stack([grey, grey.T.reshape(grey.shape), 255 - grey], axis=-1)
    one, rgb = PIL.Image.fromarray(grey), PIL.Image.fromarray(colour)
    yield Seed("interlaced.png", interlaced(grey))
    for name, image, options in (
        ("grey.png", one, {}),
        ("deep.png", PIL.Image.fromarray(grey.astype(np.uint16) * 257), {}),
        ("alpha.png", rgb.convert("RGBA"), {}),
        ("palette.png", rgb.quantize(16), {}),
        ("bits.png", one.convert("1"), {}),
        ("animated.png", rgb, {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}),
        ("grey.jpg", one, {}),
        ("colour.jpg", rgb, {"progressive": True}),
        ("cmyk.jpg", rgb.convert("CMYK"), {}),
        ("colour.bmp", rgb, {}),
        ("palette.bmp", rgb.quantize(16), {}),
        ("grey.gif", one, {}),
        ("colour.gif", rgb.quantize(16), {"transparency": 3}),
        ("frames.gif", rgb, {"save_all": True, "append_images": [rgb.rotate(90)]}),
        ("grey.pgm", one, {}),
        ("deep.pgm", PIL.Image.fromarray(grey.astype(np.uint16) * 257), {}),
        ("colour.ppm", rgb, {}),
        ("packed.ppm.gz", rgb, {}),
        ("lzw.tif", rgb, {"compression": "tiff_lzw"}),
        ("jpeg.tif", rgb, {"compression": "jpeg"}),
        ("fax.tif", one.convert("1"), {"compression": "group4"}),
        ("bits.tif", one, {"compression": "packbits"}),
    ):
        file = io.BytesIO()
        kind = name.removesuffix(".gz")[-3:]
        image.save(file, {"jpg": "jpeg", "tif": "tiff", "pgm": "ppm"}.get(kind, kind), **options)
        yield Seed(name, gzip.compress(file.getvalue()) if name.endswith(".gz") else file.getvalue())
    yield Seed("plain.pgm", b"P2\n# text\n23 19\n250\n" + b"\n".join(b"%d" % value for value in grey.ravel()))
    for name, array, how in (
        ("tiles.tif", np.tile(colour, (2, 2, 1)), {"tile": (16, 16), "compression": "zlib"}),
        ("pages.tif", np.stack([grey, grey // 2, grey // 3]), {"rowsperstrip": 4, "photometric": "minisblack"}),
        ("float.tif", grey.astype(np.float32), {"compression": "zlib"}),
        ("deep.tif", np.stack([grey.astype(np.uint16)] * 3, axis=-1), {"byteorder": ">", "bigtiff": True}),
    ):
        file = io.BytesIO()
        tifffile.imwrite(file, array, metadata=None, **how)
        yield Seed(name, file.getvalue())


def interlaced(grey: npt.NDArray[np.uint8]) -> bytes:
    """A PNG in the seven passes of Adam7, which no writer here makes."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = (grey[top::down, left::right] for top, left, down, right in passes)
    lines = b"".join(b"\0" + line.tobytes() for part in parts if part.size for line in part)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", *grey.shape[::-1], 8, 0, 0, 0, 1)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    )
    content = b"".join(struct.pack(">I", len(data)) + kind + data + bytes(4) for kind, data in chunks)
    return with_right_sums(b"\x89PNG\r\n\x1a\n" + content)


def dicom_seeds(folder: Path) -> Iterator[Seed]:
    for name in DICOM:
        yield Seed(f"{name}.dcm", (PYDICOM / f"{name}.dcm").read_bytes())
    tiles = {"TotalPixelMatrixRows": 12, "TotalPixelMatrixColumns": 16, "DimensionOrganizationType": "TILED_FULL"}
    four = np.stack([dicom_image.pixels_of(number) for number in range(4)])
    for name, dataset in (
        ("enhanced.dcm", dicom_image.enhanced(dicom_image.axial([6, 0, 3]))),
        ("slide.dcm", dicom_image.image_dataset(four, NumberOfFrames=4, **tiles)),
    ):
        yield Seed(name, dicom_image.save(folder / name, dataset).read_bytes())
    yield Seed("lossless.dcm", jpeg_lossless(folder))
    dicom_image.write_series(folder / "series", dicom_image.axial([0, 2, 4]))
    files = {f"series/{path.name}": path.read_bytes() for path in sorted((folder / "series").iterdir())}
    name, content = files.popitem()
    yield Seed(name, content, files, target="series")


def jpeg_lossless(folder: Path) -> bytes:
    """A file that GDCM alone decodes, its codestream by ITK, without the UIDs and times that ITK writes."""
    pixels = ct_like()[3]
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels), folder / "itk.dcm", True, compressor="JPEG")
    stream = pydicom.dcmread(folder / "itk.dcm").PixelData
    dataset = dicom_image.image_dataset(
        pixels, PixelData=encapsulate(list(generate_frames(stream, number_of_frames=1)))
    )
    dataset["PixelData"].is_undefined_length = True
    return dicom_image.save(folder / "lossless.dcm", dataset, JPEGLosslessSV1).read_bytes()


def mask_seeds(folder: Path) -> Iterator[Seed]:
    volume = Volume(np.zeros(dicom_masks.SHAPE, np.int16), dicom_masks.UNIT)
    corners = dicom_masks.square(0.5, 6.5, 4), dicom_masks.square(1.5, 5.5, 4)
    for name, implicit in (("rtstruct.dcm", True), ("rtstruct_explicit.dcm", False)):
        path = dicom_masks.write_rtstruct(folder / name, {"one": [*corners], "two": [corners[1]]}, implicit=implicit)
        yield Seed(name, path.read_bytes(), image=volume)
    liver, side = pydicom.dcmread(PYDICOM / "liver_1frame.dcm"), np.zeros((512, 512), np.uint8)
    del liver.PerFrameFunctionalGroupsSequence[1:]  # it has one frame and describes three
    liver.save_as(folder / "seg.dcm")
    for image in (Picture(side), volume_of(liver)):
        yield Seed("seg.dcm", (folder / "seg.dcm").read_bytes(), image=image)
    liver.TotalPixelMatrixRows, liver.TotalPixelMatrixColumns = 1024, 1024
    liver.DimensionOrganizationType, liver.NumberOfFrames, liver.PixelData = "TILED_FULL", 4, 4 * liver.PixelData
    liver.save_as(folder / "seg_tiles.dcm")
    yield Seed("seg_tiles.dcm", (folder / "seg_tiles.dcm").read_bytes(), image=Picture(np.tile(side, (2, 2))))
    yield Seed("coco.json", COCO, image=Picture(np.zeros((24, 32), np.uint8)))
    for name, text in (("asap.xml", ASAP), ("aperio.xml", APERIO)):
        yield Seed(name, text.encode(), image=Picture(np.zeros((64, 80), np.uint8)))
    yield Seed(
        "runs.csv", b"image,pixels\na,3 4 20 9\na.png,600 100\nb,-1\n", image=Picture(np.zeros((24, 32), np.uint8))
    )
    yield Seed("a.txt", b"0 0.1 0.1 0.6 0.1 0.6 0.7\n12 0.5 0.5 0.9 0.5 0.9 0.8 0.4 0.9\n", image=Picture(side))


def volume_of(seg: pydicom.Dataset) -> Volume:
    """An image of one slice that a SEG of one frame lies on."""
    shared, own = seg.SharedFunctionalGroupsSequence[0], seg.PerFrameFunctionalGroupsSequence[0]
    plane = SimpleNamespace(**{
        item.keyword: np.array(item.value, float)
        for source, macro in ((own, "PlanePosition"), (shared, "PlaneOrientation"), (shared, "PixelMeasures"))
        for item in source[f"{macro}Sequence"].value[0]
        if item.keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    })  # fmt: skip
    right, down = np.reshape(plane.ImageOrientationPatient, (2, 3))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([right * plane.PixelSpacing[1], down * plane.PixelSpacing[0], np.cross(right, down)], 1)
    affine[:3, 3] = plane.ImagePositionPatient
    return Volume(np.zeros((1, seg.Rows, seg.Columns), np.uint8), affine)


COCO = b"""{"images": [{"id": 7, "file_name": "a.png", "height": 24, "width": 32}],
"categories": [{"id": 3, "name": "liver"}, {"id": 4, "name": "spleen"}], "annotations": [
{"id": 0, "image_id": 7, "category_id": 3, "segmentation": [[1.5, 2, 20, 2, 20, 17.25, 3, 15]]},
{"id": 1, "image_id": 7, "category_id": 4, "segmentation": {"size": [24, 32], "counts": [100, 68, 600]}},
{"id": 2, "image_id": 7, "category_id": 4, "segmentation": {"size": [24, 32], "counts": "T3T2hb0"}}]}"""


# --- damage

Damage = Callable[[bytearray, random.Random], None]
WHOLE = (0, 1, 2, 3, 4, 5, 7, 8, 16, 24, 32, 64, 127, 128, 255, 256, 511, 2**12, 2**15 - 1, 2**15, 2**16 - 1, 2**16)
LARGE = (2**24, 2**28, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
FLOATS = (0.0, -1.0, 1e-30, 1e9, 3e38, -3e38, float("nan"), float("inf"), float("-inf"), 351.0, 353.5)
TEXTS = b"""0 1 -1 2 3 4 7 16 -32768 65536 2147483647 4294967296 99999999999 9223372036854775808 1e400 -1e400 nan inf 0.5
null true [] {} [[1]] "a" gzip raw bzip2 ascii hex double uchar short float block none ??? LIST LOCAL True False
MET_DOUBLE MET_UCHAR_ARRAY MET_LONG MET_OTHER PALETTE RGB YBR_FULL_422 MONOCHROME1 FRACTIONAL LABELMAP TILED_FULL
1\\2\\3 1\\\\2 (1,0,0) (nan,0,0) \xff\xfe""".split()
SYNTAXES = [f"1.2.840.10008.1.2{end}".encode() for end in
            ("", ".1", ".1.99", ".2", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91", ".4.201", ".5")]  # fmt: skip
SYNTAX = (0x0002, 0x0010)
NUMBERS = [(0x0028, number) for number in (2, 6, 0x10, 0x11, 0x100, 0x101, 0x102, 0x103, 0x1101, 0x1102, 0x1103)] + [
    (0x0048, 6), (0x0048, 7), (0x0048, 0x303), (0x0062, 4), (0x0062, 0xB), (0x0062, 0xE), (0x0028, 0x120)]  # fmt: skip
WORDS = [(0x0028, 8), (0x0028, 4), (0x0028, 0x30), (0x0028, 0x1052), (0x0028, 0x1053), (0x0020, 0x32), (0x0020, 0x37),
         (0x3006, 0x50), (0x3006, 0x84), (0x3006, 0x22), (0x3006, 0x42), (0x0062, 1), (0x0008, 0x60), (0x0020, 0x9311)]  # fmt: skip
HEADS = (b"\xff\xd8\xff", b"\xff\xc0\0", b"\xff\xc1\0", b"\xff\xc2\0", b"\xff\xc3\0", b"\xff\xf7\0", b"\xff\xda\0",
         b"\xff\x4f\xff\x51", b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10", b"IDAT", b"acTL", b"fcTL", b"PLTE")  # fmt: skip
"""What headers within a file begin with: JPEG's and JPEG 2000's, Pixel Data, chunks of PNG."""


def damaged(seed: Seed, other: bytes, rng: random.Random) -> bytes:
    """One to eight changes, half of the time below the compression of the whole file."""
    if seed.name.endswith(".gz") and rng.random() < 0.5:
        return gzip.compress(changed(gzip.decompress(seed.content), other, rng), 1, mtime=0)
    if seed.name == "image_dfl.dcm" and rng.random() < 0.5:
        start = 144 + int.from_bytes(seed.content[140:144], "little")
        inner = changed(zlib.decompress(seed.content[start:], -15), other, rng)
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        return seed.content[:start] + packer.compress(inner) + packer.flush()
    return changed(seed.content, other, rng)


def changed(content: bytes, other: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    ways: tuple[Damage, ...] = (
        set_field, set_field, set_field, flip_head, flip_head, flip_any, extreme, extreme, set_word,
        truncate, insert, delete, double, partial(splice, other=other),
    )  # fmt: skip
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choice(ways)(data, rng)
    return with_right_sums(bytes(data)) if rng.random() < 0.8 else bytes(data)


def near_head(data: bytearray, rng: random.Random) -> int:
    """A place soon after the start of a header."""
    heads = [132 if data[128:132] == b"DICM" else 0, *(at for head in HEADS if (at := data.find(head)) >= 0)]
    return min(rng.choice(heads) + int(rng.expovariate(1 / 50)), max(len(data) - 1, 0))


def flip_head(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4) if data else 0):
        data[near_head(data, rng)] ^= 1 << rng.randrange(8)


def flip_any(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8) if data else 0):
        data[rng.randrange(len(data))] = rng.randrange(256)


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.choice((near_head(data, rng), rng.randint(0, len(data)))) :]


def insert(data: bytearray, rng: random.Random) -> None:
    at = near_head(data, rng)
    data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16, 300)))


def delete(data: bytearray, rng: random.Random) -> None:
    at = near_head(data, rng)
    del data[at : at + rng.choice((1, 2, 4, 16, 300))]


def double(data: bytearray, rng: random.Random) -> None:
    at = near_head(data, rng)
    block = data[at : at + rng.choice((2, 8, 64, 1000))]
    data[at:at] = block * rng.choice((1, 1, 2, 20))


def splice(data: bytearray, rng: random.Random, *, other: bytes) -> None:
    at = near_head(data, rng)
    data[at:] = other[min(at, len(other)) if rng.random() < 0.5 else rng.randint(0, len(other)) :]


def extreme(data: bytearray, rng: random.Random) -> None:
    """An extreme number of 16 or 32 bit."""
    size, at = rng.choice((2, 4)), near_head(data, rng)
    put(data, at, rng.choice(WHOLE + LARGE) % 256**size, f"{rng.choice('<>')}{'H' if size == 2 else 'I'}")


def set_word(data: bytearray, rng: random.Random) -> None:
    """Another word or number in a header of text."""
    words = list(re.finditer(rb"[\w.+\\-]+", data[:1500]))
    if words:
        start, end = rng.choice(words).span()
        data[start:end] = rng.choice(TEXTS)


def set_field(data: bytearray, rng: random.Random) -> None:
    """A field that the format knows by its place or its name."""
    sizes = {int.from_bytes(data[:4], order): mark for order, mark in (("little", "<"), ("big", ">"))}  # type: ignore[arg-type]
    if data[128:132] == b"DICM" or b"\x28\0\x10\0" in data:
        set_element(data, rng)
    elif data[:4] == b"\x89PNG":
        at, kind = rng.choice(((16, ">I"), (20, ">I"), (24, "B"), (25, "B"), (26, "B"), (28, "B")))
        put(data, at, rng.choice(WHOLE + LARGE) % 256 ** struct.calcsize(kind), kind)
    elif bytes(data[:2]) in (b"II", b"MM"):
        order = "<" if data[:2] == b"II" else ">"
        start = int.from_bytes(data[4:8], "little" if order == "<" else "big") + 2 + 12 * rng.randrange(14)
        part, kind = rng.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")))
        put(data, start + part, rng.choice(WHOLE + LARGE) % 256 ** struct.calcsize(kind), order + kind)
    elif found := sizes.keys() & {348, 540}:
        size = found.pop()
        set_nifti(data, rng, sizes[size], wide=size == 540)
    else:
        set_word(data, rng)


def set_nifti(data: bytearray, rng: random.Random, order: str, *, wide: bool) -> None:
    """Dimensions, type and offset of the voxels; sizes, scale, and the numbers of both transforms."""
    side, number = ("q", "d") if wide else ("h", "f")
    width = struct.calcsize(number)
    dim, kinds, offset, forms = (16, (12, 14), 168, 344) if wide else (40, (70, 72), 108, 252)
    sizes, coded = (104, 8) if wide else (76, 4)
    transforms = forms + (8 if wide else 4)
    fields = [(dim + struct.calcsize(side) * i, side) for i in range(8)] * 3
    fields += [(at, "h") for at in kinds] * 3 + [(offset, "q" if wide else "f")] * 3
    fields += [(offset + 8 + width * i if wide else offset + width * (i + 1), number) for i in range(2)] * 2
    fields += [(forms, "i" if wide else "h"), (forms + (4 if wide else 2), "i" if wide else "h")] * 2
    fields += [(sizes + coded * i, number) for i in range(8)] + [(transforms + width * i, number) for i in range(18)]
    at, kind = rng.choice(fields)
    bits = 8 * struct.calcsize(kind)
    whole = (rng.choice(WHOLE + LARGE) + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    put(data, at, rng.choice(FLOATS) if kind in "fd" else whole, order + kind)


def set_element(data: bytearray, rng: random.Random) -> None:
    """The value, or the length, of a data element that readers ask for."""
    tags = [
        (tag, order) for tag in (SYNTAX, *NUMBERS, *WORDS) for order in "<>" if struct.pack(f"{order}HH", *tag) in data
    ]
    if not tags:
        return
    tag, order = rng.choice(tags)
    at = rng.choice([found.start() for found in re.finditer(re.escape(struct.pack(f"{order}HH", *tag)), data)])
    if rng.random() < 0.1:
        put(data, at + rng.choice((4, 6)), rng.choice(WHOLE) % 2**16, f"{order}H")
    elif tag in NUMBERS:
        put(data, at + 8, rng.choice(WHOLE) % 2**16, f"{order}H")
    else:
        said = data[at + 6 : at + 8] if data[at + 4 : at + 6].isalpha() else data[at + 4 : at + 8]
        length = min(int.from_bytes(said, "little" if order == "<" else "big"), 64)
        value = rng.choice(SYNTAXES if tag == SYNTAX else TEXTS).ljust(length, b"\0" if tag == SYNTAX else b" ")
        data[at + 8 : at + 8 + length] = value[:length]


def put(data: bytearray, at: int, value: float, kind: str) -> None:
    if at + struct.calcsize(kind) <= len(data):
        struct.pack_into(kind, data, at, value)


def with_right_sums(content: bytes) -> bytes:
    """A PNG with right checksums, so that damage gets past them; anything else as it is."""
    data, at = bytearray(content), 8
    while content[:4] == b"\x89PNG" and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        put(data, end, zlib.crc32(data[at + 4 : end]), ">I")
        at = end + 4
    return bytes(data)


# --- reading, in a process of its own


@dataclass(frozen=True)
class Outcome:
    """How one file fared: ``read``, ``refused``, or what is wrong; its time; memory taken for it; and most in all."""

    number: int
    how: str
    seconds: float = 0.0
    taken: int = 0
    peak: int = 0


def file_of(number: int, seeds: Sequence[Seed]) -> tuple[Seed, bytes]:
    """The damaged file of a number."""
    rng = random.Random(number)
    seed = seeds[number % len(seeds)]
    return seed, damaged(seed, rng.choice(seeds).content, rng)


def write(number: int, seeds: Sequence[Seed], folder: Path) -> Path:
    """Write the damaged file of a number, and what it needs, into a folder of its own."""
    seed, content = file_of(number, seeds)
    root = folder / str(number)
    for name, data in {**seed.beside, seed.name: content}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def read_all(seed: Seed, root: Path) -> str:
    """Read a file in every way that there is for its kind; ``read`` or ``refused``."""
    how = "read"
    for read in (read_header, read_image) if seed.image is None else (partial(read_masks, seed.image),):
        try:
            read(root, seed.target or seed.name, RULES)
        except CaseError:
            how = "refused"
    return how


def read_masks(image: Picture | Volume, root: Path, file: str, rules: ReadRules) -> None:
    named = read_named_masks(root, file, AnnotationRequest("a.png", rules=rules, runs=RUNS))
    for segment in named.on(image) or []:
        assert segment.mask.dtype == np.bool_


def memory(key: str) -> int:
    """A figure of this process in bytes, such as VmHWM, its peak of resident memory."""
    found = re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def work(pipe: Connection, numbers: Iterable[int], seeds: Sequence[Seed], folder: Path) -> None:
    """Tell each number before its file is read, and how it fared after."""
    os.setsid()  # so that decoders end with this process
    limit = memory("VmSize") + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with (folder / "crash.txt").open("w") as log, mock.patch.object(decoder_process, "LONGEST", PATIENCE / 3):
        faulthandler.enable(log)
        faulthandler.register(signal.SIGUSR1, log)
        for number in numbers:
            root = write(number, seeds, folder)
            pipe.send(number)
            outcome = measured(number, seeds[number % len(seeds)], root)
            if outcome.how in GOOD:
                shutil.rmtree(root)
            pipe.send(outcome)


def measured(number: int, seed: Seed, root: Path) -> Outcome:
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    start = time.perf_counter()
    try:
        how = read_all(seed, root)
    except Exception:
        how = traceback.format_exc()
    seconds, peak = time.perf_counter() - start, memory("VmHWM")
    if peak - before > RESIDENT:
        how += f": it took {(peak - before) >> 30} GiB of memory"
    return Outcome(number, how, seconds, peak - before, peak)


def outcomes(numbers: Sequence[int], seeds: Sequence[Seed], folder: Path) -> Iterator[Outcome]:
    """How each file fared, in processes that are started anew behind a file that ended one."""
    waiting = list(numbers)
    while waiting:
        done = list(batch(waiting[:BATCH], seeds, folder))
        yield from done
        waiting = waiting[len(done) :]


def batch(numbers: Sequence[int], seeds: Sequence[Seed], folder: Path) -> Iterator[Outcome]:
    """How files of one process fared, up to one that ended it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, numbers, seeds, folder))
    process.start()
    theirs.close()
    assert ours.poll(PATIENCE), "the process did not start"
    try:
        for number in numbers:
            assert ours.recv() == number
            if not ours.poll(PATIENCE):
                os.kill(process.pid or 0, signal.SIGUSR1)  # it writes where it is
                process.join(1)
                yield Outcome(number, f"no end after {PATIENCE:.0f} s\n{(folder / 'crash.txt').read_text()}", PATIENCE)
                return
            yield ours.recv()
    except EOFError:
        process.join()
        yield Outcome(number, f"ended the process: {process.exitcode}\n{(folder / 'crash.txt').read_text()}")
    finally:
        ours.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()


def fuzz(numbers: Sequence[int], folder: Path) -> None:
    """Read damaged files, print the figures, and fail with all that is wrong."""
    (folder / "seeds").mkdir()
    seeds = all_seeds(folder / "seeds")
    start = time.perf_counter()
    found = list(outcomes(numbers, seeds, folder))
    counts = Counter(outcome.how if outcome.how in GOOD else "wrong" for outcome in found)
    slowest, largest = (max(found, key=key) for key in (lambda one: one.seconds, lambda one: one.taken))
    print(  # noqa: T201 - shown by pytest -rP
        f"{len(found):,} files of {len(seeds)} seeds in {time.perf_counter() - start:.0f} s: {counts['read']:,} read, "
        f"{counts['refused']:,} refused, {counts['wrong']} wrong; slowest {slowest.seconds:.2f} s (number "
        f"{slowest.number}); most memory {largest.taken / 2**20:.0f} MiB (number {largest.number}), peak of a process "
        f"{max(outcome.peak for outcome in found) / 2**20:.0f} MiB"
    )
    assert not counts["wrong"], findings(found, seeds)


def findings(found: Sequence[Outcome], seeds: Sequence[Seed]) -> str:
    """What is wrong, each once, with the files that show it; they are kept below pytest's folder for this test."""
    files: defaultdict[str, list[str]] = defaultdict(list)
    for one in found:
        if one.how not in GOOD:
            files[one.how].append(f"{one.number} ({seeds[one.number % len(seeds)].name})")
    return "\n".join(f"{len(names)} files, such as {', '.join(names[:8])}:\n{how}" for how, names in files.items())


def replay(number: int) -> str:
    """Read the file of one number in this process."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = all_seeds(Path(folder))
        return read_all(seeds[number % len(seeds)], write(number, seeds, Path(folder)))


def test_some_damaged_files(tmp_path: Path) -> None:
    fuzz(range(150), tmp_path)


@pytest.mark.slow
def test_many_damaged_files(tmp_path: Path) -> None:
    fuzz(range(36_000), tmp_path)
