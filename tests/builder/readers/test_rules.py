"""Files that would become too large are refused by what they say of themselves, before memory is taken."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import PIL.Image
import pydicom
import pytest
import scipy.io
import SimpleITK as sitk  # noqa: N813
import tifffile
from pydicom.uid import DeflatedExplicitVRLittleEndian

from builder.errors import CaseError
from builder.readers.files import read_image
from tests.support.command import Command
from tests.support.dicom_image import PYDICOM
from tests.support.limits import RULES
from tests.support.nifti import write_nifti
from tests.support.sources import write_source
from tests.support.volumes import ct_like


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path) -> None:
    """A valid PNG of 20000 x 20000 black pixels in 390 kB."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0))
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(20001)) for _ in range(20000)) + packer.flush()
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b""))


def jpeg(path: Path) -> None:
    small = io.BytesIO()
    PIL.Image.new("L", (64, 64)).save(small, "JPEG")
    at = small.getvalue().index(b"\xff\xc0") + 5
    path.write_bytes(small.getvalue()[:at] + struct.pack(">HH", 60000, 60000) + small.getvalue()[at + 4 :])


def tiff_pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        for _ in range(40):
            file.write(np.zeros((600, 600), np.uint8), compression="zlib", contiguous=False)


def nrrd(path: Path) -> None:
    sitk.WriteImage(sitk.Image([300, 300, 300], sitk.sitkUInt8), str(path), useCompression=True)


def gif(path: Path) -> None:
    PIL.Image.new("L", (5000, 5000)).save(path)


def npz(path: Path) -> None:
    np.savez_compressed(path, np.zeros((300, 300, 300), np.uint8))


def matlab(path: Path) -> None:
    scipy.io.savemat(path, {"a": np.zeros((300, 300, 300), np.uint8)}, do_compression=True)


def matlab_struct(path: Path) -> None:
    scipy.io.savemat(path, {"a": {"image": np.zeros((300, 300, 300), np.uint8)}}, do_compression=True)


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.zeros((300, 300, 300), np.uint8), compression="gzip")


def stack(path: Path) -> None:
    path.mkdir()
    for number in range(40):
        PIL.Image.new("L", (600, 600)).save(path / f"{number}.png")


def nifti(path: Path) -> None:
    write_nifti(path, np.zeros((300, 300, 300), np.int16))


def deflated(path: Path) -> None:
    """A DICOM file whose 30 MB of nothing come from 30 kB."""
    dataset = pydicom.dcmread(PYDICOM / "MR_small.dcm")
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.add_new(0x00091001, "LO", "someone")
    dataset.add_new(0x00091010, "OB", bytes(30_000_000))
    dataset.save_as(path)


def dicom_frames(path: Path) -> None:
    dataset = pydicom.dcmread(PYDICOM / "MR_small_RLE.dcm")
    dataset.NumberOfFrames = 2_000_000
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.png", png),
        ("a.jpg", jpeg),
        ("a.tif", tiff_pages),
        ("a.nrrd", nrrd),
        ("a.gif", gif),
        ("a.npz", npz),
        ("a.mat", matlab),
        ("b.mat", matlab_struct),
        ("c.mat", hdf5),
        ("stack", stack),
        ("a.nii.gz", nifti),
        ("a.dcm", deflated),
        ("b.dcm", dicom_frames),
    ],
)
def test_bombs_are_refused_before_memory_is_taken(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    tracemalloc.start()
    with pytest.raises(CaseError, match=r"limits\.(pixels|bytes) in the recipe"):
        read_image(tmp_path, name, RULES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 70_000_000  # what is inflated at a time, and never the whole


def test_recipes_set_the_limits(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=2)
    write_nifti(tmp_path / "raw/Small/images/case01.nii.gz", ct_like(shape=(30, 40, 36)))
    text = recipe.read_text()
    recipe.write_text(f"{text}\n[limits]\npixels = 36_000\n")
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 3
    assert "images/case01.nii.gz: read: it is 36 x 40 x 30 = 43,200 pixels, allowed are 36,000" in ran.err
    recipe.write_text(f"{text}\n[limits]\nbytes = 69_120\n")  # just enough for 24 x 40 x 36 voxels of 16 bit
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert "it would take 86,400 bytes in memory, allowed are 69,120" in ran.err


def test_files_within_the_limits_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    dataset = pydicom.dcmread(PYDICOM / "image_dfl.dcm")
    path.write_bytes((PYDICOM / "image_dfl.dcm").read_bytes())
    image = read_image(tmp_path, "a.dcm", RULES)
    assert np.array_equal(image.array, dataset.pixel_array)


READ_AND_MEASURE = """
import resource, sys
from pathlib import Path
from builder.errors import CaseError
from builder.readers import picture
from builder.readers.files import read_image
from builder.readers.rules import ReadRules
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_image(Path(sys.argv[1]), "a.tif", ReadRules(pixels=10_000_000, bytes=20_000_000))
except CaseError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error.reason)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in kB on Linux")
def test_pages_of_unlike_size_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """The page with most rows is the smallest; OpenCV's memory is none that tracemalloc sees."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((11_000, 1), np.uint8), compression="zlib")
        for _ in range(3):
            file.write(np.zeros((10_000, 10_000), np.uint8), compression="zlib", contiguous=False)
    command: list[str | Path] = [sys.executable, "-c", READ_AND_MEASURE, tmp_path]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    kilobytes, _, reason = ran.stdout.strip().partition(" ")
    assert reason == "a TIFF of 4 pages that are not of one size and kind; expected those"
    assert int(kilobytes) < 50_000
