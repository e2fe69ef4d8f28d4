"""What tests share: the command line in this process, small sources written on the spot, and the corpus if present."""

from __future__ import annotations

import gc
import tarfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import webdataset

from builder.command_line import main

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
RECIPES = Path(__file__).parent / "recipes"

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture
def sa_med2d(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs ``sa-med2d`` with arguments, in this process."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse, on wrong usage
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real public images; tests that need it are skipped where it is not."""
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real images is not here")
    return CORPUS


def ct_like(seed: int = 0, shape: tuple[int, int, int] = (24, 40, 36)) -> npt.NDArray[np.int16]:
    """A smooth volume in HU-like numbers, unlike in every direction; (Z, Y, X)."""
    rng = np.random.default_rng(seed)
    z, y, x = (np.linspace(0, 1, side) for side in shape)
    ramp = 900 * z[:, None, None] + 500 * y[None, :, None] ** 2 + 300 * x[None, None, :] ** 3
    return (ramp + rng.integers(0, 60, shape) - 1000).astype(np.int16)


def organ_map(shape: tuple[int, int, int] = (24, 40, 36)) -> npt.NDArray[np.uint8]:
    """Two boxes that are nowhere symmetric: label 1 and label 2; (Z, Y, X)."""
    labels = np.zeros(shape, np.uint8)
    z, y, x = shape
    labels[z // 6 : z // 2, y // 8 : y // 2, x // 9 : x // 2] = 1
    labels[z // 2 : z - 3, y // 2 : y - 4, x // 2 : x - 2] = 2
    return labels


def lps_affine(spacing: tuple[float, float, float] = (0.8, 0.8, 1.5)) -> npt.NDArray[np.float64]:
    """An affine from voxel index (x, y, z) to LPS millimetres, axes straight, origin off zero."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-12.5, 30.25, 7.0)
    return affine


def write_nifti(path: Path, array: npt.NDArray[Any], affine: npt.NDArray[np.float64] | None = None) -> None:
    """Write a (Z, Y, X) array with an LPS affine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ras = RAS_TO_LPS @ (lps_affine() if affine is None else affine)
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), ras), path)


def read_nifti(path: Path) -> Any:
    """A NIfTI image of nibabel, not mapped to its file."""
    return nibabel.load(path, mmap=False)


RECIPE = """\
name = "{name}"
title = "A source that a test wrote"
homepage = "https://example.org"
license = "{license}"
license_evidence = "https://example.org/license"
citation = "Nobody, 2026"
modality = "{modality}"

[files]
image = "images/{{case}}.nii.gz"
mask = "labels/{{case}}.nii.gz"

[labels]
1 = "liver"
2 = "spleen"
"""


def write_source(
    raw: Path, name: str = "Small", *, cases: int = 3, license_id: str = "CC-BY-4.0", modality: str = "ct"
) -> Path:
    """Write a source of NIfTI volumes below ``raw`` and its recipe beside them; returns the recipe."""
    for number in range(cases):
        write_nifti(raw / name / "images" / f"case{number:02d}.nii.gz", ct_like(number))
        write_nifti(raw / name / "labels" / f"case{number:02d}.nii.gz", organ_map())
    raw.mkdir(parents=True, exist_ok=True)
    recipe = raw / f"{name}.toml"
    recipe.write_text(RECIPE.format(name=name, license=license_id, modality=modality))
    return recipe


def by_webdataset(path: Path) -> list[dict[str, Any]]:
    """The samples of a shard as plain webdataset gives them."""
    with warnings.catch_warnings(action="ignore"):  # it leaves the file open
        samples = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
        gc.collect()
    return samples


def tree(folder: Path, *below: str) -> dict[str, bytes]:
    """All files in some subfolders, by path."""
    roots = [folder / name for name in below] if below else [folder]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for root in roots
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def members(out: Path) -> Iterator[tuple[str, bytes]]:
    """All members of all shards of an output folder, read by the standard library."""
    for path in sorted((out / "data").rglob("*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                file = tar.extractfile(info)
                assert file is not None
                yield info.name, file.read()
