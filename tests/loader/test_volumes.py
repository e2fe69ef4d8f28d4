"""Volumes and clips: voxels where they were, and ids that go through slices."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import scipy.ndimage
import SimpleITK as sitk  # noqa: N813

from builder.command_line import main
from sa_med2d_20m import Clip, DatasetError, Masks, Prompts, Semantic, Where, decode_masks, load
from tests.support.hand_made import cells, write_dataset
from tests.support.nifti import lps_affine, read_nifti, write_nifti
from tests.support.range_server import serve
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map

PLANES = {"axial": "x", "coronal": "y", "sagittal": "z"}


def oblique() -> npt.NDArray[np.float64]:
    """An affine to LPS whose axes lie askew, near LAS: its x axis runs to the right."""
    turn = sitk.Euler3DTransform((0, 0, 0), 0.1, -0.2, 0.15)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3)) @ np.diag([-0.8, 0.9, 1.5])
    affine[:3, 3] = (40.5, -30.25, 7.0)
    return affine


def two_parts() -> npt.NDArray[np.uint8]:
    """The boxes of `organ_map`, another liver away from the first, and a gap of two axial slices in all of it."""
    labels = organ_map()
    labels[5:10, 30:38, 3:9] = 1
    labels[8:10] = 0
    return labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases with all their values, straight and oblique, whose masks overlap: a region over two labels."""
    folder = tmp_path_factory.mktemp("volumes")
    for name, affine in (("straight", lps_affine()), ("oblique", oblique())):
        write_nifti(folder / f"raw/images/{name}.nii.gz", ct_like(len(name)), affine)
        write_nifti(folder / f"raw/labels/{name}.nii.gz", two_parts(), affine)
    text = RECIPE.format(name="Scans", license="MIT", modality="ct") + "[regions]\nabdomen_organs = [1, 2]\n"
    more = '[masks]\nmin_area = 0\n[intensity]\nmode = "lossless"\n[splits]\ntrain = ["*"]\n'
    (folder / "Scans.toml").write_text(text + more)
    command = ["build", folder / "Scans.toml", "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    assert main([str(part) for part in command]) == 0
    return folder


def classes_of(row: dict[str, Any], label: str) -> Any:
    """Where a row shows a class, in whatever layer."""
    numbers = [entry["id"] for entry in row["masks"] if entry["label"] == label]
    depth, height, width = row["image"].shape
    return np.isin(row["mask"].reshape(depth, -1, height, width), numbers).any(axis=1)


@pytest.mark.parametrize("case", ["straight", "oblique"])
@pytest.mark.parametrize("plane", PLANES)
def test_voxels_lie_where_they_were(folder: Path, case: str, plane: str) -> None:
    (row,) = (row for row in load(folder / "out", "ct", view="volume", planes=plane) if row["case"] == case)
    image, mask = (read_nifti(folder / f"raw/{kind}/{case}.nii.gz") for kind in ("images", "labels"))
    written = nibabel.Nifti1Image(row["image"].T, np.array(row["affine"]))
    index = np.indices(written.shape).reshape(3, -1)
    there = np.linalg.inv(image.affine) @ written.affine @ np.vstack([index, np.ones(index.shape[1])])
    whole = np.rint(there[:3]).astype(int)
    assert np.abs(there[:3] - whole).max() < 1e-3
    assert sorted(written.shape) == sorted(image.shape)
    held = np.isin(index[2], row["indices"])
    values = np.asarray(image.dataobj)[tuple(whole)]
    assert np.array_equal(np.asarray(written.dataobj).reshape(-1)[held], values[held])
    labels = np.asarray(mask.dataobj)[tuple(whole)].reshape(written.shape)
    assert not labels.reshape(-1)[~held].any()
    for label, number in (("liver", 1), ("spleen", 2)):
        assert np.array_equal(classes_of(row, label).T, labels == number)
    assert np.array_equal(classes_of(row, "abdomen_organs").T, labels > 0)
    assert (row["axis"], row["slices"], row["key"][-3:]) == (PLANES[plane], written.shape[2], f"--{PLANES[plane]}")


def test_another_reader_finds_the_mask_in_the_same_place(folder: Path, tmp_path: Path) -> None:
    """SimpleITK, which goes by millimetres alone, lays the written file on the original."""
    for row in load(folder / "out", "ct", view="volume", planes="sagittal"):
        shown = classes_of(row, "spleen").astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(shown.T, np.array(row["affine"])), tmp_path / "spleen.nii")
        original = sitk.ReadImage(str(folder / f"raw/labels/{row['case']}.nii.gz"))
        laid = sitk.Resample(
            sitk.ReadImage(str(tmp_path / "spleen.nii")), original, sitk.Transform(), sitk.sitkNearestNeighbor
        )
        assert np.array_equal(sitk.GetArrayFromImage(laid) == 1, sitk.GetArrayFromImage(original) == 2)


def test_ids_are_those_of_connected_objects(folder: Path) -> None:
    """The boxes of each class fall apart in space as SciPy says, 8-connected in a slice and one above the other."""
    structure = np.array([[[0] * 3, [0, 1, 0], [0] * 3], [[1] * 3] * 3, [[0] * 3, [0, 1, 0], [0] * 3]])
    for row in load(folder / "out", "ct", view="volume"):
        depth, height, width = row["image"].shape
        layers = row["mask"].reshape(depth, -1, height, width)
        assert row["plane"] == "axial"
        assert [entry["id"] for entry in row["masks"]] == list(range(1, len(row["masks"]) + 1))
        for label in ("liver", "spleen", "abdomen_organs"):
            found, count = scipy.ndimage.label(classes_of(row, label), structure)
            own = [entry for entry in row["masks"] if entry["label"] == label]
            assert len(own) == count > 0
            for entry in own:
                voxels = layers[:, entry["layer"]] == entry["id"]
                (number,) = set(found[voxels].tolist())
                assert np.array_equal(voxels, found == number)
                shown = np.flatnonzero(voxels.any(axis=(1, 2)))
                assert (entry["slices"], entry["area"]) == ([shown[0], shown[-1]], voxels.sum())


def test_filters_choose_volumes_and_their_masks(folder: Path) -> None:
    whole = list(load(folder / "out", "ct", view="volume"))
    rows = load(folder / "out", "ct", view="volume", labels="spleen")
    assert len(rows) == len(whole) == 2
    for row, other in zip(rows, whole, strict=True):
        assert {entry["label"] for entry in row["masks"]} == {"spleen"}
        assert row["indices"] == other["indices"]  # also those that show no spleen
        assert np.array_equal(row["image"], other["image"])
        assert np.array_equal(row["mask"] > 0, classes_of(other, "spleen"))


@pytest.mark.parametrize("clip", [Clip(4), Clip(3, step=1), Clip(3, 2), Clip(1), Clip(2, 3, 2)])
def test_clips_are_runs_of_neighbours(folder: Path, clip: Clip) -> None:
    volumes = {row["case"]: row for row in load(folder / "out", "ct", view="volume")}
    rows = load(folder / "out", "ct", view=clip)
    found = list(rows)
    assert len(rows) == len(found)
    assert len({row["key"] for row in found}) == len(found)
    seen: dict[str, set[int]] = {}
    for row in found:
        volume, indices = volumes[row["case"]], row["indices"]
        assert np.diff(indices).tolist() == [clip.stride] * (clip.length - 1)
        assert set(range(indices[0], indices[-1] + 1)) <= set(volume["indices"])  # no gap within
        assert np.array_equal(row["image"], volume["image"][indices])
        assert row["mask"].shape[0] == clip.length
        for label in ("liver", "spleen", "abdomen_organs"):
            assert np.array_equal(classes_of(row, label), classes_of(volume, label)[indices])
        known = {entry["id"]: entry["label"] for entry in volume["masks"]}
        assert {entry["id"]: entry["label"] for entry in row["masks"]}.items() <= known.items()
        first = np.array(volume["affine"]) @ [0, 0, indices[0], 1]
        assert np.allclose(np.array(row["affine"]) @ [0, 0, 0, 1], first)
        last = np.array(volume["affine"]) @ [3, 5, indices[-1], 1]
        assert np.allclose(np.array(row["affine"]) @ [3, 5, clip.length - 1, 1], last)
        seen.setdefault(row["case"], set()).update(indices)
    if clip.stride == 1:  # of the runs before and behind the gap, every slice
        assert seen == {case: set(row["indices"]) for case, row in volumes.items()}


def test_clips_where_runs_are_too_short(folder: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"no volume here has 17 neighbouring slices, which Clip\(length=9, stride=2"
    ):
        load(folder / "out", "ct", view=Clip(9, 2), planes="axial")


def test_a_copy_in_the_cache_has_the_same_rows(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    for view in ("volume", "clip"):
        streamed, copied = (list(load(folder / "out", "ct", view=view, streaming=way)) for way in (True, False))
        for one, other in zip(streamed, copied, strict=True):
            arrays = {"image", "mask"}
            assert all(np.array_equal(one[name], other[name]) for name in arrays)
            assert {name: value for name, value in one.items() if name not in arrays} == {
                name: value for name, value in other.items() if name not in arrays
            }


def test_order_and_resume(folder: Path) -> None:
    keys = [row["key"] for row in load(folder / "out", "ct", view="volume", planes=list(PLANES))]
    assert len(keys) == 6
    mixed = [[row["key"] for row in load(folder / "out", "ct", view="volume", planes=list(PLANES), shuffle=seed)]
             for seed in (1, 1, 2)]  # fmt: skip
    assert mixed[0] == mixed[1] != mixed[2]
    assert sorted(mixed[0]) == sorted(mixed[2]) == sorted(keys)
    rows = load(folder / "out", "ct", view="volume", planes=list(PLANES), shuffle=1)
    taken = iter(rows)
    first = [next(taken)["key"] for _ in range(3)]
    again = load(folder / "out", "ct", view="volume", planes=list(PLANES), shuffle=1)
    again.load_state_dict(rows.state_dict())
    assert first + [row["key"] for row in again] == mixed[0]


def test_values_come_back_within_half_a_level_from_8_bit(tmp_path: Path) -> None:
    """Each slice is scaled by itself, but slices of a volume can be compared."""
    write_nifti(tmp_path / "raw/images/a.nii.gz", ct_like())
    write_nifti(tmp_path / "raw/labels/a.nii.gz", organ_map())
    text = RECIPE.format(name="Scans", license="MIT", modality="ct") + '[splits]\ntrain = ["*"]\n'
    (tmp_path / "Scans.toml").write_text(text)
    command = ["build", tmp_path / "Scans.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1]
    assert main([str(part) for part in command]) == 0
    (row,) = load(tmp_path / "out", "ct", view="volume")
    held = row["indices"]
    assert np.abs(row["image"][held] - ct_like()[held]).max() < 0.5 * 1500 / 255
    missing = sorted(set(range(24)) - set(held))
    assert (row["image"][missing] == row["image"][held].min()).all()


def touching() -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Two tubes side by side that shift by a voxel a slice, so that each lies a little above the other; one forks."""
    image, numbers = ct_like(0, (12, 40, 40)), np.zeros((12, 40, 40), np.uint8)
    for z in range(12):
        numbers[z, 4:12, 2 + z : 10 + z] = 1
        numbers[z, 4:12, 10 + z : 18 + z] = 2
        numbers[z, 20:36, 4:30] = 3
        if z > 5:
            numbers[z, 27:29, 4:30] = 0
    return image, numbers


def test_objects_that_touch_stay_two_and_one_that_forks_stays_one(tmp_path: Path) -> None:
    image, numbers = touching()
    write_nifti(tmp_path / "raw/images/a.nii.gz", image)
    write_nifti(tmp_path / "raw/labels/a.nii.gz", numbers)
    text = RECIPE.format(name="Cells", license="MIT", modality="microscopy").split("[labels]")[0]
    (tmp_path / "Cells.toml").write_text(
        text + '[labels]\n"*" = "cell"\n[masks]\ninstances = true\n[splits]\ntrain = ["*"]\n'
    )
    command = ["build", tmp_path / "Cells.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1]
    assert main([str(part) for part in command]) == 0
    (row,) = load(tmp_path / "out", "microscopy", view="volume", planes="axial")
    pairs = {tuple(pair) for pair in np.stack([row["mask"].ravel(), numbers.ravel()], 1).tolist()}
    assert len(pairs) == 4  # an id for each number, and 0 for 0
    assert (0, 0) in pairs
    assert [entry["label"] for entry in row["masks"]] == ["cell"] * 3


@pytest.mark.parametrize("view", ["volume", Clip(2)])
def test_no_more_is_read_than_the_case(folder: Path, view: Any) -> None:
    """Of the tar: the slices of the one volume that is taken, and nothing of its other axes or of other cases."""
    table = pq.read_table(next((folder / "out/index").rglob("*.parquet"))).to_pylist()
    for case, taken in (("straight", None), ("oblique", None), ("oblique", 1)):
        with serve(folder / "out") as served:
            rows = load(served.url, "ct", view=view, where=Where(cases=case))
            assert {row["case"] for row in itertools.islice(rows, taken)} == {case}
        own = [entry for entry in table if (entry["case"], entry["plane"]) == (case, "axial")]
        end = max(entry["json_offset"] + entry["json_size"] for entry in own)
        assert 0 < served.bytes_of(".tar") == end - min(entry["image_offset"] for entry in own)


def test_what_volumes_and_clips_have_not(folder: Path) -> None:
    for options, name in (
        ({"prompts": Prompts()}, "prompts"),
        ({"balance": 0.1}, "balance"),
        ({"decode": "pil"}, "decode"),
    ):
        with pytest.raises(DatasetError, match=f"{name} is for images one by one, but view gives volumes or clips"):
            load(folder / "out", "ct", view="volume", **options)
    for make in (lambda: Clip(0), lambda: Clip(2, -1), lambda: Clip(2, step=0), lambda: Masks(negatives=-1)):
        with pytest.raises(DatasetError, match=r"expected a whole number from [01] on"):
            make()


def test_rows_of_images_are_as_before(folder: Path) -> None:
    """The other views say the same of the same slices."""
    (volume,) = (row for row in load(folder / "out", "ct", view="volume") if row["case"] == "straight")
    for row in load(folder / "out", "ct", view=Semantic(["liver", "spleen"]), planes="axial"):
        if row["case"] == "straight":
            at = row["index"]
            assert np.array_equal(row["mask"] == 1, classes_of(volume, "liver")[at])
            scale = row["intensity"]
            assert np.array_equal(row["image"] * scale["slope"] + scale["intercept"], volume["image"][at])
    rows = [row for row in load(folder / "out", "ct", planes="axial") if row["case"] == "straight"]
    assert sum(int(decode_masks(row).sum()) for row in rows) == sum(entry["area"] for entry in volume["masks"])


def handmade(folder: Path, slices: int | None, indices: list[int], **more: Any) -> Path:
    """Slices that somebody else wrote, of 160 x 200 pixels."""
    samples = []
    for index in indices:
        sample, _ = cells(2)
        record = sample.record | {"key": f"microscopy_00--Cells--a--x_{index:04d}", "axis": "x", "plane": "axial"}
        samples.append(replace(sample, record=record | {"index": index, "slices": slices} | more))
    return write_dataset(folder, samples)


@pytest.mark.parametrize(
    ("slices", "indices", "said"),
    [
        (2**40, [3, 4], r"a volume of float32 takes [\d,]+ bytes, expected at most"),
        (4, [3, 4], "expected slices of one volume, of one size and each once"),
        (-1, [0, 1], "expected slices of one volume"),
    ],
)
def test_volumes_that_cannot_be(tmp_path: Path, slices: int, indices: list[int], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        list(load(handmade(tmp_path, slices, indices), view="volume"))


def test_volumes_without_geometry_and_of_an_earlier_schema(tmp_path: Path) -> None:
    (row,) = load(handmade(tmp_path, None, [3, 4, 6]), view="volume")
    assert row["image"].shape == (7, 160, 200)
    assert (row["affine"], row["absent"], row["indices"]) == (None, None, [3, 4, 6])
    assert row["mask"].shape == (7, 160, 200)  # ids go beyond 255, so one layer is enough
    assert sorted(np.unique(row["mask"][3])) == list(range(401))
    assert np.array_equal(row["mask"][3], row["mask"][4])
    assert not set(np.unique(row["mask"][6])) & set(range(1, 401))  # slice 5 is not there


def test_slices_that_do_not_lie_together(tmp_path: Path) -> None:
    """Two cases whose slices alternate: each would be read in pieces."""
    samples = []
    for case, index in (("a", 0), ("b", 0), ("a", 1), ("b", 1)):
        sample, _ = cells(2)
        place = {"case": case, "key": f"microscopy_00--Cells--{case}--x_{index:04d}", "axis": "x", "plane": "axial"}
        samples.append(replace(sample, record=sample.record | place | {"index": index}))
    out = write_dataset(tmp_path, samples)
    with pytest.raises(DatasetError, match=r"train-00000.tar: expected the slices of a case one after another"):
        load(out, view="volume")
    assert len(list(load(out))) == 4


def test_pictures_are_no_volumes(tmp_path: Path) -> None:
    sample, _ = cells(2)
    with pytest.raises(DatasetError, match="no image here is a slice of a volume"):
        load(write_dataset(tmp_path, [sample]), view="volume")
