"""A source of somebody else may name any file of the machine: none but its own regular files are opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

from builder.annotations.segments import DEFAULT_REQUEST, read_named_masks
from builder.errors import CaseError
from builder.readers.files import carries_identifiers, read_header, read_image
from builder.readers.image import Volume
from builder.readers.rules import DEFAULT_RULES
from tests.support.command import Command
from tests.support.output import members
from tests.support.sources import write_source

SECRET = bytes(range(16))
"""The pixels that must not get out: 4 x 4 of 8 bit, or 1 x 4 x 4."""
META = "ObjectType = Image\nNDims = {n}\nDimSize = {size}\nElementType = MET_UCHAR\n"
FLAT, DEEP = META.format(n=2, size="4 4"), META.format(n=3, size="4 4 1")
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 1\nencoding: raw\n"


def write(path: Path, text: str) -> None:
    path.write_bytes(os.fsencode(text))


def meta(ending: str) -> Callable[[Path, Path], None]:
    return lambda path, secret: write(path / "a.mhd", DEEP + ending.format(secret=secret))


def nrrd(ending: str) -> Callable[[Path, Path], None]:
    return lambda path, secret: write(path / "a.nhdr", NRRD + ending.format(secret=secret))


def linked_member_of_a_pattern(kind: str) -> Callable[[Path, Path], None]:
    def prepare(path: Path, secret: Path) -> None:
        (path / "s1.bin").symlink_to(secret)
        if kind == "mhd":
            write(path / "a.mhd", DEEP + "ElementDataFile = s%d.bin 1 1 1\n")
        else:
            write(path / "a.nhdr", NRRD + "data file: s%d.bin 1 1 1 2\n\n")

    return prepare


def linked_pixels(path: Path, secret: Path) -> None:
    (path / "a.raw").symlink_to(secret)
    write(path / "a.mhd", DEEP + "ElementDataFile = a.raw\n")


def linked_folder(path: Path, secret: Path) -> None:
    (path / "below").symlink_to(secret.parent)
    write(path / "a.mhd", DEEP + f"ElementDataFile = below/{secret.name}\n")


def linked(name: str, text: str, decoy: str | None = None) -> Callable[[Path, Path], None]:
    """A link under a name that ITK takes a header to mean, and a file of the source under the name it seems to mean."""

    def prepare(path: Path, secret: Path) -> None:
        (path / name).symlink_to(secret)
        if decoy is not None:
            (path / decoy).write_bytes(bytes(16))
        write(path / ("a.nhdr" if text.startswith("NRRD") else "a.mhd"), text)

    return prepare


def linked_half_of_a_pair(half: str) -> Callable[[Path, Path], None]:
    def prepare(path: Path, secret: Path) -> None:
        sitk.WriteImage(sitk.GetImageFromArray(np.frombuffer(SECRET, np.uint8).reshape(1, 4, 4)), path / "a.hdr")
        (path / f"a.{half}").rename(secret.with_suffix(f".{half}"))
        (path / f"a.{half}").symlink_to(secret.with_suffix(f".{half}"))

    return prepare


def linked_member_of_a_series(path: Path, secret: Path) -> None:
    (path / "s").mkdir()
    image = sitk.GetImageFromArray(np.frombuffer(SECRET, np.uint8).reshape(4, 4))
    sitk.WriteImage(image, secret.with_suffix(".dcm"))
    (path / "s/0.dcm").symlink_to(secret.with_suffix(".dcm"))


HOSTILE: dict[str, Callable[[Path, Path], None]] = {
    "name": meta("ElementDataFile = {secret}\n"),
    "list": meta("ElementDataFile = LIST\n{secret}\n"),
    "list with a size": meta("ElementDataFile = LIST 2\n{secret}\n"),
    "list cut by a NUL": meta("ElementDataFile = LIST\n{secret}\0x\n"),
    "name cut by a NUL": meta("ElementDataFile = {secret}\0x\n"),
    "name with a tail that ITK cuts off": meta("ElementDataFile = {secret}\u00e9\n"),
    "list behind many lines": meta("ElementDataFile = LIST\n" + "\n" * (1 << 17) + "{secret}\n"),
    "name behind a long header": meta("Comment = x\n" * 8000 + "ElementDataFile = {secret}\n"),
    "name behind a field without a value": meta("Comment =\nElementDataFile = LOCAL\nElementDataFile = {secret}\n"),
    "name behind a carriage return": meta("Comment = x\rElementDataFile = {secret}\nElementDataFile = LOCAL\n"),
    "name behind a colon": meta("ElementDataFile : {secret}\n"),
    "name behind spaces": meta("  ElementDataFile   =   {secret}\n"),
    "pattern": meta("ElementDataFile = {secret}%d 1 1 1\n"),
    "pattern of text": meta("ElementDataFile = %s{secret} 1 1 1\n"),
    "linked member of a pattern": linked_member_of_a_pattern("mhd"),
    "linked pixels": linked_pixels,
    "name behind signs that MetaIO skips": meta("ElementDataFile = :={secret}\n"),
    "list entry with a blank in front": linked(" x.raw", DEEP + "ElementDataFile = LIST\n x.raw\n", "x.raw"),
    "list entry that is no pattern": linked("s%d.bin", DEEP + "ElementDataFile = LIST\ns%d.bin\n"),
    "name in front of a blank of no ASCII": linked("x.raw", DEEP + "ElementDataFile = x.raw\u00a0\n", "x.raw\u00a0"),
    "name behind a blank of no ASCII": linked("\u00a0x", DEEP + "ElementDataFile = \u00a0x\n", "x"),
    "NRRD: list entry with a blank in front": linked(" x", NRRD + "data file: LIST\n x\n", "x"),
    "NRRD: list entry with a blank behind": linked("x ", NRRD + "data file: LIST\nx \n", "x"),
    "NRRD: list entry that is no pattern": linked("s%d.bin", NRRD + "data file: LIST\ns%d.bin\n"),
    "linked folder": linked_folder,
    "NRRD: name": nrrd("data file: {secret}\n\n"),
    "NRRD: name in capitals": nrrd("DATA FILE: {secret}\n\n"),
    "NRRD: name in one word": nrrd("datafile: {secret}\n\n"),
    "NRRD: list": nrrd("data file: LIST\n{secret}\n"),
    "NRRD: list with a size": nrrd("data file: LIST 2\n{secret}\n"),
    "NRRD: name behind a long header": nrrd("# x\n" * 30000 + "data file: {secret}\n\n"),
    "NRRD: name behind a carriage return": nrrd("# x\rdata file: {secret}\n\n"),
    "NRRD: linked member of a pattern": linked_member_of_a_pattern("nhdr"),
    "pair: linked pixels": linked_half_of_a_pair("img"),
    "pair: linked header": linked_half_of_a_pair("hdr"),
    "linked member of a series": linked_member_of_a_series,
}


@pytest.mark.parametrize("way", HOSTILE)
def test_no_file_outside_of_the_source_is_read(tmp_path: Path, way: str) -> None:
    root, secret = tmp_path / "source", tmp_path / "secret.raw"
    root.mkdir()
    secret.write_bytes(SECRET)
    (tmp_path / "secret.raw1").write_bytes(SECRET)
    HOSTILE[way](root, secret)
    [file] = [path.name for path in root.iterdir() if path.name in ("a.mhd", "a.nhdr", "a.hdr", "s")]
    for read in (read_image, read_header):
        with pytest.raises(CaseError) as caught:
            read(root, file, DEFAULT_RULES)
        assert caught.value.stage == "read"
        assert "secret" not in caught.value.reason


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.mhd", DEEP + "ElementDataFile = below/s1.bin\n"),
        ("a.mhd", DEEP + "\nComment = a: b = c\nElementDataFile = LIST\nbelow/s1.bin\n"),
        ("a.mhd", DEEP + "ElementDataFile = below/s%d.bin 1 1 1\n"),
        ("a.mhd", DEEP + "ElementDataFile = below/link.bin\n"),
        ("a.nhdr", NRRD + "# data file: /x\nkey:=data file: /x\ndata file: below/s1.bin\n\n"),
        ("a.nhdr", NRRD + "data file: LIST\nbelow/s1.bin\n"),
        ("a.nhdr", NRRD + "data file: below/s%d.bin 1 1 1 2\n\n"),
        ("a.nhdr", (NRRD + "data file: below/s1.bin\n\n").replace("\n", "\r\n")),
    ],
)
def test_files_of_the_source_are_read_wherever_they_lie(tmp_path: Path, name: str, header: str) -> None:
    """Also through links that stay within it, as DataLad and git-annex put every file of a dataset."""
    (tmp_path / "one/below").mkdir(parents=True)
    (tmp_path / "annex").mkdir()
    (tmp_path / "annex/s1.bin").write_bytes(SECRET)
    (tmp_path / "one/below/s1.bin").write_bytes(SECRET)
    (tmp_path / "one/below/link.bin").symlink_to("../../annex/s1.bin")
    write(tmp_path / "one" / name, header)
    image = read_image(tmp_path, f"one/{name}", DEFAULT_RULES)
    assert isinstance(image, Volume)
    assert image.array.tobytes() == SECRET


@pytest.mark.parametrize("name", ["a", "a.png", "a.nii", "a.dcm", "a.mhd", "a.json", "a.txt", "s/a.dcm"])
def test_a_pipe_is_refused_and_does_not_hang(tmp_path: Path, name: str) -> None:
    (tmp_path / "s").mkdir()
    os.mkfifo(tmp_path / name)
    carries_identifiers(tmp_path, name)
    for read in (read_image, read_header):
        with pytest.raises(CaseError, match="it is no regular file"):
            read(tmp_path, name, DEFAULT_RULES)
    with pytest.raises(CaseError, match="it is no regular file"):
        read_named_masks(tmp_path, name, DEFAULT_REQUEST)
    with pytest.raises(CaseError, match="it holds no file"):
        read_image(tmp_path, "s/", DEFAULT_RULES)


def test_a_pipe_that_a_header_names_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.raw")
    write(tmp_path / "a.mhd", DEEP + "ElementDataFile = a.raw\n")
    with pytest.raises(CaseError, match="a pipe, a socket or a device"):
        read_image(tmp_path, "a.mhd", DEFAULT_RULES)


def test_a_pipe_costs_its_own_case(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=3)
    for name in ("images/case00.nii.gz", "labels/case01.nii.gz"):
        (tmp_path / "raw/Small" / name).unlink()
        os.mkfifo(tmp_path / "raw/Small" / name)
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 3
    for name in ("images/case00.nii.gz", "labels/case01.nii.gz"):
        assert f"{name}: read: it is no regular file" in ran.err
    assert {member.split("--")[2] for member, _ in members(tmp_path / "out")} == {"case02"}
