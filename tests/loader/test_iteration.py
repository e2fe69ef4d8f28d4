"""The loader as a dataset: shuffled, resumed in mid-shard, dealt to nodes and to DataLoader workers."""

from __future__ import annotations

import itertools
import json
import pickle
import platform
import shutil
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets.distributed import split_dataset_by_node

import sa_med2d_20m
from builder.command_line import main
from sa_med2d_20m import (
    DatasetError,
    Masks,
    Output,
    Prompts,
    SAMed2D20M,
    Semantic,
    decode_masks,
    decode_png,
    load,
)
from tests.support.output import members
from tests.support.rows import assert_alike
from tests.support.sources import write_source


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("iteration")
    recipe = write_source(folder / "raw", cases=5)
    recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["case00", "case01", "case02", "case03"]\ntest = ["*"]\n')
    arguments = ["build", recipe, "--raw", folder / "raw", "--out", folder / "out", "--shard-size", "150KB"]
    assert main([str(argument) for argument in [*arguments, "--workers", 1]]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def keys(out: Path) -> list[str]:
    """In the order of the shards, from the tars themselves."""
    names = [name for name, _ in members(out) if name.endswith(".json") and "case04" not in name]
    return [name.removesuffix(".json") for name in names]


def keys_of(rows: Any) -> list[str]:
    return [row["key"] for row in rows]


def test_shuffling_by_seed(out: Path, keys: list[str]) -> None:
    def shuffled(seed: int) -> list[str]:
        return keys_of(load(out, "ct").shuffle(seed=seed, buffer_size=50))

    assert shuffled(1) == shuffled(1) != shuffled(2)
    assert sorted(shuffled(1)) == sorted(keys)
    whole = load(out, "ct").shuffle(seed=1, buffer_size=50)
    epochs = []
    for epoch in range(2):
        whole.set_epoch(epoch)
        epochs.append(keys_of(whole))
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1])


def test_shuffled_by_the_loader(out: Path, keys: list[str]) -> None:
    one, again, other = (keys_of(load(out, "ct", shuffle=seed)) for seed in (1, 1, 2))
    assert one == again != other
    assert sorted(one) == sorted(keys)
    neighbours = sum(keys.index(b) - keys.index(a) == 1 for a, b in itertools.pairwise(one))
    assert neighbours < len(keys) / 3


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("stop", [1, 100, 211])
def test_resumed_without_losing_or_repeating_a_row(out: Path, seed: int | None, stop: int) -> None:
    first = load(out, "ct", shuffle=seed)
    seen = keys_of(itertools.islice(first, stop))
    second = load(out, "ct", shuffle=seed)
    second.load_state_dict(first.state_dict())
    assert seen + keys_of(second) == keys_of(load(out, "ct", shuffle=seed))


@pytest.mark.parametrize("nodes", [2, 3, 16])
def test_nodes_get_equal_shares(out: Path, keys: list[str], nodes: int) -> None:
    shares = [keys_of(split_dataset_by_node(load(out, "ct"), rank=rank, world_size=nodes)) for rank in range(nodes)]
    assert sorted(itertools.chain(*shares)) == sorted(keys)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 48 // nodes


def test_formats(out: Path) -> None:
    plain = next(iter(load(out, "ct")))
    assert plain["image"].dtype == np.uint8
    row = next(iter(load(out, "ct").with_format("numpy")))
    assert np.array_equal(row["image"], plain["image"])
    torch = pytest.importorskip("torch")
    row = next(iter(load(out, "ct").with_format("torch")))
    assert torch.equal(row["image"].to(torch.uint8), torch.from_numpy(plain["image"]))


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_dataloader_workers_share_the_samples(out: Path, keys: list[str], workers: int, start: str) -> None:
    torch = pytest.importorskip("torch")
    rows = load(out, "ct").select_columns(["key", "image"])
    loader = torch.utils.data.DataLoader(rows, batch_size=None, num_workers=workers, multiprocessing_context=start)
    assert Counter(keys_of(loader)) == Counter(keys)


def test_dataloader_of_batches(out: Path, keys: list[str]) -> None:
    torch = pytest.importorskip("torch")
    rows = load(out, "ct", view=Semantic(["liver", "spleen"]), planes="axial").select_columns(["image", "mask", "key"])
    batches = list(torch.utils.data.DataLoader(rows, batch_size=4, num_workers=2))
    assert batches[0]["image"].shape == (4, 40, 36)
    assert batches[0]["mask"].shape == (4, 40, 36)
    assert batches[0]["image"].dtype == batches[0]["mask"].dtype == torch.uint8
    assert sum(len(batch["key"]) for batch in batches) == sum("--x_" in key for key in keys)


@pytest.fixture(scope="module")
def cache(out: Path) -> Path:
    """Of 512 x 512, whose arrays are as large as those that people train with."""
    folder = out.parent / "cache"
    arguments = ["cache", out, "--size", 512, "--to", folder, "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_dataloader_workers_share_the_rows_of_a_cache(out: Path, cache: Path, keys: list[str], start: str) -> None:
    torch = pytest.importorskip("torch")
    output = Output(512, channels=1, kind="torch")
    options: dict[str, Any] = {"view": Semantic(["liver", "spleen"]), "decode": output, "planes": "axial"}
    rows: Any = load(out, "ct", cache=cache, **options)
    loader = torch.utils.data.DataLoader(rows, batch_size=16, num_workers=2, multiprocessing_context=start)
    streamed = iter(load(out, "ct", **options))
    seen = []
    for batch in loader:
        seen += batch["key"]
        assert batch["image"].shape == (len(batch["key"]), 1, 512, 512)
        assert batch["mask"].shape == (len(batch["key"]), 512, 512)
        for image, mask, row in zip(batch["image"], batch["mask"], streamed, strict=False):
            assert torch.equal(image, row["image"]), row["key"]
            assert torch.equal(mask, row["mask"]), row["key"]
    assert seen == [key for key in keys if "--x_" in key]


def test_rows_of_a_cache_are_nobody_elses(out: Path, cache: Path) -> None:
    rows: Any = load(out, "ct", cache=cache, decode=Output(512, channels=1))
    held = [rows[number] for number in range(20)]
    before = [(row["image"].copy(), row["mask"].copy()) for row in held]
    for row in held[::2]:
        row["image"][:] = 7
        row["mask"][:] = 7
    again = [rows[number] for number in range(20)]
    for at, (image, mask) in enumerate(before):
        for row in (again[at], *(held[at : at + 1] if at % 2 else [])):
            assert np.array_equal(row["image"], image)
            assert np.array_equal(row["mask"], mask)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory by other rules")
def test_batches_of_a_cache_take_no_new_memory(out: Path, cache: Path) -> None:
    """Each page that is new to a process costs as much as to copy four; there are 128 in a row, or 256 in colour."""
    read = f"""
import resource
from sa_med2d_20m import Output, load
for channels in (1, 3):
    rows = load({str(out)!r}, "ct", cache={str(cache)!r}, decode=Output(512, channels=channels))
    for again in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for batch in range(4):
            held = [rows[number] for number in range(16)]
            del held
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 64)
"""
    ran = subprocess.run([sys.executable, "-c", read], check=True, capture_output=True, text=True)
    faults = [float(line) for line in ran.stdout.split()]
    assert len(faults) == 2
    assert max(faults) < 8, faults


EARLIER = int(datasets.__version__.split(".")[0]) < 5
"""Releases that make tables of rows, and decode these."""


def threaded(out: Path, output: Output, **options: Any) -> Any:
    """`load` with threads."""
    if EARLIER:
        with pytest.raises(DatasetError, match="threads needs datasets 5 or newer"):
            load(out, "ct", decode=output, **options)
        pytest.skip("datasets 4 and earlier decode rows by tables")
    return load(out, "ct", decode=output, **options)


@pytest.mark.parametrize("threads", [2, 7])
@pytest.mark.parametrize(
    ("output", "options"),
    [
        ({}, {}),
        ({"size": 64, "normalise": "sam"}, {"view": Semantic(["liver", "spleen"]), "shuffle": 3}),
        ({"size": (48, 40)}, {"view": Masks(negatives=1), "prompts": Prompts(positive=2, coarse=0.2)}),
        ({"channels": 3}, {"balance": 1.0, "planes": "axial"}),
    ],
)
def test_threads_make_the_same_rows(out: Path, output: Any, options: Any, threads: int) -> None:
    alone = list(load(out, "ct", decode=Output(**output), **options))
    together = list(threaded(out, Output(**output, threads=threads), **options))
    assert len(alone) == len(together) > 30
    for one, other in zip(together, alone, strict=True):
        assert_alike(one, other)
    assert len({id(row[name]) for row in together for name in ("image", "mask")}) == 2 * len(together)


def test_threads_decode_what_the_loop_will_take_and_no_more(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def note(data: bytes) -> Any:
        decoded.append(threading.current_thread().name)
        return decode_png(data)

    monkeypatch.setattr(sa_med2d_20m, "decode_png", note)
    rows = threaded(out, Output(threads=2))
    keys_of(rows)
    assert threading.current_thread().name not in decoded
    assert len(rows) <= len(decoded) <= 2 * len(rows)  # an image, and a label map unless it is the last one again
    decoded.clear()
    for _ in rows:
        break
    assert 1 <= len(decoded) <= 2 * 10
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


def test_threads_lose_no_row_where_a_run_is_resumed_or_buffered(out: Path, keys: list[str]) -> None:
    first, second = (threaded(out, Output(threads=2)) for _ in range(2))
    seen = keys_of(itertools.islice(first, 101))
    second.load_state_dict(first.state_dict())
    assert seen + keys_of(second) == keys
    mixed = threaded(out, Output(1024, threads=2)).take(40).shuffle(seed=1, buffer_size=50)
    assert len(list(mixed)) == 40  # which are all given before the first is decoded
    mixed = threaded(out, Output(threads=2)).shuffle(seed=1, buffer_size=50)
    plain = {row["key"]: row["image"] for row in load(out, "ct")}
    assert all(np.array_equal(row["image"], plain.pop(row["key"])) for row in mixed)
    assert not plain
    chosen = threaded(out, Output(threads=2)).select_columns(["image", "key"]).with_format("arrow")
    assert sum(table.num_rows for table in chosen) == len(keys)


@pytest.mark.parametrize("decode", ["numpy", Output(threads=3)])
def test_a_damaged_picture_is_named_where_its_row_is_taken(out: Path, tmp_path: Path, decode: Any) -> None:
    """After the rows before it, also where threads come upon it earlier."""
    shutil.copytree(out, tmp_path / "out")
    path = sorted((tmp_path / "out").glob("data/**/*train*.tar"))[0]
    with tarfile.open(path) as tar:
        member = [member for member in tar if member.name.endswith(".png") and ".mask." not in member.name][40]
    data = bytearray(path.read_bytes())
    data[member.offset_data + 41 : member.offset_data + 80] = bytes(39)  # in the pixels that are deflated
    path.write_bytes(data)
    rows = load(tmp_path / "out", "ct") if decode == "numpy" else threaded(tmp_path / "out", decode)
    taken: list[str] = []
    named = "" if EARLIER else f"{member.name.removesuffix('.png')}: image: "
    with pytest.raises(DatasetError, match=f"^{named}damaged PNG"):
        taken.extend(row["key"] for row in rows)
    assert len(taken) == 40


@pytest.mark.parametrize(
    ("option", "named"), [({"streaming": False}, "streaming=False"), ({"cache": "there"}, "cache")]
)
def test_threads_are_for_streams(out: Path, cache: Path, option: Any, named: str) -> None:
    option = {"cache": cache} if "cache" in option else option
    with pytest.raises(DatasetError, match=f"threads is for streams of PNG, but load has {named}"):
        load(out, "ct", decode=Output(512, channels=1, threads=2), **option)


def test_cached_copy_has_the_same_rows(
    out: Path, keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    cached = load(out, "ct", streaming=False)
    assert cached["key"][:] == keys
    streamed = list(load(out, "ct"))
    for at in (0, 99, len(keys) - 1):
        assert np.array_equal(cached[at]["image"], streamed[at]["image"])
        assert np.array_equal(decode_masks(cached[at]), decode_masks(streamed[at]))
    assert len(cached.filter(lambda row: row["axis"] == "x")) == sum("--x_" in key for key in keys)


def test_length_is_what_the_index_says(out: Path, keys: list[str]) -> None:
    assert len(load(out, "ct")) == len(keys)
    axial = load(out, "ct", planes="axial")
    assert len(axial) == sum("--x_" in key for key in keys)
    assert axial.info.splits["train"].num_examples == len(axial)
    masks = load(out, "ct", view="mask", labels="spleen", shuffle=1)
    assert len(masks) == sum(1 for _ in masks) > 0
    again = pickle.loads(pickle.dumps(masks))  # noqa: S301 - as DataLoader workers get it
    assert len(again) == len(masks)
    for unknown in (load(out, "ct", balance=0.9), axial.filter(lambda _: True)):
        with pytest.raises(TypeError, match="len"):
            len(unknown)


@pytest.mark.parametrize("streaming", [True, False])
def test_metadata_of_rows_is_that_of_the_shard(
    out: Path, streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    records = [json.loads(data) for name, data in members(out) if name.endswith(".json") and "case04" not in name]
    rows = load(out, "ct", streaming=streaming)
    assert [{name: row[name] for name in records[0]} for row in rows] == records
    some = rows.select_columns(["masks", "intensity"]).filter(lambda row: row["masks"][0]["label"] == "spleen")
    expected = [record for record in records if record["masks"][0]["label"] == "spleen"]
    assert list(some) == [{name: record[name] for name in ("masks", "intensity")} for record in expected]


@pytest.mark.parametrize("options", [{"balance": 1.0}, {"view": "mask"}])
def test_rows_share_nothing_that_can_be_changed(out: Path, options: dict[str, Any]) -> None:
    def parts(row: dict[str, Any]) -> Iterator[int]:
        yield from map(id, (row["image"], row["mask"], row["intensity"], row["spacing"], row.get("masks", row)))

    rows = list(itertools.islice(load(out, "ct", **options), 300))
    assert len({part for row in rows for part in parts(row)}) == 5 * len(rows)


def test_plain_values_are_not_walked(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `datasets` does for features that are not of this file, three times for each value of each row."""
    visited: list[str] = []

    def visit(value: datasets.Value, example: Any) -> Any:
        visited.append(value.dtype)
        return example

    monkeypatch.setattr(datasets.Value, "encode_example", visit)
    plain = load(out, "ct")
    next(iter(plain))
    assert not visited
    datasets.Features(plain.features).encode_example(next(iter(plain)))
    assert visited


def test_columns_that_are_cast_are_encoded_as_ever(out: Path) -> None:
    splits = datasets.ClassLabel(names=["test", "train"])
    rows = load(out, "ct").cast_column("split", splits).cast_column("height", datasets.Value("string"))
    row, plain = next(iter(rows)), next(iter(load(out, "ct")))
    assert (row["split"], row["height"]) == (1, str(plain["height"]))
    assert np.array_equal(row["image"], plain["image"])
    assert row["masks"] == plain["masks"]


def test_the_builder_class(out: Path, keys: list[str], tmp_path: Path) -> None:
    builder = SAMed2D20M(config_name="ct-commercial", data_dir=str(out), cache_dir=str(tmp_path))
    assert keys_of(builder.as_streaming_dataset("train")) == keys
    builder.download_and_prepare()
    assert keys_of(builder.as_dataset("test")) == keys_of(load(out, "ct", split="test"))
