"""Every kind of damage is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sa_med2d_20m import decode_png
from shards.png import encode_label_map
from shards.tar import Sample, TarWriter, read_shard
from tests.conftest import Command, write_source

TAR = "data/ct/cc-by-4.0/Small/train-00000.tar"


@pytest.fixture
def out(sa_med2d: Command, tmp_path: Path) -> Path:
    recipe = write_source(tmp_path / "raw", cases=2)
    recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["case00"]\ntest = ["case01"]\n')
    assert sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out").code == 0
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


def apart(pixels: np.ndarray) -> None:
    columns = np.nonzero(pixels == 1)[1]
    middle = (columns.min() + columns.max()) // 2
    pixels[:, middle][pixels[:, middle] == 1] = 0


def test_a_build_has_no_findings(sa_med2d: Command, out: Path) -> None:
    for arguments in ((), ("--deep",)):
        ran = sa_med2d("verify", out, *arguments)
        assert (ran.code, ran.err.splitlines()[-1]) == (0, "no findings")


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
    "orphan receipt": (lambda out: (out / TAR).unlink(), "train-00000.json: its shard"),
    "odd name": (lambda out: (out / TAR).rename(out / TAR.replace("train-", "training-")), "is no shard name"),
}  # fmt: skip


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
    "field missing": (lambda s: [Sample(s[0].key, s[0].image, s[0].mask, b'{"key":"a"}'), *s[1:]], "json lacks", False),
    "wrong area": (edit_mask(area=3), "mask 1 (liver): ", True),
    "wrong box": (edit_mask(bbox=[0, 0, 30, 30]), "its bounding box is", True),
    "wrong id": (edit_mask(id=9), "mask ids are [9]", True),
    "wrong layer": (edit_mask(layer=0, area=1), "metadata says 1", True),
    "no such layer": (edit_mask(layer=7), "a mask lies outside the 1 layers", True),
    "stray value": (repaint(stray), "label map holds the values [77], which no mask has", True),
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
    assert said in thorough.err, thorough.err
    assert "Small" in thorough.err
    assert (plain.code == 0) == deep


def test_verify_of_what_is_no_folder(sa_med2d: Command, tmp_path: Path) -> None:
    assert sa_med2d("verify", tmp_path / "no").code == 1
    (tmp_path / "empty").mkdir()
    ran = sa_med2d("verify", tmp_path / "empty")
    assert ran.code == 1
    assert "holds no shard" in ran.err
