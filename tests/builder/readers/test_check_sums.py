"""Check sums and lengths that formats have are looked at, up to the end of the file."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
import scipy.io
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses
import tifffile

from builder.errors import CaseError
from builder.readers.files import read_image
from builder.readers.image import Image
from builder.readers.rules import DEFAULT_RULES, ReadRules

NOISE = np.random.default_rng(0).integers(0, 40, (9, 30, 34)).astype(np.int16)
PICTURE = np.random.default_rng(1).integers(0, 40, (50, 60)).astype(np.uint8)
NIFTI = nibabel.Nifti1Image(NOISE.transpose(2, 1, 0), np.eye(4)).to_bytes()
HALF = len(NIFTI) // 2
NRRD = b"NRRD0004\ntype: int16\ndimension: 3\nsizes: 34 30 9\nencoding: gz\nendian: little\n"


def write_itk(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(NOISE), path, True)


def write_tiff(path: Path) -> None:
    tifffile.imwrite(path, PICTURE, compression="zlib", rowsperstrip=20, metadata=None)


FORMATS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "gzip": ("a.nii.gz", "a.nii.gz", lambda path: path.write_bytes(gzip.compress(NIFTI))),
    "members": (
        "a.nii.gz",
        "a.nii.gz",
        lambda path: path.write_bytes(gzip.compress(NIFTI[:HALF]) + gzip.compress(NIFTI[HALF:])),
    ),
    "pixels end first": ("a.nii.gz", "a.nii.gz", lambda path: path.write_bytes(gzip.compress(2 * NIFTI))),
    "mha": ("a.mha", "a.mha", write_itk),
    "mhd": ("a.mhd", "a.zraw", write_itk),
    "nrrd": ("a.nrrd", "a.nrrd", write_itk),
    "nhdr": ("a.nhdr", "a.raw.gz", write_itk),
    "mat": ("a.mat", "a.mat", lambda path: scipy.io.savemat(path, {"a": NOISE}, do_compression=True)),
    "tiff": ("a.tif", "a.tif", write_tiff),
    "png": ("a.png", "a.png", lambda path: cv2.imwrite(str(path), PICTURE)),
}
"""File that is read, file with its pixels, and what writes both."""


def read(path: Path, rules: ReadRules = DEFAULT_RULES) -> Image:
    return read_image(path.parent, path.name, rules)


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_anywhere_in_compressed_pixels_is_refused(tmp_path: Path, kind: str) -> None:
    name, pixels, write = FORMATS[kind]
    write(tmp_path / name)
    read(tmp_path / name)
    good = (tmp_path / pixels).read_bytes()
    start = good.find(b"\n\n") + 2 if kind == "nrrd" else 700 if kind in ("mha", "tiff") else 100
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        at = start + int(share * (len(good) - start))
        for bad in (
            good[:at] + bytes(len(good) - at),
            good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :],
            good[:at],
            good[:-3] + bytes(3) if kind != "png" else good[:-3],
        ):
            (tmp_path / pixels).write_bytes(bad)
            with pytest.raises(CaseError, match=r"damaged|truncated"):
                read(tmp_path / name)


def test_strips_that_end_without_their_mark_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), PICTURE, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        assert page.compression == 5
        start, length = page.dataoffsets[0], page.databytecounts[0]
    good = path.read_bytes()
    assert (read(path).array == PICTURE).all()
    path.write_bytes(good[: start + length - 60] + bytes(60) + good[start + length :])
    with pytest.raises(CaseError, match="damaged TIFF"):
        read(path)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(NOISE.tobytes()) + bytes(512),  # what tapes and some disks fill blocks with
        gzip.compress(NOISE.tobytes()[:1001]) + gzip.compress(NOISE.tobytes()[1001:]),
    ],
)
def test_sound_streams_are_read_to_their_end(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.nrrd").write_bytes(NRRD + b"\n" + content)
    assert (read(tmp_path / "a.nrrd").array == NOISE).all()
    (tmp_path / "b.nhdr").write_bytes(NRRD + b"line skip: 1\nbyte skip: 0\ndata file: b.gz\n")
    (tmp_path / "b.gz").write_bytes(b"one line\n" + content)
    assert (read(tmp_path / "b.nhdr").array == NOISE).all()


def test_fewer_pixels_than_the_header_says_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(NRRD + b"\n" + gzip.compress(NOISE.tobytes()[:-2]))
    with pytest.raises(CaseError, match="its pixels are 18,358 bytes, its header says 18,360"):
        read(tmp_path / "a.nrrd")


def test_what_follows_the_pixels_is_bound_by_the_limits(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(NIFTI + bytes(1 << 22)))
    (tmp_path / "a.nrrd").write_bytes(NRRD + b"\n" + gzip.compress(NOISE.tobytes() + bytes(1 << 22)))
    for name in ("a.nii.gz", "a.nrrd"):
        assert (read(tmp_path / name).array == NOISE).all()
        with pytest.raises(CaseError, match=r"limits\.bytes"):
            read(tmp_path / name, ReadRules(bytes=1 << 20))
