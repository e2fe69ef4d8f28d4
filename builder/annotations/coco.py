"""COCO annotations: one JSON file for many pictures, with polygons or run lengths (RLE) of each object.

Format: https://cocodataset.org/#format-data and the tools of its authors, pycocotools.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from builder.annotations.polygons import checked_polygon, draw_polygons
from builder.annotations.segments import AnnotationRequest, NamedMasks, Segment
from builder.errors import UnreadableError
from builder.readers.files import FileState, state_of
from builder.readers.image import Picture, Volume
from builder.readers.rules import DEFAULT_RULES, ReadRules

_RLE_ZERO, _RLE_SIGN, _RLE_MORE = 48, 16, 32
"""In compressed run lengths: the letter that stands for 0, the sign of the last one, the bit that says more follow."""

_TOO_LONG: Final = re.compile(r"[P-o]{13}")
"""Thirteen letters that say that more follow: a number of more than 64 bit."""
_MEMORY: Final = {b",": 40, b"[": 64, b"{": 240}
"""Sign in a JSON file -> most bytes that Python takes for what it stands for, next to the text itself."""
_SURROGATE: Final = re.compile(rb"\\u[dD][89abAB]|\\u[dD][c-fC-F]")


@dataclass(frozen=True)
class _Annotated:
    """A picture that the file is about.

    Attributes:
        path: As the file names it, with forward slashes.
        shape: Height and width.
        objects: Category and segmentation of each object, as stored, with the number that names it in messages.
    """

    path: str
    shape: tuple[int, int]
    objects: tuple[tuple[str, Any, str], ...]


_Index = Mapping[str, tuple[_Annotated, ...]]
"""Name of a picture without its folders -> the pictures of that name."""


def read_named_masks(path: Path, request: AnnotationRequest) -> NamedMasks:
    """Read the objects of one picture; see `builder.annotations.segments.NamedMaskReader`.

    A picture is found by its name, and by as many of its folders as tell it from others of that name.
    """
    return NamedMasks(partial(_segments_on, _find(_index(path, state_of(path), request.rules), request.image_file)))


def _segments_on(found: _Annotated | None, image: Picture | Volume) -> list[Segment] | None:
    if found is None:
        return None
    if isinstance(image, Volume):
        raise UnreadableError("COCO annotations are about pictures, but the image is a volume")
    shape = image.array.shape[0], image.array.shape[1]
    if shape != found.shape:
        differs = f"{found.shape[1]} x {found.shape[0]} pixels, but the image has {shape[1]} x {shape[0]}"
        raise UnreadableError(
            f"it says that {found.path} has {differs}: another version of the picture",
            withheld=f"it says that the picture has {differs}: another version of it",
        )
    return [Segment(category, partial(_draw, stored, shape, what)) for category, stored, what in found.objects]


def categories(path: Path) -> list[str]:
    """Names of the categories of a file, in its order; raises `UnreadableError`."""
    return list(dict.fromkeys(_category_names(_load(path, DEFAULT_RULES)).values()))


def picture_paths(path: Path) -> list[str]:
    """The pictures that a file is about, as it names them; raises `UnreadableError`."""
    return [picture.path for named in _index(path, state_of(path), DEFAULT_RULES).values() for picture in named]


@lru_cache(maxsize=2)
def _index(path: Path, _state: FileState | None, rules: ReadRules) -> _Index:
    """A file is asked for once for each of its pictures; it is parsed once."""
    record = _load(path, rules)
    names = _category_names(record)
    objects: dict[Any, list[tuple[str, Any, str]]] = defaultdict(list)
    pictures: dict[str, list[_Annotated]] = defaultdict(list)
    try:
        for number, annotation in enumerate(record["annotations"], 1):
            named = annotation.get("id")
            what = f"annotation {named}" if type(named) is int else f"annotation number {number} of the file"
            entry = names[annotation["category_id"]], annotation.get("segmentation"), what
            objects[annotation["image_id"]].append(entry)
        for entry in record["images"]:
            name = str(entry["file_name"]).replace("\\", "/")
            shape = int(entry["height"]), int(entry["width"])
            pictures[PurePosixPath(name).name].append(_Annotated(name, shape, tuple(objects.pop(entry["id"], ()))))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = "damaged COCO file: an image or annotation lacks or contradicts"
        raise UnreadableError(f"{what} {error}", withheld=f"{what} what belongs there") from None
    if objects:
        raise UnreadableError(
            f"damaged COCO file: annotations of image {next(iter(objects))}, which it does not list",
            withheld="damaged COCO file: annotations of an image that it does not list",
        )
    return {name: tuple(found) for name, found in pictures.items()}


def _load(path: Path, rules: ReadRules) -> dict[str, Any]:
    rules.check_bytes(path.stat().st_size)
    content = path.read_bytes()
    rules.check_bytes(len(content) + sum(content.count(sign) * size for sign, size in _MEMORY.items()))
    try:
        record = json.loads(content.decode(json.detect_encoding(content)))
        if _SURROGATE.search(content):
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UnreadableError("no JSON, or damaged: a text holds half of a character (a lone surrogate)") from None
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"no JSON, or damaged: {error}") from None
    lists = ("images", "annotations", "categories")
    if not isinstance(record, dict) or not all(isinstance(record.get(name), list) for name in lists):
        raise UnreadableError("no COCO annotations: expected the lists 'images', 'annotations' and 'categories'")
    return record


def _category_names(record: Mapping[str, Any]) -> dict[Any, str]:
    try:
        return {category["id"]: str(category["name"]) for category in record["categories"]}
    except (KeyError, TypeError) as error:
        what = "damaged COCO file: a category lacks"
        raise UnreadableError(f"{what} {error}", withheld=f"{what} its id or name") from None


def _find(index: _Index, image_file: str) -> _Annotated | None:
    """The entry that shares the most folders with a path below the source's root."""
    named = index.get(PurePosixPath(image_file).name, ())
    if len(named) < 2:
        return next(iter(named), None)
    parts = PurePosixPath(image_file).parts[::-1]

    def shared(picture: _Annotated) -> int:
        own = PurePosixPath(picture.path).parts[::-1]
        return next(
            (at for at, (a, b) in enumerate(zip(own, parts, strict=False)) if a != b), min(len(own), len(parts))
        )

    first, second = sorted(named, key=shared, reverse=True)[:2]
    if shared(first) == shared(second):
        raise UnreadableError(
            f"it lists {first.path} and {second.path}, and {image_file} may be either",
            withheld="it lists several pictures of the name of the image, which may be either",
        )
    return first


def _draw(stored: Any, shape: tuple[int, int], what: str) -> npt.NDArray[np.bool_]:
    """(1, H, W) bool."""
    if isinstance(stored, Mapping):
        return _decode_runs(stored, shape, what)
    if not isinstance(stored, list) or not stored:
        raise UnreadableError(f"{what} has neither polygon nor RLE: a box alone makes no mask")
    return draw_polygons([checked_polygon(polygon, what) for polygon in stored], shape)


def _decode_runs(stored: Mapping[str, Any], shape: tuple[int, int], what: str) -> npt.NDArray[np.bool_]:
    """Run lengths of 0 and 1 in turn, down the columns from left to right; (1, H, W) bool."""
    counts = stored.get("counts")
    if stored.get("size") != list(shape):
        raise UnreadableError(
            f"{what}: its RLE is for {stored.get('size')} pixels, the image has {list(shape)}",
            withheld=f"{what}: its RLE is for another number of pixels than the image has, {list(shape)}",
        )
    if isinstance(counts, str) and _is_compressed(counts):
        counts = _decompressed(counts)
    if not isinstance(counts, list) or not all(isinstance(count, int) for count in counts):
        raise UnreadableError(f"{what}: its RLE holds neither run lengths nor their compressed text")
    if min(counts, default=0) < 0 or sum(counts) != shape[0] * shape[1]:
        raise UnreadableError(f"{what}: its RLE does not fill the image")
    mask = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(shape, order="F")
    return np.ascontiguousarray(mask)[np.newaxis]


def _is_compressed(text: str) -> bool:
    codes = [ord(letter) - _RLE_ZERO for letter in text]
    return bool(codes) and all(0 <= code < 2 * _RLE_MORE for code in codes) and not codes[-1] & _RLE_MORE


def _decompressed(text: str) -> list[int]:
    """Run lengths from their compressed text.

    A number is 5 bits a letter, the lowest first, with a sign; from the fourth on it is the difference to the last but
    one. A number longer than any gives a length that no image has.
    """
    counts: list[int] = []
    if _TOO_LONG.search(text):
        return [-1]
    value = bits = 0
    for code in (ord(letter) - _RLE_ZERO for letter in text):
        value |= (code & (_RLE_MORE - 1)) << bits
        bits += 5
        if not code & _RLE_MORE:
            value -= (1 << bits) if code & _RLE_SIGN else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = bits = 0
    return counts
