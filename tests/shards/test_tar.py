"""Shards are ordinary tar files, the same for the same samples."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.tar import BrokenShardError, Sample, TarWriter, read_shard
from tests.support.output import by_webdataset

KEYS = st.text("abcXYZ_-09%", min_size=1, max_size=140)
SAMPLES = st.lists(
    st.builds(Sample, KEYS, st.binary(max_size=2000), st.binary(max_size=600), st.binary(max_size=600)),
    max_size=6,
    unique_by=lambda sample: sample.key,
)


def ours(samples: list[Sample]) -> tuple[bytes, list[tuple[int, int]]]:
    file = io.BytesIO()
    writer = TarWriter(file)
    located = [writer.write(sample) for sample in samples]
    places = [place for at in located for place in (at.image, at.mask, at.record)]
    size, sha256 = writer.finish()
    data = file.getvalue()
    assert (size, sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return data, [(place.offset, place.size) for place in places]


def by_tarfile(samples: list[Sample]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for sample in samples:
            for name, data in (("png", sample.image), ("mask.png", sample.mask), ("json", sample.record)):
                info = tarfile.TarInfo(f"{sample.key}.{name}")
                info.size, info.mode = len(data), 0o444
                tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


@given(SAMPLES)
@settings(max_examples=100, deadline=None)
def test_bytes_are_those_of_the_standard_library(samples: list[Sample]) -> None:
    data, places = ours(samples)
    assert data == by_tarfile(samples)
    contents = [content for sample in samples for content in (sample.image, sample.mask, sample.record)]
    assert [data[offset : offset + size] for offset, size in places] == contents


@given(SAMPLES)
@settings(max_examples=30, deadline=None)
def test_a_shard_is_read_back(samples: list[Sample]) -> None:
    with io.BytesIO(ours(samples)[0]) as data, tarfile.open(fileobj=data) as tar:
        assert tar.getnames() == [f"{s.key}.{name}" for s in samples for name in ("png", "mask.png", "json")]


def by_ustar(samples: list[Sample]) -> bytes:
    """The oldest of the standard library's formats, every field spelled out."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for name, data in (("png", sample.image), ("mask.png", sample.mask), ("json", sample.record)):
                info = tarfile.TarInfo(f"{sample.key}.{name}")
                info.mtime = info.uid = info.gid = 0
                info.uname = info.gname = ""
                info.size, info.mode = len(data), 0o444
                tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


@given(st.lists(st.builds(Sample, st.text("aZ_-09%", min_size=1, max_size=91), st.binary(), st.binary(), st.binary())))
@settings(max_examples=60, deadline=None)
def test_short_names_are_plain_ustar(samples: list[Sample]) -> None:
    assert ours(samples)[0] == by_ustar(samples)


@pytest.mark.parametrize("length", [91, 92, 95, 96, 99, 100, 101, 155, 156, 300])
def test_names_around_the_limit_of_ustar(tmp_path: Path, length: int) -> None:
    """``.mask.png`` is 9 bytes long: 100 bytes are full at a key of 91."""
    sample = Sample("k" * length, b"image", b"mask", b"{}")
    data, places = ours([sample])
    path = write(tmp_path / "a.tar", data)
    with tarfile.open(path) as tar:
        assert tar.getnames() == [f"{sample.key}.{name}" for name in ("png", "mask.png", "json")]
        assert [(info.offset_data, info.size) for info in tar] == places
    assert [read["__key__"] for read in by_webdataset(path)] == [sample.key]
    assert [read for read, _ in read_shard(path)] == [sample]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


TWO = [Sample("a", b"1" * 700, b"2", b"{}"), Sample("b", b"3", b"4", b"{}")]


def test_plain_webdataset_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", ours([*TWO, Sample("long" * 40, b"5", b"6", b"{}")])[0])
    read = by_webdataset(path)
    assert [sample["__key__"] for sample in read] == ["a", "b", "long" * 40]
    assert (read[0]["png"], read[0]["mask.png"], read[0]["json"]) == (b"1" * 700, b"2", b"{}")


def test_an_empty_shard_is_a_tar(tmp_path: Path) -> None:
    assert list(read_shard(write(tmp_path / "a.tar", ours([])[0]))) == []


@pytest.mark.parametrize("size", [0, 100, 600, 1024, 1400, 2048, 3000, 4600, 5000])
def test_truncated_shard_is_named(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "cut.tar", ours(TWO)[0][:size])
    with pytest.raises(BrokenShardError, match=r"cut\.tar"):
        list(read_shard(path))


def test_every_cut_before_the_end_mark_is_named(tmp_path: Path) -> None:
    data, places = ours(TWO)
    end = -(-(places[-1][0] + places[-1][1]) // 512) * 512
    assert data[end:] == bytes(len(data) - end)
    for size in range(0, end + 512, 64):
        with pytest.raises(BrokenShardError, match=r"cut\.tar"):
            list(read_shard(write(tmp_path / "cut.tar", data[:size])))
    assert len(list(read_shard(write(tmp_path / "cut.tar", data[: end + 1024])))) == 2


def test_damaged_header_is_named(tmp_path: Path) -> None:
    data, places = ours(TWO)
    spoilt = bytearray(data)
    spoilt[places[3][0] - 512 + 5] ^= 255
    with pytest.raises(BrokenShardError, match=r"spoilt\.tar"):
        list(read_shard(write(tmp_path / "spoilt.tar", bytes(spoilt))))


def test_damaged_header_within_a_sample_is_named(tmp_path: Path) -> None:
    data, places = ours(TWO)
    spoilt = bytearray(data)
    spoilt[places[4][0] - 512 + 5] ^= 255
    with pytest.raises(BrokenShardError, match=r"spoilt\.tar"):
        list(read_shard(write(tmp_path / "spoilt.tar", bytes(spoilt))))


def test_two_shards_in_one_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(BrokenShardError, match=r"both\.tar"):
        list(read_shard(write(tmp_path / "both.tar", ours(TWO[:1])[0] + ours(TWO[1:])[0])))


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
    ],
)
def test_member_that_is_no_file_is_named(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        info = tarfile.TarInfo("a.png")
        info.type, info.linkname = kind, "elsewhere"
        tar.addfile(info)
    with pytest.raises(BrokenShardError, match=r"odd\.tar"):
        list(read_shard(tmp_path / "odd.tar"))


def test_compressed_tar_is_named(tmp_path: Path) -> None:
    """Offsets into it would mean nothing."""
    path = write(tmp_path / "packed.tar", gzip.compress(ours(TWO)[0]))
    with pytest.raises(BrokenShardError, match=r"packed\.tar: no readable tar"):
        list(read_shard(path))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.png", "a.json", "a.mask.png"], "expected the members a.png, a.mask.png, a.json"),
        (["a.png", "a.mask.png"], "ends within a sample"),
        (["a.png", "a.mask.png", "b.json"], "expected the members"),
        (["a.b.png", "a.b.mask.png", "a.b.json"], "expected the members a.png"),
        (["a.jpg", "a.mask.png", "a.json"], "expected the members"),
    ],
)
def test_foreign_tar_is_named(tmp_path: Path, names: list[str], said: str) -> None:
    with tarfile.open(tmp_path / "f.tar", "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(BrokenShardError, match=said):
        list(read_shard(tmp_path / "f.tar"))
