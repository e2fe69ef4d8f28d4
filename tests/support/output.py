"""What a build wrote, read without the project's own code."""

from __future__ import annotations

import gc
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import webdataset


def by_webdataset(path: Path) -> list[dict[str, Any]]:
    """The samples of a shard as plain webdataset gives them."""
    with warnings.catch_warnings(action="ignore"):  # it leaves the file open
        samples = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
        gc.collect()
    return samples


def tree(folder: Path, *below: str) -> dict[str, bytes]:
    """All files in some subfolders, by path."""
    roots = [folder / name for name in below] if below else [folder]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for root in roots
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def members(out: Path) -> Iterator[tuple[str, bytes]]:
    """All members of all shards of an output folder, read by the standard library."""
    for path in sorted((out / "data").rglob("*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                file = tar.extractfile(info)
                assert file is not None
                yield info.name, file.read()
