"""Opening DICOM files without letting anything of a patient out: only named attributes, no quotes of values."""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from builder.errors import UnreadableError
from builder.readers.quiet import quiet_logger
from builder.readers.rules import DEFAULT_RULES, ReadRules

_META: Final = 132
"""Where the File Meta Information begins, behind preamble and mark (PS3.10 section 7.1)."""
_LONGEST_META: Final = 1 << 20
_PIECE: Final = 1 << 24


def open_dicom(
    path: Path, attributes: Iterable[str], *, pixels: bool = True, rules: ReadRules = DEFAULT_RULES
) -> FileDataset:
    """Open a DICOM file and take nothing but some attributes from it.

    Args:
        path: The file.
        attributes: Keywords; they bind the file's first level, and the caller on the levels below.
        pixels: Read on to the pixel data, if that is among the attributes.
        rules: How large it may become.

    Raises:
        UnreadableError: It is no DICOM file, damaged beyond reading, or inflates to more than the rules allow.
        OSError: It cannot be opened.
    """
    _refuse_bomb(path, rules)
    try:
        with quiet():
            return pydicom.dcmread(path, specific_tags=list(attributes), stop_before_pixels=not pixels)
    except InvalidDicomError:
        raise UnreadableError("no DICOM file: it lacks the header that begins with DICM") from None
    except Exception as error:  # a damaged file raises nearly anything, OSError without a number among it
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnreadableError("damaged DICOM file: it breaks off or holds what no DICOM file may") from None


def _refuse_bomb(path: Path, rules: ReadRules) -> None:
    """Inflate a deflated file piece by piece, keeping nothing: pydicom inflates it whole, however large it becomes."""
    with path.open("rb") as file:
        start = file.read(_META + 12)
        tag, length = start[_META : _META + 8], int.from_bytes(start[_META + 8 :], "little")
        has_length = tag == b"\x02\x00\x00\x00UL\x04\x00"  # File Meta Information Group Length
        meta = file.read(min(length, _LONGEST_META) if has_length else _LONGEST_META)
        if not re.search(re.escape(DeflatedExplicitVRLittleEndian.encode()) + rb"(?![0-9.])", meta):
            return
        if not has_length or length > _LONGEST_META:
            raise UnreadableError("damaged DICOM file: deflated, but it does not say where its header ends")
        size, inflater = 0, zlib.decompressobj(-zlib.MAX_WBITS)
        data = file.read(_PIECE)
        while data and not inflater.eof:
            try:
                size += len(inflater.decompress(data, _PIECE))
            except zlib.error:
                raise UnreadableError("damaged DICOM file: its deflated content cannot be inflated") from None
            rules.check_bytes(size)
            data = inflater.unconsumed_tail or file.read(_PIECE)


def text_of(dataset: Dataset, keyword: str) -> str:
    """A value as text, empty where there is none or it cannot be decoded."""
    try:
        with quiet():
            return str(dataset.get(keyword) or "").strip()
    except Exception:  # values are decoded on access, and damaged ones raise nearly anything
        return ""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom from warning and logging: it quotes values, and in a damaged file any value may be the patient's."""
    with (
        quiet_logger("pydicom"),
        warnings.catch_warnings(action="ignore"),
        pydicom.config.disable_value_validation(),
    ):
        yield


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Turn whatever damaged values raise when they are decoded, which is nearly anything, into `UnreadableError`."""
    try:
        with quiet():
            yield
    except UnreadableError:
        raise
    except Exception:
        raise UnreadableError(f"damaged {what} cannot be read") from None


def kind_of(dataset: Dataset) -> str:
    """What a DICOM file is, in words for a message: the standard's name of its SOP class, never a UID."""
    try:
        with quiet():
            uid = dataset.get("SOPClassUID")
    except Exception:  # it is damaged itself
        uid = None
    name = uid.name if isinstance(uid, UID) else ""
    return name if name and name != uid else "of an unknown kind"
