"""Folders in no known layout."""

from __future__ import annotations

from pathlib import Path

from tests.support.command import Command


def test_folder_of_no_known_layout(sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("sources", "init", "--from", tmp_path, "--name", "I", "--license", "MIT", "--modality", "mr")
    assert ran.code == 1
    assert "no known layout: expected dataset.json" in ran.err
