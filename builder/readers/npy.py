"""NumPy's own files: .npy holds one array, .npz several, as a zip of .npy. Objects, which are pickled, are never read.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from builder.errors import UnreadableError
from builder.readers.arrays import checked_dtype, chosen, header_of, image_of, itself, nobody
from builder.readers.image import Header, Picture, Volume, VolumeSeries
from builder.readers.rules import DEFAULT_RULES, ReadRules

CARRIES_IDENTIFIERS: Final = False
read_patient, files_of = nobody, itself
"""See `builder.readers.files.Reader`."""

_PACKED: Final = ".npz"
_MEMBER: Final = ".npy"


@dataclass(frozen=True)
class _Layout:
    """What the header of an array says, and how many bytes stand behind it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns_first: bool
    behind: int


def read_header(path: Path, rules: ReadRules = DEFAULT_RULES) -> Header:
    """See `builder.readers.files.Reader`."""
    with _array_file(path, rules) as (file, size):
        return header_of(_layout(file, size).shape)


def read(path: Path, rules: ReadRules = DEFAULT_RULES) -> Picture | Volume | VolumeSeries:
    """See `builder.readers.files.Reader`; a volume has no geometry."""
    with _array_file(path, rules) as (file, size):
        return image_of(_array(file, _layout(file, size), rules))


@contextmanager
def _array_file(path: Path, rules: ReadRules) -> Iterator[tuple[IO[bytes], int]]:
    """The .npy that is meant, open at its start, and its size in bytes."""
    if path.suffix.lower() != _PACKED:
        with path.open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size
        return
    try:
        with zipfile.ZipFile(path) as packed:
            members = {one.filename.removesuffix(_MEMBER): one for one in packed.infolist()}
            member = members[chosen(list(members), rules.variable)]
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UnreadableError("its arrays are packed in another way than NumPy packs them; save it anew")
            with packed.open(member) as file:
                yield file, member.file_size
    except UnreadableError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(error) from None
    except Exception as error:  # what zipfile and its decompressors raise for damage is not listed anywhere
        raise _damaged(error) from None


def _damaged(error: Exception) -> UnreadableError:
    what = "damaged .npz"
    return UnreadableError(f"{what} ({error}); fetch it again from its source", withheld=f"{what}; fetch it again")


def _layout(file: IO[bytes], size: int) -> _Layout:
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, columns_first, dtype = read(file)
    except OSError:
        raise
    except KeyError:
        raise UnreadableError("its .npy is of another version than 1.0 and 2.0, as names of fields need") from None
    except zipfile.BadZipFile as error:
        raise _damaged(error) from None
    except Exception as error:  # the header is a Python literal, which may be damaged in many ways
        what = "damaged: it has no header of .npy"
        raise UnreadableError(f"{what} ({error}); fetch it again", withheld=f"{what}; fetch it again") from None
    if any(side < 0 for side in shape):
        raise UnreadableError("damaged: its header has a side below 0; fetch it again")
    return _Layout(tuple(int(side) for side in shape), checked_dtype(dtype), columns_first, size - file.tell())


def _array(file: IO[bytes], layout: _Layout, rules: ReadRules) -> npt.NDArray[Any]:
    rules.check_size(layout.shape, layout.dtype.itemsize)
    expected = math.prod(layout.shape) * layout.dtype.itemsize
    said = f"its values are {layout.behind:,} bytes, its header says {expected:,}"
    if layout.behind != expected:
        what = "truncated" if layout.behind < expected else "damaged, or several arrays in one .npy"
        raise UnreadableError(f"{what}: {said}; fetch it again")
    content = file.read(expected + 1)  # to the end of a member, where zipfile compares its check sum
    if len(content) != expected:
        raise UnreadableError(f"truncated: it breaks off after {len(content):,} of {expected:,} bytes; fetch it again")
    values = np.frombuffer(content, layout.dtype)
    return values.reshape(layout.shape[::-1]).T if layout.columns_first else values.reshape(layout.shape)
