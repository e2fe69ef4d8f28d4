"""Folders in no known layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import Command


def test_folder_of_no_known_layout(sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("sources", "init", "--from", tmp_path, "--name", "I", "--license", "MIT", "--modality", "mr")
    assert ran.code == 1
    assert "no known layout: expected dataset.json" in ran.err


DEEP = "[" * 200_000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
"""Nine lists of nine, ten deep: three and a half thousand million entries for whoever writes them out."""
NNUNET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dataset.json", DEEP),
        ("dataset.json", '{"labels": ' + DEEP),
        ("dataset.json", ""),
        ("dataset.json", "[]"),
        ("dataset.json", "\x00\x01"),
        ("dataset.json", '{"labels": {"a": ' + "9" * 5000 + "}}"),
        ("dataset.json", json.dumps({**NNUNET, "channel_names": {"zero": "CT"}})),
        ("dataset.json", json.dumps({**NNUNET, "labels": {"a": [1, "b"]}})),
        ("dataset.json", json.dumps({**NNUNET, "labels": {"a": [[1]]}})),
        ("dataset.json", json.dumps({**NNUNET, "labels": {"a": 1e300}})),
        ("dataset.json", json.dumps({**NNUNET, "file_ending": "/../{x"})),
        ("dataset_description.json", DEEP),
        ("dataset_description.json", json.dumps({"ReferencesAndLinks": 5})),
        ("annotations.json", DEEP),
        ("data.yaml", DEEP),
        ("data.yaml", BOMB + "names: [*j, *j]"),
        ("data.yaml", BOMB + "names: *j"),
        ("data.yaml", "names: [!!int '']"),
        ("data.yaml", "names: [!!timestamp x]"),
        ("data.yaml", "names: !!bool foo"),
        ("data.yaml", "names: [2020-99-99]"),
        ("data.yaml", "names: " + "x" * (1 << 21)),
        ("data.yaml", "? {a: b}\n: c"),
    ],
)
def test_a_description_that_is_nonsense_is_told(sa_med2d: Command, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    ran = sa_med2d("sources", "init", "--from", tmp_path, "--name", "I", "--license", "MIT", "--modality", "mr")
    assert (ran.code, ran.out) == (1, "")
    assert all(line.startswith("error: ") for line in ran.err.splitlines())
    assert str(tmp_path) in ran.err or "I.toml: " in ran.err
    assert len(ran.err) < 1000


def test_titles_of_any_characters_are_written(sa_med2d: Command, tmp_path: Path) -> None:
    record = {**NNUNET, "name": "half \ud800, line\nbreak, bell \x07, delete \x7f"}
    (tmp_path / "dataset.json").write_text(json.dumps(record))
    ran = sa_med2d("sources", "init", "--from", tmp_path, "--name", "I", "--license", "MIT", "--modality", "mr")
    assert ran.code == 0, ran.err
    assert 'title = "half ?, line\\nbreak, bell \\u0007, delete \\u007f"' in ran.out
