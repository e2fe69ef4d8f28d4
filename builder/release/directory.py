"""The central directory of a zip, read as if everything in it were made to harm.

It is mapped onto the parts of a split archive and read in pieces, so that twenty million entries need no memory of
their own. Format: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.12 (entry), 4.3.14 and 4.3.15 (zip64), 4.3.16 (end).
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from builder.errors import RecipeError, UnreadableError
from builder.release.parts import Part, PartError, Parts, PartsFile

_END: Final = struct.Struct("<4s4H2IH")
_END64_PLACE: Final = struct.Struct("<4sIQI")
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_ENTRY: Final = struct.Struct("<4s6H3I5H2I")
LOCAL: Final = struct.Struct("<4s5H3I2H")
"""Header in front of a member (section 4.3.7)."""
LOCAL_MARK: Final = b"PK\x03\x04"
_MARKS: Final = (b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06", b"PK\x01\x02")
_LONGEST_COMMENT: Final = 2**16 - 1
_PIECE: Final = 4 << 20
"""Bytes of the directory that are read at a time."""
_UNKNOWN32, _UNKNOWN16 = 2**32 - 1, 2**16 - 1
"""Stand where the zip64 field has the value."""
_MOST_PARTS: Final = 2**16 - 1
_LARGEST_PART: Final = 1 << 47
"""Bytes: beyond any disk, and all parts together still count in 64 bit."""
_ZIP64: Final = 1
STORED, DEFLATED = 0, 8
_ENCRYPTED: Final = 1
_UTF8: Final = 1 << 11
_NUMBERED: Final = re.compile(r"\.[zZ]\d{2,}")


class Member(NamedTuple):
    """An entry of the central directory.

    Attributes:
        name: As it stands there; bytes that are no UTF-8, where it says that it is, as Python has them in file names.
        address: Of its header, over all parts.
        packed: Bytes in the archive.
        size: Bytes of its content.
        crc32: Of its content.
        method: ``STORED`` or ``DEFLATED``; others cannot be read.
        encrypted: Whether it is.
    """

    name: str
    address: int
    packed: int
    size: int
    crc32: int
    method: int
    encrypted: bool


@dataclass(frozen=True)
class Directory:
    """Where the central directory of an archive lies.

    Attributes:
        parts: The parts of the archive.
        address: Its first byte.
        size: In bytes.
        count: Number of its entries.
    """

    parts: Parts
    address: int
    size: int
    count: int


def find_directory(path: Path) -> Directory:
    """Find the central directory of a zip, and the parts that belong to it.

    Args:
        path: The zip; of a split one the part called ``.zip``.

    Raises:
        RecipeError: It is no zip, or not the end of one, or parts that hold the directory are missing.
    """
    try:
        found = _found(path)
        return _with_room(found) if found.parts.may_be_cut else found
    except (UnreadableError, struct.error) as error:
        raise RecipeError([f"{path}: the list of its members cannot be read: {error}"]) from None
    except OSError as error:
        raise RecipeError([f"{path}: cannot be read: {error.strerror or error}"]) from None


def _found(path: Path) -> Directory:
    whole = Part.of(path)
    alone = Parts((whole,))
    with PartsFile(alone) as file:
        room = min(whole.size or 0, _LONGEST_COMMENT + _END.size)
        tail = file.read_at((whole.size or 0) - room, room) if room else b""
        at = tail.rfind(_MARKS[0])
        if at < 0 or len(tail) - at < _END.size:
            raise UnreadableError(_no_end(path, tail))
        _, segment, first, _, count, size, offset, _ = _END.unpack_from(tail, at)
        end = (whole.size or 0) - room + at
        place = file.read_at(end - _END64_PLACE.size, _END64_PLACE.size) if end >= _END64_PLACE.size else b""
    if place[:4] != _MARKS[1]:
        parts = Parts.of(path, segment + 1)
        if first == segment and offset + size != end:  # something in front is cut off or put in
            raise UnreadableError(f"its directory ends at byte {offset + size:,}, expected {end:,}, {_ORDER}")
        return Directory(parts, parts.address(first, offset), size, count)
    _, segment64, offset64, total = _END64_PLACE.unpack(place)
    if total > _MOST_PARTS:
        raise UnreadableError(f"it says that it has {total:,} parts, expected at most {_MOST_PARTS:,}")
    parts = Parts.of(path, total or 1)
    with PartsFile(parts) as file:
        address = parts.address(segment64, offset64)
        record = file.read_at(address, _END64.size)
    if record[:4] != _MARKS[2]:
        raise UnreadableError(f"its zip64 record is not where it says, {_ORDER}")
    *_, first, _, count, size, offset = _END64.unpack(record)
    return Directory(parts, parts.address(first, offset), size, count)


def _with_room(directory: Directory) -> Directory:
    """The directory of an archive that may lack ends of parts: what is said to lie there keeps addresses of its own."""
    segment = directory.parts.part_at(directory.address)
    first = {segment: directory.address - directory.parts.starts[segment]}  # part -> where what first begins in it does
    last: dict[int, tuple[int, int]] = {}  # part -> where its last member begins, and ends
    with PartsFile(directory.parts) as file:
        for entry in _entries(directory, file):
            part, begin, end = entry.segment, entry.offset, entry.offset + LOCAL.size + len(entry.name) + entry.packed
            if end > _LARGEST_PART:
                continue
            first[part] = min(first.get(part, begin), begin)
            last[part] = max(last.get(part, (0, 0)), (begin, end))
    # a part goes on until its last member has begun, and so far that this ends before the first of the next part
    reach = {part: max(begin + 1, end - first.get(part + 1, end)) for part, (begin, end) in last.items()}
    parts = directory.parts.reaching(reach)
    moved = parts.starts[segment] - directory.parts.starts[segment]
    return replace(directory, parts=parts, address=directory.address + moved)


_ORDER: Final = "as if parts were missing in front of it, or in another order; fetch what is missing under its own name"


def _no_end(path: Path, tail: bytes) -> str:
    if not tail:
        return "it is missing or empty; fetch it again"
    if _NUMBERED.fullmatch(path.suffix):
        return "it is one part of a split zip; name the part that ends in .zip, with the others beside it"
    return "it has no end record, so it is no zip, or not all of one; fetch it again"


def members(directory: Directory) -> Iterator[Member]:
    """The entries of a central directory, in its order.

    Raises:
        RecipeError: It is damaged, or a part that holds it is missing.
    """
    last = directory.parts.parts[-1].path
    try:
        with PartsFile(directory.parts) as file:
            yield from _members(directory, file)
    except PartError as error:
        raise RecipeError([f"{last}: the list of its members cannot be read: {error}"]) from None
    except (UnreadableError, struct.error) as error:
        raise RecipeError([f"{last}: the list of its members is damaged: {error}; fetch it again"]) from None


class _Entry(NamedTuple):
    """An entry of the central directory as it stands there, but for the zip64 field."""

    name: bytes
    segment: int
    offset: int
    packed: int
    size: int
    crc32: int
    method: int
    flags: int


def _members(directory: Directory, file: PartsFile) -> Iterator[Member]:
    starts = directory.parts.starts
    for raw, segment, offset, packed, size, crc, method, flags in _entries(directory, file):
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437", "surrogateescape")
        yield Member(name, starts[segment] + offset, packed, size, crc, method, bool(flags & _ENCRYPTED))


def _entries(directory: Directory, file: PartsFile) -> Iterator[_Entry]:
    data, at, read, unpack = b"", 0, 0, _ENTRY.unpack_from
    known = len(directory.parts.parts)
    for number in range(directory.count):
        if len(data) - at < 1 << 18 and read < directory.size:  # names, fields and comments have up to 64 KiB each
            more = file.read_at(directory.address + read, min(_PIECE, directory.size - read))
            data, at, read = data[at:] + more, 0, read + len(more)
        if len(data) - at < _ENTRY.size:
            raise UnreadableError(f"it breaks off in entry {number + 1:,} of {directory.count:,}")
        fields = unpack(data, at)
        mark, _, _, flags, method, _, _, crc, packed, size, named, extra, note, segment, _, _, offset = fields
        if mark != _MARKS[3]:
            raise UnreadableError(f"entry {number + 1:,} of {directory.count:,} is none")
        begin = at + _ENTRY.size
        raw = data[begin : begin + named]
        at = begin + named + extra + note
        if at > len(data):
            raise UnreadableError(f"it breaks off in entry {number + 1:,} of {directory.count:,}")
        if _UNKNOWN32 in (packed, size, offset) or segment == _UNKNOWN16:
            more = data[begin + named : begin + named + extra]
            size, packed, offset, segment = _wide(more, size, packed, offset, segment)
        if segment >= known:
            raise UnreadableError(f"entry {number + 1:,} lies in part {segment + 1}, the archive has {known}")
        yield _Entry(raw, segment, offset, packed, size, crc, method, flags)


def _wide(extra: bytes, size: int, packed: int, offset: int, segment: int) -> tuple[int, int, int, int]:
    """The values of the zip64 field, which has those that do not fit elsewhere, in this order (section 4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64:
            field = extra[at + 4 : at + 4 + length]
            said = ((size, _UNKNOWN32, "<Q"), (packed, _UNKNOWN32, "<Q"), (offset, _UNKNOWN32, "<Q"))
            values = []
            for value, unknown, form in (*said, (segment, _UNKNOWN16, "<I")):
                if value != unknown:
                    values.append(value)
                    continue
                if len(field) < struct.calcsize(form):
                    raise UnreadableError("the zip64 field of a member is too short")
                values.append(struct.unpack_from(form, field)[0])
                field = field[struct.calcsize(form) :]
            return values[0], values[1], values[2], values[3]
        at += 4 + length
    raise UnreadableError("a member is larger than 32 bit can say, and has no zip64 field")


class Extents:
    """Where members lie, to find those that lie in one another: what a bomb of few bytes is made of."""

    def __init__(self) -> None:
        self._starts, self._sizes = array("Q"), array("Q")

    def add(self, member: Member) -> None:
        """Take in a member."""
        self._starts.append(member.address)
        self._sizes.append(LOCAL.size + len(member.name) + member.packed)

    def overlapping(self) -> frozenset[int]:
        """Addresses of all members that share a byte with another."""
        if not self._starts:
            return frozenset()
        starts: npt.NDArray[np.uint64] = np.frombuffer(self._starts, np.uint64)
        order = np.argsort(starts, kind="stable")
        begins = starts[order]
        ends = begins + np.frombuffer(self._sizes, np.uint64)[order]
        # by their beginnings: one that shares a byte with any later one does so with the next
        into_next = begins[1:] < ends[:-1]
        into_any_before = begins[1:] < np.maximum.accumulate(ends)[:-1]
        sharing = np.append(into_next, False) | np.append(False, into_any_before)
        return frozenset(begins[sharing].tolist())

    def misplaced(self, parts: Parts, file: PartsFile) -> list[str]:
        """A sentence for each part that does not hold what the directory says it does.

        The first member that begins in a part tells whether it is that part; the last one, which goes on in the next
        part, whether it has its size.
        """
        starts: npt.NDArray[np.uint64] = np.frombuffer(self._starts, np.uint64)
        order = np.argsort(starts, kind="stable")
        starts, sizes = starts[order], np.frombuffer(self._sizes, np.uint64)[order]
        borders = np.searchsorted(starts, np.array(parts.starts, np.uint64)).tolist()
        found = []
        for number, part in enumerate(parts.parts):
            first, behind = borders[number], borders[number + 1]
            if part.size is None:
                continue
            if part.room > part.size:
                found.append(_size_told(part, part.room - part.size, "shorter"))
            if first == behind:
                continue
            wrong = _wrong_part(parts, file, number, int(starts[first]) - parts.starts[number])
            if (
                wrong is None
                and part.room == part.size
                and behind < len(starts)
                and behind < borders[min(number + 2, len(borders) - 1)]
            ):
                last = behind - 1
                wrong = _wrong_size(parts, file, number, (int(starts[last]), int(sizes[last]), int(starts[behind])))
            found += [wrong] if wrong else []
        return found


def _wrong_part(parts: Parts, file: PartsFile, number: int, offset: int) -> str | None:
    """What is wrong with a part that does not hold the header of its first member; None for nothing."""
    if _begins_member(file, parts.starts[number] + offset):
        return None
    others = (place for place, part in enumerate(parts.parts) if place != number and (part.size or 0) > offset)
    other = next((place for place in others if _begins_member(file, parts.starts[place] + offset)), None)
    advice = "fetch it again"
    if other is not None:
        advice = f"{parts.parts[other].path.name} does, as if parts stood under each other's names"
    return (
        f"{parts.parts[number].path.name}: no member begins at its byte {offset:,}, where the archive says that one "
        f"does; {advice}"
    )


_DESCRIPTOR: Final = 24
"""Bytes that may stand between a member and the next (section 4.3.9)."""


def _wrong_size(parts: Parts, file: PartsFile, number: int, last: tuple[int, int, int]) -> str | None:
    """What is wrong with a part whose last member does not end where the next part goes on; None for nothing.

    Args:
        parts: All parts.
        file: Reads them.
        number: The part.
        last: Where its last member begins, how long that is without its extra field, and where the next one begins.
    """
    start, size, after = last
    try:
        extra = LOCAL.unpack(file.read_at(start, LOCAL.size))[-1]
    except PartError:
        return None
    gap = after - (start + size + int(extra))
    if 0 <= gap <= _DESCRIPTOR:
        return None
    return _size_told(parts.parts[number], abs(gap), "shorter" if gap < 0 else "longer")


def _size_told(part: Part, gap: int, how: str) -> str:
    return f"{part.path.name}: has {part.size:,} bytes and is {gap:,} bytes {how} than the archive says; fetch it again"


def _begins_member(file: PartsFile, address: int) -> bool:
    try:
        return file.read_at(address, 4) == LOCAL_MARK
    except PartError:
        return False
