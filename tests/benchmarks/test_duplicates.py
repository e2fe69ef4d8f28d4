"""How well and how fast copies are found; docs/duplicates.md has the figures.

``pytest tests/benchmarks/test_duplicates.py -m slow -rP``; ``SA_MED2D_IMAGES=5000000`` sets how many are generated,
``SA_MED2D_TABLES=1`` has copies of the corpus found by tables alone, as in sets of millions.
"""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from sa_med2d_20m import decode_png
from shards.duplicates import search
from shards.duplicates.images import Images
from shards.duplicates.search import exact_pairs, near_pairs
from shards.duplicates.sign_hash import FLIP_MASKS
from shards.duplicates.volumes import Slices
from shards.duplicates.votes import alignments
from tests.support.command import Command
from tests.support.corpus_sets import SETS
from tests.support.output import members
from tests.support.places import RECIPES
from tests.support.seeded_copies import CHANGES

Array = npt.NDArray[Any]
SLICES, ANATOMIES, LEVELS = 100, 50, 4


def noise(random: np.random.Generator, shape: tuple[int, ...], part: float) -> Array:
    """Hashes in which about a part of the bits is set; a quarter of the bits changes more than others, as in images."""
    found = np.zeros((*shape, 2), np.uint64)
    for word in range(2):
        for bit in range(64):
            set_here = random.random(shape, dtype=np.float32) < part * (2.5 if bit % 4 == 0 else 0.5)
            found[..., word] |= set_here.astype(np.uint64) << np.uint64(bit)
    return found


def generated(count: int) -> tuple[Images, dict[int, int]]:
    """Fingerprints of volumes whose slices drift, of patients who are alike; and copy -> volume that it is of."""
    random, volumes = np.random.default_rng(0), count // SLICES
    base = random.integers(0, 2**63, (ANATOMIES, LEVELS, 2), dtype=np.uint64)
    frames = np.zeros((volumes, SLICES, 2), np.uint64)
    for start in range(0, volumes, 2000):
        own = min(2000, volumes - start)
        levels = base[random.integers(0, ANATOMIES, own)] ^ noise(random, (own, LEVELS), 0.15)
        drift = noise(random, (own, LEVELS, SLICES // LEVELS), 0.02)
        drift = np.bitwise_xor.accumulate(drift, axis=2)
        frames[start : start + own] = (levels[:, :, None] ^ drift).reshape(own, SLICES, 2)
    copies = random.choice(volumes, volumes // 100, replace=False)
    sources = random.permutation(np.setdiff1d(np.arange(volumes), copies))[: len(copies)]
    for copy, source in zip(copies, sources, strict=True):
        frames[copy] = frames[source] ^ noise(random, (SLICES,), 0.05) ^ FLIP_MASKS[copy % 4]
    hashes = np.repeat(frames.reshape(-1, 1, 2), 3, axis=1)
    hashes[:, 2] ^= noise(random, (len(hashes),), 0.25)
    exact = random.integers(0, 2**63, (len(hashes), 2), dtype=np.uint64)
    volume = np.repeat(np.arange(volumes, dtype=np.int32), SLICES)
    position = np.tile(np.arange(SLICES, dtype=np.int32), volumes)
    names = [str(number) for number in range(volumes)]
    images = Images(pa.table({}), exact, hashes, volume, volume, position, names, lambda _: np.zeros((1, 1)))
    return images, dict(zip(copies.tolist(), sources.tolist(), strict=True))


@pytest.mark.slow
def test_search_of_generated_fingerprints() -> None:
    images, copies = generated(int(os.environ.get("SA_MED2D_IMAGES", "200000")))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    started = time.process_time()
    exact_pairs(images)
    found = near_pairs(images)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    aligned = alignments(found, images, images, (Slices(images), Slices(images)))
    both = time.process_time() - started
    pairs = set(zip(aligned.first.tolist(), aligned.second.tolist(), strict=True))
    hit = sum((min(pair), max(pair)) in pairs for pair in copies.items())
    peaks = f"{peak} MB, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB with volumes ({before} before)"
    text = (
        f"{len(images):,} images: {seconds:.0f} s of CPU, {both:.0f} s with volumes, {peaks}, {len(found.one):,} pairs"
    )
    print(f"{text}, {found.crowded:,} crowded, {len(pairs):,} pairs of volumes to look at")  # noqa: T201 - by pytest -rP
    print(f"{hit} of {len(copies)} volumes")  # noqa: T201
    assert hit == len(copies)
    assert len(pairs) < len(images) / 400, "no more than one of a few hundred pairs of volumes that are alike"


def volume_of(key: str) -> str:
    return key.rsplit("_", 1)[0]


@pytest.mark.slow
def test_recall_and_precision_on_copies_of_the_corpus(
    sa_med2d: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.environ.get("SA_MED2D_TABLES"):  # as if there were too many to compare every two
        monkeypatch.setattr(search, "_EVERY", 0)
    out = tmp_path / "out"
    for name, of_set in SETS.items():
        arguments = ("--raw", corpus / of_set, "--out", out, "--workers", 1)
        assert sa_med2d("build", RECIPES / f"{name}.toml", *arguments).code == 0
    held = {name.removesuffix(".png"): data for name, data in members(out) if name.endswith(".png")}
    images = {name: data for name, data in held.items() if not name.endswith(".mask")}
    pictures = [key for key in images if key.endswith("--2d_none")]
    slices = sorted(set(images) - set(pictures))
    alone = sorted(np.random.default_rng(0).choice(slices, 150, replace=False).tolist())

    def pairs(keys: list[str], names: list[str], change: str) -> list[tuple[str, str]]:
        folder = tmp_path / f"copies {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for key, name in zip(keys, names, strict=True):
            pixels = CHANGES[change](decode_png(images[key]))
            cv2.imwrite(str(folder / f"{name}.png"), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
        original = dict(zip(names, keys, strict=True))
        found = json.loads(sa_med2d("overlap", out, folder, "--json", "--workers", 1).out)["pairs"]
        return [(original[pair["other"]["key"]], pair["one"]["key"]) for pair in found]

    wrong, named = 0, 0
    said = []  # the fixture that runs commands takes what is printed before
    for change in CHANGES:
        of_pictures = pairs(pictures, [str(number) for number in range(len(pictures))], change)
        of_slices = pairs(alone, [str(number) for number in range(len(alone))], change)
        of_volumes = pairs(slices, [key.replace("--", "--Copy_", 1) for key in slices], change)
        right = {copy for copy, found in of_pictures if copy == found}
        exact = {copy for copy, found in of_slices if copy == found}
        near = {copy for copy, found in of_slices if volume_of(copy) == volume_of(found)}
        whole = {volume_of(copy) for copy, found in of_volumes if volume_of(copy) == volume_of(found)}
        named += len(of_pictures) + len(of_slices) + len(of_volumes)
        wrong += sum(copy != found for copy, found in of_pictures)
        wrong += sum(volume_of(copy) != volume_of(found) for copy, found in of_slices + of_volumes)
        counts = f"{len(right)} of {len(pictures)} pictures, {len(near)} of {len(alone)} slices, {len(exact)} right"
        said.append(f"{change}: {counts}, {len(whole)} of {len({volume_of(key) for key in slices})} volumes")
    print("\n".join([*said, f"{wrong} of {named:,} pairs are wrong"]))  # noqa: T201 - by pytest -rP
    assert wrong == 0
