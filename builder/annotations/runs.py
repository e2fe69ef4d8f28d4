"""Run lengths in a CSV file, as Kaggle's competitions have them: a row for each object of each picture.

A row names its picture and holds "start length start length ...", numbers of pixels counted down the columns from left
to right, or along the rows. Which column is which, and how starts are counted, the recipe says.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt

from builder.annotations.segments import AnnotationRequest, NamedMasks, RunTable, Segment
from builder.errors import UnreadableError
from builder.readers.files import FileState, state_of
from builder.readers.image import Picture, Volume
from builder.readers.rules import ReadRules

_MEMORY: Final = 8
"""Most bytes that Python takes for each byte of a file once its rows are texts."""
_NOTHING: Final = ("", "-1", "nan")
"""What stands for no mask."""
_NAMELESS: Final = "object"
"""Name of an object where no column names it."""

_Row = tuple[str, str, int]
"""Class, runs and line of an object."""
_Index = Mapping[str, tuple[_Row, ...]]
"""Name of a picture, as the file has it -> its rows."""


def read_named_masks(path: Path, request: AnnotationRequest) -> NamedMasks:
    """The objects of one picture, found by its name with or without ending; see `NamedMaskReader`."""
    if request.runs is None:
        raise UnreadableError("run lengths in CSV need masks.runs in the recipe, which says what its columns are")
    index = _index(path, state_of(path), request.runs, request.rules)
    name = PurePosixPath(request.image_file)
    rows = next((index[one] for one in (name.name, name.stem) if one in index), None)
    return NamedMasks(partial(_segments_on, rows, request.runs))


def _segments_on(rows: Sequence[_Row] | None, table: RunTable, image: Picture | Volume) -> list[Segment] | None:
    if rows is None:
        return None
    if isinstance(image, Volume):
        raise UnreadableError("run lengths in CSV are about pictures, but the image is a volume")
    shape = image.array.shape[0], image.array.shape[1]
    return [
        Segment(name, partial(_draw, text, shape, table, f"line {line}"))
        for name, text, line in rows
        if text.lower() not in _NOTHING
    ]


@lru_cache(maxsize=2)
def _index(path: Path, _state: FileState | None, table: RunTable, rules: ReadRules) -> _Index:
    """A file is asked for once for each of its pictures; it is parsed once."""
    rules.check_bytes(_MEMORY * path.stat().st_size)
    found: defaultdict[str, list[_Row]] = defaultdict(list)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file, _long_fields():
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            wanted = [table.image, table.pixels, *([] if table.label is None else [table.label])]
            missing = [name for name in wanted if name not in header]
            if missing:
                what = f"it has no column {', '.join(map(repr, missing))}, which masks.runs names"
                raise UnreadableError(f"{what}; it has {', '.join(header)[:200]}", withheld=what)
            columns = [header.index(name) for name in wanted]
            for row in reader:
                if len(row) < len(header):
                    if row:
                        raise UnreadableError(f"damaged: line {reader.line_num} has too few columns; fetch it again")
                    continue
                image, pixels, *label = (row[column].strip() for column in columns)
                found[image].append((label[0] if label else _NAMELESS, pixels, reader.line_num))
    except csv.Error as error:
        raise UnreadableError(f"damaged, or no CSV: {error}; fetch it again") from None
    except UnicodeDecodeError:
        raise UnreadableError("no CSV: it is no text") from None
    return {name: tuple(rows) for name, rows in found.items()}


@contextmanager
def _long_fields() -> Iterator[None]:
    """Fields of any length, which the file's own size bounds; the setting is that of the whole process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _draw(text: str, shape: tuple[int, int], table: RunTable, where: str) -> npt.NDArray[np.bool_]:
    """(1, H, W) bool."""
    words = text.split()
    if not all(word.isascii() and word.isdecimal() and len(word) < 19 for word in words) or len(words) % 2:
        raise UnreadableError(f"{where}: expected pairs of whole numbers, a start and a length each")
    pixels = np.zeros(shape[0] * shape[1], np.bool_)
    end = 0
    for start, length in zip(map(int, words[::2]), map(int, words[1::2]), strict=True):
        begin = end + start if table.relative else start - table.first
        end = begin + length
        if begin < 0 or end > pixels.size:
            raise UnreadableError(
                f"{where}: a run of pixels leaves the image, which has {shape[1]} x {shape[0]}: another version of the "
                "picture, or masks.runs counts starts in another way"
            )
        pixels[begin:end] = True
    mask = pixels.reshape(shape, order="C" if table.order == "rows" else "F")
    return np.ascontiguousarray(mask)[np.newaxis]
