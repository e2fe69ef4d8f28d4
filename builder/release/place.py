"""Where a release lies: a folder, a zip or a split zip, and how a file of it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from isal import isal_zlib

from builder.errors import RecipeError, TransientError, UnreadableError
from builder.release.directory import DEFLATED, LOCAL, LOCAL_MARK, STORED, Directory, find_directory
from builder.release.parts import PartError, Parts, PartsFile
from builder.release.rows import Row

_MOST: Final = 1 << 28
"""Bytes of a picture: beyond any of the release, and what a bomb stops at."""
_RAW: Final = -15
"""Window of a deflated stream without header (zlib)."""
FILE: Final = 255
"""In the place of a zip's method: a file of a folder."""


class Reader(Protocol):
    """Reads files of a release."""

    def read(self, row: Row) -> bytes:
        """The content of a file.

        Raises:
            UnreadableError: It is not what the release says it is.
            TransientError: It cannot be read now.
        """
        ...


@dataclass(frozen=True)
class Place:
    """Where a release lies.

    Attributes:
        path: What the user named.
        archive: The parts of a zip, None for a folder.
        top: What the paths of its files begin with: in a zip a name such as ``SAMed2Dv1/``, in a folder nothing.
    """

    path: Path
    archive: Parts | None
    top: str

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self.path.name

    def open(self) -> Reader:
        """Open it for reading, in this process."""
        return _FolderReader(self.path) if self.archive is None else _ZipReader(self.archive, self.top)


class _FolderReader:
    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, row: Row) -> bytes:
        if row.size > _MOST:
            raise UnreadableError(f"it has {row.size:,} bytes, expected at most {_MOST:,}")
        try:
            data = (self._root / row.path).read_bytes()
        except FileNotFoundError:
            raise TransientError("it is no longer there; run the same command again") from None
        except OSError as error:
            raise TransientError(f"it cannot be read: {error.strerror or error}") from None
        if len(data) != row.size:
            raise TransientError(f"it has {len(data):,} bytes, {row.size:,} when it was listed; run the command again")
        return data


class _ZipReader:
    def __init__(self, parts: Parts, top: str) -> None:
        self._file, self._top = PartsFile(parts), top
        self._extra = 0

    def read(self, row: Row) -> bytes:
        if row.method not in (STORED, DEFLATED):
            raise UnreadableError(f"its compression method is {row.method}, expected 0 (stored) or 8 (deflated)")
        if max(row.size, row.packed) > _MOST:
            raise UnreadableError(f"it has {max(row.size, row.packed):,} bytes, expected at most {_MOST:,}")
        if row.method == STORED and row.packed != row.size:
            raise UnreadableError(f"it is stored in {row.packed:,} bytes, the archive says that it has {row.size:,}")
        data = self._packed(row)
        content = bytes(data) if row.method == STORED else _inflated(data, row.size)
        if isal_zlib.crc32(content) != row.crc32:
            raise UnreadableError("damaged: its check sum (CRC-32) is not what the archive says; fetch the part again")
        return content

    def _packed(self, row: Row) -> memoryview:
        """A member as it is packed, once what is said in front of it has been compared."""
        said = f"{self._top}{row.path}"
        names = said.encode("utf-8", "surrogateescape"), said.encode("cp437", "replace")
        whole = self._begin(row, LOCAL.size + len(names[0]) + self._extra + row.packed)
        mark, _, flags, _, _, _, _, _, _, named, extra = LOCAL.unpack_from(whole)
        if mark != LOCAL_MARK:
            raise UnreadableError("damaged: it does not lie where the archive says; fetch the part again")
        if flags & 1:
            raise UnreadableError("it is encrypted")
        start = LOCAL.size + named + extra
        if start + row.packed > len(whole):
            whole += self._file.read_at(row.address + len(whole), start + row.packed - len(whole))
        name = whole[LOCAL.size : LOCAL.size + named]
        if name not in names:
            raise UnreadableError(f"the archive has {name.decode('utf-8', 'replace')!r:.120} in its place")
        self._extra = extra
        return memoryview(whole)[start : start + row.packed]

    def _begin(self, row: Row, usual: int) -> bytes:
        """All of a member at once, if its extra field is as long as that of the one before; else less of it."""
        try:
            return self._file.read_at(row.address, usual)
        except PartError:  # the member may end before
            return self._file.read_at(row.address, LOCAL.size)


def _inflated(data: memoryview, size: int) -> bytes:
    """A deflated member, of which no more is inflated than it may have."""
    stream = isal_zlib.decompressobj(_RAW)
    try:
        content: bytes = stream.decompress(data, size + 1)
    except isal_zlib.error as error:  # type: ignore[misc]
        raise UnreadableError(f"damaged: it cannot be inflated ({error}); fetch the part again") from None
    if len(content) > size:
        raise UnreadableError(
            f"damaged: it inflates to more than the {size:,} bytes that the archive says; fetch the part again"
        )
    if len(content) < size or not stream.eof:
        raise UnreadableError(f"damaged: it inflates to {len(content):,} bytes, the archive says {size:,}")
    return content


def archive_of(path: Path) -> Directory | None:
    """The archive that a release is, None for an unpacked folder.

    A folder that holds no ``images`` but one zip is the folder of a download.

    Raises:
        RecipeError: There is nothing of the kind.
    """
    if not path.exists():
        raise RecipeError([f"{path}: no such file or folder"])
    if path.is_file():
        return find_directory(path)
    if _top_folder(path) is not None:
        return None
    zips = sorted(path.glob("*.zip"))
    if len(zips) == 1:
        return find_directory(zips[0])
    if zips:
        raise RecipeError([f"{path}: holds {len(zips)} zips; name the one that is the release"])
    parts = sorted(path.glob("*.z[0-9][0-9]"))
    if parts:
        raise RecipeError([f"{path}: holds {parts[0].name} but no .zip, which is the last part; fetch it too"])
    raise RecipeError([f"{path}: holds neither the folder images nor a zip of the release"])


def root_of(path: Path) -> Path:
    """The folder that holds ``images`` of an unpacked release."""
    return _top_folder(path) or path


def _top_folder(path: Path) -> Path | None:
    if (path / "images").is_dir():
        return path
    return next((folder for folder in _subfolders(path) if (folder / "images").is_dir()), None)


def _subfolders(path: Path) -> Iterator[Path]:
    yield from sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
