"""Where an output folder lies: on this machine, or in an object store, by `fsspec`.

A folder in an object store is a `upath.UPath`, which has the methods of `pathlib.Path`; what differs between the two is
here: a listing instead of a walk, many small objects read at once, copies near by of what is read more than once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from sa_med2d_20m import DatasetError, SAMed2DError, credentials_wanted, redacted

_COPIED: Final = 1 << 20
"""Bytes of a file that are copied at once."""
PART: Final = 16 << 20
"""Bytes of a part of an upload: a shard of 1 GiB is 64 parts, and S3 takes 10,000."""
_REFUSED: Final = {"hf": "publish it there with 'sa-med2d publish', which asks the licences first"}
"""Protocol -> why nothing is written there."""
_AT_ONCE: Final = 256
"""Small objects that are read at once."""
_CLIENTS: Final = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "httpx", "httpx2", "requests")
"""Packages whose errors say that a store failed."""


class StoreError(SAMed2DError, OSError):
    """An object store cannot be reached, or refuses."""


class TruncatedError(StoreError):
    """A file ends before what is to be read of it."""


def folder(text: str) -> Path:
    """The output folder that a user names: a path, or the URL of a folder in an object store.

    Raises:
        DatasetError: No package that is installed reads such URLs.

    >>> folder("built").is_absolute()
    False
    """
    if "://" not in text:
        return Path(text)
    import fsspec  # noqa: PLC0415 - half a second that local folders need not pay
    from upath import UPath  # noqa: PLC0415

    protocol = text.split("://", maxsplit=1)[0]
    if protocol in ("file", "local"):
        return Path(fsspec.core.strip_protocol(text))
    try:
        # All paths below share one client, which takes longer to make than an object to read. It is made anew here, as
        # the environment says now, and caches no listing, since other machines write there too.
        fsspec.get_filesystem_class(protocol).clear_instance_cache()
        return cast("Path", UPath(text, use_listings_cache=False))
    except (ImportError, ValueError) as error:
        raise DatasetError(f"{text}: no such place can be opened: {error}") from None


def writable(text: str) -> Path:
    """As `folder`, where shards or their index may be written.

    Raises:
        DatasetError: It may not, or see `folder`.
    """
    refused = _REFUSED.get(text.split("://", maxsplit=1)[0]) if "://" in text else None
    if refused:
        raise DatasetError(f"{text}: nothing is written there; {refused}")
    return folder(text)


def is_here(out: Path) -> bool:
    """Whether a folder lies on this machine."""
    return isinstance(out, Path)


def listing(out: Path, below: str) -> dict[str, int]:
    """All files below a folder of an output folder, found without opening any.

    Returns:
        Path below that folder -> size in bytes, sorted by path.

    Raises:
        DatasetError: There is no such repository of the Hub, or it is not the user's to read.
    """
    root = out / below
    if is_here(root):
        found = {path.relative_to(root).as_posix(): path.stat().st_size for path in root.rglob("*") if path.is_file()}
    else:
        try:
            listed: Mapping[str, Any] = _system(root).find(_name(root), detail=True)
        except FileNotFoundError as error:  # of a folder that is not there stores list nothing
            raise DatasetError(f"{out}: is not there ({redacted(str(error))})") from None
        start = len(_name(root)) + 1
        found = {path[start:]: int(about["size"]) for path, about in listed.items() if len(path) > start}
    return dict(sorted(found.items()))


def contents(out: Path, below: str, suffix: str, largest: int) -> Iterator[tuple[str, bytes | int]]:
    """All files with a suffix below a folder of an output folder, sorted; from an object store many at a time.

    Args:
        out: Output folder.
        below: Folder in it.
        suffix: End of their names.
        largest: Bytes up to which a file is read.

    Yields:
        Path below that folder, and the content; of a file that is larger its size.
    """
    root = out / below
    sizes = {name: size for name, size in listing(out, below).items() if name.endswith(suffix)}
    listed, step = list(sizes), 1 if is_here(root) else _AT_ONCE
    for names in (listed[first : first + step] for first in range(0, len(listed), step)):
        small = [name for name in names if sizes[name] <= largest]
        if is_here(root):
            read = {name: (root / name).read_bytes() for name in small}
        else:
            paths = {name: f"{_name(root)}/{name}" for name in small}
            got: Mapping[str, bytes] = _system(root).cat(list(paths.values())) if paths else {}
            read = {name: got[path] for name, path in paths.items()}
        yield from ((name, read.get(name, sizes[name])) for name in names)


@contextmanager
def copied(out: Path, paths: Iterable[str]) -> Iterator[Path]:
    """The output folder itself if it lies here; else a folder here with copies of those of these files that are there.

    The copies are gone when the block ends.
    """
    if is_here(out):
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="sa-med2d-") as name:
        for path in paths:
            try:
                fetch(out / path, Path(name) / path)
            except FileNotFoundError:
                continue
        yield Path(name)


def fetch(path: Path, copy: Path) -> None:
    """Copy a file, wherever it lies, to a place on this machine.

    Raises:
        FileNotFoundError: It is not there; and neither is a copy.
    """
    copy.parent.mkdir(parents=True, exist_ok=True)
    if is_here(path):
        shutil.copyfile(path, copy)
        return
    try:
        _system(path).get_file(_name(path), str(copy))
    except FileNotFoundError:
        copy.unlink(missing_ok=True)
        raise


@contextmanager
def open_object(path: Path) -> Iterator[BinaryIO]:
    """Write an object. It is there, whole, when the block ends without an exception, and else it never was.

    Larger ones go up in parts while they are written, so neither memory nor disk holds more than a part.
    """
    file = _system(path).open(_name(path), "wb", block_size=PART)
    try:
        yield file
    except BaseException:
        file.discard()
        file.closed = True  # else what was written would be sent when the file is forgotten
        raise
    file.close()


def parts_of(path: Path, offset: int, size: int) -> Iterator[bytes]:
    """A range of a file, in parts.

    Raises:
        TruncatedError: The file ends within the range.
    """
    if not is_here(path):
        while size:
            data: bytes = _system(path).cat_file(_name(path), start=offset, end=offset + min(size, PART))
            if not data:
                break
            size, offset = size - len(data), offset + len(data)
            yield data
    else:
        with path.open("rb") as file:
            file.seek(offset)
            while size and (data := file.read(min(size, _COPIED))):
                size -= len(data)
                yield data
    if size:
        raise TruncatedError(f"{path}: ends {size:,} bytes too early")


def part_of_shard(path: Path, offset: int, size: int) -> bytes:
    """The bytes of a shard where its index says that members lie.

    Raises:
        DatasetError: The shard ends before; who calls says which it is.
    """
    try:
        return b"".join(parts_of(path, offset, size))
    except TruncatedError as error:
        raise DatasetError("it lies beyond the end of its shard") from error


def move(out: Path, source: str, target: str) -> None:
    """Give a file of an output folder another name there."""
    if is_here(out):
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        (out / source).replace(out / target)
    else:
        _system(out).mv(_name(out / source), _name(out / target))


def remove_empty_folders(out: Path, below: str) -> None:
    """Remove a folder of an output folder and those in it, so far as they hold no file; a store has no folders."""
    if is_here(out):
        for folder, _, _ in os.walk(out / below, topdown=False):
            if not any(Path(folder).iterdir()):
                Path(folder).rmdir()


def create(path: Path, data: bytes) -> bool:
    """Write an object unless there is one of this name, which the store decides: of two at once one succeeds.

    Returns:
        Whether it was written.
    """
    try:
        _system(path).pipe_file(_name(path), data, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        if "PreconditionFailed" in str(error) or "ConditionalRequestConflict" in str(error):
            return False
        raise
    return True


def discard_unfinished(out: Path) -> None:
    """Drop the parts of uploads that were begun below a folder of a store and never finished: it charges for them."""
    system = _system(out)
    if not hasattr(system, "list_multipart_uploads"):  # only S3 keeps them until they are dropped
        return
    bucket, _, prefix = _name(out).partition("/")
    for upload in system.list_multipart_uploads(bucket):
        if upload["Key"].startswith(f"{prefix}/"):
            system.abort_mpu(bucket, upload["Key"], upload["UploadId"])


@contextmanager
def store_errors() -> Iterator[None]:
    """Say in words what the client of a store raises that is no `OSError`.

    Raises:
        StoreError: In its place.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] not in _CLIENTS or isinstance(error, OSError):
            raise
        first = (str(error).strip() or "no reason given").splitlines()[0]
        advice = f"; {wanted}" if (wanted := credentials_wanted(error)) else ""
        raise StoreError(f"the object store failed: {type(error).__name__}: {redacted(first)}{advice}") from None


def _system(path: Path) -> Any:
    """The fsspec file system of a path in a store."""
    return cast("Any", path).fs


def _name(path: Path) -> str:
    """What the file system calls a path."""
    return str(cast("Any", path).path).rstrip("/")
