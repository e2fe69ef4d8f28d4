"""What exports are made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.export_source import build, write_sources
from tests.support.export_volumes import build_volumes


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sources, see `tests.support.export_source`, in 8 shards; nobody writes to it."""
    folder = tmp_path_factory.mktemp("export")
    return build(folder / "raw", folder / "out", write_sources(folder / "raw"))


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built sources of volumes, see `tests.support.export_volumes`, with their raw files beside; nobody writes to it."""
    return build_volumes(tmp_path_factory.mktemp("volumes"))
