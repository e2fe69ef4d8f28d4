"""Rows out of a cache beside the same rows out of the shards: pixels, masks, metadata, filters, order, numbers."""

from __future__ import annotations

import pickle
import shlex
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.command_line import main
from sa_med2d_20m import CachedRows, DatasetError, Masks, Output, Prompts, Semantic, Where, interleave, load
from tests.support.rows import assert_alike
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
    for numbers in (slice(2, 5), slice(None, None, -2), [1, -1, 3], (0,), np.array([1, 3])):
        places = range(len(rows))[numbers] if isinstance(numbers, slice) else numbers
        assert [row["label"] for row in rows[numbers]] == [rows[int(at)]["label"] for at in places]
    assert_alike(rows[np.int64(2)], rows[2])
    assert rows[len(rows) :] == rows[[]] == []
    for wrong in ("image", None, 1.0, True, np.array([True, False]), [0, "mask"]):
        with pytest.raises(DatasetError, match=r"is no row; expected a number, rows\[7\], or several, rows\[2:5\]"):
            rows[wrong]
    again = pickle.loads(pickle.dumps(rows))  # noqa: S301 - as it goes to workers
    assert_alike(again[2], rows[2])
    assert len(pickle.dumps(rows)) < 100_000


def test_torch_takes_rows_as_it_takes_a_map_style_dataset(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    rows: Any = load(
        folder / "out", "endoscopy-local", cache=folder / "padded", view="mask", decode=Output(SIZE, kind="torch")
    )
    assert [row["key"] for row in rows[torch.tensor([2])]] == [rows[torch.tensor(2)]["key"]]
    loader = torch.utils.data.DataLoader
    batches = list(loader(rows, batch_size=3, sampler=[5, 0, 5, 1]))
    assert [batch["image"].shape for batch in batches] == [(3, 3, *SIZE), (1, 3, *SIZE)]
    assert batches[0]["key"] == [rows[5]["key"], rows[0]["key"], rows[5]["key"]]
    part = torch.utils.data.Subset(rows, [4, 2])
    assert [row["key"] for row in part] == [rows[4]["key"], rows[2]["key"]]
    (batch,) = loader(part, batch_size=2)
    assert batch["key"] == [rows[4]["key"], rows[2]["key"]]
    whole = loader(rows, batch_size=None, sampler=torch.utils.data.BatchSampler(range(4), 2, drop_last=False))
    assert [[row["key"] for row in batch] for batch in whole] == [
        [row["key"] for row in rows[at : at + 2]] for at in (0, 2)
    ]


def test_commands_that_are_advised_do_what_they_are_advised_for(folder: Path, tmp_path: Path) -> None:
    """Of a cache that is not there, without a shard, with damaged receipts, and with a damaged file."""
    first, second = tmp_path / "it's a cache", tmp_path / "copied"
    output = Output((20, 30), "stretch", window=(-600.1234567, 1500), channels=1)

    def rows(cache: Path = first, **options: Any) -> Any:
        return load(folder / "out", "ct-local", cache=cache, sources="Exact", **options)

    with pytest.raises(DatasetError, match=r"cache is no cache: it has no cache.json; '.*' makes one") as refused:
        rows(decode=output)
    shell(f"{advised(refused)} --source Exact --workers 1")
    receipts = sorted(first.rglob("train-*.json"))
    receipts[0].unlink()
    with pytest.raises(DatasetError, match=r"cache does not hold data/ct/\S+.tar; run '.*' again") as refused:
        rows()
    shell(f"{advised(refused)} --workers 1")
    whole = rows(decode=output)
    assert_same_rows(whole, load(folder / "out", "ct-local", decode=output, sources="Exact"), least=100)
    for receipt in receipts:
        receipt.write_text(receipt.read_text().replace('"samples": ', '"samples": "many", "some": '))
    message = r"cache has a damaged receipt \(.*\) of data/ct/\S+.tar, nor 1 other shards as they are; run '.*' again"
    with pytest.raises(DatasetError, match=message) as refused:
        rows()
    shell(f"{advised(refused)} --workers 1")
    shutil.copytree(first, second)
    images = max(second.rglob("*.images.npy"))
    images.write_bytes(images.read_bytes()[:-1])
    message = r"/(\S+).json: its other files are damaged: .*; delete it, and run '.*' again"
    with pytest.raises(DatasetError, match=message) as refused:
        rows(second)
    Path(str(refused.value).partition(": its other")[0]).unlink()
    shell(f"{advised(refused)} --workers 1")
    assert_alike(list(rows(second)), list(whole))


def test_another_cache_in_the_same_place_is_read_as_it_is_now(folder: Path, tmp_path: Path) -> None:
    """With the same sizes, counts and hashes."""
    found = {}
    for window in ("lung", "bone"):
        command = f"cache {folder}/out --size 20 --window {window} --source Exact --to {tmp_path}/cache --workers 1"
        shell(command)
        options: dict[str, Any] = {"sources": ["Exact"], "decode": Output(20, window=window)}
        found[window] = load(folder / "out", "ct-local", cache=tmp_path / "cache", **options)[60]
        shutil.rmtree(tmp_path / "cache")
    expected = list(load(folder / "out", "ct-local", **options))
    assert_alike(found["bone"], expected[60])
    assert not np.array_equal(found["lung"]["image"], found["bone"]["image"])


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("images.npy", lambda data: data[:-1]),
        ("layers.npy", lambda data: b""),
        ("masks.npy", lambda data: data.replace(b"'shape': (", b"'shape': [")),
        ("masks.npy", lambda data: data[:-48] + b"\x7f" * 48),
        ("places.npy", lambda data: data[:128] + b"\xff" * (len(data) - 128)),
        ("places.npy", lambda data: data[:129] + bytes([data[129] ^ 2]) + data[130:]),
        ("records.jsonl", lambda data: data.replace(b'"key"', b'"kez"')),
        ("records.jsonl", lambda data: data.replace(b'"slope"', b'"sloqe"')),
        ("records.jsonl", lambda data: data.replace(b'"lost":[[', b'"lost":[7,[')),
        ("json", lambda data: data[:40]),
    ],
)
def test_damaged_files_are_named(folder: Path, tmp_path: Path, part: str, damage: Callable[[bytes], bytes]) -> None:
    shutil.copytree(folder / "padded", tmp_path / "cache", ignore=shutil.ignore_patterns("ct"))
    (path,) = tmp_path.glob(f"cache/endoscopy/*/*/*-00000.{part}")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    for view in ("image", "mask"):
        with pytest.raises(DatasetError, match=r"damaged.*run 'sa-med2d cache \S+ --size 48x56 --source Pictures "):
            list(load(folder / "out", "endoscopy-local", cache=tmp_path / "cache", view=view))


def test_what_cannot_be_opened_is_not_called_damaged(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "padded", tmp_path / "cache", ignore=shutil.ignore_patterns("ct"))
    (path,) = tmp_path.glob("cache/endoscopy/*/*/*-00000.images.npy")
    path.unlink()
    path.mkdir()
    with pytest.raises(DatasetError, match=r"train-00000 cannot be opened: .*Is a directory"):
        load(folder / "out", "endoscopy-local", cache=tmp_path / "cache")


def advised(refused: pytest.ExceptionInfo[DatasetError]) -> str:
    """The command in an error."""
    return str(refused.value).partition("'sa-med2d ")[2].rpartition("'")[0]


def shell(command: str) -> None:
    """Run a command as somebody who copies it."""
    assert main(shlex.split(command)) == 0


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
        ("padded/cache.json", {}, "is no cache: a file is where its folder should be"),
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


def test_a_cache_is_not_mixed_as_streams_are(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"interleave mixes streams; with a cache .* WeightedRandomSampler"):
        interleave(folder / "out", "all-local", cache=folder / "padded")
