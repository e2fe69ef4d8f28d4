"""Rows out of a cache beside the same rows out of the shards: pixels, masks, metadata, filters, order, numbers."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.command_line import main
from sa_med2d_20m import CachedRows, DatasetError, Masks, Output, Prompts, Semantic, Where, load
from tests.support.shrinking_pictures import write_ct, write_pictures
from tests.support.volumes import ct_like

SIZE = (48, 56)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``out``: coloured and grey pictures with a line and a dot that get lost when they shrink, CT in 8 bit, and CT in
    16 bit; and caches of it: ``padded``, ``grey``, ``cropped`` and ``lung``, the last of the CT in 16 bit."""
    folder = tmp_path_factory.mktemp("cached")
    raw = folder / "raw"
    shapes = {"wide": (90, 160, 3), "tall": (301, 180, 3), "grey": (70, 81), "small": (24, 31, 3)}
    recipes = [write_pictures(raw, shapes, second_pixel=True)]
    for name, rule in {"BySlice": 'mode = "slice"', "Exact": 'mode = "lossless"'}.items():
        recipes.append(write_ct(raw, name, rule, ct_like(7) - 300, cases=2))
    arguments = ["build", *recipes, "--raw", raw, "--out", folder / "out", "--workers", 1, "--shard-size", "100KB"]
    assert main([str(argument) for argument in arguments]) == 0
    size = f"{SIZE[0]}x{SIZE[1]}"
    eight_bit = ("--source", "Pictures", "--source", "BySlice")
    for name, *options in (
        ("padded",),
        ("grey", "--grey", *eight_bit),
        ("cropped", "--resize", "crop", *eight_bit),
        ("stretched", "--resize", "stretch", *eight_bit),
        ("lung", "--window", "lung", "--source", "Exact"),
        ("volume", "--window", "volume", "--source", "Exact"),
    ):
        arguments = ["cache", folder / "out", "--size", size, "--to", folder / name, "--workers", 1, *options]
        assert main([str(argument) for argument in arguments]) == 0
    return folder


def assert_alike(cached: Any, expected: Any) -> None:
    """Equal with their types, whatever they consist of; None and NaN equal themselves."""
    assert type(cached) is type(expected) or isinstance(cached, int | float)
    if isinstance(expected, Mapping):
        assert list(cached) == list(expected)
        for name, value in expected.items():
            assert_alike(cached[name], value)
    elif isinstance(expected, np.ndarray):
        assert cached.dtype == expected.dtype
        np.testing.assert_array_equal(cached, expected)
        assert cached.flags.writeable
    elif isinstance(expected, list | tuple):
        assert len(cached) == len(expected)
        for pair in zip(cached, expected, strict=True):
            assert_alike(*pair)
    else:
        np.testing.assert_equal(cached, expected)


def assert_same_rows(cached: Any, expected: Iterable[Any], least: int) -> None:
    rows = list(expected)
    assert isinstance(cached, CachedRows)
    assert len(cached) == len(rows) >= least
    for one, other in zip(cached, rows, strict=True):
        assert_alike(one, other)
    for number in np.random.default_rng(1).permutation(len(rows))[:40]:
        assert_alike(cached[number], rows[number])


@pytest.mark.parametrize(
    ("cache", "config", "output"),
    [
        ("padded", "endoscopy-local", Output(SIZE)),
        ("padded", "endoscopy-local", Output(SIZE, normalise="sam")),
        ("padded", "endoscopy-local", Output(SIZE, channels=3)),
        ("grey", "endoscopy-local", Output(SIZE, channels=1)),
        ("cropped", "endoscopy-local", Output(SIZE, "crop")),
        ("stretched", "endoscopy-local", Output(SIZE, "stretch", normalise="imagenet")),
        ("padded", "ct-local", Output(SIZE)),
        ("padded", "ct-local", Output(SIZE, channels=1)),
        ("grey", "ct-local", Output(SIZE, channels=1)),
        ("cropped", "ct-local", Output(SIZE, "crop", normalise="sam")),
    ],
    ids=lambda value: "-".join(str(part) for part in vars(value).values()) if isinstance(value, Output) else str(value),
)
def test_rows_of_images_are_those_of_the_shards(folder: Path, cache: str, config: str, output: Output) -> None:
    where: dict[str, Any] = {"sources": ["BySlice"]} if config == "ct-local" else {}
    cached = load(folder / "out", config, cache=folder / cache, decode=output, **where)
    assert_same_rows(cached, load(folder / "out", config, decode=output, **where), least=4)


@pytest.mark.parametrize("view", ["mask", Masks(negatives=1), "semantic", Semantic(classes=["cancer"], ignore=True)])
def test_rows_of_other_views_are_those_of_the_shards(folder: Path, view: Any) -> None:
    options: dict[str, Any] = {"view": view, "decode": Output(SIZE)}
    cached = load(folder / "out", "endoscopy-local", cache=folder / "padded", **options)
    assert_same_rows(cached, load(folder / "out", "endoscopy-local", **options), least=4)


@pytest.mark.parametrize(
    "filters",
    [
        {"labels": ["cancer"]},
        {"labels": ["polyp", "vein"]},
        {"min_area": 2},
        {"where": Where(cases=["tall", "grey"])},
        {"labels": ["vein"], "view": "mask"},
        {"prompts": Prompts(0.1, 2, 1, seed=3, scribble=3, texts=True)},
        {"prompts": Prompts(positive=2, coarse=0.2), "view": "mask"},
        {"shuffle": 5},
        {"shuffle": 5, "view": "mask"},
    ],
    ids=str,
)
def test_filters_prompts_and_order_are_those_of_the_shards(folder: Path, filters: dict[str, Any]) -> None:
    options = {"decode": Output(SIZE), **filters}
    cached = load(folder / "out", "endoscopy-local", cache=folder / "padded", **options)
    assert_same_rows(cached, load(folder / "out", "endoscopy-local", **options), least=2)


def test_slices_of_several_shards_come_mixed_as_they_do_from_the_shards(folder: Path) -> None:
    options: dict[str, Any] = {"decode": Output(SIZE), "shuffle": 1, "planes": ["axial"], "labels": ["liver"]}
    cached = load(folder / "out", "ct-local", cache=folder / "padded", **options)
    assert_same_rows(cached, load(folder / "out", "ct-local", **options), least=30)
    assert len({row["source"] for row in cached}) == 2


def test_16_bit_stay_16_bit_and_windows_make_8(folder: Path) -> None:
    for cache, window in (("padded", None), ("lung", "lung"), ("volume", "volume")):
        output = Output(SIZE, window=window)
        options: dict[str, Any] = {"sources": ["Exact"], "decode": output}
        cached: Any = load(folder / "out", "ct-local", cache=folder / cache, **options)
        assert cached[0]["image"].dtype == (np.uint8 if window else np.uint16)
        assert_same_rows(cached, load(folder / "out", "ct-local", **options), least=100)


def test_what_a_cache_keeps_is_what_comes_by_default(folder: Path) -> None:
    cached = load(folder / "out", "ct-local", cache=folder / "lung", sources=["Exact"])
    options: dict[str, Any] = {"sources": ["Exact"], "decode": Output(SIZE, window="lung")}
    assert_same_rows(cached, load(folder / "out", "ct-local", **options), least=100)


def test_rows_have_numbers_as_lists_have(folder: Path) -> None:
    rows: Any = load(folder / "out", "endoscopy-local", cache=folder / "padded", view="mask")
    assert rows[-1]["key"] == rows[len(rows) - 1]["key"]
    for number in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError, match=f"row {number} of {len(rows)}"):
            rows[number]
    again = pickle.loads(pickle.dumps(rows))  # noqa: S301 - as it goes to workers
    assert_alike(again[2], rows[2])
    assert len(pickle.dumps(rows)) < 100_000


def test_the_files_are_what_the_page_says(folder: Path) -> None:
    """Read with NumPy and JSON alone."""
    import json  # noqa: PLC0415

    (images,) = (folder / "padded").glob("endoscopy/*/Pictures/*.images.npy")
    stem = str(images).removesuffix(".images.npy")
    pixels, places = np.load(images, mmap_mode="r"), np.load(f"{stem}.places.npy")
    layers, lines = np.load(f"{stem}.layers.npy"), Path(f"{stem}.records.jsonl").read_bytes()
    assert pixels.shape == (4, *SIZE, 3)
    rows = {row["key"]: row for row in load(folder / "out", "endoscopy-local", decode=Output(SIZE))}
    lost = 0
    masks, classes = np.load(f"{stem}.masks.npy"), json.loads(lines[places[-1, 1] :])
    for number, (_, start, first, mask) in enumerate(places[:-1]):
        line = json.loads(lines[start : places[number + 1, 1]])
        row = rows[line["metadata"]["key"]]
        numbers = masks[mask : places[number + 1, 3]]
        assert [classes[at]["label"] for at in numbers[:, 0]] == [entry["label"] for entry in row["masks"]]
        assert numbers[:, 7:9].tolist() == [[entry["id"], entry["layer"]] for entry in row["masks"]]
        found = {(layer, of): [0] * 5 for layer, of, *_ in line["lost"]}
        shown = {(entry["layer"], entry["id"]): [*entry["bbox"], entry["area"]] for entry in row["masks"]}
        assert numbers[:, 9:].tolist() == list({**shown, **found}.values())
        assert np.array_equal(pixels[number], row["image"])
        stack = layers[first : places[number + 1, 2]].copy()
        for layer, number_of_mask, *place in line["lost"]:
            stack[(layer, *place)] = number_of_mask
            lost += 1
        assert np.array_equal(stack.reshape(-1, SIZE[1]), row["mask"])
    assert lost >= 3


@pytest.mark.parametrize(
    ("cache", "options", "message"),
    [
        ("padded", {"decode": Output(32)}, r"keeps size \(48, 56\), and decode asks for size \(32, 32\)"),
        ("padded", {"decode": Output(SIZE, "stretch")}, "keeps resize 'pad', and decode asks for resize 'stretch'"),
        ("padded", {"decode": Output(SIZE, masks="area")}, "keeps masks 'nearest', and decode asks for masks 'area'"),
        ("grey", {"decode": Output(SIZE)}, "keeps channels 1, and decode asks for channels None"),
        (
            "padded",
            {"decode": Output(SIZE, channels=1)},
            r"in colour, and channels is 1; 'sa-med2d cache \S+ --size 48x56 --grey --source .* --to \S+-grey'",
        ),
        ("padded", {"decode": Output(SIZE, window="lung")}, "keeps window None, and decode asks for window 'lung'"),
        ("padded", {"decode": "pil"}, "decode is 'pil', expected 'numpy' or 'torch'"),
        ("padded", {"view": "clip"}, "a cache has images one by one"),
        ("padded", {"balance": 0.1}, "WeightedRandomSampler"),
        ("cropped", {"view": "mask"}, "take view='image'"),
        ("lung", {}, r"lung does not hold data/endoscopy/.*; run 'sa-med2d cache .* --to .*lung' again"),
        (
            "nothing",
            {},
            r"nothing is no cache: it has no cache.json; 'sa-med2d cache \S+ --size 512x512 --to \S+nothing' makes one",
        ),
    ],
)
def test_what_a_cache_cannot_give_is_refused_in_words(
    folder: Path, cache: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        load(folder / "out", "endoscopy-local", cache=folder / cache, **options)
