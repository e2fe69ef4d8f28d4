"""Stock `datasets` and plain `webdataset` read what we write, with nothing of ours, by modality and by licence."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cv2
import datasets
import numpy as np
import pytest
import yaml

from sa_med2d_20m import decode_masks
from tests.conftest import RECIPE, Command, by_webdataset, members, write_source

LICENSES = {
    "Free": ("CC-BY-4.0", "ct"),
    "Share": ("CC-BY-SA-4.0", "ct"),
    "NonCommercial": ("CC-BY-NC-4.0", "mr"),
    "NoDerivatives": ("CC-BY-ND-4.0", "mr"),
    "Nobody": ("unknown", "pet"),
}
EXPECTED = {
    "all-permissive": {"Free"},
    "all": {"Free", "Share", "NonCommercial"},
    "all-commercial": {"Free", "Share"},
    "ct": {"Free", "Share"},
    "ct-commercial": {"Free", "Share"},
    "ct-permissive": {"Free"},
    "mr": {"NonCommercial"},
}


@pytest.fixture
def out(sa_med2d: Command, tmp_path: Path) -> Path:
    """One output folder with five sources, one licence each."""
    raw = tmp_path / "raw"
    recipes = []
    for name, (license_id, modality) in LICENSES.items():
        recipe = write_source(raw, name, cases=2, license_id=license_id, modality=modality)
        recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["case00"]\ntest = ["case01"]\n')
        recipes.append(recipe)
    ran = sa_med2d("build", *recipes, "--raw", raw, "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 0, ran.err
    assert "NoDerivatives: will not be published: CC-BY-ND-4.0 does not allow derivatives" in ran.err
    return tmp_path / "out"


def card(out: Path) -> dict[str, Any]:
    front: dict[str, Any] = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
    return front


def counted(out: Path, sources: set[str], split: str) -> int:
    patient = {"train": "case00", "test": "case01"}[split]
    names = [name for name, _ in members(out) if name.endswith(".json")]
    return sum(name.split("--")[1] in sources and name.split("--")[2] == patient for name in names)


def test_card_lists_the_configs_that_hold_data(out: Path) -> None:
    configs = card(out)["configs"]
    assert {config["config_name"] for config in configs} == set(EXPECTED)
    assert [config["config_name"] for config in configs if config.get("default")] == ["all-permissive"]
    assert all(path.endswith(".tar") for config in configs for files in config["data_files"] for path in files["path"])


@pytest.mark.parametrize("config", EXPECTED)
def test_every_config_streams_what_its_tier_allows(out: Path, config: str) -> None:
    for split in ("train", "test"):
        rows = list(datasets.load_dataset(str(out), config, split=split, streaming=True))
        assert {row["json"]["source"] for row in rows} == EXPECTED[config]
        assert len(rows) == counted(out, EXPECTED[config], split)
        assert {row["json"]["split"] for row in rows} == {split}


def test_default_config_is_the_permissive_one(out: Path) -> None:
    rows = list(datasets.load_dataset(str(out), split="train", streaming=True))
    assert {row["json"]["source"] for row in rows} == {"Free"}


def test_counts_in_the_card_are_true(out: Path, tmp_path: Path) -> None:
    """A load into the cache checks them."""
    loaded = datasets.load_dataset(str(out), "ct", cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {
        split: counted(out, EXPECTED["ct"], split) for split in ("train", "test")
    }
    info = next(info for info in card(out)["dataset_info"] if info["config_name"] == "ct")
    assert {split["name"]: split["num_examples"] for split in info["splits"]} == {
        split: len(rows) for split, rows in loaded.items()
    }


def test_nothing_of_ours_is_needed(out: Path) -> None:
    script = f"""
        import sys
        from datasets import load_dataset
        row = next(iter(load_dataset({str(out)!r}, "ct", split="train", streaming=True)))
        assert list(row) == ["png", "mask.png", "json", "__key__", "__url__"], list(row)
        assert row["png"].size == (row["json"]["width"], row["json"]["height"])
        assert not {{"sa_med2d_20m", "shards", "builder"}} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-I", "-c", textwrap.dedent(script)], check=True, cwd=out)


def test_card_names_sources_and_what_may_not_be_published(out: Path) -> None:
    text = (out / "README.md").read_text()
    assert "**Nobody** (unknown)" in text
    assert "Not for publication: its licence is unknown" in text
    assert "Nobody, 2026" in text


def write_picture_source(raw: Path, name: str, masks: dict[str, np.ndarray], more: str) -> Path:
    for case, mask in masks.items():
        for folder, pixels in (("i", np.random.default_rng(0).integers(0, 255, mask.shape, np.uint8)), ("m", mask)):
            path = raw / name / folder / f"{case}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), pixels)
    head = RECIPE.format(name=name, license="MIT", modality="mr").split("[files]")[0]
    recipe = raw / f"{name}.toml"
    recipe.write_text(
        f'{head}{more}\n[splits]\ntrain = ["*"]\n[files]\nimage = "i/{{case}}.tif"\nmask = "m/{{case}}.tif"\n'
    )
    return recipe


def test_schema_does_not_hang_on_the_first_rows(sa_med2d: Command, tmp_path: Path) -> None:
    """First no masks at all, then null spacing and organ, then 16-bit label maps, then volumes with all of it."""
    raw, empty = tmp_path / "raw", np.zeros((40, 40), np.uint8)
    labels = '[labels]\n255 = "new_thing"\n'
    one = write_picture_source(raw, "A_empty", {f"{n}": empty for n in range(7)}, "keep_empty = true\n" + labels)
    many = np.kron(np.arange(1, 401, dtype=np.uint16).reshape(20, 20), np.ones((8, 8), np.uint16))
    instances = '[labels]\n"*" = "nucleus"\n[masks]\ninstances = true\n'
    two = write_picture_source(raw, "B_many", {"cells": many}, instances)
    three = write_source(raw, "C_volumes", cases=1, license_id="MIT", modality="mr")
    three.write_text(three.read_text() + '[splits]\ntrain = ["*"]\n')
    ran = sa_med2d("build", one, two, three, "--raw", raw, "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 0, ran.err
    rows = list(datasets.load_dataset(str(tmp_path / "out"), "mr", split="train", streaming=True))
    assert [len(row["json"]["masks"]) for row in rows[:8]] == [0] * 7 + [400]
    assert rows[0]["json"]["spacing"] is None
    assert rows[0]["json"]["index"] is None
    assert rows[7]["mask.png"].mode.startswith("I;16")
    assert decode_masks(rows[7]).shape == (400, 160, 160)
    assert len(rows[-1]["json"]["spacing"]) == 2
    assert datasets.load_dataset(
        str(tmp_path / "out"), "mr", split="train", cache_dir=str(tmp_path / "cache")
    ).num_rows == len(rows)


def test_an_empty_shard_in_the_middle_is_no_gap(sa_med2d: Command, tmp_path: Path) -> None:
    raw, full = tmp_path / "raw", np.pad(np.full((20, 20), 255, np.uint8), 10)
    masks = {"a": full, "b": np.zeros_like(full), "c": full}
    recipe = write_picture_source(raw, "Gap", masks, '[labels]\n255 = "polyp"\n')
    assert sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out", "--shard-size", 1).code == 0
    shards = sorted((tmp_path / "out/data").rglob("*.tar"))
    assert [path.name for path in shards] == ["train-00000.tar", "train-00001.tar", "train-00002.tar"]
    rows = list(datasets.load_dataset(str(tmp_path / "out"), "mr", split="train", streaming=True))
    assert [row["json"]["case"] for row in rows] == ["a", "c"]
    assert [len(by_webdataset(path)) for path in shards] == [1, 0, 1]
    assert sa_med2d("verify", tmp_path / "out", "--deep").code == 0


def test_plain_webdataset_gives_the_same_masks(out: Path) -> None:
    shard = out / "data/ct/cc-by-4.0/Free/train-00000.tar"
    stock = {
        row["__key__"]: decode_masks(row)
        for row in datasets.load_dataset(str(out), "ct-permissive", split="train", streaming=True)
    }
    plain = {sample["__key__"]: decode_masks(sample) for sample in by_webdataset(shard)}
    assert list(plain) == list(stock)
    assert all(np.array_equal(plain[key], stock[key]) for key in plain)
