"""A host of files, and recipes whose files it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import builder.fetch.host
import builder.fetch.transfer
from tests.support.file_host import FileHost, file_host
from tests.support.sources import RECIPE


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that no host asks for are short, but for commands in processes of their own."""
    for module in (builder.fetch.host, builder.fetch.transfer):
        monkeypatch.setattr(module, "FIRST_WAIT", 0.01)


@pytest.fixture
def host() -> Iterator[FileHost]:
    with file_host() as running:
        yield running


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe with files to download, each a table of its keys, or with other keys of ``[download]``."""

    def write(*files: dict[str, Any], name: str = "Small", **download: Any) -> Path:
        text = RECIPE.format(name=name, license="CC-BY-4.0", modality="ct") + "\n[download]\n"
        text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in download.items())
        for file in files:
            text += "\n[[download.files]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in file.items())
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return path

    return write
