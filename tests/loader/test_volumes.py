"""Volumes and clips: voxels where they were, and ids that go through slices."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import scipy.ndimage
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.command_line import main
from sa_med2d_20m import Clip, DatasetError, Masks, Output, Prompts, Semantic, Where, collate, decode_masks, load
from tests.support.hand_made import HandMade, cells, png, write_dataset
from tests.support.nifti import lps_affine, read_nifti, write_nifti
from tests.support.range_server import serve
from tests.support.resizing import by_hand, by_opencv
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
    return np.isin(row["mask"].reshape(len(row["mask"]), -1, row["height"], row["width"]), numbers).any(axis=1)


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
    for view, decode in (("volume", "numpy"), ("clip", "numpy"), (Clip(3), Output((24, 20), window=(40, 400)))):
        options: dict[str, Any] = {"view": view, "decode": decode}
        load(folder / "out", "ct", streaming=False, **options)  # so that the copy is found, and its columns read back
        streamed, copied = (list(load(folder / "out", "ct", streaming=way, **options)) for way in (True, False))
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
    options: dict[str, Any] = {"planes": list(PLANES), "shuffle": 1, "decode": Output(16, window="lung")}
    rows = load(folder / "out", "ct", view="volume", **options)
    taken = iter(rows)
    first = [next(taken)["key"] for _ in range(3)]
    again = load(folder / "out", "ct", view="volume", **options)
    again = pickle.loads(pickle.dumps(again))  # noqa: S301 - as it goes to workers
    again.load_state_dict(rows.state_dict())
    left = list(again)
    assert first + [row["key"] for row in left] == mixed[0]
    assert {row["image"].shape for row in left} <= {(24, 16, 16, 3), (40, 16, 16, 3), (36, 16, 16, 3)}


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
    for options, said in (
        ({"prompts": Prompts()}, "prompts is for images one by one, but view gives volumes or clips"),
        ({"balance": 0.1}, "balance is for images one by one, but view gives volumes or clips"),
        ({"decode": "pil"}, r"decode is 'pil', expected 'numpy', 'torch' or Output\(...\) for volumes and clips"),
    ):
        for view in ("volume", Clip(2)):
            with pytest.raises(DatasetError, match=said):
                load(folder / "out", "ct", view=view, **options)
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
    return write_dataset(folder, [handmade_slice(index, slices=slices, **more) for index in indices])


def handmade_slice(index: int, **more: Any) -> HandMade:
    sample, _ = cells(2)
    record = sample.record | {"key": f"microscopy_00--Cells--a--x_{index:04d}", "axis": "x", "plane": "axial"}
    return replace(sample, record=record | {"index": index} | more)


@pytest.mark.parametrize(
    ("slices", "indices", "said", "decode"),
    [
        (2**40, [3, 4], r"a volume of float32 takes [\d,]+ bytes, expected at most", "numpy"),
        (6000, [3, 4], "a volume of float32 takes 4,718,592,000 bytes", Output(256)),  # 3 channels by default
        (70000, [3, 4], "a volume of uint8 takes 4,587,520,000 bytes", Output(256, window="slice", channels=1)),
        (4, [3, 4], "expected slices of one volume, of one size and each once", "numpy"),
        (-1, [0, 1], "expected slices of one volume", "numpy"),
    ],
)
def test_volumes_that_cannot_be(tmp_path: Path, slices: int, indices: list[int], said: str, decode: Any) -> None:
    with pytest.raises(DatasetError, match=said):
        list(load(handmade(tmp_path, slices, indices), view="volume", decode=decode))


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


SIZES = {"pad": (80, 120), "stretch": (88, 56), "crop": (72, 72)}
"""Height and width, above those of all slices here, so that pixels lie between neighbours, and none between two equally
near ones."""


@pytest.mark.parametrize("resize", SIZES)
@pytest.mark.parametrize("plane", PLANES)
def test_another_size_lies_where_it_was(folder: Path, tmp_path: Path, plane: str, resize: Any) -> None:
    """SimpleITK resamples the original by millimetres to the grid of the row: images linear, masks nearest."""
    for row in load(
        folder / "out", "ct", view="volume", planes=plane, decode=Output(SIZES[resize], resize, channels=1)
    ):
        assert (row["height"], row["width"]) == row["image"].shape[1:] == SIZES[resize]
        assert np.allclose(np.linalg.norm(np.array(row["affine"])[:3, :2], axis=0), row["spacing"][::-1])
        shown = {"images": row["image"], "labels": np.where(classes_of(row, "liver"), 1, 0)}
        shown["labels"][classes_of(row, "spleen")] = 2
        for kind, pixels in shown.items():
            nibabel.save(nibabel.Nifti1Image(pixels.T.astype(np.float32), np.array(row["affine"])), tmp_path / "a.nii")
            original = sitk.ReadImage(str(folder / f"raw/{kind}/{row['case']}.nii.gz"), sitk.sitkFloat32)
            rule = sitk.sitkLinear if kind == "images" else sitk.sitkNearestNeighbor
            laid = sitk.GetArrayFromImage(
                sitk.Resample(original, sitk.ReadImage(str(tmp_path / "a.nii")), sitk.Transform(), rule, -5000)
            )
            inside = laid[row["indices"]] > -5000  # between the centres of the outer pixels, for a linear rule
            differs = np.abs(pixels[row["indices"]] - laid[row["indices"]])[inside]
            assert inside.mean() > 0.3
            if kind == "images":
                assert differs.max() < 0.1 + 1e-3 * np.ptp(pixels)  # OpenCV has weights of 11 bits for some types
            else:
                assert not differs.any()


@pytest.mark.parametrize("masks", ["nearest", "area"])
@pytest.mark.parametrize("size", [(9, 30), (8, 8)])
@pytest.mark.parametrize("resize", ["pad", "stretch", "crop"])
def test_slices_of_a_size_are_those_of_single_images(folder: Path, size: Any, resize: Any, masks: Any) -> None:
    output = Output(size, resize, masks)
    plain = {row["case"]: row for row in load(folder / "out", "ct", view="volume")}
    single = {(row["case"], row["index"]): row for row in load(folder / "out", "ct", planes="axial", decode=output)}
    for row in load(folder / "out", "ct", view="volume", decode=output):
        stored = plain[row["case"]]
        assert row["original_size"] == list(stored["image"].shape[1:])
        lowest = stored["image"][row["indices"]].min()
        assert row["image"].dtype == np.float32
        for at, pixels in enumerate(row["image"]):
            expected = by_hand(stored["image"][at] - lowest, size, resize, by_opencv) + lowest
            assert np.allclose(pixels, expected[..., np.newaxis], atol=1e-3)
        objects = decode_masks(row)
        assert [entry["area"] for entry in row["masks"]] == [int(one.sum()) for one in objects]
        assert [entry["slices"] for entry in row["masks"]] == [
            [shown.min(), shown.max()] for shown in (np.flatnonzero(one.any(axis=(1, 2))) for one in objects)
        ]
        known = {entry["id"]: entry for entry in stored["masks"]}
        left = {entry["id"] for entry in row["masks"]}
        assert all(known[entry["id"]]["label"] == entry["label"] for entry in row["masks"])
        assert left == known.keys() or resize == "crop"
        assert row["dropped"]["masks"] == stored["dropped"]["masks"] + len(known.keys() - left)
        assert {known[number]["label"] for number in known.keys() - left} <= set(row["dropped"]["labels"])
        for at in row["indices"]:
            image = single[row["case"], at]
            for label in ("liver", "spleen", "abdomen_organs"):
                of = [
                    one
                    for one, entry in zip(decode_masks(image), image["masks"], strict=True)
                    if entry["label"] == label
                ]
                assert np.array_equal(np.any([*of, np.zeros(size, bool)], axis=0), classes_of(row, label)[at])


@pytest.mark.parametrize("resize", ["pad", "stretch", "crop"])
@settings(max_examples=5, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), masks=st.sampled_from(["nearest", "area"]))
def test_affines_of_any_size(folder: Path, resize: Any, height: int, width: int, masks: Any) -> None:
    """The edges of the image stay where they were: outer sides of pixels, which lie half a pixel from their centres."""
    plain = {row["key"]: row for row in load(folder / "out", "ct", view=Clip(1, step=30), planes="coronal")}
    output = Output((height, width), resize, masks)
    for row in load(folder / "out", "ct", view=Clip(1, step=30), planes="coronal", decode=output):
        old, new = np.array(plain[row["key"]]["affine"]), np.array(row["affine"])
        rows, columns = row["original_size"]
        factors = [height / rows, width / columns]
        if resize != "stretch":
            factors = [(min if resize == "pad" else max)(factors)] * 2
        whole = [max(1, int(side * factor + 0.5)) for side, factor in zip((rows, columns), factors, strict=True)]
        start = [(whole[0] - height) // 2, (whole[1] - width) // 2] if resize == "crop" else [0, 0]
        for corner in itertools.product((0, 1), (0, 1)):
            before = [columns * corner[1] - 0.5, rows * corner[0] - 0.5, 0, 1]
            after = [whole[1] * corner[1] - start[1] - 0.5, whole[0] * corner[0] - start[0] - 0.5, 0, 1]
            assert np.allclose(old @ before, new @ after)
        assert [entry["area"] for entry in row["masks"]] == decode_masks(row).sum(axis=(1, 2, 3)).tolist()


def test_windows_and_normalisations_are_those_of_images(folder: Path) -> None:
    for output in (
        Output(window=(40, 400)),
        Output(window="volume", channels=3),
        Output((50, 50), window="slice"),
        Output(48, "crop", window="lung", normalise="sam"),
        Output((64, 50), window="bone", normalise="imagenet"),
    ):
        images = {(row["case"], row["index"]): row for row in load(folder / "out", "ct", planes="axial", decode=output)}
        for row in load(folder / "out", "ct", view="volume", planes="axial", decode=output):
            assert row["image"].dtype == (np.uint8 if output.normalise is None else np.float32)
            for at in row["indices"]:
                assert np.array_equal(row["image"][at], images[row["case"], at]["image"])
    with pytest.raises(DatasetError, match="say which values become 0 to 255 with window"):
        list(load(folder / "out", "ct", view="clip", decode=Output(normalise="sam")))


def test_batches_of_clips(folder: Path) -> None:
    rows = list(load(folder / "out", "ct", view=Clip(3), decode=Output(32, window=(40, 400)), planes=list(PLANES)))
    assert {row["image"].shape for row in rows} == {(3, 32, 32, 3)}
    assert {tuple(row["original_size"]) for row in rows} == {(40, 36), (24, 36), (24, 40)}
    batch = collate(rows)
    stacks = [decode_masks(row) for row in rows]
    assert batch["image"].shape == (len(rows), 3, 32, 32, 3)
    assert np.array_equal(batch["mask"], np.concatenate(stacks))
    assert batch["owner"].tolist() == [at for at, stack in enumerate(stacks) for _ in stack]
    assert batch["affine"].shape == (len(rows), 4, 4)
    for mask, owner, entry in zip(batch["mask"], batch["owner"], batch["masks"], strict=True):
        assert mask.sum() == entry["area"] > 0
        assert not (mask & ~(rows[owner]["mask"].reshape(3, -1, 32, 32) == entry["id"]).any(axis=1)).any()
    with pytest.raises(DatasetError, match=r"differ in size: .*decode=Output\(size=\.\.\.\), as clips"):
        collate(list(load(folder / "out", "ct", view="volume", planes=list(PLANES))))


def test_objects_of_volumes_as_masks(folder: Path) -> None:
    for row in load(folder / "out", "ct", view="volume"):
        depth, height, width = row["image"].shape
        layers = row["mask"].reshape(depth, -1, height, width)
        for entry, mask in zip(row["masks"], decode_masks(row), strict=True):
            assert np.array_equal(mask, layers[:, entry["layer"]] == entry["id"])
            assert mask.sum() == entry["area"]
    with pytest.raises(DatasetError, match="was changed after it was stored"):
        decode_masks({**row, "mask": row["mask"] // 2})
    with pytest.raises(DatasetError, match="no stack of layers"):
        decode_masks({**row, "mask": row["mask"][:, 1:]})


def test_tensors_of_volumes(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    for size, channels in ((None, 1), ((30, 25), 3)):
        arrays = list(load(folder / "out", "ct", view="volume", decode=Output(size)))
        for row, array in zip(
            load(folder / "out", "ct", view="volume", decode=Output(size, kind="torch")), arrays, strict=True
        ):
            assert row["image"].shape == (24, channels, *(size or (40, 36)))
            assert np.array_equal(
                row["image"].permute(0, 2, 3, 1).numpy(),
                np.atleast_3d(array["image"]).reshape(row["image"].permute(0, 2, 3, 1).shape),
            )
            assert row["mask"].dtype == torch.int32
            assert np.array_equal(row["mask"].numpy(), array["mask"])
            assert np.array_equal(decode_masks(row), decode_masks(array))
    plain = next(iter(load(folder / "out", "ct", view="volume", decode="torch")))
    assert plain["image"].shape == (24, 1, 40, 36)
    rows = load(
        folder / "out",
        "ct",
        view=Clip(2),
        planes=list(PLANES),
        decode=Output(16, window="lung", normalise="sam", kind="torch"),
    )
    seen = 0
    for batch in torch.utils.data.DataLoader(rows, 4, num_workers=2, collate_fn=collate):
        assert batch["image"].shape[1:] == (2, 3, 16, 16)
        assert batch["mask"].shape == (len(batch["owner"]), 2, 16, 16)
        seen += len(batch["key"])
    assert seen == len(rows)


@pytest.mark.parametrize("normalise", [None, "sam"])
def test_slices_that_are_not_there_are_dark(folder: Path, normalise: Any) -> None:
    """As dark as the darkest pixel that is there, within the image; what is padded is 0, as of images."""
    output = Output((60, 36), window="slice", normalise=normalise)
    for row in load(folder / "out", "ct", view="volume", planes="axial", decode=output):
        missing = sorted(set(range(24)) - set(row["indices"]))
        assert missing
        darkest = (np.array([0, 0, 0]) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375] if normalise else 0
        assert np.allclose(row["image"][missing, :40], darkest, atol=1e-5)
        assert not row["image"][:, 40:].any()


def test_a_grey_slice_among_coloured_ones(tmp_path: Path) -> None:
    colour = np.random.default_rng(1).integers(5, 255, (160, 200, 3), np.uint8)
    grey = np.random.default_rng(2).integers(3, 255, (160, 200), np.uint8)
    slices = zip((0, 2), (colour, grey), strict=True)
    out = write_dataset(tmp_path, [replace(handmade_slice(at), image=png(pixels)) for at, pixels in slices])
    (row,) = load(out, view="volume")
    assert row["image"].shape == (3, 160, 200, 3)
    assert np.array_equal(row["image"][0], colour[..., ::-1])  # OpenCV writes blue, green, red
    assert (row["image"][2] == grey[..., np.newaxis]).all()
    assert (row["image"][1] == 3).all()
    (row,) = load(out, view="volume", decode=Output(channels=1))
    assert np.abs(row["image"][0] - cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)).max() < 0.6
    (row,) = load(out, view="volume", decode=Output(64, window="slice"))
    assert (row["image"].shape, row["image"].dtype) == ((3, 64, 64, 3), np.uint8)
