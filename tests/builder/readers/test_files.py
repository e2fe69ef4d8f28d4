"""Files of every kind that cannot be read: each is named, and costs its own case only."""

from __future__ import annotations

import ctypes
import gzip
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import PIL.Image
import pytest
import scipy.io
import SimpleITK as sitk  # noqa: N813

from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE, write_source
from tests.support.volumes import ct_like, organ_map

PICTURES = (".png", ".jpg", ".bmp", ".gif", ".pgm", ".ppm", ".ppm.gz", ".tif")


def spoilt(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize(
    "ending",
    [".nrrd", ".mha", ".mhd", ".npy", ".npz", ".mat", ".h5", *PICTURES],
)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.7])
def test_truncated_file_of_each_format_is_quarantined(
    sa_med2d: Command, tmp_path: Path, ending: str, share: float
) -> None:
    raw, picture = tmp_path / "raw", ending in PICTURES
    (raw / "images").mkdir(parents=True)
    (raw / "labels").mkdir()
    if picture:
        values = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8), (0, 0), 1)
        written = raw / f"images/bad{ending.removesuffix('.gz')}"
        PIL.Image.fromarray(values).convert("L" if ending == ".pgm" else "RGB").save(written)
        if ending.endswith(".gz"):
            (raw / f"images/bad{ending}").write_bytes(gzip.compress(written.read_bytes()))
            written.unlink()
        cv2.imwrite(str(raw / "labels/bad.png"), np.ones((90, 120), np.uint8))
    elif ending in (".npy", ".npz", ".mat", ".h5"):
        written = raw / f"images/bad{ending}"
        if ending == ".mat":
            scipy.io.savemat(written, {"a": ct_like()}, do_compression=True)
        elif ending == ".h5":
            with h5py.File(written, "w") as file:
                file.create_dataset("a", data=ct_like(), compression="gzip", fletcher32=True)
        elif ending == ".npy":
            np.save(written, ct_like())
        else:
            np.savez_compressed(written, ct_like())
        sitk.WriteImage(sitk.GetImageFromArray(organ_map()), str(raw / "labels/bad.nrrd"))
    else:
        image = sitk.GetImageFromArray(ct_like())
        sitk.WriteImage(image, str(raw / f"images/bad{ending}"))
        sitk.WriteImage(sitk.GetImageFromArray(organ_map()), str(raw / "labels/bad.nrrd"))
    spoilt(raw / "images" / ("bad.raw" if ending == ".mhd" and share > 0.5 else f"bad{ending}"), share)
    recipe = tmp_path / "Bad.toml"
    text = RECIPE.format(name="Bad", license="MIT", modality="ct").replace(
        "images/{case}.nii.gz", "images/{case}" + ending
    )
    recipe.write_text(text.replace("labels/{case}.nii.gz", "labels/{case}" + (".png" if picture else ".nrrd")))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 1, ran.err
    assert f"bad: images/bad{ending}: read: " in ran.err
    assert "Traceback" not in ran.err
    assert str(tmp_path) not in ran.err.split("in quarantine", 1)[1]


def test_unknown_format_names_the_known_ones(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "images").mkdir(parents=True)
    (raw / "images/a.xyz").write_text("?")
    write_nifti(raw / "labels/a.nii.gz", organ_map())
    recipe = tmp_path / "Bad.toml"
    text = RECIPE.format(name="Bad", license="MIT", modality="ct")
    recipe.write_text(text.replace("images/{case}.nii.gz", "images/{case}.xyz"))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 1
    assert "no reader knows this kind of file; known are .nii, .nii.gz" in ran.err


def test_link_that_leaves_the_source_is_quarantined(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for case in ("inside", "outside"):
        write_nifti(raw / f"images/{case}.nii.gz", ct_like())
        write_nifti(raw / f"labels/{case}.nii.gz", organ_map())
    (raw / "images/outside.nii.gz").rename(tmp_path / "secret.nii.gz")
    (raw / "images/outside.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    recipe = tmp_path / "Links.toml"
    recipe.write_text(RECIPE.format(name="Links", license="MIT", modality="ct"))
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 3
    assert "images/outside.nii.gz: read: it is a link that leads out of the source's folder" in ran.err
    assert {name.split("--")[2] for name, _ in members(tmp_path / "out")} == {"inside"}


def obey_permissions() -> None:
    """Give up the administrator's right to read everything, which tests may run with."""
    drop_from_bounding_set, override, read_search = 24, 1, 2
    for capability in (override, read_search):
        ctypes.CDLL(None).prctl(drop_from_bounding_set, capability)


@pytest.mark.skipif(sys.platform != "linux", reason="permissions are taken away in Linux's way")
def test_files_and_folders_without_the_right_to_read(tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", cases=4)
    (tmp_path / "raw/Small/closed").mkdir()
    for name in ("images/case01.nii.gz", "labels/case02.nii.gz", "closed"):
        (tmp_path / "raw/Small" / name).chmod(0)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "builder",
        "build",
        recipe,
        "--raw",
        tmp_path / "raw",
        "--out",
        tmp_path / "out",
    ]
    ran = subprocess.run(command, text=True, capture_output=True, check=False, preexec_fn=obey_permissions)
    (tmp_path / "raw/Small/closed").chmod(0o700)
    assert ran.returncode == 3, ran.stderr
    assert "case01: images/case01.nii.gz: read: it cannot be opened: Permission denied" in ran.stderr
    assert "case02: labels/case02.nii.gz: read: it cannot be opened: Permission denied" in ran.stderr
    assert "closed/: match: the folder cannot be looked into: Permission denied" in ran.stderr
    assert len({name.split("--")[2] for name, _ in members(tmp_path / "out")}) == 2
