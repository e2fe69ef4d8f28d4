"""The images of a folder or a zip that nobody built here: pictures of any set, or the release of SA-Med2D-20M."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sa_med2d_20m import DatasetError
from shards.duplicates.fingerprint import Fingerprint, fingerprint
from shards.duplicates.images import Images

ENDINGS: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_NAME: Final = re.compile(r"(?P<volume>.+--(?P<source>.+?)--(?P<case>.+)--[xyz])_(?P<number>\d+)")
"""A slice as the release of SA-Med2D-20M names it, and as we do."""
_IMAGES, _MASKS = re.compile(r"((?:.*/)?)images/"), re.compile(r"((?:.*/)?)masks/")
_MOST: Final = 1 << 28
"""Bytes of a picture in a zip: beyond any of the release, and what a bomb stops at."""
_WAITING: Final = 1 << 10
"""Pictures that are handed to threads at once."""


@dataclass(frozen=True)
class Folder:
    """The images of a folder or a zip.

    Attributes:
        images: Those that can be read; the key of one is its path, without its ending.
        unreadable: Paths of those that cannot.
    """

    images: Images
    unreadable: tuple[str, ...]


class _Files(Protocol):
    """Where pictures lie."""

    def names(self) -> list[str]:
        """Paths of all files, with ``/`` between folders."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file."""
        ...


@dataclass(frozen=True)
class _OfFolder:
    root: Path

    def names(self) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()]

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()


class _OfZip:
    def __init__(self, path: Path) -> None:
        split = path.with_suffix(".z01").exists()
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            if not split:
                raise DatasetError(f"{path}: is no zip that can be read ({error})") from None
        if split:
            raise DatasetError(
                f"{path}: is a part of a split zip; 'sa-med2d import {path}' reads the release as it was downloaded, "
                "and what it writes can be compared"
            )

    def names(self) -> list[str]:
        return [entry.filename for entry in self._zip.infolist() if entry.file_size <= _MOST]

    def read(self, name: str) -> bytes:
        return self._zip.read(name)


def folder_images(place: Path, *, workers: int, on_image: Callable[[int, int], None]) -> Folder:
    """Take the fingerprints of all pictures below a folder, or in a zip.

    Where ``images`` and ``masks`` lie beside each other it is taken for a release: only ``images`` is looked at.

    Args:
        place: On this machine.
        workers: Threads.
        on_image: Told how many files, of how many, are done.

    Raises:
        DatasetError: No picture in it can be read.
    """
    files: _Files = _OfFolder(place) if place.is_dir() else _OfZip(place)
    root, names = _pictures_of(files.names())
    found: list[tuple[str, Fingerprint]] = []
    unreadable = []
    with ThreadPoolExecutor(workers) as pool:
        for done, (name, made) in enumerate(_made(pool, files, names), 1):
            if made is None:
                unreadable.append(name)
            else:
                found.append((name, made))
            on_image(done, len(names))
    if not found:
        kinds = ", ".join(ENDINGS)
        raise DatasetError(
            f"{place}: holds no picture that can be read; expected {kinds}, or a set that 'sa-med2d build' wrote"
        )
    return Folder(_as_images(found, root, lambda name: _pixels(files, name)), tuple(unreadable))


def _pictures_of(names: list[str]) -> tuple[str, list[str]]:
    """The folder whose pictures are looked at, with ``/`` at its end, and their paths."""
    pictures = sorted(name for name in names if name.lower().endswith(ENDINGS))
    beside = set.intersection(
        *({name[: at.end(1)] for name in pictures if (at := part.match(name))} for part in (_IMAGES, _MASKS))
    )
    root = f"{min(beside, key=len)}images/" if beside else ""
    return root, [name for name in pictures if name.startswith(root)]


def _made(pool: ThreadPoolExecutor, files: _Files, names: list[str]) -> Iterator[tuple[str, Fingerprint | None]]:
    def of(name: str) -> Fingerprint | None:
        try:
            return fingerprint(_pixels(files, name))
        except DatasetError:
            return None

    for start in range(0, len(names), _WAITING):
        some = names[start : start + _WAITING]
        yield from zip(some, pool.map(of, some), strict=True)


def _pixels(files: _Files, name: str) -> npt.NDArray[Any]:
    """The pixels of a picture, (H, W) or (H, W, 3) RGB, uint8 or uint16.

    Raises:
        DatasetError: It is none that can be read.
    """
    try:
        data = np.frombuffer(files.read(name), np.uint8)
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:  # also encrypted ones
        raise DatasetError(f"{name}: cannot be read ({error})") from None
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16) or not pixels.size:
        raise DatasetError(f"{name}: is no picture of 8 or 16 bit that can be read")
    if pixels.ndim == 3:
        order = cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
        return cv2.cvtColor(pixels, order) if pixels.shape[2] > 1 else pixels[..., 0]
    return pixels


def _as_images(found: list[tuple[str, Fingerprint]], root: str, pixels: Callable[[str], npt.NDArray[Any]]) -> Images:
    keys = [name.removeprefix(root).rsplit(".", 1)[0] for name, _ in found]
    names = [_NAME.fullmatch(key) for key in keys]
    volumes = list(dict.fromkeys(name["volume"] for name in names if name))
    numbers = {volume: number for number, volume in enumerate(volumes)}
    cases = {case: number for number, case in enumerate(dict.fromkeys(_case_of(key) for key in keys))}
    none = pa.nulls(len(keys), pa.string())
    sources = pa.array([name["source"] if name else None for name in names], pa.string())
    of_case = pa.array([name["case"] if name else None for name in names], pa.string())
    return Images(
        about=pa.table({"key": keys, "source": sources, "patient": none, "case": of_case, "split": none}),
        exact=np.stack([np.frombuffer(made.exact, np.uint64) for _, made in found]),
        hashes=np.stack([made.hashes for _, made in found]),
        case=np.array([cases[_case_of(key)] for key in keys], np.int32),
        volume=np.array([numbers[name["volume"]] if name else -1 for name in names], np.int32),
        position=np.array([int(name["number"]) if name else 0 for name in names], np.int32),
        volumes=volumes,
        read=lambda number: pixels(found[number][0]),
    )


def _case_of(key: str) -> str:
    name = _NAME.fullmatch(key)
    return f"{name['source']}\0{name['case']}" if name else key
