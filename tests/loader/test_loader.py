"""The loader: rows of images or of masks, from a built folder."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import cv2
import datasets
import numpy as np
import numpy.typing as npt
import pytest
from datasets.exceptions import DatasetGenerationError

from builder.command_line import main
from sa_med2d_20m import DatasetError, Metadata, decode_masks, features, load, metadata_types
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import by_webdataset, members
from tests.support.sources import RECIPE, write_source
from tests.support.volumes import ct_like, organ_map


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source whose masks overlap: a region over its two labels; nobody writes to it."""
    folder = tmp_path_factory.mktemp("built")
    recipe = write_source(folder / "raw", cases=2)
    regions = '[regions]\nabdomen_organs = [1, 2]\n[splits]\ntrain = ["case00"]\nvalidation = ["case01"]\n'
    recipe.write_text(recipe.read_text() + regions)
    arguments = ["build", recipe, "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    """A copy, with the source beside it."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
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
    assert list(rows[0]) == ["image", "mask", *metadata_types(), "absent"]
    layers = set()
    for row in rows:
        plane = planes(organ_map(), row)
        expected = {"liver": plane == 1, "spleen": plane == 2, "abdomen_organs": plane > 0}
        masks = decode_masks(row)
        assert row["image"].shape == (row["height"], row["width"])
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
        assert row["mask"].dtype == np.bool_
        assert np.array_equal(row["mask"], mask)


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
        (
            {"config": "ct-"},
            r"no config 'ct-' .* it has all-permissive, all, all-commercial, ct, ct-commercial, ct-permissive, all-local, ct-local",
        ),
        ({"config": "ct", "split": "val"}, r"config 'ct' of .* has no split 'val'; it has train, validation"),
        ({"config": "mr"}, r"no config 'mr' .* it has all-permissive, all, "),
        ({"split": "test"}, r"has no split 'test'; it has train, validation"),
        ({"view": "volumes"}, r"view is 'volumes', expected 'image' or 'mask' or 'semantic' or 'volume' or 'clip'"),
    ],
)
def test_what_does_not_exist(out: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        load(out, **arguments)


def test_what_is_no_built_folder(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "no", str(tmp_path)):
        with pytest.raises(DatasetError, match=r"it has no README\.md"):
            load(folder)


def test_a_file_in_the_place_of_a_built_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("no folder")
    with pytest.raises(DatasetError, match=r"set is a file; expected the folder of a built dataset"):
        load(tmp_path / "set")


def test_card_without_configs(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Something else\n")
    with pytest.raises(DatasetError, match="it has none"):
        load(tmp_path, "ct")


def test_default_config_is_the_permissive_one(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    recipes = [
        write_source(raw, name, cases=1, license_id=license_id)
        for name, license_id in (("Free", "CC-BY-4.0"), ("Share", "CC-BY-SA-4.0"), ("Paid", "CC-BY-NC-4.0"))
    ]
    for recipe in recipes:
        recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["*"]\n')
    assert sa_med2d("build", *recipes, "--raw", raw, "--out", tmp_path / "out", "--workers", 1).code == 0
    expected = {None: {"Free"}, "ct-commercial": {"Free", "Share"}, "all": {"Free", "Share", "Paid"}}
    for config, sources in expected.items():
        rows = load(tmp_path / "out", config)
        assert {row["source"] for row in rows} == sources
        assert rows.num_shards == 48  # whatever the number of shards


@pytest.mark.parametrize(
    ("license_id", "access"), [("unknown", "open"), ("LicenseRef-OurHospital", "private"), ("CC-BY-4.0", "private")]
)
def test_own_data_under_no_licence(sa_med2d: Command, tmp_path: Path, license_id: str, access: str) -> None:
    """What may never be published can be loaded from one's own disk, by default too, without a false licence."""
    recipe = write_source(tmp_path / "raw", cases=2, license_id=license_id)
    text = recipe.read_text().replace("[files]", f'access = "{access}"\n\n[files]', 1)
    recipe.write_text(text + '[splits]\ntrain = ["*"]\n')
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == "configs: all-local, ct-local"
    keys = [name.removesuffix(".json") for name, _ in members(tmp_path / "out") if name.endswith(".json")]
    for config in (None, "all-local", "ct-local"):
        assert [row["key"] for row in load(tmp_path / "out", config)] == keys
    stock = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True)
    assert [row["__key__"] for row in stock] == keys
    with pytest.raises(DatasetError, match=r"no config 'ct' .* it has all-local, ct-local"):
        load(tmp_path / "out", "ct")


def test_three_readers_give_the_same_masks(built: Path) -> None:
    """Overlapping ones too, which lie in two layers."""
    out = built / "out"
    ours = {row["key"]: decode_masks(row) for row in load(out, "ct")}
    stock = {
        row["__key__"]: decode_masks(row)
        for row in datasets.load_dataset(str(out), "ct", split="train", streaming=True)
    }
    plain = {row["__key__"]: decode_masks(row) for row in by_webdataset(next(out.glob("data/**/train*.tar")))}
    assert list(ours) == list(stock) == list(plain)
    assert any((masks.sum(axis=0) > 1).any() for masks in ours.values())
    for key, masks in ours.items():
        assert masks.dtype == bool
        assert np.array_equal(masks, stock[key])
        assert np.array_equal(masks, plain[key])


def test_empty_and_crowded_pictures(sa_med2d: Command, tmp_path: Path) -> None:
    """No mask in one picture, 400 in the next, in two layers; neither has a spacing."""
    cells = np.kron(np.arange(1, 401, dtype=np.uint16).reshape(20, 20), np.ones((8, 8), np.uint16))
    for case, mask in (("a", np.zeros_like(cells)), ("b", cells)):
        for folder, pixels in (("i", np.random.default_rng(0).integers(0, 255, mask.shape, np.uint8)), ("m", mask)):
            (tmp_path / "Cells" / folder).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(tmp_path / "Cells" / folder / f"{case}.png"), pixels)
    head = RECIPE.format(name="Cells", license="MIT", modality="microscopy").split("[files]")[0]
    rest = '[files]\nimage = "i/{case}.png"\nmask = "m/{case}.png"\n[labels]\n"*" = "nucleus"\n'
    recipe = tmp_path / "Cells.toml"
    recipe.write_text(f'{head}keep_empty = true\n{rest}[masks]\ninstances = true\n[splits]\ntrain = ["*"]\n')
    assert sa_med2d("build", recipe, "--raw", tmp_path, "--out", tmp_path / "out", "--workers", 1).code == 0
    rows = list(load(tmp_path / "out", "microscopy"))
    assert [decode_masks(row).shape for row in rows] == [(0, 160, 160), (400, 160, 160)]
    assert [row["spacing"] for row in rows] == [None, None]
    masks = list(load(tmp_path / "out", "microscopy", view="mask"))
    assert [row["key"] for row in masks] == [rows[1]["key"]] * 400
    assert all(
        np.array_equal(np.asarray(row["mask"]) > 0, cells == 255 * row["layer"] + row["id"]) for row in masks[::37]
    )


@pytest.mark.parametrize("streaming", [True, False])
def test_mask_view_of_images_without_masks_is_empty(sa_med2d: Command, tmp_path: Path, streaming: bool) -> None:
    recipe = write_source(tmp_path / "raw", cases=1)
    recipe.write_text(
        "keep_empty = true\n" + recipe.read_text() + '[gates]\nunnamed_values = "flag"\n[splits]\ntrain = ["*"]\n'
    )
    recipe.write_text(recipe.read_text().replace('1 = "liver"\n2 = "spleen"', '9 = "liver"'))
    assert sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1).code == 0
    assert len(list(load(tmp_path / "out", "ct", view="mask", streaming=streaming))) == 0


def test_missing_index_says_how_to_make_it(out: Path) -> None:
    next(out.glob("index/**/train*")).unlink()
    with pytest.raises(DatasetError, match="'sa-med2d index"):
        load(out, "ct")


def test_truncated_shard_is_an_error_not_a_shorter_epoch(out: Path) -> None:
    tar = next(out.glob("data/**/train*.tar"))
    tar.write_bytes(tar.read_bytes()[:50000])
    with pytest.raises(DatasetError, match=r"train-00000\.tar ends at byte 50000"):
        list(load(out, "ct"))


def test_truncated_shard_is_an_error_in_the_cache_too(out: Path) -> None:
    tar = next(out.glob("data/**/train*.tar"))
    tar.write_bytes(tar.read_bytes()[:50000])
    with pytest.raises(DatasetGenerationError) as raised:
        load(out, "ct", streaming=False)
    assert isinstance(raised.value.__cause__, DatasetError)
    assert "train-00000.tar ends at byte 50000" in str(raised.value.__cause__)


def test_unchanged_shard_is_served_from_the_cache(out: Path) -> None:
    one, other = load(out, "ct", streaming=False), load(out, "ct", streaming=False)
    assert one.cache_files == other.cache_files != []


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


def test_options_that_belong_together_are_objects() -> None:
    """A new option goes into one of them: `load` has as many arguments as a person can look over."""
    assert len(inspect.signature(load).parameters) <= 22
