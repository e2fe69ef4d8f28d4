"""Output folders that somebody else may have made: commands and loader say what is wrong, in bounded time and memory.

What is damaged follows from a number alone, so that ``replay(number)`` brings a finding back. Each folder is read in a
process of limited memory, where a crash, a hang or too much memory is laid to it, and the run goes on behind it.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import struct
import tarfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.command_line import main
from sa_med2d_20m import DatasetError, decode_masks, load
from shards.card import card
from shards.hub.manifest import read_manifest
from tests.support.sources import write_source

ADDRESSES = 4 << 30
"""Bytes of address space that a process may take beyond what it starts with."""
RESIDENT = 1 << 30
"""Bytes of memory that one folder may take, whose files are small."""
PATIENCE = 120.0
"""Seconds that one folder may take, on a machine that has other things to do."""
BATCH = 200

HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 2**64, -(2**70), 10**400, 1e308, float("inf"), float("nan"), "", "x", "\ud800",
    "../../../etc/passwd", "\x1b[31mred\x07", "[/red] [bold]", "<script>alert(1)</script>", "| a | b |\n# c", "é" * 9000,
    "9" * 5000, [], {}, [[]], {"": {}}, [None], ["a"] * 9999, list(range(5000)), {str(at): at for at in range(5000)},
)  # fmt: skip
"""Values that JSON may hold in place of others."""


@dataclass(frozen=True)
class Outcome:
    """How a folder fared.

    Attributes:
        number: Of the folder.
        how: ``accepted``, ``named`` (something is said to be wrong), or what went wrong.
        seconds: That it took.
        taken: Bytes that memory grew by.
    """

    number: int
    how: str
    seconds: float = 0.0
    taken: int = 0


# --- damage


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut, repeated, zeroed or put in; often among the first or the last, where lengths stand."""
    spoilt = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.choice((rng.randrange(len(spoilt) + 1), rng.randrange(min(600, len(spoilt)) + 1)))
        at = rng.choice((at, max(0, len(spoilt) - rng.randrange(600))))
        length = rng.choice((1, 2, 4, 8, 64, 512))
        kind = rng.randrange(5)
        if kind == 0:
            spoilt[at : at + length] = rng.randbytes(length)
        elif kind == 1:
            del spoilt[at : at + length * rng.choice((1, 20))]
        elif kind == 2:
            spoilt[at:at] = spoilt[at : at + length]
        elif kind == 3:
            spoilt[at : at + length] = rng.choice((b"\0", b"\xff", b"7", b"[", b"\x7f")) * length
        else:
            spoilt[at:at] = rng.randbytes(length)
    return bytes(spoilt)


def damaged_json(data: bytes, rng: random.Random) -> bytes:
    """A value somewhere in it replaced, dropped or nested deep; or as `damaged_bytes`."""
    kind = rng.randrange(8)
    if kind == 0:
        return damaged_bytes(data, rng)
    if kind == 1:
        return data.replace(b":", b":" + rng.choice((b"[", b'{"a":')) * rng.choice((90, 10**5)), 1)
    root = json.loads(data)
    places = list(places_in(root))
    for _ in range(rng.choice((1, 1, 3))):
        held, name = rng.choice(places)
        with contextlib.suppress(KeyError, IndexError):
            if kind == 2:
                del held[name]
            else:
                held[name] = rng.choice(HOSTILE)
    return json.dumps(root).encode()


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in list(items):
        yield value, name
        yield from places_in(inner)


def damaged_png(data: bytes, rng: random.Random) -> bytes:
    """Another size or kind in its header, with a check sum that fits; or as `damaged_bytes`."""
    if rng.random() < 0.5:
        return damaged_bytes(data, rng)
    width, height, *kind = struct.unpack(">IIBBBBB", data[16:29])
    width, height = (rng.choice((side, 0, 1, 2**16, 2**31 - 1, 2**32 - 1)) for side in (width, height))
    header = b"IHDR" + struct.pack(
        ">IIBBBBB", width, height, rng.choice((kind[0], 16, 1)), rng.choice((kind[1], 2, 6)), *kind[2:]
    )
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def damaged_tar(data: bytes, rng: random.Random) -> bytes:
    """A member damaged, its header made to lie with a check sum that fits, or as `damaged_bytes`."""
    kind = rng.randrange(4)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        infos = tar.getmembers()
        contents = [tar.extractfile(info).read() for info in infos]  # type: ignore[union-attr]
    chosen = rng.randrange(len(infos))
    if kind == 0:
        return damaged_bytes(data, rng)
    if kind == 1:
        start = infos[chosen].offset
        header = bytearray(data[start : start + 512])
        field = rng.choice(((124, 12), (156, 1), (0, 100), (257, 8), (345, 155)))
        lies = (
            b"77777777777\0",
            b"\x80" + b"\xff" * 11,
            b"\x80\0\0\0\x7f" + b"\xff" * 7,
            b"0",
            b"S",
            b"x",
            b"g",
            b"L",
            b"5",
            b"-1\0",
        )
        header[field[0] : field[0] + field[1]] = (rng.choice(lies) * 160)[: field[1]]
        header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 32)
        return data[:start] + bytes(header) + data[start + 512 :]
    spoil = damaged_json if infos[chosen].name.endswith(".json") else damaged_png
    contents[chosen] = spoil(contents[chosen], rng)
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in zip(infos, contents, strict=True):
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def damaged_index(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, columns left out, rows repeated, or places that lie."""
    if rng.random() < 0.6:
        return damaged_bytes(data, rng)
    table = pq.read_table(pa.BufferReader(data))
    kind = rng.randrange(3)
    if kind == 0:
        table = table.drop_columns([rng.choice(table.column_names)])
    elif kind == 1:
        table = pa.concat_tables([table] * rng.choice((2, 50)))
    else:
        name = rng.choice([name for name in table.column_names if name.endswith(("_offset", "_size"))])
        lie = pa.array([rng.choice((-1, 2**62, 0, 2**40))] * table.num_rows)
        table = table.set_column(table.schema.get_field_index(name), name, lie)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


KINDS: tuple[tuple[str, Callable[[bytes, random.Random], bytes]], ...] = (
    ("data/ct/cc-by-4.0/Small/train-00000.tar", damaged_tar),
    ("build/receipts/ct/cc-by-4.0/Small/train-00000.json", damaged_json),
    ("build/sources/Small.json", damaged_json),
    ("README.md", damaged_bytes),
    ("manifest.json", damaged_json),
    ("index/ct/cc-by-4.0/Small/train-00000.parquet", damaged_index),
)


# --- folders


def build(folder: Path) -> Path:
    """A folder of two small shards, and what a publish would say of it."""
    recipe = write_source(folder / "raw", cases=2)
    recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["case00"]\ntest = ["case01"]\n')
    out = folder / "out"
    assert main([str(part) for part in ("build", recipe, "--raw", folder / "raw", "--out", out, "--workers", 1)]) == 0
    source = out / "build/sources/Small.json"
    receipts = [json.loads(path.read_bytes()) for path in sorted(out.glob("build/receipts/**/*.json"))]
    kept = (
        "shard",
        "license",
        "sha256",
        "bytes",
        "samples",
        "masks",
        "labels",
        "dropped",
        "mask_pixels",
        "lost_pixels",
        "schema",
    )
    manifest = {
        "source": json.loads(source.read_bytes()),
        "shards": [{name: receipt[name] for name in kept} for receipt in receipts],
    }
    (out / "manifest.json").write_text(json.dumps(manifest))
    read_manifest((out / "manifest.json").read_bytes(), "manifest.json")
    return out


def spoil(number: int, whole: Path, folder: Path) -> tuple[str, Path]:
    """The damaged folder of a number, and which file of it is damaged."""
    rng = random.Random(number)
    name, damage = KINDS[number % len(KINDS)]
    out = folder / str(number)
    shutil.copytree(whole, out)
    path = out / name
    path.write_bytes(damage(path.read_bytes(), rng))
    return name, out


def read_all(name: str, out: Path) -> str:
    """Do with a folder what reads it."""
    if name == "manifest.json":
        return read_as_manifest(out / name)
    codes = [command(*words, out) for words in (("verify",), ("verify", "--deep"))]
    codes.append(command("publish", out, "ann/scans", "--dry-run"))
    for split in ("train", "test"):
        said = load_all(out, split)
        codes.append(bool(said))
        assert "\n" not in said, "more than a line"
        assert len(said) < 4000, "an endless message"
    codes.append(command("index", out))
    return "named" if any(codes) else "accepted"


def load_all(out: Path, split: str) -> str:
    """What the loader says of a split; nothing where it can be read."""
    try:
        for row in load(out, "ct", split=split):
            decode_masks(row)
    except DatasetError as error:
        return str(error)
    return ""


def command(*words: object) -> int:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    assert code in (0, 1), f"{words[0]} ends with {code}"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", said.getvalue()), "control characters"
    assert len(said.getvalue()) < 200_000, f"{words[0]} says {len(said.getvalue()):,} characters"
    return code


def read_as_manifest(path: Path) -> str:
    try:
        manifest = read_manifest(path.read_bytes(), "manifest.json")
    except DatasetError:
        return "named"
    text = card(list(manifest.receipts), {manifest.source.name: manifest.source}, "ann/scans")
    text.encode()
    assert "<script" not in text
    assert "\x1b" not in text
    return "accepted"


# --- processes


def memory(key: str) -> int:
    found = re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def work(pipe: Connection, numbers: Sequence[int], whole: Path, folder: Path) -> None:
    """Tell each number before its folder is read, and how it fared after."""
    os.setsid()
    limit = memory("VmSize") + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in numbers:
        pipe.send(number)
        name, out = spoil(number, whole, folder)
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, start = memory("VmRSS"), time.perf_counter()
        try:
            how = read_all(name, out)
        except BaseException:
            how = f"{name}: {traceback.format_exc()}"
        taken = memory("VmHWM") - before
        if taken > RESIDENT:
            how += f": it took {taken >> 20} MiB of memory"
        shutil.rmtree(out)
        pipe.send(Outcome(number, how, time.perf_counter() - start, taken))


def outcomes(numbers: Sequence[int], whole: Path, folder: Path) -> Iterator[Outcome]:
    """How each folder fared, in processes that are started anew behind a folder that ended one."""
    waiting = list(numbers)
    while waiting:
        done = list(batch(waiting[:BATCH], whole, folder))
        yield from done
        waiting = waiting[len(done) :]


def batch(numbers: Sequence[int], whole: Path, folder: Path) -> Iterator[Outcome]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, numbers, whole, folder))
    process.start()
    theirs.close()
    try:
        for number in numbers:
            assert ours.poll(PATIENCE), "the process did not start"
            assert ours.recv() == number
            if not ours.poll(PATIENCE):
                yield Outcome(number, f"no end after {PATIENCE:.0f} s", PATIENCE)
                return
            yield ours.recv()
    except EOFError:
        process.join()
        yield Outcome(number, f"ended the process: {process.exitcode}")
    finally:
        ours.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()


def fuzz(numbers: Sequence[int], folder: Path, longest: float = float("inf")) -> None:
    """Read damaged folders for as long as is given, print the figures, and fail with all that is wrong."""
    whole = build(folder)
    start = time.perf_counter()
    found: list[Outcome] = []
    for first in range(0, len(numbers), BATCH):
        if time.perf_counter() - start < longest:
            found += outcomes(numbers[first : first + BATCH], whole, folder)
    counts = Counter(one.how if one.how in ("accepted", "named") else "wrong" for one in found)
    slowest, largest = max(found, key=lambda one: one.seconds), max(found, key=lambda one: one.taken)
    print(  # noqa: T201 - shown by pytest -rP
        f"{len(found):,} folders in {time.perf_counter() - start:.0f} s: {counts['accepted']:,} accepted, "
        f"{counts['named']:,} named, {counts['wrong']} wrong; slowest {slowest.seconds:.1f} s (number {slowest.number}); "
        f"most memory {largest.taken / 2**20:.0f} MiB (number {largest.number})"
    )
    wrong: dict[str, list[int]] = {}
    for one in found:
        if one.how not in ("accepted", "named"):
            wrong.setdefault(one.how, []).append(one.number)
    assert not wrong, "\n".join(f"{len(at)} folders, such as {at[:8]}: {how}" for how, at in wrong.items())


def replay(number: int, folder: Path) -> str:
    """Read the folder of one number in this process."""
    return read_all(*spoil(number, build(folder), folder))


def test_some_damaged_folders(tmp_path: Path) -> None:
    fuzz(range(9), tmp_path)


@pytest.mark.slow
def test_many_damaged_folders(tmp_path: Path) -> None:
    fuzz(range(100_000), tmp_path, longest=360)
