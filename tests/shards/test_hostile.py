"""Folders of somebody else, made to take memory, time or the terminal: each is a finding with file, expected and got."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.command_line import main
from shards.hub.manifest import read_manifest
from tests.support.command import Command
from tests.support.sources import write_source

STEM = "ct/cc-by-4.0/Small/train-00000"
TAR, INDEX, RECEIPT = f"data/{STEM}.tar", f"index/{STEM}.parquet", f"build/receipts/{STEM}.json"
SOURCE = "build/sources/Small.json"

Members = list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One source; nobody writes to it."""
    folder = tmp_path_factory.mktemp("built")
    recipe = write_source(folder / "raw", cases=1)
    recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["case00"]\n')
    arguments = ["build", recipe, "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(built, tmp_path / "out"))


LIMITED = """
import json, resource, sys
from builder.command_line import main
import cc3d, numpy, pyarrow.parquet, shards.verify
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (4 << 30)
resource.setrlimit(resource.RLIMIT_AS, (taken, taken))
code = main(sys.argv[1:])
print(json.dumps([code, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10]))
"""
MOST = 700 << 20
"""Bytes of memory that a command may take for these."""


def limited(*words: object) -> str:
    """What a command complains of, in a process that may take little memory; exit code 1, and no traceback."""
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, words)], capture_output=True, check=False, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    code, taken = json.loads(ran.stdout.splitlines()[-1])
    assert code == 1
    assert taken < MOST
    assert len(ran.stderr) < 20_000
    return ran.stderr


def members_of(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def write_tar(path: Path, members: Members) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def with_header(change: Callable[[tarfile.TarInfo], None]) -> Callable[[Path], None]:
    """Replaces the header of the first member by one that the standard library writes."""

    def spoil(out: Path) -> None:
        path = out / TAR
        data = path.read_bytes()
        info = tarfile.TarInfo.frombuf(data[:512], "utf-8", "strict")
        change(info)
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT)[:512] + data[512:])

    return spoil


def sized(size: int) -> Callable[[tarfile.TarInfo], None]:
    return lambda info: setattr(info, "size", size)


def typed(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
    return lambda info: setattr(info, "type", kind)


def with_record(text_of: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Replaces the metadata of the first sample."""

    def spoil(out: Path) -> None:
        members = members_of(out / TAR)
        name, record = members[2]
        members[2] = name, text_of(record)
        write_tar(out / TAR, members)

    return spoil


def with_field(name: str, value: Any) -> Callable[[Path], None]:
    return with_record(lambda record: json.dumps({**json.loads(record), name: value}).encode())


def with_json(path: str, **fields: Any) -> Callable[[Path], None]:
    def spoil(out: Path) -> None:
        record = json.loads((out / path).read_bytes())
        (out / path).write_text(json.dumps({**record, **fields}))

    return spoil


def sparse_end(out: Path) -> None:
    os.truncate(out / TAR, 50 << 30)


def endless_tar(out: Path) -> None:
    """A shard that nothing but zeros of 50 GB is."""
    (out / TAR).write_bytes(b"")
    os.truncate(out / TAR, 50 << 30)


def sparse_member(out: Path) -> None:
    """A member of 45 GiB in a file that is as long."""
    with_header(sized(45 << 30))(out)
    os.truncate(out / TAR, 50 << 30)


def unfolding_index(out: Path) -> None:
    """Equal rows, millions of them, in a small file."""
    row = pq.read_table(out / INDEX).slice(0, 1)
    many = pa.concat_tables([row] * 1000).combine_chunks()
    with pq.ParquetWriter(out / INDEX, row.schema, compression="zstd") as writer:
        for _ in range(3):
            writer.write_table(pa.concat_tables([many] * 1000), row_group_size=10**6)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "size beyond the file": (with_header(sized(2**40)), "its header says 1,099,511,627,776 bytes"),
    "size below nothing": (with_header(sized(-5)), "its header says -5 bytes"),
    "sparse member": (with_header(typed(tarfile.GNUTYPE_SPARSE)), "is not a regular file"),
    "endless pax header": (
        with_header(lambda info: (sized(2**36)(info), typed(tarfile.XHDTYPE)(info))[0]),
        "size of a pax header: expected 1 to 65536, got 68719476736",
    ),
    "sparse end": (sparse_end, "expected its end after the end-of-archive mark"),
    "nothing but zeros": (endless_tar, "expected its end after the end-of-archive mark"),
    "sparse in the middle": (sparse_member, "expected at most 1,073,741,824 bytes, got 48,318,382,080"),
    "deep JSON": (with_record(lambda _: b'{"key":' + b"[" * 10**6), "nested too deep"),
    "JSON that unfolds": (with_record(lambda _: b"[" + b"{}," * (8 << 20) + b"0]"), "bytes of memory as JSON, expected"),
    "beyond 64 bit": (with_field("height", 2**70), "height is 1180591620717411303424, expected a number of 64 bit"),
    "a number of no end": (with_record(lambda record: record.replace(b'"min":', b'"min":1e999,"m":', 1)), "expected a finite"),
    "half a character": (with_field("case", "\ud800"), "is no JSON: expected UTF-8, got surrogates"),
    "endless text": (with_field("case", "x" * 10**6), "expected at most 65,536 characters, got 1,000,000"),
    "wrong types": (with_field("masks", {"id": 1}), "masks is {'id': 1}, expected a list"),
    "index that unfolds": (unfolding_index, "differs from its shard: 3,000,000 rows"),
    "receipt of another type": (with_json(RECEIPT, labels=[1]), "labels is [1], expected a table"),
    "receipt with a path for a hash": (with_json(RECEIPT, sha256="../" * 9), "sha256: expected 64 digits"),
    "receipt that counts below nothing": (with_json(RECEIPT, samples=-3), "samples: expected 0 or more, got -3"),
    "deep receipt": (lambda out: (out / RECEIPT).write_text("[" * 10**6), "nested too deep"),
    "description of another type": (with_json(SOURCE, title=[1]), "title is [1], expected str"),
    "deep description": (lambda out: (out / SOURCE).write_text("[" * 10**6), "nested too deep"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_verify_names_what_is_hostile(out: Path, name: str) -> None:
    spoil, said = SPOILT[name]
    spoil(out)
    start = time.monotonic()
    complaints = limited("verify", out)
    assert time.monotonic() - start < 30
    assert said in complaints


@pytest.mark.parametrize("name", ["size beyond the file", "sparse in the middle", "deep JSON", "beyond 64 bit"])
def test_index_names_what_is_hostile(out: Path, name: str) -> None:
    spoil, said = SPOILT[name]
    spoil(out)
    assert said in limited("index", out)


@pytest.mark.parametrize(
    "name",
    [pytest.param("index that unfolds", marks=pytest.mark.slow), "receipt of another type", "deep description"],
)
def test_publish_holds_back_what_is_hostile(out: Path, name: str) -> None:
    spoil, said = SPOILT[name]
    spoil(out)
    assert said in limited("publish", out, "ann/scans", "--dry-run")


def bomb(data: bytes, width: int, height: int) -> bytes:
    """A PNG of zeros, a thousandth of its pixels."""
    packer, row = zlib.compressobj(9), bytes(width + 1)
    rows = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def test_a_picture_of_four_gibibytes(out: Path) -> None:
    members = members_of(out / TAR)
    claims = bomb(members[0][1], 2**16, 64)
    header = claims[12:20] + struct.pack(">I", 2**16) + claims[24:29]
    members[0] = members[0][0], claims[:12] + header + struct.pack(">I", zlib.crc32(header)) + claims[33:]
    write_tar(out / TAR, members)
    assert "a PNG of 65536 x 65536 pixels takes" in limited("verify", "--deep", out)


def test_masks_that_would_unfold(out: Path) -> None:
    """200,000 of them on one small picture."""
    members = members_of(out / TAR)
    record = json.loads(members[2][1])
    record["masks"] = record["masks"][:1] * 200_000
    members[2] = members[2][0], json.dumps(record).encode()
    write_tar(out / TAR, members)
    assert "mask ids are [1, 1, 1" in limited("verify", "--deep", out)


def test_a_pipe_for_an_index_or_a_receipt(out: Path) -> None:
    """It would never end."""
    for path in (INDEX, RECEIPT):
        (out / path).unlink()
        os.mkfifo(out / path)
    complaints = limited("verify", out)
    assert "has no receipt" in complaints
    assert f"{INDEX}: is missing" in complaints


MARKUP = "[/red]\x1b[31m\x07\x9b2J <script>alert(1)</script> | [a](javascript:b) \u202e"


def test_markup_reaches_neither_card_nor_terminal(sa_med2d: Command, out: Path) -> None:
    with_json(SOURCE, title=MARKUP, citation=MARKUP, homepage="javascript:alert(1)")(out)
    label = members_of(out / TAR)
    record = json.loads(label[2][1])
    record["masks"][0]["label"] = MARKUP
    label[2] = label[2][0], json.dumps(record).encode()
    write_tar(out / TAR, label)
    ran = [sa_med2d("index", out), sa_med2d("verify", out, "--json"), sa_med2d("publish", out, "a/b", "--dry-run")]
    card = "".join((out / name).read_text() for name in ("README.md", "SOURCES.md", "LICENSE.md", "CLASSES.md"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in card
    for text in (card, *(one.out + one.err for one in ran)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "<script" not in card
    assert "](javascript" not in card


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "counts of 70 bit": (lambda one: one["shards"][0].update(samples=2**70), "expected a number of 64 bit"),
    "counts below nothing": (lambda one: one["shards"][0].update(masks=-1), "masks: expected 0 or more, got -1"),
    "a path for a hash": (lambda one: one["shards"][0].update(sha256="x"), "sha256: expected 64 digits"),
    "an endless title": (lambda one: one["source"].update(title="x" * 10**6), "expected at most 65,536 characters"),
    "half a character": (lambda one: one["source"].update(title="\udfff"), "is no JSON: expected UTF-8"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_that_lie(out: Path, name: str) -> None:
    change, said = MANIFESTS[name]
    kept = ("shard", "license", "sha256", "bytes", "samples", "masks", "labels", "dropped", "mask_pixels")
    receipt = json.loads((out / RECEIPT).read_bytes())
    shard = {field: receipt[field] for field in (*kept, "lost_pixels", "schema")}
    manifest = {"source": json.loads((out / SOURCE).read_bytes()), "shards": [shard]}
    read_manifest(json.dumps(manifest).encode(), "here.json")
    change(manifest)
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        read_manifest(json.dumps(manifest).encode(), "here.json")
    assert str(raised.value).startswith("here.json")
    assert len(str(raised.value)) < 600
