"""The images of a folder that nobody built here: pictures of any set, or the release of SA-Med2D-20M."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
_IMAGES, _MASKS = "images", "masks"


@dataclass(frozen=True)
class Folder:
    """The images of a folder.

    Attributes:
        images: Those that can be read; the key of one is its path below the folder, without its ending.
        unreadable: Paths of those that cannot.
    """

    images: Images
    unreadable: tuple[str, ...]


def folder_images(folder: Path, *, workers: int, on_image: Callable[[int, int], None]) -> Folder:
    """Take the fingerprints of all pictures below a folder.

    A folder that has ``images`` and ``masks`` is taken for a release: only what lies in ``images`` is looked at.

    Args:
        folder: On this machine.
        workers: Threads.
        on_image: Told how many files, of how many, are done.

    Raises:
        DatasetError: No picture in it can be read.
    """
    root = folder / _IMAGES if (folder / _IMAGES).is_dir() and (folder / _MASKS).is_dir() else folder
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    found: list[tuple[Path, Fingerprint]] = []
    unreadable = []
    with ThreadPoolExecutor(workers) as pool:
        for done, (path, made) in enumerate(_made(pool, paths), 1):
            if made is None:
                unreadable.append(path.relative_to(folder).as_posix())
            else:
                found.append((path, made))
            on_image(done, len(paths))
    if not found:
        kinds = ", ".join(ENDINGS)
        raise DatasetError(
            f"{folder}: holds no picture that can be read; expected {kinds}, or a set that 'sa-med2d build' wrote"
        )
    return Folder(_as_images(found, root), tuple(unreadable))


def _made(pool: ThreadPoolExecutor, paths: list[Path]) -> Iterator[tuple[Path, Fingerprint | None]]:
    def of(path: Path) -> Fingerprint | None:
        try:
            return fingerprint(read_picture(path))
        except DatasetError:
            return None

    yield from zip(paths, pool.map(of, paths), strict=True)


def read_picture(path: Path) -> npt.NDArray[Any]:
    """The pixels of a picture, (H, W) or (H, W, 3) RGB, uint8 or uint16.

    Raises:
        DatasetError: It is none that can be read.
    """
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.stat().st_size else None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16) or not pixels.size:
        raise DatasetError(f"{path}: is no picture of 8 or 16 bit that can be read")
    if pixels.ndim == 3:
        order = cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
        return cv2.cvtColor(pixels, order) if pixels.shape[2] > 1 else pixels[..., 0]
    return pixels


def _as_images(found: list[tuple[Path, Fingerprint]], root: Path) -> Images:
    keys = [path.relative_to(root).with_suffix("").as_posix() for path, _ in found]
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
        read=lambda number: read_picture(found[number][0]),
    )


def _case_of(key: str) -> str:
    name = _NAME.fullmatch(key)
    return f"{name['source']}\0{name['case']}" if name else key
