"""The loader: rows of images or of masks, from a built folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pytest

from sa_med2d_20m import DatasetError, Metadata, decode_masks, features, load, metadata_types
from tests.conftest import Command, ct_like, members, organ_map, write_nifti, write_source


@pytest.fixture
def out(sa_med2d: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source whose masks overlap: a region over its two labels."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    recipe = write_source(tmp_path / "raw", cases=2)
    regions = '[regions]\nabdomen_organs = [1, 2]\n[splits]\ntrain = ["case00"]\nvalidation = ["case01"]\n'
    recipe.write_text(recipe.read_text() + regions)
    assert sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out").code == 0
    return tmp_path / "out"


def planes(labels: npt.NDArray[Any], row: dict[str, Any]) -> npt.NDArray[Any]:
    """The slice of an LPS volume that a row shows."""
    along = {"x": labels, "y": labels[::-1].swapaxes(0, 1), "z": np.moveaxis(labels[::-1], 2, 0)}[row["axis"]]
    plane: npt.NDArray[Any] = along[row["index"]]
    return plane


@pytest.mark.parametrize("streaming", [True, False])
def test_image_view(out: Path, streaming: bool) -> None:
    rows = list(load(out, "ct", split="train", streaming=streaming))
    assert len(rows) == sum("case00" in name and name.endswith(".json") for name, _ in members(out))
    assert list(rows[0]) == ["image", "mask", *metadata_types()]
    layers = set()
    for row in rows:
        plane = planes(organ_map(), row)
        expected = {"liver": plane == 1, "spleen": plane == 2, "abdomen_organs": plane > 0}
        masks = decode_masks(row)
        assert row["image"].size == (row["width"], row["height"])
        for label in expected:
            own = [mask for mask, entry in zip(masks, row["masks"], strict=True) if entry["label"] == label]
            union = np.logical_or.reduce(own) if own else np.zeros_like(plane, bool)
            assert np.array_equal(union, expected[label])
        layers |= {entry["layer"] for entry in row["masks"]}
    assert layers == {0, 1}


@pytest.mark.parametrize("streaming", [True, False])
def test_mask_view(out: Path, streaming: bool) -> None:
    images = list(load(out, "ct", split="train"))
    rows = list(load(out, "ct", split="train", streaming=streaming, view="mask"))
    expected = [
        (row["key"], entry, mask) for row in images for entry, mask in zip(row["masks"], decode_masks(row), strict=True)
    ]
    assert len(rows) == len(expected)
    for row, (key, entry, mask) in zip(rows, expected, strict=True):
        assert row["key"] == key
        assert {name: row[name] for name in entry} == entry
        assert np.array_equal(np.asarray(row["mask"]), mask * np.uint8(255))


def test_default_config_and_other_splits(out: Path) -> None:
    assert {row["case"] for row in load(out, split="validation")} == {"case01"}


def test_columns_are_those_of_the_schema(out: Path) -> None:
    assert load(out, "ct").features == features("image")
    assert load(out, "ct", view="mask").features == features("mask")
    assert list(features()) == ["png", "mask.png", "json", "__key__", "__url__"]
    assert list(features()["json"]) == list(Metadata.__dataclass_fields__)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"config": "mr"}, r"no config 'mr' .* it has all-permissive, all, "),
        ({"split": "test"}, r"has no split 'test'; it has train, validation"),
        ({"view": "volume"}, r"view is 'volume', expected 'image' or 'mask'"),
    ],
)
def test_what_does_not_exist(out: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        load(out, **arguments)


def test_what_is_no_built_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"it has no README\.md"):
        load(tmp_path)


def test_missing_index_says_how_to_make_it(out: Path) -> None:
    next(out.glob("index/**/train*")).unlink()
    with pytest.raises(DatasetError, match="'sa-med2d index"):
        load(out, "ct")


def test_truncated_shard_is_an_error_not_a_shorter_epoch(out: Path) -> None:
    tar = next(out.glob("data/**/train*.tar"))
    tar.write_bytes(tar.read_bytes()[:50000])
    with pytest.raises(DatasetError, match=r"train-00000\.tar ends at byte 50000"):
        list(load(out, "ct"))


def test_replaced_shard_is_not_served_from_the_cache(sa_med2d: Command, tmp_path: Path, out: Path) -> None:
    before = [np.asarray(row["image"]) for row in load(out, "ct", streaming=False)]
    write_nifti(tmp_path / "raw/Small/images/case00.nii.gz", ct_like(5))
    recipe = tmp_path / "raw/Small.toml"
    assert sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", out).code == 0
    after = [np.asarray(row["image"]) for row in load(out, "ct", streaming=False)]
    assert not np.array_equal(before[0], after[0])


@pytest.mark.parametrize("sample", [{}, {"mask": b""}, {"json": 3}, {"masks": [], "height": 3}])
def test_decode_masks_says_what_it_needs(sample: dict[str, Any]) -> None:
    with pytest.raises(DatasetError):
        decode_masks(sample)
