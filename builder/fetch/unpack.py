"""An archive unpacked so that nothing of it can do harm: no path leaves the folder, no links, no more than declared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from builder.fetch.archives import DAMAGED, Content, Member, content_of
from builder.fetch.fault import DamagedError, FetchError
from builder.fetch.space import room
from shards.console import in_bytes

TEMPORARY: Final = ".unpacking-"
"""What names of folders begin with that hold what is not whole yet."""
_PIECE: Final = 1 << 20
_LOOK: Final = 64 << 20
"""Bytes after which free space is looked at again while a file of unknown size is unpacked."""


def unpack(archive: Path, kind: str, target: Path, *, inside: str = "", scratch: Path) -> list[str]:
    """Unpack an archive; its files appear in the target when all of them are whole.

    Args:
        archive: The archive.
        kind: One of `builder.sources.download.ARCHIVES`.
        target: Folder into which it is unpacked; files of the same names there are replaced.
        inside: Folder inside of the archive that is unpacked, without this folder itself.
        scratch: Folder for what is not whole yet, on the disk of the target.

    Returns:
        Paths below the target, sorted.

    Raises:
        FetchError: It is damaged, encrypted, too large for the disk, or holds what is not unpacked.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=TEMPORARY) as name:
        folder = Path(name)
        try:
            with _told(kind, (*DAMAGED, OSError)):
                content = content_of(archive, kind, scratch)
            with _told(kind, content.damaged):
                found = _unpack_all(content, folder, scratch)
        except FetchError as error:
            raise type(error)(f"{archive}: {error}") from None
        return _move(folder, found, target, inside, archive)


@contextmanager
def _told(kind: str, damaged: tuple[type[Exception], ...]) -> Iterator[None]:
    """Tell in words what a library raises over an archive."""
    try:
        yield
    except damaged as error:
        raise DamagedError(f"it is no {kind} archive, or a damaged one: {error}") from None
    except NotImplementedError as error:  # Deflate64, which Windows writes into large archives
        by_hand = "unpack it by hand, as with 7z"
        raise FetchError(f"it is compressed in a way that is not known here ({error}); {by_hand}") from None


def _unpack_all(content: Content, folder: Path, scratch: Path) -> list[PurePosixPath]:
    if content.declared is not None and content.declared > room(scratch):
        raise _too_large(content.declared, scratch)
    found = []
    for member in content.members:
        path = safe_path(member)
        if member.kind == "folder":
            continue
        if member.kind != "file":
            what = "a link" if member.kind == "link" else "a device, a pipe or a socket"
            raise FetchError(
                f"{member.name!r} in it is {what}, which is not unpacked; unpack it by hand if you trust it"
            )
        if member.size is not None and member.size > room(scratch):
            raise _too_large(member.size, scratch)
        place = folder.joinpath(*path.parts)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _write(member, place, scratch)
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            raise FetchError(f"{member.name!r} stands there as a file and as a folder") from None
        found.append(path)
    return sorted(set(found))


def safe_path(member: Member) -> PurePosixPath:
    """The path of a member, if it stays below the folder into which it is unpacked.

    Some programs of Windows write backslashes where a slash belongs.

    Raises:
        FetchError: It does not stay there.
    """
    text = member.name.replace("\\", "/")
    path = PurePosixPath(text)
    leaves = path.is_absolute() or ".." in path.parts or PureWindowsPath(text).drive or "\0" in text
    if leaves or (not path.parts and member.kind != "folder"):
        raise FetchError(
            f"{member.name!r} in it leaves the folder; expected a relative path without ..; do not trust it"
        )
    return path


def _write(member: Member, place: Path, scratch: Path) -> None:
    """Write one file, and never more than its archive declares."""
    written = 0
    with place.open("wb") as file:
        for piece in _pieces(member):
            written += len(piece)
            if member.size is not None and written > member.size:
                raise FetchError(f"{member.name!r} in it is larger than the {member.size} bytes that it declares")
            if member.size is None and written % _LOOK < _PIECE and room(scratch) < _LOOK:
                raise FetchError(
                    f"{member.name!r} in it does not fit: {in_bytes(written)} are unpacked, and the disk is full"
                )
            file.write(piece)
    if member.size is not None and written < member.size:
        raise DamagedError(f"{member.name!r} in it ends after {written} of {member.size} bytes")


def _pieces(member: Member) -> Iterator[bytes]:
    try:
        with member.open() as source:
            while piece := source.read(_PIECE):
                yield piece
    except DAMAGED:
        raise
    except OSError as error:  # also a place outside of the archive, to which its table leads
        raise DamagedError(f"{member.name!r} in it cannot be read: {error}") from None


def _too_large(size: int, scratch: Path) -> FetchError:
    return FetchError(
        f"unpacked it is {in_bytes(size)}, and {in_bytes(room(scratch))} are free; make room and run again"
    )


def _move(folder: Path, found: list[PurePosixPath], target: Path, inside: str, archive: Path) -> list[str]:
    """Give the files their places."""
    chosen = [path for path in found if path.is_relative_to(inside)]
    if not chosen:
        tops = sorted({path.parts[0] for path in found})[:5]
        held = f"it holds {', '.join(tops)}" if tops else "it holds no file"
        raise FetchError(
            f"{archive}: download.files.inside: expected a folder {inside!r} in it, {held}"
            if inside
            else f"{archive}: {held}"
        )
    moved = []
    for path in chosen:
        below = path.relative_to(inside)
        place = target.joinpath(*below.parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            raise FetchError(f"{archive}: {str(path)!r} in it is a file, and {place} is a folder already; move it away")
        folder.joinpath(*path.parts).replace(place)
        moved.append(str(below))
    return moved
