"""``sa-med2d findings``: silent on a set that is right, and each seeded fault is found under its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from builder.command_line import main
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.seeded_faults import FAULTS, with_fault
from tests.support.sources import RECIPE

SIDE, SLICES = 96, 16
EXPECTED = {
    "masks shifted by 10 pixels to the right": "shifted",
    "masks shifted by 10 pixels down": "shifted",
    "masks mirrored left and right": "mirrored",
    "masks mirrored top and bottom": "mirrored",
    "masks inverted": "inverted",
    "left and right swapped": "sides",
    "slices shuffled": "slice_order",
    "a bright mark takes the range": "intensity",
    "images empty but for one point": "near_empty",
}


def body(seed: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """A trunk in air with a kidney on each side and a spine, (Z, Y, X) LPS, and the kidneys: 1 is the left one."""
    random = np.random.default_rng(seed)
    z, y, x = np.mgrid[:SLICES, :SIDE, :SIDE]
    volume = np.full(z.shape, -1000.0)
    volume[((x - 48) / 44) ** 2 + ((y - 50) / 36) ** 2 < 1] = 0
    volume[(x - 48) ** 2 + (y - 70) ** 2 < 60] = 500
    kidneys = np.zeros(z.shape, np.uint8)
    for value, centre, down in ((1, 68, 52), (2, 26, 46)):  # the patient's left is on the viewer's right
        wide = 9 + 3 * np.sin(np.pi * z / SLICES)
        kidneys[((x - centre - z / 4) / wide) ** 2 + ((y - down + z / 5) / (wide + 3)) ** 2 < 1] = value
    volume[kidneys > 0] = 200
    return (volume + random.normal(0, 12, z.shape)).astype(np.int16), kidneys


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in which nothing is wrong."""
    raw = tmp_path_factory.mktemp("right")
    for case in range(2):
        volume, kidneys = body(case)
        write_nifti(raw / "Kidneys/images" / f"case{case}.nii.gz", volume)
        write_nifti(raw / "Kidneys/labels" / f"case{case}.nii.gz", kidneys)
    recipe = raw / "Kidneys.toml"
    text = RECIPE.format(name="Kidneys", license="CC-BY-4.0", modality="ct")
    recipe.write_text(text.replace('"liver"', '"kidney_left"').replace('"spleen"', '"kidney_right"'))
    out = raw / "out"
    assert main([str(one) for one in ("build", recipe, "--raw", raw, "--out", out, "--workers", 1)]) == 0
    return out


def findings(sa_med2d: Command, out: Path, *options: object) -> list[dict[str, Any]]:
    ran = sa_med2d("findings", out, "--json", "--workers", 1, *options)
    assert ran.code == 0, ran.err
    found: list[dict[str, Any]] = json.loads(ran.out)["findings"]
    return found


def test_nothing_is_found_where_nothing_is_wrong(sa_med2d: Command, right: Path) -> None:
    assert findings(sa_med2d, right) == []
    ran = sa_med2d("findings", right)
    assert ran.out == f"{2 * SLICES} images of {2 * SLICES} in 1 source looked at: no findings\n"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_name(sa_med2d: Command, right: Path, fault: str, tmp_path: Path) -> None:
    with_fault(right, tmp_path / "out", FAULTS[fault])
    assert sa_med2d("index", tmp_path / "out").code == 0
    found = {one["check"]: one for one in findings(sa_med2d, tmp_path / "out")}
    assert EXPECTED[fault] in found
    one = found[EXPECTED[fault]]
    assert one["source"] == "Kidneys"
    assert one["examples"]
    assert all(key.startswith("ct_00--Kidneys--case") for key in one["examples"])


def test_a_shift_is_said_with_its_way_back(sa_med2d: Command, right: Path, tmp_path: Path) -> None:
    with_fault(right, tmp_path / "out", FAULTS["masks shifted by 10 pixels to the right"])
    assert sa_med2d("index", tmp_path / "out").code == 0
    ran = sa_med2d("findings", tmp_path / "out")
    assert "the borders of masks would lie on stronger edges 0 pixels up, " in ran.out
    assert " to the left: look for a shift between masks and images" in ran.out


def test_whole_cases_are_looked_at_until_there_are_enough_images(sa_med2d: Command, right: Path) -> None:
    ran = sa_med2d("findings", right, "--json", "--images", 3)
    assert (json.loads(ran.out)["images"], json.loads(ran.out)["of"]) == (SLICES, 2 * SLICES)


def test_what_is_no_set_is_refused(sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("findings", tmp_path)
    assert ran.code == 1
    assert "holds no index" in ran.err


@pytest.mark.slow
def test_sets_of_the_corpus_that_are_right_give_no_finding(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    recipes = Path(__file__).parents[3] / "recipes"
    for name, folder in (
        ("TotalSegmentator_CT", "totalsegmentator"),
        ("TotalSegmentator_MR", "totalsegmentator"),
        ("TotalSegmentator_aorta", "totalsegmentator-aorta-overlap"),
        ("PyRadiomics_brain", "pyradiomics-nrrd"),
        ("CCAUS", "ccaus-ultrasound"),
        ("MammogramDensity", "mammogram-density-xray"),
        ("PanNuke", "pannuke-histology"),
    ):
        arguments = ("build", recipes / f"{name}.toml", "--raw", corpus / folder, "--out", tmp_path, "--workers", 1)
        assert sa_med2d(*arguments).code == 0
    assert findings(sa_med2d, tmp_path) == []
