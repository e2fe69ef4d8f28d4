"""The demo is the main job: real images of two packages, built, verified and streamed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

from builder.sources.load import parse_recipe
from tests.support.command import Command, Ran
from tests.support.nifti import read_nifti
from tests.support.output import members

nilearn = pytest.importorskip("nilearn", reason="the extra 'demo' is not installed")


@pytest.fixture(scope="module")
def maps() -> dict[str, np.ndarray]:
    folder = Path(nilearn.__file__).parent / "datasets/data"
    return {
        kind: np.asarray(read_nifti(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz").dataobj)
        for kind in ("t1", "gm", "wm")
    }


def test_demo_builds_verifies_and_streams(demo: tuple[Path, Ran], maps: dict[str, np.ndarray]) -> None:
    out, ran = demo
    assert ran.code == 0, ran.err
    assert "no findings" in ran.err
    assert "\nmr_t1--MNI152--mni_icbm152--x_" in ran.out
    records = [json.loads(data) for name, data in members(out) if name.endswith(".json")]
    assert {record["modality"] for record in records} == {"mr", "microscopy"}
    assert {record["license"] for record in records} == {"LicenseRef-MNI-ICBM152", "BSD-3-Clause"}
    ours = sum(mask["label"] == "grey_matter" for record in records for mask in record["masks"])
    assert ours == count_components(maps["gm"] >= 128)


def count_components(binary: np.ndarray) -> int:
    total = 0
    for axis in range(3):
        for plane in np.moveaxis(binary, axis, 0):
            labels, _ = scipy.ndimage.label(plane, np.ones((3, 3)))
            total += int((np.bincount(labels.ravel())[1:] * 65536 >= 100 * plane.size).sum())
    return total


README = (Path(__file__).parents[3] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
RECIPES = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)


def test_python_of_the_readme_runs_on_the_demo(demo: tuple[Path, Ran], tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to(demo[0])
    assert len(BLOCKS) == 4
    for block in BLOCKS:
        if "torch" in block and find_spec("torch") is None:
            continue
        subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, check=True, env={**os.environ, "HF_HOME": str(tmp_path)}
        )


def test_recipes_of_the_readme_are_valid() -> None:
    whole, *parts = RECIPES
    head = whole.split("[files]")[0]
    assert parse_recipe(whole, "README").name == "MySpleen"
    found = [parse_recipe(head + part, "README") for part in parts]
    assert [recipe.masks.segments for recipe in found] == [True, False, False, False]
    assert [recipe.labels_by_file for recipe in found] == [False, False, True, False]


def test_demo_without_its_packages(sa_med2d: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.commands.demo.find_spec", lambda _: None)
    ran = sa_med2d("demo", "--out", tmp_path / "demo")
    assert ran.code == 1
    assert "which is not installed: pip install 'sa-med2d-20m[demo]'" in ran.err
    assert not (tmp_path / "demo").exists()
