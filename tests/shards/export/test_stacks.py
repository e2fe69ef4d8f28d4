"""Slices that layouts take together: killed again and again, and slices that do not fit together."""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command import Command
from tests.support.hand_made import HandMade, png, write_dataset
from tests.support.output import tree

LAYOUTS = ("sam2", "nnunet-3d", "monai-3d")


def slices(count: int = 5) -> list[HandMade]:
    """A square that wanders through a volume of 20 x 30 pixels."""
    made = []
    for number in range(count):
        mask = np.zeros((20, 30), np.uint8)
        mask[3:9, 4 + number : 12 + number] = 1
        entry = {
            "id": 1, "layer": 0, "label": "cell", "class_id": "0000", "organ": None, "group": "other", "instance": 0,
            "bbox": [4 + number, 3, 8, 6], "area": 48,
        }  # fmt: skip
        record = {
            "key": f"microscopy_00--Cells--a--x_{number:04d}", "source": "Cells", "modality": "microscopy",
            "submodality": "00", "license": "MIT", "patient": "a", "case": "a", "split": "train", "plane": "axial",
            "axis": "x", "index": number, "height": 20, "width": 30, "spacing": [0.5, 0.7], "stored_axes": "LPS",
            "schema": 2, "intensity": {"min": 0.0, "max": 255.0, "scaling": "none", "slope": 1.0, "intercept": 0.0, "clipped": 0},
            "image_file": "a.nii.gz", "slice_spacing": 2.0, "slices": count, "origin": [1.0, 2.0, 3.0],
            "direction": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], "official_split": False,
            "dropped": {"masks": 0, "pixels": 0, "labels": []}, "not_annotated": [], "masks": [entry],
        }  # fmt: skip
        image = np.random.default_rng(number).integers(0, 255, mask.shape, np.uint8)
        made.append(HandMade(png(image), png(mask), record))
    return made


def export(made: Sequence[HandMade], tmp_path: Path, layout: str, sa_med2d: Command) -> tuple[int, str]:
    write_dataset(tmp_path / "out", list(made))
    ran = sa_med2d("export", tmp_path / "out", "--to", tmp_path / "to", "--layout", layout, "--workers", 1)
    return ran.code, ran.err


def changed(sample: HandMade, **fields: Any) -> HandMade:
    return dataclasses.replace(sample, record=sample.record | fields)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slices_that_fit_are_taken_together(layout: str, tmp_path: Path, sa_med2d: Command) -> None:
    code, said = export(slices(), tmp_path, layout, sa_med2d)
    assert code == 0, said
    files = {path for path in tree(tmp_path / "to") if path.endswith((".jpg", ".png", ".nii.gz"))}
    assert len(files) == (10 if layout == "sam2" else 2)


Change = Callable[[list[HandMade]], list[HandMade]]
STRANGE: dict[str, tuple[Change, str]] = {
    "number of another slice": (lambda made: [*made[:-1], changed(made[-1], index=3)], "its index is 3"),
    "no number": (lambda made: [*made[:-1], changed(made[-1], index=None)], "its index is None"),
    "more slices than said": (
        lambda made: [changed(one, slices=3) for one in made], "expected slices of one volume, of one size and each once",
    ),
    "slices of another volume": (lambda made: [*made[:-1], changed(made[-1], slices=9)], "expected slices of one volume"),
}  # fmt: skip


@pytest.mark.parametrize("what", STRANGE)
def test_slices_that_do_not_fit_make_no_video(what: str, tmp_path: Path, sa_med2d: Command) -> None:
    change, expected = STRANGE[what]
    code, said = export(change(slices()), tmp_path, "sam2", sa_med2d)
    assert code == 1
    assert expected in said
    assert not list((tmp_path / "to").rglob("*.jpg"))


HOSTILE: dict[str, Change] = {
    "more slices than memory": lambda made: [changed(one, slices=10**12) for one in made],
    "no axes": lambda made: [changed(one, stored_axes="?!") for one in made],
    "one axis thrice": lambda made: [changed(one, stored_axes="LLL") for one in made],
    "no directions": lambda made: [changed(one, direction=[0.0] * 9) for one in made],
    "no spacing": lambda made: [changed(one, spacing=[0.0, 0.0]) for one in made],
    "no size between": lambda made: [changed(one, slice_spacing=1e308) for one in made],
    "values beyond": lambda made: [
        changed(one, intensity={**one.record["intensity"], "slope": 1e308, "intercept": 1e308}) for one in made
    ],
    "another axis": lambda made: [changed(one, axis="z") for one in made],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_geometry_ends_in_a_sentence(what: str, layout: str, tmp_path: Path, sa_med2d: Command) -> None:
    """Or in files that are as strange; never in a traceback, and never in much memory."""
    code, said = export(HOSTILE[what](slices()), tmp_path, layout, sa_med2d)
    assert code in (0, 1)
    assert "Traceback" not in said
    if code:
        assert (
            "microscopy_00--Cells--a--x" in said
            or "can hold none of the chosen images; left out: 1 volume, of which not all slices" in said
        )


def stopped(arguments: list[str], folder: Path, after: float) -> None:
    """Kill an export so many seconds after it wrote its first file."""
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not any(folder.rglob("*.*g*")):
            time.sleep(0.01)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["sam2", "sam3", "nnunet-3d", "monai", "coco"])
def test_killed_thirty_times_at_random_moments(layout: str, volumes: Path, tmp_path: Path, sa_med2d: Command) -> None:
    arguments = ["export", volumes, "--layout", layout, "--config", "all"]
    command = [sys.executable, "-m", "builder", *map(str, arguments)]
    subprocess.run([*command, "--to", tmp_path / "calm", "--workers", "2"], check=True, capture_output=True)
    calm, moments, unfinished = tree(tmp_path / "calm"), random.Random(0), 0
    for number in range(30):
        after = moments.uniform(0, 1) if number else 0  # a busy machine may end sooner than a clock says
        stopped([*command, "--to", str(tmp_path / "to"), "--workers", "2"], tmp_path / "to", after)
        if (tmp_path / "to/SOURCES.md").exists():
            assert tree(tmp_path / "to") == calm
            shutil.rmtree(tmp_path / "to")
        else:
            unfinished += 1
    assert unfinished
    assert sa_med2d(*arguments, "--to", tmp_path / "to", "--workers", 1).code == 0
    assert tree(tmp_path / "to") == calm
