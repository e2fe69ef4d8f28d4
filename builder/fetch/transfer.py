"""One file from its host to this disk: in chunks by several connections where the host allows it, and resumable.

What has arrived lies in ``.NAME.part``; ``.NAME.part.json`` says which chunks of which version of the file these are.
Pooch, the usual library, begins a file anew after each interruption and knows one connection only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import requests

from builder.fetch.fault import FetchError, RefusedError
from builder.fetch.host import FIRST_WAIT, Broken, Host, body
from builder.fetch.listing import RemoteFile
from sa_med2d_20m import SAMed2DError
from shards.atomic import write_atomic

CHUNK: Final = 16 << 20
"""Bytes that one request asks for, and the most of a connection's work that a killed fetch loses."""
_RESTARTS: Final = 3
"""How many times a file may change on its host while it is fetched."""
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
Count = Callable[[int], None]
"""Told of bytes as they arrive; of a negative number where they are thrown away."""


@dataclass(frozen=True)
class Checked:
    """A file that is here and right.

    Attributes:
        path: Where it is.
        size: Its bytes.
        sha256: Its checksum.
    """

    path: Path
    size: int
    sha256: str


@dataclass
class _Partial:
    """What is in a side file.

    Attributes:
        total: Bytes of the whole file.
        validator: What the host calls this version of the file.
        done: Numbers of the chunks that are here.
    """

    total: int
    validator: str | None
    chunk: int = CHUNK
    done: set[int] = field(default_factory=set)


class _Changed(SAMed2DError):  # noqa: N818 - it never reaches a reader
    """The host has another version of the file than a moment ago, or no longer answers in parts."""


def transfer(remote: RemoteFile, target: Path, host: Host, *, connections: int, count: Count) -> Checked:
    """Fetch a file, or go on with it; nothing is asked where it is there already.

    Args:
        remote: The file.
        target: Where it goes.
        host: Asks.
        connections: How many at most.
        count: Told of bytes.

    Raises:
        FetchError: It cannot be had, or is not what was expected; then it is kept as ``NAME.wrong``.
    """
    if target.exists():
        count(target.stat().st_size)
        return _there_already(remote, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(target)
    for _ in range(_RESTARTS):
        try:
            _arrive(remote, part, host, connections, count)
        except _Changed:
            count(-_discard(part))
            continue
        return _checked(remote, part, target, host)
    raise FetchError(f"{remote.url}: the file changes while it is fetched, {_RESTARTS} times; try again later")


def part_of(target: Path) -> Path:
    """Where a file lies while it arrives."""
    return target.with_name(f".{target.name}.part")


def _there_already(remote: RemoteFile, target: Path) -> Checked:
    found = _hashes(target)
    wrong = _difference(remote, target.stat().st_size, found)
    if wrong:
        raise FetchError(f"{target} is there already and is not the file at {remote.url}: {wrong}; move it away")
    return Checked(target, target.stat().st_size, found["sha256"])


def _discard(part: Path) -> int:
    """Throw away what has arrived; returns how many bytes were counted for it."""
    side = _side(part)
    kept = _read_side(side)
    lost = 0 if kept is None else sum(_length(kept, number) for number in kept.done)
    part.unlink(missing_ok=True)
    side.unlink(missing_ok=True)
    return lost


def _side(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _arrive(remote: RemoteFile, part: Path, host: Host, connections: int, count: Count) -> None:
    """Have the whole file in ``part``."""
    with host.ask(remote.url, {"Range": "bytes=0-0"}) as answer:
        if answer.status_code != 416:  # that of an empty file, whose answer says nothing else
            host.refuse_page(answer, remote.url, remote.name)
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", "")) if answer.status_code == 206 else None
        total = int(found[3]) if found else _length_of(answer)
        if remote.size is not None and total is not None and total != remote.size:
            raise FetchError(f"{remote.url}: expected {remote.size} bytes, the host has {total}; {_another(remote)}")
        validator = _validator(answer)
        if found is None:
            _discard(part)
        if answer.status_code == 200:  # it is the whole file already
            try:
                _save(answer, part, host, count)
            except Broken:
                pass
            else:
                return
    if found is None:
        _whole(remote, part, host, count)
        return
    state = _resumed(remote, part, int(found[3]), validator)
    count(sum(_length(state, number) for number in state.done))
    _chunks(remote, part, state, host, connections=connections, count=count)


def _length_of(answer: requests.Response) -> int | None:
    length = answer.headers.get("Content-Length")
    return int(length) if answer.status_code == 200 and length is not None else None


def _validator(answer: requests.Response) -> str | None:
    """What tells one version of a file from another; a weak ETag does not say that the bytes are the same."""
    etag = answer.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")


def _resumed(remote: RemoteFile, part: Path, total: int, validator: str | None) -> _Partial:
    """What an earlier fetch left of this version of the file."""
    kept = _read_side(_side(part))
    same = kept is not None and (kept.total, kept.validator, kept.chunk) == (total, validator, CHUNK)
    sure = validator is not None or remote.sha256 is not None or remote.md5 is not None
    if kept is not None and same and sure and part.is_file() and part.stat().st_size == total:
        return kept
    _discard(part)
    with part.open("wb") as file:
        file.truncate(total)
    state = _Partial(total, validator)
    _write_side(part, state)
    return state


def _read_side(side: Path) -> _Partial | None:
    try:
        record = json.loads(side.read_text())
        return _Partial(record["total"], record["validator"], record["chunk"], set(record["done"]))
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that a crash left in pieces
        return None


def _write_side(part: Path, state: _Partial) -> None:
    write_atomic(_side(part), json.dumps(asdict(state) | {"done": sorted(state.done)}).encode())


def _length(state: _Partial, number: int) -> int:
    return min(state.chunk, state.total - number * state.chunk)


def _chunks(remote: RemoteFile, part: Path, state: _Partial, host: Host, *, connections: int, count: Count) -> None:
    lock, given_up = threading.Lock(), threading.Event()

    def fetch(number: int) -> None:
        if given_up.is_set() or host.stopped.is_set():
            return
        try:
            whole = _chunk(remote, part, state, number, host=host, count=count, given_up=given_up)
        except BaseException:
            given_up.set()
            raise
        if whole:
            with lock:
                state.done.add(number)
                _write_side(part, state)

    missing = [number for number in range(-(-state.total // state.chunk)) if number not in state.done]
    pool = ThreadPoolExecutor(connections, "fetch")
    try:
        for finished in [pool.submit(fetch, number) for number in missing]:
            finished.result()
    finally:
        given_up.set()
        pool.shutdown(cancel_futures=True)
    if host.stopped.is_set():
        raise KeyboardInterrupt


def _chunk(
    remote: RemoteFile,
    part: Path,
    state: _Partial,
    number: int,
    *,
    host: Host,
    count: Count,
    given_up: threading.Event,
) -> bool:
    """Fetch one chunk; a connection that breaks off is taken up where it broke.

    Returns:
        Whether it is here; not where the fetch was given up.
    """
    at, end = number * state.chunk, number * state.chunk + _length(state, number)
    with part.open("r+b") as file:
        file.seek(at)
        while at < end:
            for wait in host.waits(remote.url):
                began = at
                try:
                    with host.ask(remote.url, {"Range": f"bytes={at}-{end - 1}"}) as answer:
                        expected = f"bytes {at}-{end - 1}/{state.total}"
                        same = answer.headers.get("Content-Range") == expected
                        if answer.status_code != 206 or not same or _validator(answer) != state.validator:
                            raise _Changed
                        for piece in body(answer):
                            if given_up.is_set() or host.stopped.is_set():
                                return False
                            file.write(piece[: end - at])
                            at += len(piece)
                            count(len(piece))
                    break
                except Broken as error:
                    if at > began:  # it goes on, however often it breaks
                        host.stopped.wait(FIRST_WAIT)
                        break
                    wait(str(error))
        file.flush()
        os.fsync(file.fileno())
    return True


def _whole(remote: RemoteFile, part: Path, host: Host, count: Count) -> None:
    """Fetch a file in one piece, from a host that gives none of its parts."""
    for wait in host.waits(remote.url):
        try:
            with host.ask(remote.url) as answer:
                host.refuse_page(answer, remote.url, remote.name)
                _save(answer, part, host, count)
            return
        except Broken as error:
            wait(str(error))


def _save(answer: requests.Response, part: Path, host: Host, count: Count) -> None:
    """Write an answer into a file.

    Raises:
        Broken: It ends too early; nothing of it counts.
    """
    arrived = 0
    try:
        with part.open("wb") as file:
            for piece in body(answer):
                if host.stopped.is_set():
                    raise KeyboardInterrupt
                file.write(piece)
                arrived += len(piece)
                count(len(piece))
            file.flush()
            os.fsync(file.fileno())
    except Broken:
        count(-arrived)
        raise


def _checked(remote: RemoteFile, part: Path, target: Path, host: Host) -> Checked:
    """Give the file its name if it is what was expected."""
    size, found = part.stat().st_size, _hashes(part)
    wrong = _difference(remote, size, found)
    if _is_page(part, remote.name):
        part.unlink()
        _side(part).unlink(missing_ok=True)
        raise RefusedError(host.page_instead(remote.url))
    if wrong:
        kept = target.with_name(f"{target.name}.wrong")
        part.replace(kept)
        _side(part).unlink(missing_ok=True)
        again = f"run again, and if it is the same then, {_another(remote)}"
        raise FetchError(f"{remote.url}: {wrong}; it is kept as {kept}; {again}")
    part.replace(target)
    _side(part).unlink(missing_ok=True)
    return Checked(target, size, found["sha256"])


def _another(remote: RemoteFile) -> str:
    return f"the host has another edition of {remote.name} than the recipe: see the home page of the source"


def _hashes(path: Path) -> dict[str, str]:
    """sha256 and md5 of a file, from one reading."""
    kinds = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            for kind in kinds.values():
                kind.update(piece)
    return {name: kind.hexdigest() for name, kind in kinds.items()}


def _difference(remote: RemoteFile, size: int, found: dict[str, str]) -> str:
    """What is wrong with a file, in words; nothing where it is right."""
    if remote.size is not None and size != remote.size:
        return f"expected {remote.size} bytes, got {size}"
    for name, expected in (("sha256", remote.sha256), ("md5", remote.md5)):
        if expected is not None and found[name] != expected:
            return f"expected {name} {expected}, got {found[name]}"
    return ""


def _is_page(path: Path, name: str) -> bool:
    """Whether a file is a web page that its host sent under another type."""
    with path.open("rb") as file:
        head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<!doctype html", b"<html")) and not name.lower().endswith((".html", ".htm", ".xhtml"))
