"""The split of a patient whom no official split names."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from builder.cases.split import hashed_split, official_split
from tests.support.command import Command
from tests.support.output import members
from tests.support.sources import RECIPE


def test_hashed_split_is_about_80_10_10() -> None:
    drawn = [hashed_split("Files", f"patient{number}") for number in range(4000)]
    shares = [drawn.count(split) / 4000 for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


@pytest.mark.parametrize("ratios", [(0.5, 0.25, 0.25), (1, 0, 0), (0, 0, 1.0), (0.7, 0.3, 0)])
@pytest.mark.parametrize("seed", [0, 7])
def test_ratios_are_kept_by_chance_and_shares_of_nothing_exactly(ratios: Sequence[float], seed: int) -> None:
    drawn = [hashed_split("Files", f"patient{number}", ratios, seed) for number in range(4000)]
    shares = [drawn.count(split) / 4000 for split in ("train", "validation", "test")]
    assert shares == pytest.approx(ratios, abs=0.03)
    assert [share == 0 for share in shares] == [ratio == 0 for ratio in ratios]


def test_another_seed_deals_anew_and_keeps_patients_apart_from_each_other() -> None:
    patients = [f"patient{number}" for number in range(2000)]
    dealt = [[hashed_split("Files", patient, seed=seed) for patient in patients] for seed in (0, 1, 2)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        both = sum(a == b == "test" for a, b in zip(dealt[one], dealt[other], strict=True))
        assert both < 50  # 20 are expected where two seeds have nothing to do with each other


def expected_split(patient: str) -> str:
    """By the text of the contract: seed 5, and 60 %, 20 %, 20 %."""
    digest = hashlib.sha256(f"Small\0{patient}\0{5}".encode()).digest()[:8]
    share = int.from_bytes(digest, "big") / 2**64
    return "train" if share < 0.6 else "validation" if share < 0.8 else "test"


def test_a_recipe_sets_ratios_and_seed(sa_med2d: Command, tmp_path: Path) -> None:
    """Six patients with three pictures each; the source itself places one of them."""
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 251
    for number in range(18):
        for folder, drawn in (("images", pixels), ("labels", (pixels > 100).astype(np.uint8))):
            path = tmp_path / f"raw/{folder}/p{number % 6}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), drawn.astype(np.uint8))
    text = RECIPE.format(name="Small", license="CC-BY-4.0", modality="endoscopy")
    text = text.replace(".nii.gz", ".png").replace("{case}", "{patient}_{case}").split("2 =")[0]
    splits = '[splits]\ntest = ["p3"]\nratios = [0.6, 0.2, 0.2]\nseed = 5\n'
    (tmp_path / "Small.toml").write_text(text.replace("[labels]", 'case = "{patient}_{case}"\n[labels]') + splits)
    ran = sa_med2d("build", tmp_path / "Small.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    assert len(found) == 18
    placed = defaultdict(set)
    for record in found:
        placed[record["patient"]].add((record["split"], record["official_split"]))
    assert placed == {
        patient: {("test", True) if patient == "p3" else (expected_split(patient), False)}
        for patient in ("p0", "p1", "p2", "p3", "p4", "p5")
    }
    described = json.loads((tmp_path / "out/build/sources/Small.json").read_text())
    assert (described["split_ratios"], described["split_seed"]) == ([0.6, 0.2, 0.2], 5)
    card = (tmp_path / "out/SOURCES.md").read_text()
    assert "where `official_split` is false: train 60 %, validation 20 %, test 20 %, seed 5." in card
    assert sa_med2d("verify", tmp_path / "out", "--deep").code == 0


def test_of_official_patterns_the_closest_counts() -> None:
    splits = {"train": ["*"], "validation": ["p1*"], "test": ["p1?3", "p9"]}
    placed = {patient: official_split(None, patient, splits) for patient in ("p9", "p12", "p123", "p8")}
    assert placed == {"p9": "test", "p12": "validation", "p123": "test", "p8": "train"}
