"""Shards are ordinary tar files, the same for the same samples."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.tar import BrokenShardError, Sample, TarWriter, read_shard
from tests.conftest import by_webdataset

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


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.png", "a.json", "a.mask.png"], "expected the members a.png, a.mask.png, a.json"),
        (["a.png", "a.mask.png"], "ends within a sample"),
        (["a.png", "a.mask.png", "b.json"], "expected the members"),
    ],
)
def test_foreign_tar_is_named(tmp_path: Path, names: list[str], said: str) -> None:
    with tarfile.open(tmp_path / "f.tar", "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(BrokenShardError, match=said):
        list(read_shard(tmp_path / "f.tar"))
