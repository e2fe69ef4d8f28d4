"""What is in an archive, one member after another, whatever its kind."""

from __future__ import annotations

import gzip
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from builder.fetch.fault import DamagedError, FetchError

if TYPE_CHECKING:
    import py7zr


@dataclass(frozen=True)
class Member:
    """One member of an archive.

    Attributes:
        name: As the archive spells it.
        size: Its bytes as the archive declares them; None where it cannot say.
        kind: ``file``, ``folder``, ``link``, or ``special``: a device, a pipe, a socket.
        open: Opens its content.
    """

    name: str
    size: int | None
    kind: str
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Content:
    """What an archive holds.

    Attributes:
        members: In the order of the archive.
        declared: Bytes of all files as the archive's table declares them; None where it has no table.
        damaged: What its library raises, while members are listed and read, over a damaged archive.
    """

    members: Iterator[Member]
    declared: int | None
    damaged: tuple[type[Exception], ...]


DAMAGED: Final = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, LZMAError, ValueError)
"""What the standard library raises over a damaged archive; ValueError over names that it cannot decode."""


def _nothing() -> IO[bytes]:
    raise AssertionError("only files are opened")


def content_of(path: Path, kind: str, scratch: Path) -> Content:
    """Look into an archive.

    Args:
        path: The archive.
        kind: One of `builder.sources.download.ARCHIVES`.
        scratch: A folder for what a library can only write to disk.

    Raises:
        FetchError: It is encrypted, or what reads it is missing.
    """
    return _KINDS[kind](path, scratch)


def _zip(path: Path, _: Path) -> Content:
    archive = zipfile.ZipFile(path)
    entries = archive.infolist()
    if any(entry.flag_bits & 1 for entry in entries):
        raise _encrypted()

    def members() -> Iterator[Member]:
        with archive:
            for entry in entries:
                yield Member(entry.filename, entry.file_size, _kind_of_zip(entry), partial(archive.open, entry))

    return Content(members(), sum(entry.file_size for entry in entries), DAMAGED)


def _kind_of_zip(entry: zipfile.ZipInfo) -> str:
    if entry.is_dir():
        return "folder"
    return _kind_of_mode(entry.external_attr >> 16) if entry.create_system == 3 else "file"


def _kind_of_mode(mode: int) -> str:
    """The kind of a file by the upper bits of its Unix mode; 0 where the archive does not say."""
    return {0o120: "link", 0o040: "folder", 0o100: "file", 0: "file"}.get(mode >> 9, "special")


def _tar(path: Path, _: Path) -> Content:
    archive = tarfile.open(path)  # noqa: SIM115 - it is open for as long as members are asked for

    def members() -> Iterator[Member]:
        with archive:
            for entry in archive:
                kind = "file" if entry.isfile() else "folder" if entry.isdir() else "special"
                kind = "link" if entry.issym() or entry.islnk() else kind
                yield Member(entry.name, entry.size, kind, partial(_of_tar, archive, entry))

    return Content(members(), None, DAMAGED)


def _of_tar(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    return archive.extractfile(entry) or _nothing()


def _gz(path: Path, _: Path) -> Content:
    name = path.name.removesuffix(".gz") if path.name.endswith(".gz") else f"{path.name}.unpacked"
    return Content(iter([Member(name, None, "file", partial(_of_gz, path))]), None, DAMAGED)


def _of_gz(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb"))


def _of_folder(path: Path) -> IO[bytes]:
    return path.open("rb")


def _seven(path: Path, scratch: Path) -> Content:
    import py7zr  # noqa: PLC0415 - only such archives need it

    try:
        with py7zr.SevenZipFile(path) as archive:
            if archive.needs_password():
                raise _encrypted()
            entries = archive.list()
    except py7zr.PasswordRequired:
        raise _encrypted() from None
    except (py7zr.Bad7zFile, py7zr.exceptions.ArchiveError) as error:
        raise DamagedError(f"it is no 7z archive, or a damaged one: {error}") from None
    declared = sum(entry.uncompressed for entry in entries)
    return Content(_members_of_seven(path, entries, scratch), declared, (*DAMAGED, py7zr.exceptions.ArchiveError))


def _members_of_seven(path: Path, entries: list[py7zr.FileInfo], scratch: Path) -> Iterator[Member]:
    import py7zr  # noqa: PLC0415

    for entry in entries:
        kind = (
            "folder" if entry.is_directory else "link" if entry.is_symlink else "file" if entry.is_file else "special"
        )
        if kind != "file":
            yield Member(entry.filename, entry.uncompressed, kind, _nothing)
    # its streams are solid: all files are unpacked at once, into a folder of their own that holds nothing else
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".unpacking-") as folder:
        declared = sum(entry.uncompressed for entry in entries)
        with py7zr.SevenZipFile(path, max_extract_size=max(1, declared)) as archive:
            archive.extractall(folder)  # noqa: S202 - links are refused above, and py7zr refuses what leaves the folder
        for entry in entries:
            if entry.is_file and not entry.is_symlink:
                place = Path(folder, entry.filename)
                yield Member(entry.filename, entry.uncompressed, "file", partial(_of_folder, place))


def _rar(path: Path, _: Path) -> Content:
    import rarfile  # type: ignore[import-untyped]  # noqa: PLC0415 - only such archives need it

    try:
        archive = rarfile.RarFile(path)
    except rarfile.Error as error:
        raise DamagedError(f"it is no RAR archive, or a damaged one: {error}") from None
    if archive.needs_password():
        raise _encrypted()
    if any(entry.compress_type != rarfile.RAR_M0 for entry in archive.infolist()):  # others are stored as they are
        _need_program()

    def members() -> Iterator[Member]:
        with archive:
            for entry in archive.infolist():
                kind = (
                    "folder"
                    if entry.is_dir()
                    else "link"
                    if entry.is_symlink()
                    else "file"
                    if entry.is_file()
                    else "special"
                )
                yield Member(entry.filename, entry.file_size, kind, partial(archive.open, entry))

    return Content(members(), sum(entry.file_size for entry in archive.infolist()), (*DAMAGED, rarfile.Error))


def _need_program() -> None:
    import rarfile  # noqa: PLC0415

    try:
        rarfile.tool_setup()
    except rarfile.RarCannotExec:
        raise FetchError(
            "no program here unpacks RAR: install unrar, unar, 7z or bsdtar, which the system's packages have, "
            "and run the same command again"
        ) from None


def _encrypted() -> FetchError:
    return FetchError("it is encrypted; unpack it by hand with the password that its source gives")


_KINDS: Final[dict[str, Callable[[Path, Path], Content]]] = {
    "zip": _zip,
    "tar": _tar,
    "gz": _gz,
    "7z": _seven,
    "rar": _rar,
}
"""Kind of archive -> what looks into it."""
