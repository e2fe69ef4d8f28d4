"""Headers of NRRD and MetaImage, as far as they say which files ITK will open, how large, and how compressed.

ITK trusts a header: it opens whatever file one names, and a number of dimensions may end the process. So a header is
parsed here first, by a grammar narrower than ITK's, and what does not fit it is refused: otherwise ITK might see a name
in it that this module did not. Formats: https://teem.sourceforge.net/nrrd/format.html and
https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from builder.errors import UnreadableError

NRRD: Final = (".nrrd", ".nhdr")
"""Endings of NRRD; everything else is MetaImage."""
MOST_DIMENSIONS: Final = 10
"""ITK ends the process on a hundred or more."""
_LONGEST: Final = 1 << 22
"""Bytes of a header; segmentations of Slicer describe each segment, in 200 kB and more."""
_LONGEST_LINE: Final = 1 << 16
_LONGEST_META_LINE: Final = 480
"""MetaIO reads lines into buffers of 500 bytes."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_META_FIELD: Final = re.compile(r"[ \t]*([^=:]*[^ \t=:])[ \t]*[=:][ \t]*([^ \t=:].*)")
"""MetaIO skips any number of signs before a value, and a field without a value takes that of the next line."""
_META_LOCAL: Final = ("LOCAL", "Local", "local")
_META_PIXELS: Final = "ElementDataFile"
_SIDE: Final = re.compile("0*[1-9][0-9]{0,9}")
_GZIP: Final = ("gzip", "gz")
_NRRD_MAGIC: Final = re.compile(r"NRRD\d{4}")
_NRRD_PIXELS: Final = re.compile(r"data ?file: +([^ \t].*)", re.IGNORECASE)
_LIST: Final = "LIST"
_BLANK: Final = " \t"
_PATTERN: Final = re.compile(r'([^%\s"]*?)([^%\s"/]*)%0?[0-9]{0,2}d([^%\s"/]*)([ \t]+-?[0-9]+)*[ \t]*')
"""A pattern of C's printf with one number in the last part of the path, and what ITK counts from, to and by."""


@dataclass(frozen=True)
class Compression:
    """Where the compressed pixels of a file are, attached to its header or in other files.

    Attributes:
        start: Byte at which they begin in each file.
        length: Bytes that they take there, None up to its end.
        lines: Lines to skip before them.
        skip: Bytes that stand before the pixels, once inflated.
    """

    start: int
    length: int | None = None
    lines: int = 0
    skip: int = 0


@dataclass(frozen=True)
class ItkHeader:
    """What ITK will make of a header.

    Attributes:
        dimensions: From 1 to `MOST_DIMENSIONS`.
        files: Every file with pixels that it may open next to the header's own; they need not be there.
        compression: None where the pixels are not compressed by zlib or gzip.
    """

    dimensions: int
    files: tuple[Path, ...]
    compression: Compression | None = None


@dataclass(frozen=True)
class _Fields:
    """What the lines of a header say.

    Attributes:
        values: Name of a field -> all its values, as it may stand there more than once.
        names: Of files with pixels; none where the pixels follow the header.
        end: Byte behind the header.
    """

    values: Mapping[str, Sequence[str]]
    names: Sequence[str]
    end: int

    def number(self, name: str) -> int:
        """The value of a field, 0 where there is none."""
        values = self.values.get(name, ["0"])
        if len(values) != 1 or not re.fullmatch(r"[0-9]{1,18}", values[0]):
            expected = f"damaged header: expected one whole number as {name}"
            raise UnreadableError(f"{expected}, got {', '.join(values)}", withheld=expected)
        return int(values[0])


def parse_header(path: Path) -> ItkHeader:
    """Parse the header of a file.

    Raises:
        UnreadableError: It is damaged, longer than any, or says where its pixels are in a way that is not known here.
        OSError: It cannot be opened.
    """
    is_nrrd = path.suffix.lower() in NRRD
    with path.open("rb") as file:
        fields = _nrrd(file) if is_nrrd else _metaimage(file)
    dimensions = fields.values.get("dimension" if is_nrrd else "NDims", [])
    if len(dimensions) != 1 or not dimensions[0].isdecimal() or not 1 <= int(dimensions[0]) <= MOST_DIMENSIONS:
        expected = "damaged header: expected one number of dimensions"
        raise UnreadableError(f"{expected}, got {', '.join(dimensions) or 'none'}", withheld=expected)
    if not is_nrrd:
        _check_sides(fields.values.get("DimSize", []), int(dimensions[0]))
    files = tuple(file for name in fields.names for file in _files(path.parent, name))
    return ItkHeader(int(dimensions[0]), files, (_nrrd_compression if is_nrrd else _meta_compression)(fields))


def _check_sides(values: Sequence[str], dimensions: int) -> None:
    """Refuse sizes that MetaIO would take for others: it reads as many numbers as it finds, and cuts them to 32 bit."""
    sides = values[0].split() if len(values) == 1 else []
    if len(sides) != dimensions or not all(_SIDE.fullmatch(side) and int(side) < 2**31 for side in sides):
        got = ", ".join(values) or "none"
        expected = f"damaged MetaImage header: expected DimSize with {dimensions} numbers above 0"
        raise UnreadableError(f"{expected}, got {got}", withheld=expected)


def _metaimage(file: BinaryIO) -> _Fields:
    values: defaultdict[str, list[str]] = defaultdict(list)
    for line in _lines(file, _LONGEST_META_LINE):
        if not line.strip(_BLANK):
            continue
        found = _META_FIELD.fullmatch(line)
        if found is None or (_META_PIXELS.lower() in line.lower() and found[1] != _META_PIXELS):
            raise UnreadableError("damaged MetaImage header: expected lines of the form 'Key = value'")
        values[found[1]].append(found[2].strip(_BLANK))
        if found[1] == _META_PIXELS:
            end = file.tell()
            return _Fields(values, [] if found[2] in _META_LOCAL else _named(found[2], file, _LONGEST_META_LINE), end)
    raise UnreadableError(f"damaged MetaImage header: it does not say where its pixels are ({_META_PIXELS})")


def _meta_compression(fields: _Fields) -> Compression | None:
    if not any(value[:1] in ("T", "t", "1") for value in fields.values.get("CompressedData", [])):
        return None
    start = fields.number("HeaderSize") or (0 if fields.names else fields.end)
    return Compression(start, fields.number("CompressedDataSize") or None)


def _nrrd(file: BinaryIO) -> _Fields:
    lines = _lines(file, _LONGEST_LINE)
    if not _NRRD_MAGIC.fullmatch(next(lines, "")):
        raise UnreadableError("no NRRD file: it does not begin with NRRD and a version")
    values: defaultdict[str, list[str]] = defaultdict(list)
    names: list[str] | None = None
    for line in lines:
        if not line:
            break
        if line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        if not colon:
            raise UnreadableError("damaged NRRD header: expected lines of the form 'field: value' or 'key:=value'")
        if "datafile" in key.lower().replace(" ", ""):
            found = _NRRD_PIXELS.fullmatch(line)
            if found is None or names is not None:
                raise UnreadableError("damaged NRRD header: expected one line 'data file: NAME', or none")
            names = _named(found[1], file, _LONGEST_LINE)
        else:
            values[key.strip(_BLANK).lower().replace(" ", "")].append(value.strip(_BLANK))
    return _Fields(values, names or [], file.tell())


def _nrrd_compression(fields: _Fields) -> Compression | None:
    if not any(value.lower() in _GZIP for value in fields.values.get("encoding", [])):
        return None
    start = 0 if fields.names else fields.end
    return Compression(start, None, fields.number("lineskip"), fields.number("byteskip"))


def _lines(file: BinaryIO, longest: int) -> Iterator[str]:
    """The lines of a header without their ends, up to the end of the file."""
    while line := file.readline(longest + 1):
        if len(line) > longest or file.tell() > _LONGEST:
            raise UnreadableError("damaged header: it is longer than any, or has a line that is")
        text = os.fsdecode(line.removesuffix(b"\n").removesuffix(b"\r"))
        if _CONTROL.search(text):
            raise UnreadableError("damaged header: it holds characters that no text has")
        yield text


def _named(value: str, file: BinaryIO, longest: int) -> list[str]:
    """The names that a value stands for: itself, or with LIST all lines that follow."""
    if not value.startswith(_LIST):
        return [value]
    return [line for line in _lines(file, longest) if line.strip(_BLANK)]


def _files(folder: Path, name: str) -> Iterator[Path]:
    """Every file that a name may stand for, whichever blanks and letters of no ASCII at its end ITK leaves out."""
    short = name.strip(_BLANK)
    while short and not "!" <= short[-1] <= "~":
        short = short[:-1]
    for form in dict.fromkeys((name, name.lstrip(_BLANK), name.rstrip(_BLANK), name.strip(_BLANK), short)):
        if form:
            yield folder / form
    if "%" in name:
        yield from _counted(folder, name.strip(_BLANK))


def _counted(folder: Path, pattern: str) -> Iterator[Path]:
    """Every file that fits a pattern, whichever numbers ITK would count."""
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        raise UnreadableError("its header names files by a pattern, expected one with a single number, as in a%03d.raw")
    below, fits = folder / found[1], re.compile(rf"{re.escape(found[2])} *-?[0-9]+{re.escape(found[3])}")
    if below.is_dir():
        yield from sorted(file for file in below.iterdir() if fits.fullmatch(file.name))
