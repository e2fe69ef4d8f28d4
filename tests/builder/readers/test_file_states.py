"""Which files are opened for a file of a source, and when they are read anew."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

from builder.readers.files import files_of, read_again
from builder.readers.rules import DEFAULT_RULES
from tests.support.nifti import write_nifti
from tests.support.volumes import ct_like


def write_metaimage(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array), path)


def write_cine(folder: Path, level: int) -> None:
    """A series folder of one DICOM file; files of another level have the same size and, by the clock, the same time."""
    folder.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(np.full((16, 16), level, np.int16))
    image.SetMetaData("0008|0060", "CT")
    image.SetMetaData("0020|000e", "1.2.3")
    sitk.WriteImage(image, folder / "0.dcm")
    os.utime(folder / "0.dcm", (1_000_000, 1_000_000))
    os.utime(folder, (1_000_000, 1_000_000))


def level_of(root: Path, file: str) -> int:
    return int(read_again(root, file, DEFAULT_RULES).array.flat[0])


def test_a_series_folder_that_changed_is_read_anew(tmp_path: Path) -> None:
    write_cine(tmp_path / "a", 1)
    assert level_of(tmp_path, "a/") == 1
    write_cine(tmp_path / "a", 2)
    assert level_of(tmp_path, "a/") == 2


def test_a_folder_that_stands_in_for_another_is_read_anew(tmp_path: Path) -> None:
    for level in (1, 2):
        write_cine(tmp_path / str(level), level)
    (tmp_path / "1").rename(tmp_path / "a")
    assert level_of(tmp_path, "a/") == 1
    (tmp_path / "a").rename(tmp_path / "old")
    (tmp_path / "2").rename(tmp_path / "a")
    assert level_of(tmp_path, "a/") == 2


def test_pixels_beside_a_header_that_changed_are_read_anew(tmp_path: Path) -> None:
    write_metaimage(tmp_path / "a.mhd", np.full((4, 4, 4), 1, np.uint8))
    assert level_of(tmp_path, "a.mhd") == 1
    time = (tmp_path / "a.raw").stat()
    (tmp_path / "a.raw").write_bytes(bytes([2]) * 64)
    os.utime(tmp_path / "a.raw", ns=(time.st_atime_ns, time.st_mtime_ns))
    assert level_of(tmp_path, "a.mhd") == 2


def test_what_did_not_change_is_kept(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", ct_like())
    first = read_again(tmp_path, "a.nii.gz", DEFAULT_RULES)
    assert read_again(tmp_path, "a.nii.gz", DEFAULT_RULES) is first


def test_every_file_that_is_opened_is_named(tmp_path: Path) -> None:
    write_metaimage(tmp_path / "a.mhd", np.zeros((4, 4, 4), np.uint8))
    write_metaimage(tmp_path / "a.nhdr", np.zeros((4, 4, 4), np.uint8))
    write_metaimage(tmp_path / "a.hdr", np.zeros((4, 4, 4), np.uint8))
    write_metaimage(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    write_cine(tmp_path / "s", 1)
    expected = {
        "a.mhd": ["a.mhd", "a.raw"],
        "a.nhdr": ["a.nhdr", "a.raw"],
        "a.img": ["a.hdr", "a.img"],
        "a.png": ["a.png"],
        "s/": ["s/0.dcm"],
    }
    for file, names in expected.items():
        found = [path.relative_to(tmp_path).as_posix() for path in files_of(tmp_path, file)]
        assert [name.removesuffix(".gz") for name in found] == names
