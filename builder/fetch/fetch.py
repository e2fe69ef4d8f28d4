"""A whole source: what is missing of it is fetched, checked and unpacked."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from builder.fetch import hub, tcia, zenodo
from builder.fetch.fault import DamagedError, FetchError, RefusedError
from builder.fetch.host import Host
from builder.fetch.listing import RemoteFile, remote_file
from builder.fetch.marks import FOLDER, is_fetched, mark_of, write_mark
from builder.fetch.space import room, taken
from builder.fetch.transfer import part_of, transfer
from builder.fetch.unpack import TEMPORARY, unpack
from builder.sources.download import Download
from builder.sources.metadata import SourceMetadata
from shards.atomic import make_folder
from shards.console import in_bytes

PROVIDERS: Final[dict[str, Callable[[Download, Host], tuple[RemoteFile, ...]]]] = {
    "zenodo": zenodo.files_of,
    "tcia": tcia.files_of,
}
"""Key of ``[download]`` -> what lists the files of that provider."""
CONNECTIONS: Final = 4
"""How many connections are open at once unless it is said."""


@dataclass(frozen=True)
class Plan:
    """What there is to fetch of a source.

    Attributes:
        source: Which.
        root: Its folder.
        missing: Files that are not here yet.
        here: How many files are here already.
        snapshot: What the Hub has, for a dataset of the Hub.
    """

    source: SourceMetadata
    root: Path
    missing: tuple[RemoteFile, ...] = ()
    here: int = 0
    snapshot: hub.Snapshot | None = None

    @property
    def files(self) -> dict[str, int | None]:
        """Path -> bytes, where known, of all that is to be fetched."""
        if self.snapshot is not None:
            return dict(self.snapshot.sizes)
        return {file.path: file.size for file in self.missing}

    @property
    def bytes(self) -> int | None:
        """Bytes to fetch, where they are known."""
        sizes = list(self.files.values())
        known = sum(size for size in sizes if size is not None)
        if None not in sizes:
            return known
        said = None if self.here else self.source.size.download  # that of the whole source
        return max(known, said or 0) or None


class Progress:
    """How far a fetch is; told by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes, self._began = 0, time.monotonic()
        self._total: int | None = None
        self._doing = "listing"

    def begin(self, what: str, total: int | None) -> None:
        """A source begins."""
        with self._lock:
            self._bytes, self._began, self._total, self._doing = 0, time.monotonic(), total, what

    def count(self, number: int) -> None:
        """Bytes arrived."""
        with self._lock:
            self._bytes += number

    def doing(self, what: str) -> None:
        """Something else than fetching is under way."""
        with self._lock:
            self._doing = what

    def line(self) -> str:
        """In words."""
        with self._lock:
            rate = self._bytes / max(time.monotonic() - self._began, 1e-9)
            of = f" of {in_bytes(self._total)}" if self._total else ""
            return f"{self._doing}: {in_bytes(max(0, self._bytes))}{of}, {in_bytes(int(max(0, rate)))}/s"


def plan(source: SourceMetadata, root: Path, host: Host) -> Plan:
    """What there is to fetch of a source that a program can fetch.

    Raises:
        FetchError: Who has its files does not say which they are.
    """
    download = source.download
    if download is None:
        raise FetchError(f"{source.name}: its recipe does not say where its files are")
    if download.hub is not None:
        snapshot = hub.snapshot_of(download)
        mark = is_fetched(root, _of_hub(snapshot))
        return Plan(source, root, here=len(snapshot.sizes)) if mark else Plan(source, root, snapshot=snapshot)
    provider = next((listed for name, listed in PROVIDERS.items() if getattr(download, name) is not None), None)
    files = provider(download, host) if provider else tuple(map(remote_file, download.files))
    paths = [file.path for file in files]
    twice = sorted({path for path in paths if paths.count(path) > 1}) if len(set(paths)) < len(paths) else []
    if twice:
        raise FetchError(
            f"{source.name}: two files would be called {twice[0]}; give them names with download.files.name"
        )
    missing = tuple(file for file in files if is_fetched(root, file) is None)
    return Plan(source, root, missing, len(files) - len(missing))


def _of_hub(snapshot: hub.Snapshot) -> RemoteFile:
    return RemoteFile(f"hf://datasets/{snapshot.repository}@{snapshot.commit}", "snapshot")


def check_space(planned: Plan) -> None:
    """Refuse what does not fit on the disk.

    Raises:
        FetchError: It does not.
    """
    if not planned.files:
        return
    packed = any(file.archive for file in planned.missing)
    unpacked = (planned.source.size.unpacked or 0) if packed and not planned.here else 0
    needed, free = max(0, (planned.bytes or 0) - _arrived(planned)) + unpacked, room(planned.root)
    if needed > free:
        parts = f" ({in_bytes(planned.bytes or 0)} to fetch, {in_bytes(unpacked)} unpacked)" if unpacked else ""
        raise FetchError(
            f"{planned.source.name}: needs {in_bytes(needed)}{parts}, and {in_bytes(free)} are free at {planned.root}; "
            "make room, or go on all the same with --anyway"
        )


def _arrived(planned: Plan) -> int:
    """Bytes that are on the disk already of what is to be fetched."""
    places = [planned.root / path for path in (planned.snapshot.sizes if planned.snapshot is not None else ())]
    places += [place_of(file, planned.root) for file in planned.missing]
    return sum(taken(place) + taken(part_of(place)) for place in places)


def fetch(planned: Plan, host: Host, *, connections: int, keep_archives: bool, progress: Progress) -> list[str]:
    """Fetch what is missing; a fault of one file does not stop the others.

    Returns:
        What went wrong, a sentence each.
    """
    source, root = planned.source, planned.root
    progress.begin(source.name, planned.bytes)
    if planned.snapshot is not None:
        with _alone(root):
            return _fetch_snapshot(planned.snapshot, root, connections)
    if not planned.missing:
        return []
    workers = min(connections, len(planned.missing))

    def one(remote: RemoteFile) -> str | None:
        if host.stopped.is_set():
            return None
        try:
            _fetch_file(remote, root, host, connections // workers, keep_archives=keep_archives, progress=progress)
        except FetchError as error:
            return str(error)
        return None

    with _alone(root):
        pool = ThreadPoolExecutor(workers, "file")
        try:
            return [fault for fault in pool.map(one, planned.missing) if fault is not None]
        except BaseException:
            host.stopped.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            _without_empty(root / FOLDER / "archives")  # not before: another file may be about to use a folder


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep the folder of a source for this process; what a killed one was unpacking is removed.

    Raises:
        FetchError: Another process fetches into it.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - only who fetches needs it

    make_folder(root / FOLDER)
    try:
        with FileLock(root / FOLDER / "lock", timeout=0):
            for left in (root / FOLDER).glob(f"{TEMPORARY}*"):
                shutil.rmtree(left)
            yield
    except Timeout:
        raise FetchError(f"{root}: another fetch is writing to this folder; wait for it to end") from None


def _fetch_snapshot(snapshot: hub.Snapshot, root: Path, connections: int) -> list[str]:
    try:
        hub.download_snapshot(snapshot, root, connections)
    except FetchError as error:
        return [str(error)]
    write_mark(root, mark_of(_of_hub(snapshot), sum(snapshot.sizes.values()), "", sorted(snapshot.sizes)))
    return []


def _fetch_file(
    remote: RemoteFile, root: Path, host: Host, connections: int, *, keep_archives: bool, progress: Progress
) -> None:
    target = place_of(remote, root)
    try:
        checked = transfer(remote, target, host, connections=max(1, connections), count=progress.count)
    except RefusedError as error:
        raise FetchError(f"{error}; put it at {target} and run the same command again") from None
    members = [remote.path]
    if remote.archive is not None:
        try:
            below = unpack(target, remote.archive, root / remote.folder, inside=remote.inside, scratch=root / FOLDER)
            members = [str(PurePosixPath(remote.folder, path)) for path in below]
            _check_images(remote, members)
        except DamagedError as error:
            kept = target.with_name(f"{target.name}.wrong")
            target.replace(kept)
            raise FetchError(f"{error}; it is kept as {kept}; run the same command again") from None
    write_mark(root, mark_of(remote, checked.size, checked.sha256, members))
    if remote.archive is not None and not keep_archives:
        target.unlink()


def place_of(remote: RemoteFile, root: Path) -> Path:
    """Where a file lies: at its place, or, for an archive, where no build looks."""
    return root / FOLDER / "archives" / remote.path if remote.archive else root / remote.path


def _check_images(remote: RemoteFile, members: list[str]) -> None:
    if remote.images is None:
        return
    found = sum(name.lower().endswith(".dcm") for name in members)
    if found != remote.images:
        raise DamagedError(f"{remote.url}: expected {remote.images} DICOM files, got {found}")


def _without_empty(top: Path) -> None:
    """Remove a folder, and those in it, as far as they hold nothing any more."""
    for folder, _, _ in os.walk(top, topdown=False):
        if not any(Path(folder).iterdir()):
            Path(folder).rmdir()
