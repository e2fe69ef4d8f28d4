"""Readers of image files, found by what a file is.

To read a new format, add a module with what `Reader` lists, a function that imports it, and one entry to `FORMATS`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from builder.errors import CaseError, TransientError, UnreadableError
from builder.readers.rules import ReadRules

if TYPE_CHECKING:  # matching files to cases needs no OpenCV
    from builder.readers.image import Header, Image


class Reader(Protocol):
    """What a reader module offers.

    Its functions raise `builder.errors.UnreadableError`, with a reason in words, for a file that is damaged, larger
    than the rules allow, or that they do not support; OSError for a file that cannot be opened.
    """

    @property
    def CARRIES_IDENTIFIERS(self) -> bool:  # noqa: N802 - a constant of the module
        """Whether files of this kind, and their names, usually name patients: then the names are hashed."""
        ...

    def files_of(self, path: Path, /) -> Sequence[Path]:
        """Every file that is opened for a file or folder, as its header or name says; they need not be there."""
        ...

    def read(self, path: Path, rules: ReadRules, /) -> Image:
        """Read a file; volumes in the axes they are stored in."""
        ...

    def read_header(self, path: Path, rules: ReadRules, /) -> Header:
        """Read what a file says of its size, without its pixels."""
        ...

    def read_patient(self, path: Path, rules: ReadRules, /) -> str | None:
        """The id of the patient as it stands in a file; None where it names none."""
        ...


# mypy checks each module against `Reader` here; each is imported with the first file that needs it


def _nifti() -> Reader:
    from builder.readers import nifti  # noqa: PLC0415

    return nifti


def _itk() -> Reader:
    from builder.readers import itk  # noqa: PLC0415

    return itk


def _picture() -> Reader:
    from builder.readers import picture  # noqa: PLC0415

    return picture


def _stack() -> Reader:
    from builder.readers import stack  # noqa: PLC0415

    return stack


def _npy() -> Reader:
    from builder.readers import npy  # noqa: PLC0415

    return npy


def _mat() -> Reader:
    from builder.readers import mat  # noqa: PLC0415

    return mat


def _hdf5() -> Reader:
    from builder.readers import hdf5  # noqa: PLC0415

    return hdf5


def _dicom() -> Reader:
    from builder.readers.dicom import reader  # noqa: PLC0415

    return reader


@dataclass(frozen=True)
class Format:
    """A family of file formats that one module reads.

    Attributes:
        endings: Of file names, in lower case.
        load: Imports the module.
    """

    endings: tuple[str, ...]
    load: Callable[[], Reader]


DICOM: Final = Format((".dcm", ".dicom", ".ima"), _dicom)
PICTURES: Final = Format(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".pnm", ".pgm.gz", ".ppm.gz", ".tif", ".tiff"), _picture
)
FORMATS: Final = (
    Format((".nii", ".nii.gz", ".hdr", ".img"), _nifti),
    Format((".nrrd", ".nhdr", ".mha", ".mhd"), _itk),
    PICTURES,
    Format((".npy", ".npz"), _npy),
    Format((".mat",), _mat),
    Format((".h5", ".hdf5"), _hdf5),
    DICOM,
)
"""Every format, found by the ending of a file's name, in any case. A folder of nothing but pictures is a stack of
slices; any other folder, and a file without any of these endings that bears the DICM mark, is DICOM."""


def reader_of(path: Path) -> Reader | None:
    """The reader of a file or folder by what it is, None where there is none; OSError where it cannot be opened."""
    if path.is_dir():
        return _stack() if _is_stack(path) else DICOM.load()
    for kind in FORMATS:
        if path.name.lower().endswith(kind.endings):
            return kind.load()
    return DICOM.load() if stat.S_ISREG(path.stat().st_mode) and is_dicom(path) else None


def _is_stack(folder: Path) -> bool:
    """Whether a folder holds pictures and nothing else; hidden files aside."""
    with os.scandir(folder) as entries:
        names = [one.name.lower() for one in entries if one.name[0] != "."]
    return bool(names) and all(name.endswith(PICTURES.endings) for name in names)


def import_reader(name: str) -> None:
    """Import what reads an image, by its name alone: so that imports take none of the time that a case is given."""
    next((kind for kind in FORMATS if name.lower().endswith(kind.endings)), DICOM).load()


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its mark (PS3.10 section 7.1): DICM after a preamble of 128 bytes."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_image(root: Path, file: str, rules: ReadRules) -> Image:
    """Read an image or mask of a source.

    Args:
        root: Root of the source.
        file: Path below it.
        rules: What its recipe says about reading.

    Raises:
        CaseError: Stage ``read``, with the reason.
    """
    reader, path, _ = _open(root, file, rules.members)
    try:
        return reader.read(path, rules)
    except (UnreadableError, OSError) as error:
        raise read_error(file, error) from None


def read_again(root: Path, file: str, rules: ReadRules) -> Image:
    """`read_image` for a file that the next case may ask for too: the last two are kept until they change on disk."""
    return _read_kept(root, file, rules, tuple(state_of(one) for one in files_of(root, file, rules.members)))


@lru_cache(maxsize=2)
def _read_kept(root: Path, file: str, rules: ReadRules, _states: tuple[FileState | None, ...]) -> Image:
    return read_image(root, file, rules)


@dataclass(frozen=True)
class FileState:
    """What tells that a file is another one, or has changed.

    Attributes:
        path: The file.
        identity: Numbers of its device and of itself there.
        size: In bytes.
        changed_ns: When it was written, and when it was last changed in any way: the second cannot be set back.
    """

    path: Path
    identity: tuple[int, int]
    size: int
    changed_ns: tuple[int, int]


def state_of(path: Path) -> FileState | None:
    """The state of a file; None where it is not there."""
    try:
        state = path.stat()
    except OSError:
        return None
    return FileState(path, (state.st_dev, state.st_ino), state.st_size, (state.st_mtime_ns, state.st_ctime_ns))


def files_of(root: Path, file: str, members: Sequence[Path] = ()) -> list[Path]:
    """Every file that is opened for a file of a source, itself among them; raises as `read_image` does.

    Args:
        root: Root of the source.
        file: Path below it.
        members: The files of the DICOM series that it stands for, if it does.
    """
    _, _, opened = _open(root, file, members)
    return list(opened)


def read_header(root: Path, file: str, rules: ReadRules) -> Header:
    """Read the header of an image or mask of a source; raises as `read_image` does."""
    reader, path, _ = _open(root, file, rules.members)
    try:
        return reader.read_header(path, rules)
    except (UnreadableError, OSError) as error:
        raise read_error(file, error) from None


def read_patient(root: Path, file: str, rules: ReadRules) -> str | None:
    """The id of the patient as it stands in a file of a source, or None; raises as `read_image` does."""
    reader, path, _ = _open(root, file)
    try:
        return reader.read_patient(path, rules)
    except (UnreadableError, OSError) as error:
        raise read_error(file, error) from None


def slices_by_name(root: Path, file: str, rules: ReadRules) -> list[int]:
    """Where each slice of a DICOM series stands in the order of names; see there. Raises as `read_image` does."""
    from builder.readers.dicom import reader  # noqa: PLC0415 - as above

    _, path, _ = _open(root, file, rules.members)
    try:
        return reader.slices_by_name(path, rules)
    except (UnreadableError, OSError) as error:
        raise read_error(file, error) from None


def carries_identifiers(root: Path, file: str) -> bool:
    """Whether a file of a source is of a kind that usually names patients.

    What cannot be opened may be of any kind, and what no reader knows may be DICOM that has lost its mark.
    """
    try:
        reader = reader_of(root / file)
    except OSError:
        return True
    return reader is None or reader.CARRIES_IDENTIFIERS


def path_below(root: Path, file: str) -> Path:
    """The path of a file of a source.

    Raises:
        CaseError: Stage ``read``; it does not exist, or leads out of the source.
    """
    path = root / file
    if not path.exists():
        raise CaseError("read", file, "there is no such file")
    if not path.resolve().is_relative_to(root.resolve()):
        raise CaseError("read", file, "it is a link that leads out of the source's folder; put the file itself there")
    if not (path.is_file() or path.is_dir()):
        raise CaseError("read", file, "it is no regular file, but a pipe, a socket or a device; put a file there")
    return path


def _refuse_elsewhere(root: Path, file: str, opened: Sequence[Path]) -> None:
    """Refuse a file for which one outside of the root would be opened, or something else than a regular file."""
    top, folders = os.path.join(os.path.realpath(root), ""), dict[Path, str]()  # noqa: PTH118 - a series has thousands
    for path in opened:
        mode = _mode(path, follow=False)
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        real = os.path.realpath(path) if stat.S_ISLNK(mode) else os.path.normpath(f"{folders[path.parent]}/{path.name}")
        if not real.startswith(top):
            reason = "its header names, or its folder links to, a file outside of the source's folder; put it there"
            raise CaseError("read", file, reason)
        if stat.S_ISLNK(mode):
            mode = _mode(path, follow=True)
        if mode and not stat.S_ISREG(mode):
            raise CaseError("read", file, "its header names a folder, a pipe, a socket or a device; expected files")


def _mode(path: Path, *, follow: bool) -> int:
    """What kind of file a path is; 0 where there is none."""
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except OSError:
        return 0


def _open(root: Path, file: str, members: Sequence[Path] = ()) -> tuple[Reader, Path, Sequence[Path]]:
    """The reader of a file, its path, and every file that will be opened for it: all below the root."""
    path = path_below(root, file)
    if path.is_file() and path.stat().st_size == 0:
        raise CaseError("read", file, "the file is empty (0 bytes); fetch it again from its source")
    try:
        reader = reader_of(path)
    except OSError as error:
        raise read_error(file, error) from None
    if reader is None:
        known = ", ".join(ending for kind in FORMATS for ending in kind.endings)
        raise CaseError("read", file, f"no reader knows this kind of file; known are {known}, and DICOM by its mark")
    try:
        opened = members or reader.files_of(path)
    except (UnreadableError, OSError) as error:
        raise read_error(file, error) from None
    _refuse_elsewhere(root, file, opened)
    return reader, path, opened


def read_error(file: str, error: UnreadableError | OSError) -> CaseError:
    """What is said of a file of a source that could not be read."""
    if isinstance(error, OSError):
        return CaseError("read", file, f"it cannot be opened: {error.strerror or error}", transient=True)
    return CaseError("read", file, str(error), transient=isinstance(error, TransientError), withheld=error.withheld)
