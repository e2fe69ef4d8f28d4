"""Opening DICOM files without letting anything of a patient out: only named attributes, no quotes of values."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from builder.readers import UnreadableError


def open_dicom(path: Path, attributes: Iterable[str], *, pixels: bool = True) -> FileDataset:
    """Open a DICOM file and take nothing but some attributes from it.

    Args:
        path: The file.
        attributes: Keywords; they bind the file's first level, and the caller on the levels below.

        pixels: Read on to the pixel data, if that is among the attributes.

    Raises:
        UnreadableError: It is no DICOM file, or damaged beyond reading.
        OSError: It cannot be opened.
    """
    try:
        with quiet():
            return pydicom.dcmread(path, specific_tags=list(attributes), stop_before_pixels=not pixels)
    except InvalidDicomError:
        raise UnreadableError("no DICOM file: it lacks the header that begins with DICM") from None
    except Exception as error:  # a damaged file raises nearly anything, OSError without a number among it
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnreadableError("damaged DICOM file: it breaks off or holds what no DICOM file may") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom from warning and logging: it quotes values, and in a damaged file any value may be the patient's."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # reaches its child loggers too, as disabling it would not
    try:
        with warnings.catch_warnings(action="ignore"), pydicom.config.disable_value_validation():
            yield
    finally:
        logger.setLevel(before)


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
