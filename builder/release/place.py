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
_PIECE: Final = 4 << 20
"""Bytes that are read, or inflated, at once of what may be too large for memory."""
_EXTRA: Final = 64
"""Bytes of a member's extra field that are read along with it: Info-ZIP's has 28, with zip64 48."""
FILE: Final = 255
"""In the place of a zip's method: a file of a folder."""
ABSENT, BEYOND, ENCRYPTED, REPEATED, SHARED = range(250, 255)
REFUSED: Final = {
    ABSENT: "it is not there, though the release lists it",
    BEYOND: "it would end behind all members, so its offset or size in the archive is wrong",
    ENCRYPTED: "it is encrypted",
    REPEATED: "the archive has several members of this name with other contents",
    SHARED: "it shares bytes of the archive with another member, as in a bomb",
}
"""In the place of a zip's method: what is known before a member is read, and why it never is."""


class Reader(Protocol):
    """Reads files of a release."""

    def read(self, row: Row) -> bytes:
        """The content of a file.

        Raises:
            UnreadableError: It is not what the release says it is.
            TransientError: It cannot be read now.
        """
        ...

    def pieces(self, row: Row) -> Iterator[bytes]:
        """The content of a file of any size, in pieces; raises as `read` does, perhaps when all have been given."""
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

    def pieces(self, row: Row) -> Iterator[bytes]:
        try:
            with (self._root / row.path).open("rb") as file:
                while data := file.read(_PIECE):
                    yield data
        except OSError as error:
            raise TransientError(f"it cannot be read: {error.strerror or error}") from None

    def read(self, row: Row) -> bytes:
        if row.method in REFUSED:
            raise UnreadableError(REFUSED[row.method])
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

    def read(self, row: Row) -> bytes:
        _refuse(row)
        if max(row.size, row.packed) > _MOST:
            raise UnreadableError(f"it has {max(row.size, row.packed):,} bytes, expected at most {_MOST:,}")
        data = self._packed(row)
        content = bytes(data) if row.method == STORED else _inflated(data, row.size)
        if isal_zlib.crc32(content) != row.crc32:
            raise UnreadableError(_OTHER_SUM)
        return content

    def pieces(self, row: Row) -> Iterator[bytes]:
        _refuse(row)
        whole = self._begin(row, LOCAL.size + len(self._names(row)[0]) + _EXTRA)
        at = row.address + self._start(row, whole)
        stream = isal_zlib.decompressobj(_RAW) if row.method == DEFLATED else None
        size = crc = 0
        for content in _unpacked(self._file, at, row.packed, stream):
            size, crc = size + len(content), isal_zlib.crc32(content, crc)
            if size > row.size:
                raise UnreadableError(_TOO_LARGE.format(row.size))
            yield content
        if crc != row.crc32:
            raise UnreadableError(_OTHER_SUM)

    def _names(self, row: Row) -> tuple[bytes, bytes]:
        """What a member may be called in front of it."""
        said = f"{self._top}{row.path}"
        return said.encode("utf-8", "surrogateescape"), said.encode("cp437", "replace")

    def _packed(self, row: Row) -> memoryview:
        """A member as it is packed, once what is said in front of it has been compared."""
        whole = self._begin(row, LOCAL.size + len(self._names(row)[0]) + _EXTRA + row.packed)
        start = self._start(row, whole)
        if start + row.packed > len(whole):
            whole += self._file.read_at(row.address + len(whole), start + row.packed - len(whole))
        return memoryview(whole)[start : start + row.packed]

    def _start(self, row: Row, whole: bytes) -> int:
        """Where a member begins behind what is said in front of it, once that has been compared."""
        mark, _, flags, _, _, _, _, _, _, named, extra = LOCAL.unpack_from(whole)
        if mark != LOCAL_MARK:
            raise UnreadableError("damaged: it does not lie where the archive says; fetch the part again")
        if flags & 1:
            raise UnreadableError(REFUSED[ENCRYPTED])
        name = whole[LOCAL.size : LOCAL.size + named]
        if len(name) < named:
            name += self._file.read_at(row.address + len(whole), named - len(name))
        if name not in self._names(row):
            raise UnreadableError(f"the archive has {name.decode('utf-8', 'replace')!r:.120} in its place")
        return LOCAL.size + int(named) + int(extra)

    def _begin(self, row: Row, size: int) -> bytes:
        """The beginning of a member: as much as is asked for, or its header where parts end before."""
        try:
            return self._file.read_at(row.address, size)
        except PartError:  # the member itself may end before
            return self._file.read_at(row.address, LOCAL.size)


_OTHER_SUM: Final = "damaged: its check sum (CRC-32) is not what the archive says; fetch the part again"
_TOO_LARGE: Final = "damaged: it inflates to more than the {:,} bytes that the archive says; fetch the part again"
_NOT_INFLATED: Final = "damaged: it cannot be inflated ({}); fetch the part again"


def _refuse(row: Row) -> None:
    """Refuse a member that the directory alone shows to be none that can be read."""
    if row.method in REFUSED:
        raise UnreadableError(REFUSED[row.method])
    if row.method not in (STORED, DEFLATED):
        raise UnreadableError(f"its compression method is {row.method}, expected 0 (stored) or 8 (deflated)")
    if row.method == STORED and row.packed != row.size:
        raise UnreadableError(f"it is stored in {row.packed:,} bytes, the archive says that it has {row.size:,}")


def _unpacked(file: PartsFile, address: int, size: int, stream: isal_zlib.Decompress | None) -> Iterator[bytes]:
    """A packed range of an archive as its content, of which no more than a piece is held."""
    for at in range(address, address + size, _PIECE):
        data = file.read_at(at, min(_PIECE, address + size - at))
        if stream is None:
            yield data
            continue
        try:
            while data and not stream.eof:
                yield stream.decompress(data, _PIECE)
                data = stream.unconsumed_tail
        except isal_zlib.error as error:  # type: ignore[misc]
            raise UnreadableError(_NOT_INFLATED.format(error)) from None
    if stream is not None:
        yield stream.flush()


def _inflated(data: memoryview, size: int) -> bytes:
    """A deflated member, of which no more is inflated than it may have."""
    stream = isal_zlib.decompressobj(_RAW)
    try:
        content: bytes = stream.decompress(data, size + 1)
    except isal_zlib.error as error:  # type: ignore[misc]
        raise UnreadableError(_NOT_INFLATED.format(error)) from None
    if len(content) > size:
        raise UnreadableError(_TOO_LARGE.format(size))
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
    if not path.is_dir():
        raise RecipeError([f"{path}: is neither a file nor a folder"])
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
    """The folder that holds ``images`` of an unpacked release.

    Raises:
        RecipeError: Several do.
    """
    return _top_folder(path) or path


def _top_folder(path: Path) -> Path | None:
    if (path / "images").is_dir():
        return path
    found = [folder for folder in _subfolders(path) if (folder / "images").is_dir()]
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found[:3]) + (", ..." if len(found) > 3 else "")
        count = f"{len(found)} folders with images ({names})"
        raise RecipeError([f"{path}: holds {count}; name the one that is the release"])
    return found[0] if found else None


def _subfolders(path: Path) -> Iterator[Path]:
    yield from sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
