"""What the tests of an import share: a release that needs no repair, and samples of an output folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.output import members
from tests.support.release import good_files, with_json, write_tree

Samples = dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def files() -> Mapping[str, bytes]:
    """The files of a release that needs no repair."""
    return with_json(good_files())


@pytest.fixture(scope="module")
def unpacked(files: Mapping[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That release as a folder."""
    return write_tree(tmp_path_factory.mktemp("unpacked"), files)


@pytest.fixture(scope="session")
def samples_of() -> Callable[[Path], Samples]:
    """Reads the samples of an output folder: key -> ending -> content."""

    def read(out: Path) -> Samples:
        found: Samples = {}
        for name, data in members(out):
            key, _, ending = name.partition(".")
            found.setdefault(key, {})[ending] = data
        return found

    return read
