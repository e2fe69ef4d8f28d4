"""The loader as a loading script, as `datasets` before 4 wants it; `.ci/run` runs these with such a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from packaging.version import Version

import sa_med2d_20m
from builder.command_line import main
from sa_med2d_20m import decode_masks, load
from tests.support.output import members
from tests.support.sources import write_source

pytestmark = pytest.mark.skipif(
    Version(datasets.__version__) >= Version("4"), reason="datasets 4 and later have no loading scripts"
)

SCRIPT = sa_med2d_20m.__file__


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("script")
    recipe = write_source(folder / "raw", cases=3)
    recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["case00", "case01"]\ntest = ["case02"]\n')
    arguments = ["build", recipe, "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.setattr(datasets.config, name, tmp_path / name)


def by_script(out: Path, config: str | None = "ct-commercial", **further: Any) -> Any:
    return datasets.load_dataset(SCRIPT, config, data_dir=str(out), trust_remote_code=True, **further)


@pytest.mark.parametrize("streaming", [True, False])
def test_script_gives_the_rows_of_load(out: Path, streaming: bool) -> None:
    rows = list(by_script(out, split="train", streaming=streaming))
    names = [name for name, _ in members(out) if name.endswith(".json") and "case02" not in name]
    assert [row["key"] for row in rows] == [name.removesuffix(".json") for name in names]
    for row, other in zip(rows, load(out, "ct"), strict=True):
        assert np.array_equal(row["image"], other["image"])
        assert np.array_equal(decode_masks(row), decode_masks(other))
        assert row["masks"] == other["masks"]


def test_all_splits_at_once(out: Path) -> None:
    assert set(by_script(out, streaming=True)) == {"train", "test"}


def test_views_of_the_script(out: Path) -> None:
    rows = by_script(out, "ct", split="test", streaming=True, view="mask", decode="pil")
    records = [json.loads(data) for name, data in members(out) if name.endswith(".json") and "case02" in name]
    assert [row["id"] for row in rows] == [mask["id"] for record in records for mask in record["masks"]]
    assert next(iter(rows))["mask"].mode == "L"


def test_default_config(out: Path) -> None:
    assert next(iter(by_script(out, None, split="train", streaming=True)))["license"] == "CC-BY-4.0"


def test_configs_that_do_not_exist(out: Path) -> None:
    with pytest.raises(ValueError, match="BuilderConfig 'cta' not found"):
        by_script(out, "cta", streaming=True)
    with pytest.raises(ValueError, match=r"no config 'mr' in .* it has all-permissive"):
        by_script(out, "mr", streaming=True)
