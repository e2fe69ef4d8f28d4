"""Every kind of damage is found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.command_line import main
from sa_med2d_20m import decode_png
from shards.png import encode_label_map
from shards.tar import Sample, TarWriter, read_shard
from tests.support.command import Command
from tests.support.output import members
from tests.support.sources import write_source

TAR = "data/ct/cc-by-4.0/Small/train-00000.tar"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One source, two splits; nobody writes to it."""
    folder = tmp_path_factory.mktemp("built")
    recipe = write_source(folder / "raw", cases=2)
    recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["case00"]\ntest = ["case01"]\n')
    arguments = ["build", recipe, "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out"


def rewrite(out: Path, change: Callable[[list[Sample]], list[Sample]]) -> None:
    """Write a shard with other samples, as if they were meant: index and receipt fit again."""
    samples = change([sample for sample, _ in read_shard(out / TAR)])
    with (out / TAR).open("wb") as file:
        tar = TarWriter(file)
        for sample in samples:
            tar.write(sample)
        tar.finish()


def edit(**fields: Any) -> Callable[[list[Sample]], list[Sample]]:
    def change(samples: list[Sample]) -> list[Sample]:
        first = samples[0]
        record = {**json.loads(first.record), **fields}
        return [Sample(first.key, first.image, first.mask, json.dumps(record).encode()), *samples[1:]]

    return change


def edit_mask(**fields: Any) -> Callable[[list[Sample]], list[Sample]]:
    def change(samples: list[Sample]) -> list[Sample]:
        record = json.loads(samples[0].record)
        record["masks"][0] |= fields
        return edit(masks=record["masks"])(samples)

    return change


def repaint(paint: Callable[[np.ndarray], None]) -> Callable[[list[Sample]], list[Sample]]:
    def change(samples: list[Sample]) -> list[Sample]:
        first, pixels = samples[0], decode_png(samples[0].mask).copy()
        paint(pixels)
        return [Sample(first.key, first.image, encode_label_map(pixels), first.record), *samples[1:]]

    return change


def stray(pixels: np.ndarray) -> None:
    pixels[0, 0] = 77


def in_two_layers(change: Callable[[list[Sample]], list[Sample]]) -> Callable[[list[Sample]], list[Sample]]:
    """The first mask of the first sample goes to a layer of its own, as id 1, before anything is damaged."""

    def changed(samples: list[Sample]) -> list[Sample]:
        first, record = samples[0], json.loads(samples[0].record)
        (mask,) = record["masks"]
        pixels = decode_png(first.mask)
        second = pixels.copy()
        x, y, width, _ = mask["bbox"]
        assert width > 2
        second[y:, x : x + 2] = 0  # another box, so that layers cannot be taken for each other
        columns, rows = np.flatnonzero(second.any(axis=0)), np.flatnonzero(second.any(axis=1))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        other = {**mask, "layer": 1, "instance": 1, "bbox": [int(side) for side in box], "area": int(second.sum())}
        record["masks"].append(other)
        label_map = encode_label_map(np.concatenate([pixels, second]))
        return change([Sample(first.key, first.image, label_map, json.dumps(record).encode()), *samples[1:]])

    return changed


def edit_second(**fields: Any) -> Callable[[list[Sample]], list[Sample]]:
    def change(samples: list[Sample]) -> list[Sample]:
        record = json.loads(samples[0].record)
        record["masks"][1] |= fields
        return edit(masks=record["masks"])(samples)

    return change


def stray_below(pixels: np.ndarray) -> None:
    pixels[-1, 0] = 77


def emptied(samples: list[Sample]) -> list[Sample]:
    first, pixels = samples[0], decode_png(samples[0].mask)
    label_map = encode_label_map(np.concatenate([pixels, np.zeros_like(pixels)]))
    return [Sample(first.key, first.image, label_map, first.record), *samples[1:]]


def widened(samples: list[Sample]) -> list[Sample]:
    first = samples[0]
    label_map = encode_label_map(decode_png(first.mask).astype(np.uint16))
    return [Sample(first.key, first.image, label_map, first.record), *samples[1:]]


def apart(pixels: np.ndarray) -> None:
    columns = np.nonzero(pixels == 1)[1]
    middle = (columns.min() + columns.max()) // 2
    pixels[:, middle][pixels[:, middle] == 1] = 0


def test_layers_that_number_their_masks_alike_have_no_findings(sa_med2d: Command, out: Path) -> None:
    rewrite(out, in_two_layers(lambda samples: samples))
    assert sa_med2d("index", out).code == 0
    ran = sa_med2d("verify", out, "--deep")
    assert ran.code == 0, ran.err
    assert ran.out.endswith(": no findings\n")


def test_a_build_has_no_findings(sa_med2d: Command, out: Path) -> None:
    for arguments in ((), ("--deep",)):
        ran = sa_med2d("verify", out, *arguments)
        assert (ran.code, ran.err) == (0, "")
        deep = "every picture and mask decoded" if arguments else "no picture decoded (--deep does that)"
        checked = f"{count(out, '.tar')} shards with {count(out, '.json')} samples checked against receipts and index"
        assert ran.out == f"{checked}, {deep}: no findings\n"


def test_the_verdict_as_a_document(sa_med2d: Command, out: Path) -> None:
    flip(out / TAR, 700)
    ran = sa_med2d("verify", out, "--json")
    assert ran.code == 1
    record = json.loads(ran.out)
    assert [finding.partition(": has sha256")[0] for finding in record.pop("findings")] == [str(out / TAR)]
    assert record == {"folder": str(out), "shards": count(out, ".tar"), "samples": count(out, ".json"), "deep": False}


def count(out: Path, suffix: str) -> int:
    """How many shards, or members of all shards with a suffix, lie in a folder."""
    if suffix == ".tar":
        return len(list(out.glob("data/**/*.tar")))
    return sum(name.endswith(suffix) for name, _ in members(out))


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "flipped byte": (lambda out: flip(out / TAR, 5000), "its receipt says"),
    "truncated": (lambda out: (out / TAR).write_bytes((out / TAR).read_bytes()[:4000]), f"{TAR}: has 4000 bytes"),
    "not a tar": (lambda out: (out / TAR).write_bytes(b"?" * 4000), "no readable tar"),
    "no index": (lambda out: next(out.glob("index/**/train*")).unlink(), "train-00000.parquet: is missing; 'sa-med2d index"),
    "spoilt index": (lambda out: next(out.glob("index/**/train*")).write_bytes(b"PAR1"), "no readable Parquet"),
    "stale index": (
        lambda out: next(out.glob("index/**/train*")).write_bytes(next(out.glob("index/**/test*")).read_bytes()),
        "train-00000.parquet: differs from its shard",
    ),
    "no receipt": (lambda out: next(out.glob("build/receipts/**/train*")).unlink(), f"{TAR}: has no receipt"),
    "spoilt receipt": (lambda out: next(out.glob("build/receipts/**/train*")).write_text("{}"), "is no receipt"),
    "orphan index": (
        lambda out: shutil.copy(next(out.glob("index/**/train*")), out / "index/ct/cc-by-4.0/Small/train-00007.parquet"),
        "train-00007.parquet: its shard data/ct/cc-by-4.0/Small/train-00007.tar is missing",
    ),
    "receipt of another shard": (
        lambda out: next(out.glob("build/receipts/**/train*")).write_bytes(
            next(out.glob("build/receipts/**/test*")).read_bytes()
        ),
        f"{TAR}: its receipt is about ct/cc-by-4.0/Small/test-00000",
    ),
    "receipt under another licence": (lambda out: edit_receipt(out, license="CC0-1.0"), "its receipt is about"),
    "orphan receipt": (lambda out: (out / TAR).unlink(), "train-00000.json: its shard"),
    "odd folder": (lambda out: move(out, "data/ct/Small/train-00000.tar"), "'ct/Small/train-00000' is no shard name"),
    "licence of another folder": (
        lambda out: move(out, "data/ct/cc0-1.0/Small/train-00000.tar"),
        "its metadata says ct/cc-by-4.0/Small/train, its path says otherwise",
    ),
    "odd name": (lambda out: (out / TAR).rename(out / TAR.replace("train-", "training-")), "is no shard name"),
}  # fmt: skip


def move(out: Path, to: str) -> None:
    (out / to).parent.mkdir(parents=True)
    (out / TAR).rename(out / to)


def edit_receipt(out: Path, **fields: Any) -> None:
    path = next(out.glob("build/receipts/**/train*"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("fields", [{"samples": 9999}, {"masks": 0}, {"labels": {"eye": 3}}, {"cases": ["nobody"]}])
def test_counts_of_a_receipt_are_checked(sa_med2d: Command, out: Path, fields: dict[str, Any]) -> None:
    edit_receipt(out, **fields)
    ran = sa_med2d("verify", out, "--deep")
    assert ran.code == 1
    assert TAR in ran.err


def test_all_damage_is_told_at_once(sa_med2d: Command, out: Path) -> None:
    flip(out / TAR, 700)  # in the first picture, so that the index still fits
    next(out.glob("index/**/test*")).unlink()
    ran = sa_med2d("verify", out)
    assert "train-00000.tar: has sha256" in ran.err
    assert "test-00000.parquet: is missing" in ran.err
    assert ran.out.endswith(": 2 findings\n")


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize("damage", FILES)
def test_damaged_files_are_named(sa_med2d: Command, out: Path, damage: str) -> None:
    spoil, said = FILES[damage]
    spoil(out)
    ran = sa_med2d("verify", out)
    assert ran.code == 1
    assert said in ran.err
    assert "Traceback" not in ran.err


CONTENTS: dict[str, tuple[Callable[[list[Sample]], list[Sample]], str, bool]] = {
    "wrong licence": (edit(license="MIT"), "its metadata says ct/mit/Small/train, its path says otherwise", False),
    "wrong split": (edit(split="test"), "its path says otherwise", False),
    "key of another slice": (edit(index=5), "its metadata belongs to the key ct_00--Small--case00--x_0005", False),
    "twice": (lambda samples: [*samples, samples[-1]], "this key stands in the folder more than once", False),
    "patient in two splits": (
        edit(patient="case01"),
        "Small: patient 'case01' stands in the splits test, train",
        False,
    ),
    "field missing": (
        lambda s: [Sample(s[0].key, s[0].image, s[0].mask, b'{"key":"a"}'), *s[1:]],
        "source is missing",
        False,
    ),
    "wrong area": (edit_mask(area=3), "mask 1 (liver): ", True),
    "wrong box": (edit_mask(bbox=[0, 0, 30, 30]), "its bounding box is", True),
    "wrong id": (edit_mask(id=9), "mask ids are [9]", True),
    "wrong layer": (edit_mask(layer=0, area=1), "metadata says 1", True),
    "no such layer": (edit_mask(layer=7), "a mask lies outside the label map, which has 1 layer", True),
    "stray value": (repaint(stray), "label map holds the values [77], which no mask has", True),
    "wrong id in a layer": (in_two_layers(edit_second(id=2)), "layer 1: mask ids are [2], expected 1 to 1", True),
    "two of one id": (in_two_layers(edit_second(layer=0)), "layer 0: mask ids are [1, 1], expected 1 to 2", True),
    "wrong area in a layer": (in_two_layers(edit_second(area=3)), "mask 1 of layer 1 (liver): ", True),
    "stray value in a layer": (
        in_two_layers(repaint(stray_below)),
        "layer 1: label map holds the values [77], which no mask has",
        True,
    ),
    "layer without a mask": (emptied, "layer 1: the label map has a layer without a mask", True),
    "16 bit": (widened, "its label map has 16 bit, expected 8", True),
    "box over the edge": (edit_mask(bbox=[-5, -5, 99, 99]), "mask 1 (liver): ", True),
    "two pieces": (repaint(apart), "has 2 8-connected components", True),
    "wrong height": (edit(height=39), "no stack of layers", True),
    "spoilt picture": (lambda s: [Sample(s[0].key, s[0].image[:-40], s[0].mask, s[0].record), *s[1:]], "PNG", True),
}


@pytest.mark.parametrize("damage", CONTENTS)
def test_damaged_contents_are_named_with_their_key(sa_med2d: Command, out: Path, damage: str) -> None:
    """The shard is rewritten and indexed again, so that only what is inside is wrong."""
    change, said, deep = CONTENTS[damage]
    rewrite(out, change)
    indexed = sa_med2d("index", out)
    assert (indexed.code == 1) == (damage == "field missing")
    plain, thorough = sa_med2d("verify", out), sa_med2d("verify", out, "--deep")
    assert thorough.code == 1
    told = [line for line in thorough.err.splitlines() if said in line]
    assert told, thorough.err
    assert damage == "patient in two splits" or f"{TAR}: ct_00--Small--case00--" in told[0]
    assert (plain.code == 0) == deep


def test_key_in_two_shards_is_named_with_the_second(sa_med2d: Command, out: Path) -> None:
    again = TAR.replace("00000", "00001")
    shutil.copy(out / TAR, out / again)
    assert sa_med2d("index", out).code == 0
    ran, keys = sa_med2d("verify", out), [sample.key for sample, _ in read_shard(out / TAR)]
    assert ran.code == 1
    lines = [line for line in ran.err.splitlines() if "more than once" in line]
    assert len(lines) == len(keys)
    assert all(f"{again}: {key}: " in line for key, line in zip(keys, lines, strict=True))


ODD: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no record": lambda record: 3,
    "licence is a number": lambda record: record | {"license": 3},
    "licence is null": lambda record: record | {"license": None},
    "case is null": lambda record: record | {"case": None},
    "index is text": lambda record: record | {"index": "a"},
    "height is text": lambda record: record | {"height": "40"},
    "height is null": lambda record: record | {"height": None},
    "masks are null": lambda record: record | {"masks": None},
    "masks are numbers": lambda record: record | {"masks": [1]},
    "mask without area": lambda record: record | {"masks": [without(record["masks"][0], "area")]},
    "box of three": lambda record: record | {"masks": [record["masks"][0] | {"bbox": [1, 2, 3]}]},
}


def without(entry: dict[str, Any], name: str) -> dict[str, Any]:
    return {field: value for field, value in entry.items() if field != name}


def odd_record(change: Callable[[dict[str, Any]], Any]) -> Callable[[list[Sample]], list[Sample]]:
    def changed(samples: list[Sample]) -> list[Sample]:
        first = samples[0]
        record = json.dumps(change(json.loads(first.record))).encode()
        return [Sample(first.key, first.image, first.mask, record), *samples[1:]]

    return changed


@pytest.mark.parametrize("kind", ODD)
def test_metadata_of_other_types_is_named(sa_med2d: Command, out: Path, kind: str) -> None:
    rewrite(out, odd_record(ODD[kind]))
    ran = sa_med2d("verify", out, "--deep")
    assert ran.code == 1
    assert f"{TAR}: ct_00--Small--case00--" in ran.err


NEW_FIELDS: list[dict[str, Any]] = [
    {"schema": 1},
    {"slices": 3},
    {"slices": -1},
    {"index": -1, "slices": None},
    {"slice_spacing": "1"},
    {"origin": None},
    {"origin": [1.0, 2.0]},
    {"direction": [1.0] * 8},
    {"official_split": 1},
    {"official_split": None},
    {"dropped": None},
    {"dropped": {"masks": 1}},
    {"dropped": {"masks": -1, "pixels": 0}},
    {"dropped": {"masks": True, "pixels": 0}},
    {"not_annotated": None},
    {"not_annotated": [1]},
    {"rater": 1},
]


@pytest.mark.parametrize(
    "fields", [{"intensity": None}, {"spacing": [1.0]}, {"schema": 99}, {"plane": "coronal"}, *NEW_FIELDS]
)
def test_metadata_that_breaks_the_contract_is_named(sa_med2d: Command, out: Path, fields: dict[str, Any]) -> None:
    rewrite(out, edit(**fields))
    sa_med2d("index", out)
    ran = sa_med2d("verify", out, "--deep")
    assert ran.code == 1
    assert f"{TAR}: ct_00--Small--case00--" in ran.err


def test_verify_of_what_is_no_folder(sa_med2d: Command, tmp_path: Path) -> None:
    assert sa_med2d("verify", tmp_path / "no").code == 1
    (tmp_path / "empty").mkdir()
    ran = sa_med2d("verify", tmp_path / "empty")
    assert ran.code == 1
    assert "holds no shard" in ran.err
