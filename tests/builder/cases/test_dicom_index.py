"""The index of a tree of DICOM files: what is opened again, and what is kept."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pydicom
import pytest

from builder.cases.dicom_index import DicomIndex, index_of
from tests.support.dicom_tree import SHAPES, Study, Tree, seg_of, series_of
from tests.support.volumes import ct_like, organ_map


class Count:
    """Counts files that are opened, and breaks off after so many."""

    def __init__(self, most: int = 10**9) -> None:
        self.done, self.of, self._most = 0, 0, most

    def __call__(self, done: int, of: int) -> None:
        self.done, self.of = done, of
        if done >= self._most:
            raise KeyboardInterrupt


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    files = Tree(tmp_path / "raw", SHAPES[1])
    images = series_of(Study("Roe"), ct_like())
    for dataset in (*images, seg_of(images, {"Liver": organ_map() == 1})):
        files.add(dataset)
    return files.root


def indexed(raw: Path, count: Count, processes: int = 1) -> DicomIndex:
    return index_of(raw, kept=raw.parent / "index.json", processes=processes, on_file=count)


def test_only_what_is_new_or_has_changed_is_opened_again(raw: Path) -> None:
    first, second, third = Count(), Count(), Count()
    found = indexed(raw, first)
    assert (first.done, first.of) == (25, 25)
    assert stat.S_IMODE((raw.parent / "index.json").stat().st_mode) == 0o600
    assert indexed(raw, second) == found
    assert second.of == 0
    one, other, *_ = sorted(raw.rglob("*.dcm"))
    one.unlink()
    dataset = pydicom.dcmread(other)
    dataset.SeriesDescription = "Changed"
    dataset.save_as(other)
    (raw / "new.dcm").write_bytes(other.read_bytes())
    changed = indexed(raw, third)
    assert third.of == 2
    facts = {file.path: file.facts for file in changed.files}
    assert one.relative_to(raw).as_posix() not in facts
    for path in ("new.dcm", other.relative_to(raw).as_posix()):
        about = facts[path]
        assert about is not None
        assert about.about.description == "Changed"


def test_an_index_that_is_broken_off_keeps_what_it_has(raw: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        indexed(raw, Count(most=10))
    rest = Count()
    assert indexed(raw, rest).files == index_of(raw).files
    assert rest.of == 15


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": 1}', b'{"version": 1, "series": [], "files": [["a"]]}'])
def test_an_index_that_is_damaged_is_made_anew(raw: Path, content: bytes) -> None:
    (raw.parent / "index.json").write_bytes(content)
    count = Count()
    assert indexed(raw, count).files == index_of(raw).files
    assert count.of == 25


def test_several_processes_find_the_same(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = index_of(raw)
    monkeypatch.setattr("builder.cases.dicom_index._WORTH", 2)
    monkeypatch.setattr("builder.cases.dicom_index._BATCH", 4)
    count = Count()
    assert indexed(raw, count, processes=2) == alone
    assert count.done == 25


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_opened_now_is_tried_again(raw: Path) -> None:
    one = min(raw.rglob("*.dcm"))
    one.chmod(0)
    assert any(file.problem for file in indexed(raw, Count()).files)
    one.chmod(0o600)
    again = Count()
    assert indexed(raw, again) == index_of(raw)
    assert again.of == 1


def test_what_the_file_itself_says_is_final(raw: Path) -> None:
    one = min(raw.rglob("*.dcm"))
    one.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 100)
    found = indexed(raw, Count())
    (damaged,) = [file for file in found.files if file.problem]
    assert damaged.path == one.relative_to(raw).as_posix()
    again = Count()
    assert indexed(raw, again) == found
    assert again.of == 0


def test_damaged_headers_are_told_in_words(raw: Path) -> None:
    """Whatever stands in a header: the index goes on, and says what is wrong in words that name nobody."""
    chance, files = random.Random(5), sorted(raw.rglob("*.dcm"))
    content = [path.read_bytes() for path in files]
    for number in range(300):
        data = bytearray(chance.choice(content))
        for _ in range(chance.randint(1, 30)):
            data[chance.randrange(130, min(len(data), 4000))] = chance.randrange(256)
        end = chance.choice([len(data), chance.randrange(len(data))])
        (raw / f"{number}.dcm").write_bytes(data[:end])
    found = index_of(raw)
    problems = [file.problem for file in found.files if file.problem]
    assert len(found.files) == 325
    assert problems
    assert not any(word in problem for problem in problems for word in ("Roe", "Secretname", "1.2.826"))
