"""All errors of the package are of one family, and say which file is at fault."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import shards
from sa_med2d_20m import SAMed2DError
from shards.description import read_sources, source_faults
from shards.store import StoreError


def test_one_base() -> None:
    modules = [importlib.import_module(one.name) for one in pkgutil.walk_packages(shards.__path__, "shards.")]
    kinds = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__.startswith("shards")
    }
    assert {"PublishError", "OutputError", "StoreError", "BrokenShardError"} <= {kind.__name__ for kind in kinds}
    assert [kind.__name__ for kind in kinds if not issubclass(kind, SAMed2DError)] == []


def test_store_errors_are_also_errors_of_the_system() -> None:
    with pytest.raises(OSError, match="refuses"):
        raise StoreError("the object store refuses")


@pytest.mark.parametrize("text", ["{", '{"name": "Small"}', "[]", '{"classes": 1}', "[" * 100_000])
def test_damaged_description_of_a_source_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "build/sources/Small.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert read_sources(tmp_path) == {}
    assert [fault.startswith(f"{path}: ") for fault in source_faults(tmp_path)] == [True]
