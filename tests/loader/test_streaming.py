"""Stock `datasets` and plain `webdataset` read what we write, with nothing of ours, by modality and by licence."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import cv2
import datasets
import numpy as np
import pytest
import webdataset

from builder.command_line import main
from sa_med2d_20m import decode_masks
from tests.support.command import Command
from tests.support.output import by_webdataset, members
from tests.support.sources import RECIPE, write_source

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
    "all-local": set(LICENSES),
    "ct-local": {"Free", "Share"},
    "mr-local": {"NonCommercial", "NoDerivatives"},
    "pet-local": {"Nobody"},
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One output folder with five sources, one licence each; nobody writes to it."""
    folder = tmp_path_factory.mktemp("built")
    recipes = []
    for name, (license_id, modality) in LICENSES.items():
        recipe = write_source(folder / "raw", name, cases=2, license_id=license_id, modality=modality)
        text = recipe.read_text() + '[splits]\ntrain = ["case00"]\ntest = ["case01"]\n'
        recipe.write_text(f'axes = ["x"]\n{text}')
        recipes.append(recipe)
    arguments = ["build", *recipes, "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


def counted(out: Path, sources: set[str], split: str) -> int:
    patient = {"train": "case00", "test": "case01"}[split]
    names = [name for name, _ in members(out) if name.endswith(".json")]
    return sum(name.split("--")[1] in sources and name.split("--")[2] == patient for name in names)


def test_default_config_is_the_permissive_one(out: Path) -> None:
    rows = list(datasets.load_dataset(str(out), split="train", streaming=True))
    assert {row["json"]["source"] for row in rows} == {"Free"}


@pytest.mark.parametrize("config", EXPECTED)
def test_every_config_loads_into_the_cache(out: Path, tmp_path: Path, config: str) -> None:
    """A load into the cache also checks the counts in the card."""
    loaded = datasets.load_dataset(str(out), config, cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in loaded.items()} == {
        split: counted(out, EXPECTED[config], split) for split in ("train", "test")
    }
    assert {row["json"]["source"] for row in loaded["train"]} == EXPECTED[config]


def test_every_config_streams_what_its_tier_allows_and_needs_nothing_of_ours(out: Path, tmp_path: Path) -> None:
    """By a Python that has never heard of this project."""
    script = """
        import json, sys
        from datasets import get_dataset_config_names, load_dataset
        out, found = sys.argv[1], {}
        for config in get_dataset_config_names(out):
            for split in ("train", "test"):
                rows = list(load_dataset(out, config, split=split, streaming=True))
                assert list(rows[0]) == ["png", "mask.png", "json", "__key__", "__url__"], list(rows[0])
                assert all(row["png"].size == (row["json"]["width"], row["json"]["height"]) for row in rows)
                assert {row["json"]["split"] for row in rows} == {split}
                found[f"{config} {split}"] = [len(rows), sorted({row["json"]["source"] for row in rows})]
        loaded = {name.split(".")[0] for name in sys.modules}
        assert not {"sa_med2d_20m", "shards", "builder"} & loaded
        print(json.dumps(found))
    """
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script), out],
        check=True,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
    )
    assert json.loads(ran.stdout) == {
        f"{config} {split}": [counted(out, sources, split), sorted(sources)]
        for config, sources in EXPECTED.items()
        for split in ("train", "test")
    }


def test_what_may_not_be_published_is_built_and_in_no_tier(out: Path) -> None:
    """Only the configs of the folder itself hold it."""
    assert {path.parent.name for path in (out / "data").rglob("*.tar")} == set(LICENSES)
    for config in datasets.get_dataset_config_names(str(out)):
        held = {row["json"]["source"] for row in datasets.load_dataset(str(out), config, split="train", streaming=True)}
        assert held.isdisjoint({"Nobody", "NoDerivatives"}) or config.endswith("-local")
    with pytest.raises(ValueError, match="BuilderConfig 'pet' not found"):
        datasets.load_dataset(str(out), "pet", split="train", streaming=True)


def test_rows_name_their_shard_and_key(out: Path) -> None:
    for row in datasets.load_dataset(str(out), "mr", split="test", streaming=True):
        assert row["__key__"] == row["json"]["key"]
        assert row["__url__"].endswith("data/mr/cc-by-nc-4.0/NonCommercial/test-00000.tar")
        assert row["json"]["license"] == "CC-BY-NC-4.0"


def test_plain_webdataset_decodes_pictures_and_json(out: Path) -> None:
    path = out / "data/ct/cc-by-sa-4.0/Share/train-00000.tar"
    with warnings.catch_warnings(action="ignore"):  # it leaves the file open
        samples = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False).decode("pil"))
        gc.collect()
    assert len(samples) == counted(out, {"Share"}, "train")
    for sample in samples:
        assert sample["png"].size == sample["mask.png"].size == (sample["json"]["width"], sample["json"]["height"])
        assert sample["__key__"] == sample["json"]["key"]


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
    """First no masks at all, then null spacing and organ, then label maps of two layers, then volumes with all of it."""
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
    assert (rows[7]["mask.png"].mode, rows[7]["mask.png"].size) == ("L", (160, 320))
    assert [row["json"]["not_annotated"] for row in rows] == [[]] * len(rows)
    assert (rows[0]["json"]["origin"], rows[0]["json"]["slices"]) == (None, None)
    assert len(rows[-1]["json"]["direction"]) == 9
    assert all(row["json"]["official_split"] is True for row in rows)
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
