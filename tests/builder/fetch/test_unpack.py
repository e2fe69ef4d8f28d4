"""Archives of every kind are unpacked, and those that could do harm are not."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import py7zr
import pytest

from tests.support.command import Command
from tests.support.file_host import FileHost
from tests.support.output import tree

Recipe = Callable[..., Path]
FILES = {"set/images/a.txt": b"image", "set/labels/a.txt": b"mask" * 1000, "readme.txt": b"read me"}


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def seven(files: dict[str, bytes], password: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w", password=password) as archive:
        for name, content in files.items():
            archive.writestr(content, name)
    return buffer.getvalue()


def rar(files: dict[str, bytes], method: int = 0) -> bytes:
    """A RAR 5 archive by its technical note (rarlab.com/technote.htm); its files are stored, whatever the method says."""

    def number(value: int) -> bytes:
        low, rest = value & 127, value >> 7
        return bytes([low | 128]) + number(rest) if rest else bytes([low])

    def block(*fields: int | bytes) -> bytes:
        body = b"".join(number(field) if isinstance(field, int) else field for field in fields)
        sized = number(len(body)) + body
        return struct.pack("<I", zlib.crc32(sized)) + sized

    parts = [b"Rar!\x1a\x07\x01\x00", block(1, 0, 0)]
    for path, content in files.items():
        name, crc = path.encode(), struct.pack("<I", zlib.crc32(content))
        size = len(content)
        parts += [block(2, 2, size, 4, size, 0o100644, crc, method << 7, 1, len(name), name), content]
    return b"".join([*parts, block(5, 0, 0)])


KINDS = [
    ("zip", "scans.zip", zipped(FILES)),
    ("zip", "stored.zip", zipped(FILES, zipfile.ZIP_STORED)),
    ("tar", "scans.tar", tarred(FILES)),
    ("tar", "scans.tar.gz", tarred(FILES, "w:gz")),
    ("tar", "scans.tar.bz2", tarred(FILES, "w:bz2")),
    ("tar", "scans.tar.xz", tarred(FILES, "w:xz")),
    ("7z", "scans.7z", seven(FILES)),
]


@pytest.mark.parametrize(("kind", "name", "content"), KINDS, ids=[name for _, name, _ in KINDS])
def test_each_kind_is_unpacked(
    kind: str, name: str, content: bytes, host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    file = recipe({"url": host.add(f"/{name}", content), "archive": kind, "folder": "into"})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 0, ran.err
    assert tree(tmp_path / "raw/Small/into") == FILES
    asked = dict(host.asked)
    hidden = [path for path in (tmp_path / "raw/Small/.fetched").rglob("*") if path.is_file()]
    assert [path.suffix for path in hidden if path.name != "lock"] == [".json"]  # the archive is gone
    assert sa_med2d("fetch", file, "--raw", tmp_path / "raw").code == 0
    assert host.asked == asked


def test_one_folder_of_an_archive_is_unpacked(
    host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    file = recipe({"url": host.add("/x.zip", zipped(FILES)), "archive": "zip", "inside": "set"})
    assert sa_med2d("fetch", file, "--raw", tmp_path / "raw", "--keep-archives").code == 0
    assert tree(tmp_path / "raw/Small", "images", "labels") == {
        "images/a.txt": b"image",
        "labels/a.txt": b"mask" * 1000,
    }
    assert not (tmp_path / "raw/Small/readme.txt").exists()
    assert zipfile.is_zipfile(tmp_path / "raw/Small/.fetched/archives/x.zip")


def test_a_folder_that_is_not_in_it_is_told(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    file = recipe({"url": host.add("/x.zip", zipped(FILES)), "archive": "zip", "inside": "Set"})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "expected a folder 'Set' in it, it holds readme.txt, set" in ran.err


def test_one_compressed_file_is_unpacked(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    file = recipe({"url": host.add("/a.csv.gz", gzip.compress(b"1,2")), "archive": "gz"})
    assert sa_med2d("fetch", file, "--raw", tmp_path / "raw").code == 0
    assert (tmp_path / "raw/Small/a.csv").read_bytes() == b"1,2"


def linked(kind: bytes, target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("here")
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return buffer.getvalue()


def linked_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("here")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def linked_7z(folder: Path) -> bytes:
    (folder / "link").symlink_to("/etc/passwd")
    with py7zr.SevenZipFile(folder / "x.7z", "w") as archive:
        archive.write(folder / "link", "link")
    return (folder / "x.7z").read_bytes()


def huge_tar() -> bytes:
    info = tarfile.TarInfo("huge")
    info.size = 10**17
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def understated_zip() -> bytes:
    """A zip whose table says 3 bytes for a member of 4,000."""
    content = bytearray(zipped({"a": b"mask" * 1000}))
    at = content.index(b"PK\1\2")
    content[at + 24 : at + 28] = struct.pack("<I", 3)
    return bytes(content)


def encrypted_zip() -> bytes:
    content = bytearray(zipped({"a": b"mask"}))
    for magic, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        content[content.index(magic) + offset] |= 1
    return bytes(content)


HARMFUL = [
    ("zip", zipped({"../../out.txt": b"x"}), "leaves the folder"),
    ("zip", zipped({"..\\out.txt": b"x"}), "leaves the folder"),
    ("zip", zipped({"C:\\out.txt": b"x"}), "leaves the folder"),
    ("tar", tarred({"/tmp/out.txt": b"x"}), "leaves the folder"),  # noqa: S108 - never written
    ("tar", tarred({"a/../../out.txt": b"x"}), "leaves the folder"),
    ("tar", linked(tarfile.SYMTYPE, "/etc"), "'here' in it is a link"),
    ("tar", linked(tarfile.LNKTYPE, "/etc/passwd"), "'here' in it is a link"),
    ("tar", linked(tarfile.CHRTYPE, ""), "'here' in it is a device"),
    ("tar", linked(tarfile.FIFOTYPE, ""), "'here' in it is a device, a pipe"),
    ("zip", linked_zip(), "'here' in it is a link"),
    ("tar", huge_tar(), "unpacked it is 100000.0 TB"),
    ("zip", understated_zip(), "it is no zip archive, or a damaged one"),
    ("zip", encrypted_zip(), "it is encrypted"),
    ("7z", seven({"a": b"x"}, "secret"), "it is encrypted"),
    ("zip", b"no archive", "it is no zip archive, or a damaged one"),
    ("tar", b"no archive" * 100, "it is no tar archive, or a damaged one"),
    ("gz", b"no archive", "it is no gz archive, or a damaged one"),
    ("7z", b"no archive" * 100, "it is no 7z archive, or a damaged one"),
    ("rar", b"no archive", "it is no RAR archive, or a damaged one"),
    ("tar", tarred(FILES, "w:gz")[:-40], "it is no tar archive, or a damaged one"),
    ("zip", zipped({"a": b"x", "a/b": b"y"}), "stands there as a file and as a folder"),
    ("zip", zipped({}), "it holds no file"),
]


SPOILED = [*KINDS, ("rar", "scans.rar", rar(FILES)), ("gz", "scans.gz", gzip.compress(b"mask" * 1000))]


@pytest.mark.parametrize(("kind", "name", "content"), SPOILED, ids=[name for _, name, _ in SPOILED])
def test_whatever_is_spoiled_is_told(
    kind: str, name: str, content: bytes, host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    chance = random.Random(name)
    for number in range(12):
        spoiled = bytearray(content)
        for _ in range(3):
            at = chance.randrange(len(spoiled))
            spoiled[at] ^= chance.randrange(1, 256)
        file = recipe({"url": host.add(f"/{number}", bytes(spoiled)), "archive": kind, "folder": f"{number}"})
        ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
        assert ran.code == 0 or ran.err.startswith("error: Small: "), ran.err
        assert "Traceback" not in ran.err


def test_a_method_that_is_not_known_is_told(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    content = bytearray(zipped({"a": b"mask"}))
    for magic, offset in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
        content[content.index(magic) + offset] = 9  # Deflate64, by APPNOTE.TXT of PKWARE, 4.4.5
    ran = sa_med2d(
        "fetch", recipe({"url": host.add("/x", bytes(content)), "archive": "zip"}), "--raw", tmp_path / "raw"
    )
    assert ran.code == 1
    assert "unpack it by hand, as with 7z" in ran.err


@pytest.mark.parametrize(("kind", "content", "said"), HARMFUL)
def test_what_could_do_harm_is_refused(
    kind: str, content: bytes, said: str, host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    file = recipe({"url": host.add("/x", content), "archive": kind})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert said in ran.err
    assert "Traceback" not in ran.err
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and ".fetched" not in path.parts]
    assert outside == [file]
    assert {path.name for path in (tmp_path / "raw/Small/.fetched").rglob("*") if path.is_file()} <= {
        "x",
        "x.wrong",
        "lock",
    }


def test_a_link_in_a_7z_is_refused(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    file = recipe({"url": host.add("/x.7z", linked_7z(made)), "archive": "7z"})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "'link' in it is a link" in ran.err


def test_a_damaged_archive_is_fetched_again(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    file = recipe({"url": host.add("/x.zip", zipped(FILES)[:-30]), "archive": "zip"})
    assert sa_med2d("fetch", file, "--raw", tmp_path / "raw").code == 1
    host.add("/x.zip", zipped(FILES))
    assert sa_med2d("fetch", file, "--raw", tmp_path / "raw").code == 0
    assert (tmp_path / "raw/Small/readme.txt").read_bytes() == b"read me"


def test_a_rar_is_unpacked(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    file = recipe({"url": host.add("/x.rar", rar(FILES)), "archive": "rar", "folder": "into"})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 0, ran.err
    assert tree(tmp_path / "raw/Small/into") == FILES


def test_a_rar_that_leaves_the_folder_is_refused(
    host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    file = recipe({"url": host.add("/x.rar", rar({"../out.txt": b"x"})), "archive": "rar"})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "leaves the folder" in ran.err


@pytest.mark.skipif(
    any(map(shutil.which, ("unrar", "unar", "bsdtar", "7z", "7zz"))), reason="a program here unpacks RAR archives"
)
def test_the_programs_that_unpack_a_rar_are_named(
    host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    file = recipe({"url": host.add("/x.rar", rar(FILES, method=3)), "archive": "rar"})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "install unrar, unar, 7z or bsdtar" in ran.err
    assert (tmp_path / "raw/Small/.fetched/archives/x.rar").exists()
