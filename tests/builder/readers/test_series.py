"""4D files: channels that share masks, frames that are cases; flat and Analyze images."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile

from tests.support.command import Command, Ran
from tests.support.nifti import RAS_TO_LPS, lps_affine, write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map


def write_4d(path: Path, volumes: list[npt.NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.stack([volume.transpose(2, 1, 0) for volume in volumes], axis=-1)
    nibabel.save(nibabel.Nifti1Image(array, RAS_TO_LPS @ lps_affine()), path)


def recipe(tmp_path: Path, files: str) -> Path:
    path = tmp_path / "Series.toml"
    text = RECIPE.format(name="Series", license="MIT", modality="mr")
    path.write_text(text.replace("\n[labels]", f"{files}\n[labels]"))
    return path


def built(sa_med2d: Command, tmp_path: Path, files: str) -> dict[str, bytes]:
    ran = sa_med2d("build", recipe(tmp_path, files), "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    return dict(members(tmp_path / "out"))


VOLUMES = [ct_like(seed) for seed in range(3)]


def as_single(sa_med2d: Command, tmp_path: Path, volume: npt.NDArray[Any]) -> list[bytes]:
    """The pictures of a volume that lies alone in a 3D file."""
    write_nifti(tmp_path / "raw/images/a.nii.gz", volume)
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map())
    return [data for name, data in built(sa_med2d, tmp_path, "").items() if name.endswith("png")]


def test_channels_are_submodalities_that_share_masks(sa_med2d: Command, tmp_path: Path) -> None:
    write_4d(tmp_path / "raw/images/a.nii.gz", VOLUMES)
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map())
    found = built(sa_med2d, tmp_path, 'channels = ["t2w", "flair", "t1gd"]')
    for number, name in enumerate(["t2w", "flair", "t1gd"]):
        own = [data for key, data in found.items() if key.startswith(f"mr_{name}--") and key.endswith("png")]
        assert own == as_single(sa_med2d, tmp_path / name, VOLUMES[number])


def test_frames_are_cases_of_one_patient(sa_med2d: Command, tmp_path: Path) -> None:
    write_4d(tmp_path / "raw/images/p.nii.gz", VOLUMES)
    moving = [np.roll(organ_map(), shift, axis=2) for shift in range(3)]
    write_4d(tmp_path / "raw/labels/p.nii.gz", moving)
    found = built(sa_med2d, tmp_path, "frames = true")
    records = [json.loads(data) for name, data in found.items() if name.endswith("json")]
    assert {record["case"] for record in records} == {f"p_frame{number:04d}" for number in range(3)}
    assert {record["patient"] for record in records} == {"p"}
    boxes = {record["case"][-1]: record["masks"][0]["bbox"][0] for record in records if record["axis"] == "x"}
    assert boxes["1"] == boxes["0"] + 1
    assert boxes["2"] == boxes["0"] + 2


def test_frames_may_share_a_3d_mask(sa_med2d: Command, tmp_path: Path) -> None:
    write_4d(tmp_path / "raw/images/p.nii.gz", VOLUMES)
    write_nifti(tmp_path / "raw/labels/p.nii.gz", organ_map())
    found = built(sa_med2d, tmp_path, "frames = true")
    masks = [[d for n, d in found.items() if f"_frame000{f}--" in n and n.endswith("mask.png")] for f in range(3)]
    assert masks[0]
    assert masks[0] == masks[1] == masks[2]


@pytest.mark.parametrize(
    ("files", "masks", "said"),
    [
        ("", 1, "read: it holds 3 images (4D, pages or frames), expected one; name them with files.channels"),
        ('channels = ["t1", "t2"]', 1, "read: it holds 3 images, files.channels names 2"),
        ("frames = true", 2, "grid: the mask holds 2 frames, the image 3"),
        ('channels = ["t1", "t2", "pd"]', 3, "read: the mask holds 3 images, expected one"),
    ],
)
def test_series_that_do_not_fit(sa_med2d: Command, tmp_path: Path, files: str, masks: int, said: str) -> None:
    write_4d(tmp_path / "raw/images/a.nii.gz", VOLUMES)
    write_4d(tmp_path / "raw/labels/a.nii.gz", [organ_map()] * masks)
    ran = sa_med2d("build", recipe(tmp_path, files), "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 3
    assert said in ran.err


def test_channels_of_a_3d_file(sa_med2d: Command, tmp_path: Path) -> None:
    write_nifti(tmp_path / "raw/images/a.nii.gz", ct_like())
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map())
    files = 'channels = ["t1", "t2"]'
    ran = sa_med2d("build", recipe(tmp_path, files), "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 3
    assert "it holds one image, but files.channels names 2" in ran.err


def test_flat_nifti_is_one_slice(sa_med2d: Command, tmp_path: Path) -> None:
    for folder, array in (("images", ct_like()[12]), ("labels", organ_map()[11])):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        image = nibabel.Nifti1Image(array.T, np.diag([-1.0, -1.0, 1.0, 1.0]))
        assert image.ndim == 2
        nibabel.save(image, tmp_path / "raw" / folder / "a.nii.gz")
    (name, data), *_ = built(sa_med2d, tmp_path, "").items()
    assert name == "mr_00--Series--a--x_0000.png"
    path = tmp_path / "slice.png"
    path.write_bytes(data)
    values = ct_like()[12].astype(float)
    expected = np.round((values - values.min()) / (values.max() - values.min()) * 255)
    assert np.array_equal(np.asarray(PIL.Image.open(path)), expected)


def test_analyze_pair(sa_med2d: Command, tmp_path: Path) -> None:
    for folder, array in (("images", ct_like()), ("labels", organ_map())):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        nibabel.save(nibabel.AnalyzeImage(array.transpose(2, 1, 0), None), tmp_path / "raw" / folder / "a.img")
    text = recipe(tmp_path, "")
    text.write_text(text.read_text().replace(".nii.gz", ".img"))
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    records = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    assert {record["stored_axes"] for record in records} == {"LAS"}  # nibabel's reading of the standard


def test_pages_of_a_tiff_are_channels(sa_med2d: Command, tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 256, (3, 64, 80), np.uint8)
    mask = np.zeros((64, 80), np.uint8)
    mask[10:40, 20:60] = 1
    (tmp_path / "raw").mkdir()
    tifffile.imwrite(tmp_path / "raw/a_img.tif", pages, photometric="minisblack")
    tifffile.imwrite(tmp_path / "raw/a_seg.tif", mask)
    text = recipe(tmp_path, 'channels = ["dapi", "gfp", "rfp"]')
    pattern = (
        text.read_text()
        .replace("images/{case}.nii.gz", "{case}_img.tif")
        .replace("labels/{case}.nii.gz", "{case}_seg.tif")
    )
    text.write_text(pattern)
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    for page, name in zip(pages, ("dapi", "gfp", "rfp"), strict=True):
        assert np.array_equal(decode(found[f"mr_{name}--Series--a--2d_none.png"]), page)
    text.write_text(pattern.replace(', "rfp"', ""))
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert "it holds 3 images, files.channels names 2" in ran.err


def test_pages_of_a_tiff_are_frames(sa_med2d: Command, tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 256, (3, 64, 80, 3), np.uint8)
    masks = np.zeros((3, 64, 80), np.uint8)
    for number in range(3):
        masks[number, 10 : 30 + number, 20:60] = 1
    (tmp_path / "raw").mkdir()
    tifffile.imwrite(tmp_path / "raw/a_img.tif", pages, photometric="rgb")
    tifffile.imwrite(tmp_path / "raw/a_seg.tif", masks, photometric="minisblack")
    text = recipe(tmp_path, "frames = true")
    text.write_text(
        text.read_text()
        .replace("images/{case}.nii.gz", "{case}_img.tif")
        .replace("labels/{case}.nii.gz", "{case}_seg.tif")
    )
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    for number, page in enumerate(pages):
        key = f"mr_00--Series--a_frame{number:04d}--2d_none"
        assert np.array_equal(decode(found[f"{key}.png"]), page)
        assert json.loads(found[f"{key}.json"])["masks"][0]["area"] == (20 + number) * 40


def test_coloured_nifti(sa_med2d: Command, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (24, 40, 36, 3), np.uint8)
    stored = np.ascontiguousarray(colours.transpose(2, 1, 0, 3)).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    (tmp_path / "raw/images").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(stored, RAS_TO_LPS @ lps_affine()), tmp_path / "raw/images/a.nii.gz")
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map())
    found = built(sa_med2d, tmp_path, "")
    for plane, name in ((colours[6], "x_0006"), (colours[::-1, 9], "y_0009"), (colours[::-1, :, 8], "z_0008")):
        assert np.array_equal(decode(found[f"mr_00--Series--a--{name}.png"]), plane)
    assert json.loads(found["mr_00--Series--a--x_0006.json"])["intensity"]["scaling"] == "none"


@pytest.mark.parametrize("kind", ["4D", "vectors"])
def test_series_in_nrrd(sa_med2d: Command, tmp_path: Path, kind: str) -> None:
    (tmp_path / "raw").mkdir()
    images = [sitk.GetImageFromArray(volume) for volume in VOLUMES]
    for image in images:
        image.SetSpacing((0.8, 0.8, 1.5))
    whole = sitk.JoinSeries(images) if kind == "4D" else sitk.Compose(images)
    sitk.WriteImage(whole, tmp_path / "raw/a_img.nrrd")
    mask = sitk.GetImageFromArray(organ_map())
    mask.CopyInformation(images[0])
    sitk.WriteImage(mask, tmp_path / "raw/a_seg.nrrd")
    text = recipe(tmp_path, 'channels = ["t1", "t2", "pd"]')
    text.write_text(
        text.read_text()
        .replace("images/{case}.nii.gz", "{case}_img.nrrd")
        .replace("labels/{case}.nii.gz", "{case}_seg.nrrd")
    )
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    for number, name in enumerate(["t1", "t2", "pd"]):
        own = [data for key, data in found.items() if key.startswith(f"mr_{name}--") and key.endswith("png")]
        assert own == as_single(sa_med2d, tmp_path / name, VOLUMES[number])


def test_case_without_any_mask_pixel_is_counted(sa_med2d: Command, tmp_path: Path) -> None:
    for case in "ab":
        write_nifti(tmp_path / f"raw/images/{case}.nii.gz", ct_like())
        write_nifti(tmp_path / f"raw/labels/{case}.nii.gz", organ_map() * (case == "a"))
    text = recipe(tmp_path, "")
    plain = text.read_text()
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "gate empty_mask found 1" in ran.err
    assert "gave no sample, every slice was dropped by a rule: b" in ran.err
    text.write_text(plain + '\n[gates]\nempty_mask = "quarantine"\n')
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 3
    assert "b: labels/b.nii.gz: gate: empty_mask: the masks of the case have no pixel" in ran.err


def decode(data: bytes) -> npt.NDArray[Any]:
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


def build_frames(sa_med2d: Command, tmp_path: Path, image: Path, masks: Path, tables: str) -> Ran:
    """Build a 4D file and its masks from the corpus, one case a frame."""
    raw = tmp_path / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    (raw / "img").mkdir(parents=True)
    shutil.copy(image, raw / "img/p.nii.gz")
    shutil.copytree(masks, raw / "msk/p") if masks.is_dir() else shutil.copytree(
        masks.parent, raw / "msk/p", ignore=lambda _, names: [name for name in names if name != masks.name]
    )
    head = RECIPE.format(name="Frames", license="MIT", modality="mr").split("[files]")[0]
    (tmp_path / "Frames.toml").write_text(
        f'axes = ["x"]\n{head}[files]\nimage = "img/{{case}}.nii.gz"\nframes = true\n{tables}'
    )
    return sa_med2d("build", tmp_path / "Frames.toml", "--raw", raw, "--out", tmp_path / "out", "--workers", 1)


@pytest.mark.parametrize("name", ["mask", "mask4d"])
def test_1452_frames_of_one_slice(sa_med2d: Command, corpus: Path, tmp_path: Path, name: str) -> None:
    fmri = corpus / "pymvpa-fmri"
    tables = f'mask = "msk/{{case}}/{name}.nii.gz"\n[labels]\n1 = "brain"\n'
    ran = build_frames(sa_med2d, tmp_path, fmri / "bold.nii.gz", fmri / f"{name}.nii.gz", tables)
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    volumes = np.asarray(nibabel.Nifti1Image.from_filename(fmri / "bold.nii.gz").dataobj)
    assert len(found) == 3 * volumes.shape[3] == 3 * 1452
    for frame in (0, 700, 1451):
        values = volumes[:, :, 0, frame].astype(float)
        expected = np.round((values - values.min()) / (values.max() - values.min()) * 255)
        shown = decode(found[f"mr_00--Frames--p_frame{frame:04d}--x_0000.png"])
        assert sorted(shown.ravel()) == sorted(expected.ravel())  # whichever way the axes are turned


def test_mask_of_two_frames_fits_no_1452(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    """Its authors call it the one that must fail."""
    fmri = corpus / "pymvpa-fmri"
    tables = 'mask = "msk/{case}/mask4dfail.nii.gz"\n[labels]\n1 = "brain"\n'
    ran = build_frames(sa_med2d, tmp_path, fmri / "bold.nii.gz", fmri / "mask4dfail.nii.gz", tables)
    assert ran.code == 3
    assert "grid: the mask holds 2 frames, the image 1452" in ran.err
    assert not list(members(tmp_path / "out"))


def test_overlapping_masks_of_121_frames(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    subject = corpus / "pymvpa-fmri/haxby2001/sub001"
    image = subject / "BOLD/task001_run001/bold_25mm.nii.gz"
    tables = 'mask = "msk/{case}/{label}.nii.gz"\n'
    ran = build_frames(sa_med2d, tmp_path, image, subject / "masks/25mm", tables)
    assert ran.code == 0, ran.err
    records = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    assert len({record["case"] for record in records}) == 121
    brain = np.asarray(nibabel.Nifti1Image.from_filename(subject / "masks/25mm/brain.nii.gz").dataobj) != 0
    own = [mask for record in records if record["case"] == "p_frame0000" for mask in record["masks"]]
    assert sum(mask["area"] for mask in own if mask["label"] == "brain") == brain.sum()
    assert {mask["label"] for mask in own} == {"brain", "gray", "white", "hoc", "vt"}
