"""Recipes that ``sources init`` writes for a folder, and what is built by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.command import Command
from tests.support.output import members


def initialise(sa_med2d: Command, tmp_path: Path, origin: Path, modality: str = "mr") -> str:
    """The recipe that ``sources init`` writes, kept as Init.toml."""
    named = ("--name", "Init", "--license", "cc0-1.0", "--modality", modality)
    ran = sa_med2d("sources", "init", "--from", origin, *named)
    assert ran.code == 0, ran.err
    (tmp_path / "Init.toml").write_text(ran.out)
    return ran.out


def records(sa_med2d: Command, tmp_path: Path) -> list[dict[str, Any]]:
    ran = sa_med2d("build", tmp_path / "Init.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    return [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
