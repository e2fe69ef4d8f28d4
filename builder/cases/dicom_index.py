"""The index of a tree of DICOM files: what each file says of itself, read once and kept.

Only files that are new, or have another size or time, are opened again. The index holds identifiers: it lies in the
folder of a build that is never published, only its owner may read it, and in an object store none is kept.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Final

from builder.cases.discovery import scan
from builder.errors import CaseError, UnreadableError
from builder.readers.dicom.facts import Facts, References, SeriesFacts, facts_of
from builder.readers.files import path_below, read_error
from shards.atomic import write_atomic
from shards.paths import BUILD
from shards.store import is_here

_VERSION: Final = 1
"""Of what the index keeps of a file; an index of another one is made anew."""
_BATCH: Final = 100
"""Files that a process is given at once: a tenth of a second of work."""
_WORTH: Final = 10_000
"""Files from which on the start of further processes costs less than they save: some seconds of work."""
OnFile = Callable[[int, int], None]
"""Told how many files, of how many, have been opened."""


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file as it was when it was looked into.

    Attributes:
        path: Below the root.
        size: In bytes.
        modified_ns: Time of its last change.
        facts: What it says of itself; None where it is no DICOM image, SEG or RTSTRUCT.
        problem: Why it cannot be read, or None.
        lasting: Whether the file itself says so; else another try may be luckier.
    """

    path: str
    size: int
    modified_ns: int
    facts: Facts | None = None
    problem: str | None = None
    lasting: bool = True


@dataclass(frozen=True)
class DicomIndex:
    """What is known of a tree.

    Attributes:
        root: Its folder.
        files: Ordered by path.
        closed: Folders that cannot be looked into.
    """

    root: Path
    files: tuple[IndexedFile, ...]
    closed: tuple[OSError, ...] = ()


def index_of(
    root: Path, *, kept: Path | None = None, processes: int = 1, on_file: OnFile = lambda *_: None
) -> DicomIndex:
    """Index a tree.

    Args:
        root: Its folder.
        kept: The file that holds what earlier runs found, or None; it is written anew where anything has changed, also
            when a run is broken off.
        processes: How many may open files.
        on_file: See there.
    """
    closed: list[OSError] = []
    known = {} if kept is None else _read(kept)
    found: dict[str, IndexedFile] = {}
    shared: dict[SeriesFacts, SeriesFacts] = {}
    new = []
    for path in scan(root, closed.append):
        if path.endswith("/"):
            continue
        state = _state(root / path)
        earlier = known.get(path)
        if earlier is not None and (earlier.size, earlier.modified_ns) == state:
            found[path] = earlier
        else:
            new.append(path)
    try:
        if new:
            on_file(0, len(new))
        for done, file in enumerate(_look_into(root, new, processes), 1):
            found[file.path] = _sharing(file, shared)
            on_file(done, len(new))
    finally:
        if kept is not None and found != known:
            _write(kept, found.values())
    return DicomIndex(root, tuple(found[path] for path in sorted(found)), tuple(closed))


def _sharing(file: IndexedFile, shared: dict[SeriesFacts, SeriesFacts]) -> IndexedFile:
    """The file with the one object that says what its series has in common: a tree may have a million files."""
    if file.facts is None:
        return file
    about = shared.setdefault(file.facts.about, file.facts.about)
    return replace(file, facts=replace(file.facts, about=about))


def place_of(out: Path | None, source: str) -> Path | None:
    """Where the index of a source is kept; None where there is no folder, or it is in an object store."""
    return None if out is None or not is_here(out) else out / BUILD / "dicom" / f"{source}.json"


def _state(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _look_into(root: Path, paths: list[str], processes: int) -> Iterator[IndexedFile]:
    """Open files, on several processes where that is worth it; in any order."""
    if processes < 2 or len(paths) < _WORTH:
        yield from (_look(root, path) for path in paths)
        return
    left = dict.fromkeys(paths)
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context(method), _leave_interrupts)
    try:
        batches = (paths[at : at + _BATCH] for at in range(0, len(paths), _BATCH))
        waiting = [pool.submit(_look_at, root, batch) for batch in batches]
        for batch in as_completed(waiting):
            for file in batch.result():
                del left[file.path]
                yield file
    except BrokenProcessPool:  # the system ended one, as for lack of memory; the rest is read here
        yield from (_look(root, path) for path in left)
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides


def _look_at(root: Path, paths: Iterable[str]) -> list[IndexedFile]:
    return [_look(root, path) for path in paths]


def _look(root: Path, path: str) -> IndexedFile:
    """Open one file."""
    size, modified_ns = _state(root / path)
    try:
        if not _is_regular(root, path):
            return IndexedFile(path, size, modified_ns)
        facts = facts_of(root / path)
    except CaseError as error:
        return IndexedFile(path, size, modified_ns, problem=error.reason, lasting=not error.transient)
    except (UnreadableError, OSError) as error:
        said = read_error(path, error)
        return IndexedFile(path, size, modified_ns, problem=said.reason, lasting=not said.transient)
    return IndexedFile(path, size, modified_ns, facts)


def _is_regular(root: Path, path: str) -> bool:
    """Whether a file may be opened: pipes and devices are left alone; CaseError for a link that leads out."""
    mode = (root / path).lstat().st_mode
    if stat.S_ISLNK(mode):
        return path_below(root, path).is_file()
    return stat.S_ISREG(mode)


def _read(kept: Path) -> dict[str, IndexedFile]:
    """What a file keeps by path; nothing where that cannot be read, so that every file is opened again."""
    try:
        record = json.loads(kept.read_bytes())
        if record["version"] != _VERSION:
            return {}
        series = [SeriesFacts(*entry) for entry in record["series"]]
        files = (_file_of(entry, series) for entry in record["files"])
        return {file.path: file for file in files}
    except (OSError, ValueError, TypeError, LookupError):
        return {}


def _file_of(entry: list[Any], series: list[SeriesFacts]) -> IndexedFile:
    path, size, modified_ns, problem, *further = entry
    if not further:
        return IndexedFile(path, size, modified_ns, problem=problem)
    number, instance, instance_hash, references = further
    about = None if references is None else References(*(tuple(part) for part in references))
    return IndexedFile(path, size, modified_ns, Facts(series[number], instance, instance_hash, about), problem)


def _write(kept: Path, files: Iterable[IndexedFile]) -> None:
    """Keep files; what those of a series share stands there once."""
    numbers: dict[SeriesFacts, int] = {}
    entries: list[list[Any]] = []
    for file in sorted(files, key=lambda file: file.path):
        if not file.lasting:
            continue
        entry: list[Any] = [file.path, file.size, file.modified_ns, file.problem]
        if file.facts is not None:
            facts = file.facts
            references = None if facts.references is None else astuple(facts.references)
            entry += [numbers.setdefault(facts.about, len(numbers)), facts.instance, facts.instance_hash, references]
        entries.append(entry)
    record = {"version": _VERSION, "series": [astuple(about) for about in numbers], "files": entries}
    write_atomic(kept, json.dumps(record).encode() + b"\n", private=True)
