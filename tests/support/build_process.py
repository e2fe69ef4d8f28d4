"""A build in a process of its own, and what happens to its workers from outside while they are at a case."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.nifti import write_nifti
from tests.support.sources import write_source
from tests.support.volumes import ct_like, organ_map

LARGE = (40, 512, 512)
"""Slices, rows and columns of a volume that takes long enough to read for its reader to be seen."""


def write_long_source(raw: Path, large: Collection[int], *, cases: int = 12) -> Path:
    """Write a source of small cases in training, some of them large; axial slices only; returns the recipe."""
    recipe = write_source(raw, cases=cases)
    for folder, volume in (("images", ct_like(1, LARGE)), ("labels", organ_map(LARGE))):
        write_nifti(raw / "large" / f"{folder}.nii.gz", volume)
        for number in large:
            (raw / f"Small/{folder}/case{number:02d}.nii.gz").unlink()
            (raw / f"Small/{folder}/case{number:02d}.nii.gz").hardlink_to(raw / f"large/{folder}.nii.gz")
    recipe.write_text(f'axes = ["x"]\n{recipe.read_text()}[splits]\ntrain = ["*"]\n')
    return recipe


def command(recipe: Path, out: Path, *further: object) -> list[str]:
    """A build with two workers and, for small cases, a shard for each."""
    arguments = ["build", recipe, "--raw", recipe.parent, "--out", out, "--shard-size", "60KB", "--workers", 2]
    return [str(part) for part in (sys.executable, "-m", "builder", *arguments, *further)]


def run(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(*arguments, text=True, capture_output=True, check=False, timeout=120, **options)


def workers_of(process: int) -> list[psutil.Process]:
    """All processes that a process has started, and theirs, without Python's resource trackers."""
    found = []
    try:
        for child in psutil.Process(process).children(recursive=True):
            try:
                if "resource_tracker" not in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        return []
    return found


def readers_of(process: int, file: Path) -> list[psutil.Process]:
    """The workers that have a file open at this moment."""
    found = []
    for worker in workers_of(process):
        try:
            if any(opened.path == str(file) for opened in worker.open_files()):
                found.append(worker)
        except psutil.NoSuchProcess:
            continue
    return found


def _ancestor(worker: psutil.Process, word: str) -> psutil.Process:
    return next(parent for parent in worker.parents() if word in " ".join(parent.cmdline()))


@contextmanager
def struck(
    process: int, file: Path, signal: int, *, times: int = 1_000, ancestor: str | None = None
) -> Iterator[list[int]]:
    """Send a signal to the workers of a process that are seen to read a file, while the context lasts.

    Args:
        process: The build's.
        file: An image of a large case.
        signal: What to send.
        times: How often at most; each worker gets it once.
        ancestor: Send it to the nearest process above the worker whose command line has this word.

    Yields:
        The workers that got it so far.
    """
    hit: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.002) and len(hit) < times:
            for worker in readers_of(process, file):
                if worker.pid not in hit:
                    hit.append(worker.pid)
                    target = worker if ancestor is None else _ancestor(worker, ancestor)
                    target.send_signal(signal)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield hit
    finally:
        over.set()
        watcher.join()


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[Any]) -> None:
    """Wait until a running build has written a file below a folder."""
    while not any(folder.rglob(pattern)):
        assert process.poll() is None, "the build ended before"
        time.sleep(0.005)
