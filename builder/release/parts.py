"""A split archive as one read-only file over its parts, which are never joined.

PKZIP numbers the segments of an archive from 0 (APPNOTE.TXT 6.3.10, section 8): ``NAME.z01`` is segment 0, and the last
one is ``NAME.zip``. Every address in the archive is a segment and an offset in it.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Self

from builder.errors import TransientError, UnreadableError


class PartError(TransientError):
    """A part of the archive is missing, ends too early or cannot be read."""


@dataclass(frozen=True)
class Part:
    """A part of a split archive, as it was when it was looked at.

    Attributes:
        path: Where it lies, or should lie.
        size: In bytes; None where it is missing.
        modified_ns: Time of its last change.
        room: Bytes that it takes among the addresses; more than it has where some of it is missing.
    """

    path: Path
    size: int | None
    modified_ns: int = 0
    room: int = 0

    @classmethod
    def of(cls, path: Path) -> Part:
        """Look at a part."""
        try:
            state = path.stat()
        except FileNotFoundError:
            return cls(path, None)
        return cls(path, state.st_size, state.st_mtime_ns, state.st_size)


@dataclass(frozen=True)
class Parts:
    """The parts of an archive in their order; a zip that is not split has one.

    A missing part takes the room of the others, so that addresses behind it have a place, and so does one of which the
    end is missing, see `reaching`.
    """

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, last: Path, count: int) -> Parts:
        """Look for the parts of an archive.

        Args:
            last: The part that is called ``.zip``.
            count: How many there must be, itself included.
        """
        names = [last.with_suffix(f".z{number:02d}") for number in range(1, count)]
        found = [Part.of(path) for path in (*names, last)]
        usual = max((part.size or 0 for part in found[:-1]), default=0)
        return cls(tuple(part if part.size is not None else replace(part, room=usual) for part in found))

    @property
    def may_be_cut(self) -> bool:
        """Whether the end of a part may be missing: all but the last have one size."""
        return len({part.size for part in self.parts[:-1]}) > 1 or len(self.parts) == 2

    def reaching(self, reach: Sequence[int]) -> Parts:
        """The parts, of which those that end before a member begins in them take the room of a whole one.

        Args:
            reach: How many bytes each must have at least.
        """
        usual = max((part.size or 0 for part in self.parts[:-1]), default=0)
        return Parts(
            tuple(
                replace(part, room=max(usual, least)) if least > (part.size or 0) else part
                for part, least in zip(self.parts, reach, strict=True)
            )
        )

    @property
    def missing(self) -> tuple[Part, ...]:
        """Those that are not there."""
        return tuple(part for part in self.parts if part.size is None)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Address of the first byte of each part, then that of the end."""
        return tuple(accumulate((part.room for part in self.parts), initial=0))

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return self.starts[-1]

    def address(self, segment: int, offset: int) -> int:
        """The address of a byte by segment and offset.

        Raises:
            UnreadableError: There is no such segment.
            PartError: It is missing, or its end is.
        """
        if segment >= len(self.parts):
            raise UnreadableError(f"it lies in part {segment + 1}, the archive has {len(self.parts)}")
        part = self.parts[segment]
        if part.size is None:
            raise PartError(_missing(part))
        if offset >= part.size and segment < len(self.parts) - 1:
            raise PartError(
                f"the part {part.path.name} ends {offset + 1 - part.size:,} bytes too early; fetch it again"
            )
        return self.starts[segment] + offset

    def part_at(self, address: int) -> int:
        """Number of the part that holds a byte."""
        return min(bisect_right(self.starts, address) - 1, len(self.parts) - 1)


class PartsFile:
    """Reads ranges of an archive, wherever in its parts they lie, for one thread.

    Parts are opened when they are first read.

    Args:
        parts: The parts.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._handles: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close all parts."""
        while self._handles:
            os.close(self._handles.popitem()[1])

    def read_at(self, address: int, size: int) -> bytes:
        """Read a range, over the border of parts where it crosses one.

        Raises:
            PartError: A part that holds some of it is missing, ends too early or cannot be read.
        """
        found: list[bytes] = []
        while size > 0:
            number = self._parts.part_at(address)
            if address >= self._parts.size:
                raise PartError(f"{self._parts.parts[-1].path.name} ends {size:,} bytes too early; fetch it again")
            room = self._parts.starts[number + 1] - address
            data = self._read(number, address - self._parts.starts[number], min(size, room))
            found.append(data)
            address, size = address + len(data), size - len(data)
        return found[0] if len(found) == 1 else b"".join(found)

    def _read(self, number: int, offset: int, size: int) -> bytes:
        part = self._parts.parts[number]
        if part.size is None:
            raise PartError(_missing(part))
        try:
            if number not in self._handles:
                self._handles[number] = os.open(part.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            data = _read_fully(self._handles[number], offset, size)
        except FileNotFoundError:
            raise PartError(f"the part {part.path.name} is no longer there; run the same command again") from None
        except OSError as error:
            raise PartError(f"the part {part.path.name} cannot be read: {error.strerror or error}") from None
        if len(data) < size:
            raise PartError(_too_short(part))
        return data


def _missing(part: Part) -> str:
    return f"the part {part.path.name} is missing; fetch it, and run the same command again"


def _too_short(part: Part) -> str:
    return f"the part {part.path.name} ends before it, at {part.size:,} bytes; fetch the part again"


def _read_fully(handle: int, offset: int, size: int) -> bytes:
    """A range of a file, shorter only where the file ends."""
    os.lseek(handle, offset, os.SEEK_SET)
    data = os.read(handle, size)
    if len(data) == size:
        return data
    found, left = [data], size - len(data)
    while data and left:
        data = os.read(handle, left)
        found.append(data)
        left -= len(data)
    return b"".join(found)


def names_of(parts: Sequence[Part]) -> str:
    """The names of parts in a message: the first three."""
    shown = ", ".join(part.path.name for part in parts[:3])
    return f"{shown} and {len(parts) - 3} more" if len(parts) > 3 else shown
