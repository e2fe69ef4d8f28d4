"""A built set that the tests of reports share."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.command_line import main
from tests.support.sources import write_source


@pytest.fixture(scope="package")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of three sources of two modalities and licences, in shards of 100 KB; nobody writes to it."""
    folder = tmp_path_factory.mktemp("built")
    raw = folder / "raw"
    recipes = [
        write_source(raw, "Alpha", cases=3),
        write_source(raw, "Beta", cases=1, license_id="CC-BY-NC-4.0"),
        write_source(raw, "Magnet", cases=2, modality="mr", license_id="CC-BY-SA-4.0"),
    ]
    for recipe in recipes:
        splits = '[splits]\ntrain = ["case00"]\nvalidation = ["case01"]\ntest = ["case02"]\n'
        recipe.write_text(recipe.read_text() + splits)
    arguments = ["--raw", raw, "--out", folder / "out", "--workers", 1, "--shard-size", "100KB"]
    assert main([str(argument) for argument in ("build", *recipes, *arguments)]) == 0
    return folder / "out"
