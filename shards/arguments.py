"""What the arguments of commands share."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Final

from sa_med2d_20m import DatasetError, redacted

_EXTRAS: Final = {"s3": "s3", "gs": "gs", "gcs": "gs", "hf": "publish"}
"""Protocol of a URL -> the extra whose packages read it."""
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_UNITS: Final = {"": 1} | {
    prefix + end: base**power for power, prefix in enumerate("KMGT", 1) for end, base in (("", 1000), ("I", 1024))
}
_OURS: Final = ("builder", "sa_med2d_20m", "shards")


def add_json(command: argparse._ActionsContainer) -> None:
    """Add the option of every command whose result programs read."""
    command.add_argument("--json", action="store_true", help="print the result as one JSON document")


def output_folder(text: str, *, write: bool = False) -> Path:
    """The type of an argument that names an output folder, or its URL in an object store.

    Args:
        text: The argument.
        write: Whether shards or their index are written there.
    """
    if "://" not in text:
        return folder_to_write(text) if write else Path(text)
    import fsspec  # noqa: PLC0415 - folders on this machine need nothing of this

    from shards.store import folder, writable  # noqa: PLC0415

    protocol = text.split("://", maxsplit=1)[0]
    try:
        if protocol in _EXTRAS:
            fsspec.get_filesystem_class(protocol)
        return writable(text) if write else folder(text)
    except DatasetError as error:
        raise argparse.ArgumentTypeError(redacted(str(error))) from None
    except ImportError as error:
        raise argparse.ArgumentTypeError(redacted(missing(text, error, _EXTRAS.get(protocol, "publish")))) from None


def folder_to_write(text: str) -> Path:
    """The type of an argument that names a folder of this machine, which may not be there yet."""
    path = Path(text)
    there = nearest(path)
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f"{there}: is no folder; expected one, or one that is not there yet")
    return path


def nearest(path: Path) -> Path:
    """A path, or the nearest above it where there is something: a file, a folder, or a link that leads nowhere."""
    return next((place for place in (path, *path.parents) if os.path.lexists(place)), path)


def built_set(text: str) -> Path:
    """The type of an argument that names what is read: an output folder, its URL, or a repository, ``owner/name``."""
    is_repository = _REPOSITORY.fullmatch(text) is not None and not Path(text).exists()
    return output_folder(f"hf://datasets/{text}" if is_repository else text)


def repository_name(text: str) -> str:
    """The type of an argument that names a repository of the Hub, for commands that write there."""
    if _REPOSITORY.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a repository; expected owner/name")
    return text


def add_built_set(command: argparse._ActionsContainer) -> None:
    """Add the argument of every command that reads a built set, wherever it lies."""
    command.add_argument(
        "out", type=built_set, metavar="OUT", help="output folder, its URL, or a repository of the Hub (owner/name)"
    )


def output_file(text: str) -> Path:
    """The type of an argument that names a file that is written: told before any work where that cannot be."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; expected the name of a file")
    parent = nearest(path.absolute().parent)
    if not parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: {parent} is no folder")
    if not os.access(parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: {parent} is not writable for you")
    return path


def positive(text: str) -> int:
    """The type of an argument that is a number of things."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)


def size_in_bytes(text: str) -> int:
    """The type of an argument that is a size, such as 500MB or 2GiB."""
    number = text.upper().removesuffix("B")
    unit = number.lstrip("0123456789.")
    try:
        size = int(float(number.removesuffix(unit)) * _UNITS[unit])
    except (KeyError, OverflowError, ValueError):
        size = 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size such as 500MB or 2GiB")
    return size


def missing(what: str, error: ImportError, extra: str) -> str:
    """What is said where packages are not installed.

    Args:
        what: What needs them: a command, an address.
        error: Raised when one was imported.
        extra: The extra of ``pyproject.toml`` that brings them.

    Raises:
        ImportError: ``error`` itself, where it is a module of this project that cannot be imported.
    """
    if (error.name or "").partition(".")[0] in _OURS:
        raise error
    package = f"the package {error.name.partition('.')[0]}, which is" if error.name else "packages that are"
    return f"{what} needs {package} not installed: pip install 'sa-med2d-20m[{extra}]'"
