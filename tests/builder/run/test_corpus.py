"""Real public images with masks: each set builds, and what comes out is what other libraries make of the files."""

from __future__ import annotations

import io
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import scipy.ndimage
import SimpleITK as sitk  # noqa: N813

from sa_med2d_20m import DatasetError, decode_masks, load
from tests.support.command import Command, Ran
from tests.support.output import members
from tests.support.places import RECIPES

Array = npt.NDArray[Any]
Object = tuple[str, tuple[int, int, int, int], bytes]
"""A mask: class, box (x, y, width, height) and the packed pixels inside the box."""


# --- what a set should give, by nibabel, SimpleITK, SciPy and Pillow ---------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """A case as other libraries read it: a (Z, Y, X) LPS volume or a picture, and its masks by class."""

    image: Array
    masks: list[tuple[str, Array]]


Cases = dict[str, Expected]


def lps(path: Path) -> Array:
    array: Array = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS"))
    return array


def picture(path: Path) -> Array:
    """A picture by Pillow, greyscale where its channels are equal."""
    pixels = np.asarray(PIL.Image.open(path))
    equal = pixels.ndim == 3 and (pixels == pixels[..., :1]).all()
    return pixels[..., 0] if equal else pixels


def voxels(path: Path) -> Array:
    return np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj)


def recipe(name: str) -> dict[str, Any]:
    return tomllib.loads((RECIPES / f"{name}.toml").read_text())


def by_value(labels: Array, names: dict[str, Any]) -> list[tuple[str, Array]]:
    """The classes of a label map; all its values must be named."""
    assert {str(value) for value in np.unique(labels) if value} <= set(names)
    return [(name, labels == int(value)) for value, name in names.items()]


def volumes(set_name: str, files: dict[str, tuple[str, str]], folder: Path) -> Cases:
    names = {
        value: label if isinstance(label, str) else label["label"]
        for value, label in recipe(set_name)["labels"].items()
    }
    return {
        case: Expected(lps(folder / image), by_value(lps(folder / mask), names))
        for case, (image, mask) in files.items()
    }


CANONICAL = {
    "T710_renal": "aortic_vessel_tree",
    "T713_annulus_proper": "aortic_annulus_and_sinotubular_junction",
    "T716_aorta_true_false_lumen": "aorta_true_and_false_lumen",
    "annulus_proper": "aortic_annulus",
    "organ_aorta_T264": "aorta",
    "sinotubular_junction": "aortic_sinotubular_junction",
}


def files_of_classes(image: str, masks: str, case: str, folder: Path) -> Cases:
    """One file per class; files that mean one class are joined."""
    joined: dict[str, Array] = {}
    for path in sorted(folder.glob(masks)):
        if path.name == Path(image).name:
            continue
        stem = path.name.removesuffix(".nii.gz")
        name, binary = CANONICAL.get(stem, stem), lps(path) != 0
        joined[name] = joined[name] | binary if name in joined else binary
    return {case: Expected(lps(folder / image), list(joined.items()))}


def flat_metaimages(files: dict[str, tuple[str, str]], folder: Path) -> Cases:
    def read(name: str) -> Array:
        array: Array = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / name)))
        return array

    return {case: Expected(read(image), [("head", read(mask) == 1)]) for case, (image, mask) in files.items()}


def thresholded(label: str, ending: str, folder: Path) -> Cases:
    """Pairs of pictures with one class, foreground from 128."""
    return {
        path.stem: Expected(picture(path), [(label, grey(folder / "masks" / f"{path.stem}{ending}") >= 128)])
        for path in sorted((folder / "images").iterdir())
    }


def grey(path: Path) -> Array:
    return np.asarray(PIL.Image.open(path).convert("L"))


PANNUKE = {
    (0, 1, 0): "neoplastic_cell",
    (0, 0, 1): "inflammatory_cell",
    (1, 0, 0): "connective_tissue_cell",
    (0, 1, 1): "dead_cell",
    (1, 1, 0): "epithelial_cell",
}


def pannuke(folder: Path) -> Cases:
    """Edges are blends of one class colour with black, so the nearest colour is each channel rounded."""
    cases = {}
    for path in sorted((folder / "images").iterdir()):
        rounded = np.asarray(PIL.Image.open(folder / "masks" / path.name)) > 127
        masks = [(name, (rounded == np.array(colour, bool)).all(axis=2)) for colour, name in PANNUKE.items()]
        cases[path.stem] = Expected(picture(path), masks)
    return cases


def pages(path: Path) -> Array:
    with PIL.Image.open(path) as image:
        stack = []
        for page in range(getattr(image, "n_frames", 1)):
            image.seek(page)
            stack.append(np.asarray(image).copy())
    return np.stack(stack) if len(stack) > 1 else stack[0]


def stardist(folder: Path) -> Cases:
    """Each value of an instance map is an object of its own."""
    cases = {}
    for case in ("2d", "3d"):
        instances = pages(folder / f"data/images/mask{case}.tif")
        masks = [("nucleus", instances == value) for value in np.unique(instances) if value]
        cases[case] = Expected(pages(folder / f"data/images/img{case}.tif"), masks)
    return cases


def sam_demo(folder: Path) -> Cases:
    """One file per object; the objects of a class are joined."""
    cases = {}
    for path in sorted((folder / "data_demo/images").iterdir()):
        files = sorted((folder / "data_demo/masks").glob(f"{path.stem}_*.png"))
        names = [file.stem.removeprefix(f"{path.stem}_").rsplit("_", 1)[0] for file in files]
        masks = [(name, grey(file) == 255) for name, file in zip(names, files, strict=True)]
        cases[path.stem] = joined_classes(Expected(picture(path), masks))
    return cases


def joined_classes(found: Expected) -> Expected:
    names = dict.fromkeys(name for name, _ in found.masks)
    union = [(name, np.logical_or.reduce([mask for own, mask in found.masks if own == name])) for name in names]
    return Expected(found.image, union)


def objects(masks: list[tuple[str, Array]]) -> list[Object]:
    """The 8-connected components of each class by SciPy, without those below 100 / 65536 of the image."""
    found = []
    for name, binary in masks:
        if not binary.any():
            continue
        labels, _ = scipy.ndimage.label(binary, np.ones((3, 3)))
        areas = np.bincount(labels.ravel())
        boxes = scipy.ndimage.find_objects(labels)
        kept = [n for n in range(1, areas.size) if areas[n] * 65536 >= 100 * binary.size]
        found += [(name, *cut_out(labels, n, boxes[n - 1])) for n in kept]
    return sorted(found)


def cut_out(labels: Array, number: int, box: tuple[slice, slice]) -> tuple[tuple[int, int, int, int], bytes]:
    rows, columns = box
    size = (columns.stop - columns.start, rows.stop - rows.start)
    return (columns.start, rows.start, *size), np.packbits(labels[box] == number).tobytes()


AXES: list[tuple[str, Callable[[Array], Array]]] = [
    ("x", lambda volume: volume),
    ("y", lambda volume: volume[::-1].swapaxes(0, 1)),
    ("z", lambda volume: np.moveaxis(volume[::-1], 2, 0)),
]


def planes(case: Expected) -> Iterator[tuple[str, int | None, Array, list[tuple[str, Array]]]]:
    """Axis, index, image and masks of each plane that is wide enough."""
    if case.image.ndim == 2 or case.image.shape[2] == 3:
        yield "2d", None, case.image, case.masks
        return
    for axis, along in AXES:
        image, masks = along(case.image), [(name, along(mask)) for name, mask in case.masks if mask.any()]
        if 2 * min(image.shape[1:]) >= max(image.shape[1:]):
            for index, values in enumerate(image):
                yield axis, index, values, [(name, mask[index]) for name, mask in masks]


def pixels(values: Array) -> Array:
    """8-bit pictures as they are, all else by the formula of the design."""
    if values.dtype == np.uint8:
        return values
    low, high = float(values.min()), float(values.max())
    return np.round((values.astype(float) - low) / (high - low) * 255).astype(np.uint8)


Sample = tuple[str, str, int | None]


def expected_samples(cases: Cases, *, ct: bool = False) -> dict[Sample, tuple[Array, list[Object]]]:
    expected = {}
    for name, case in cases.items():
        slices = list(planes(case))
        if (
            ct and min(values.min() for _, _, values, _ in slices) <= -900
        ):  # a CT in HU: padding counts as air, metal as 3071
            slices = [(axis, index, np.clip(values, -1024, 3071), masks) for axis, index, values, masks in slices]
        for axis, index, values, masks in slices:
            found = objects(masks)
            if found and values.min() != values.max():
                expected[name, axis, index] = (pixels(values), found)
    return expected


# --- what a set did give ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Built:
    """A set that was built: how the command ended, and the samples by case, axis and slice."""

    out: Path
    ran: Ran
    samples: dict[Sample, dict[str, bytes]]

    def records(self) -> Iterator[tuple[dict[str, Any], npt.NDArray[np.bool_]]]:
        """Metadata and decoded masks of each sample."""
        for sample in self.samples.values():
            yield json.loads(sample["json"]), decode_masks(sample)

    def labels(self) -> Counter[str]:
        return Counter(
            mask["label"] for sample in self.samples.values() for mask in json.loads(sample["json"])["masks"]
        )

    def build_file(self, kind: str) -> Any:
        (path,) = (self.out / "build" / kind).rglob("*.json")
        return json.loads(path.read_text())


def read_samples(out: Path) -> dict[Sample, dict[str, bytes]]:
    by_key: dict[str, dict[str, bytes]] = {}
    for name, data in members(out):
        key, member = name.split(".", 1)
        by_key.setdefault(key, {})[member] = data
    records = ((json.loads(sample["json"]), sample) for sample in by_key.values())
    return {(record["case"], record["axis"], record["index"]): sample for record, sample in records}


def stored_objects(sample: dict[str, bytes]) -> list[Object]:
    """The masks of a sample, its label map decoded by Pillow."""
    record = json.loads(sample["json"])
    stack = np.asarray(PIL.Image.open(io.BytesIO(sample["mask.png"]))).astype(np.int32)
    layers = stack.reshape(-1, record["height"], record["width"])
    boxes = [scipy.ndimage.find_objects(layer) for layer in layers]
    return sorted(
        (mask["label"], *cut_out(layers[mask["layer"]], mask["id"], boxes[mask["layer"]][mask["id"] - 1]))
        for mask in record["masks"]
    )


@dataclass(frozen=True)
class Set:
    """A set of the corpus.

    Attributes:
        folder: In the corpus.
        cases: Cases with at least one sample.
        expected: What other libraries read.
        quarantined: Cases in quarantine; the exit code is 3 if there are any, and 1 where no sample is left.
    """

    folder: str
    cases: int
    expected: Callable[[Path], Cases]
    quarantined: int = 0


def nothing(_: Path) -> Cases:
    return {}


def pairs(text: str, *cases: str) -> dict[str, tuple[str, str]]:
    image, mask = text.split(" ")
    return {case: (image.format(case), mask.format(case)) for case in cases}


TOTAL_CT = {"example": ("example_ct_sm.nii.gz", "example_seg.nii.gz")}
TOTAL_MR = {"example": ("example_mr_sm.nii.gz", "example_seg_mr.nii.gz")}
BRAIN = pairs("data/brain{0}_image.nrrd data/brain{0}_label.nrrd", "1", "2")
BREAST = pairs("data/breast{0}_image.nrrd data/breast{0}_label.nrrd", "1")
PROSTATE = pairs("data/{0}_subvolume.nrrd data/{0}_subvolume-label.nrrd", "prostate_phantom")
MHA_HEAD = pairs(
    "itkelastix-examples-data/CT_2D_head_{0}.mha itkelastix-examples-data/CT_2D_head_{0}_mask.mha", "fixed", "moving"
)
MHD_HEAD = pairs("elastix/exampleinput/{0}.mhd elastix/exampleinput/mask_{0}.mhd", "fixed", "moving")

SETS = {
    "TotalSegmentator_CT": Set("totalsegmentator", 1, partial(volumes, "TotalSegmentator_CT", TOTAL_CT)),
    "TotalSegmentator_MR": Set("totalsegmentator", 1, partial(volumes, "TotalSegmentator_MR", TOTAL_MR)),
    "TotalSegmentator_fast": Set(
        "totalsegmentator", 1, partial(files_of_classes, "example_ct_sm.nii.gz", "example_seg_fast/*.nii.gz", "example")
    ),
    "TotalSegmentator_mismatch": Set("totalsegmentator", 0, nothing, quarantined=1),
    "TotalSegmentator_aorta": Set(
        "totalsegmentator-aorta-overlap",
        1,
        partial(files_of_classes, "models/ct_cropped.nii.gz", "models/*.nii.gz", "models"),
    ),
    "PyRadiomics_brain": Set("pyradiomics-nrrd", 2, partial(volumes, "PyRadiomics_brain", BRAIN)),
    "PyRadiomics_breast": Set("pyradiomics-nrrd", 0, partial(volumes, "PyRadiomics_breast", BREAST)),
    "PyRadiomics_prostate": Set("pyradiomics-nrrd", 1, partial(volumes, "PyRadiomics_prostate", PROSTATE)),
    "ITKElastix_head": Set("elastix-metaimage", 2, partial(flat_metaimages, MHA_HEAD)),
    "ITKElastix_lung": Set("elastix-metaimage", 0, nothing, quarantined=1),
    "Elastix_head": Set("elastix-metaimage", 2, partial(flat_metaimages, MHD_HEAD)),
    "ISIC2017": Set("isic2017-dermoscopy", 2, partial(thresholded, "skin_lesion", "_segmentation.png")),
    "IDRiD": Set("idrid-fundus", 3, partial(thresholded, "retinal_vessel", ".jpg")),
    "CCAUS": Set("ccaus-ultrasound", 6, partial(thresholded, "common_carotid_artery", ".png")),
    "MammogramDensity": Set("mammogram-density-xray", 9, partial(thresholded, "breast_dense_tissue", ".jpg")),
    "PanNuke": Set("pannuke-histology", 4, pannuke),
    "PanNuke_exact": Set("pannuke-histology", 0, nothing, quarantined=4),
    "StarDist": Set("stardist-nuclei", 2, stardist),
    "SAMMed2D_demo": Set("sam-med2d-demo", 4, sam_demo),
}
ALL_SETS = list(SETS)


@pytest.fixture(scope="session")
def finished() -> dict[str, Built]:
    return {}


@pytest.fixture
def built(
    sa_med2d: Command, corpus: Path, finished: dict[str, Built], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Built]:
    """Builds a set by the name of its recipe, once."""

    def build(name: str) -> Built:
        if name not in finished:
            out = tmp_path_factory.mktemp(name)
            folder = corpus / SETS[name].folder
            ran = sa_med2d("build", RECIPES / f"{name}.toml", "--raw", folder, "--out", out, "--workers", 1)
            finished[name] = Built(out, ran, read_samples(out))
        return finished[name]

    return build


# --- all sets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_SETS)
def test_set_is_built(sa_med2d: Command, built: Callable[[str], Built], name: str) -> None:
    result = built(name)
    failed = SETS[name].quarantined
    assert result.ran.code == ((3 if failed else 0) if SETS[name].cases else 1), result.ran.err
    assert len({case for case, _, _ in result.samples}) == SETS[name].cases
    assert len(result.build_file("quarantine")) == SETS[name].quarantined
    verified = sa_med2d("verify", "--deep", result.out)
    if SETS[name].cases:
        assert verified.code == 0, verified.err
    else:
        assert "holds no shard" in verified.err


@pytest.mark.parametrize("name", ALL_SETS)
def test_samples_are_what_other_libraries_see(built: Callable[[str], Built], corpus: Path, name: str) -> None:
    ct = 'modality = "ct"' in (RECIPES / f"{name}.toml").read_text()
    expected = expected_samples(SETS[name].expected(corpus / SETS[name].folder), ct=ct)
    result = built(name)
    assert result.samples.keys() == expected.keys()
    for at, (image, masks) in expected.items():
        sample = result.samples[at]
        assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(sample["png"]))), image), at
        assert stored_objects(sample) == masks, at


@pytest.mark.parametrize("name", ALL_SETS)
def test_recipe_is_checked_without_unknown_classes(sa_med2d: Command, corpus: Path, tmp_path: Path, name: str) -> None:
    where = ("--raw", corpus / SETS[name].folder, "--report", tmp_path / "report.txt")
    ran = sa_med2d("sources", "check", RECIPES / f"{name}.toml", *where)
    made = SETS[name]
    assert ran.code == (1 if not made.cases else 3 if made.quarantined else 0), ran.out
    assert "publishable: yes" in ran.out
    assert "vocabulary" not in ran.out


def test_every_recipe_is_tested() -> None:
    assert {path.stem for path in RECIPES.glob("*.toml")} == {*SETS, "Elastix_lung"}


def test_several_sets_stream_from_one_folder(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    names = ("TotalSegmentator_CT", "SAMMed2D_demo", "PanNuke")
    (tmp_path / "raw").mkdir()
    for name in names:
        (tmp_path / "raw" / name).symlink_to(corpus / SETS[name].folder)
    recipes = [RECIPES / f"{name}.toml" for name in names]
    assert sa_med2d("build", *recipes, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 2).code == 0
    rows = [row for split in ("train", "test") for row in load(tmp_path / "out", "ct-commercial", split=split)]
    assert Counter(row["source"] for row in rows) == {"TotalSegmentator_CT": 30, "SAMMed2D_demo": 4}
    assert all(len(decode_masks(row)) == len(row["masks"]) > 0 for row in rows)
    assert {row["license"] for row in load(tmp_path / "out", "histopathology", split="train")} == {"CC-BY-NC-SA-4.0"}
    with pytest.raises(DatasetError, match="histopathology-commercial"):  # PanNuke is non-commercial
        load(tmp_path / "out", "histopathology-commercial")


# --- TotalSegmentator -------------------------------------------------------------------------------------------------


def test_image_of_112_slices_does_not_take_a_mask_of_30(built: Callable[[str], Built]) -> None:
    (entry,) = built("TotalSegmentator_mismatch").build_file("quarantine")
    assert (entry["stage"], entry["file"]) == ("grid", "example_seg.nii.gz")
    assert "122 x 101 x 112" in entry["reason"]
    assert "122 x 101 x 30" in entry["reason"]


def test_label_numbers_agree_with_the_files_named_by_class(corpus: Path) -> None:
    folder, names = corpus / "totalsegmentator", recipe("TotalSegmentator_CT")["labels"]
    labels = voxels(folder / "example_seg_fast.nii.gz")
    values = [value for value in np.unique(labels) if value]
    assert len(values) == 40
    for value in values:
        named = voxels(folder / "example_seg_fast" / f"{names[str(value)]}.nii.gz")
        assert np.array_equal(named != 0, labels == value), names[str(value)]


def test_empty_files_of_classes_give_no_masks(built: Callable[[str], Built], corpus: Path) -> None:
    files = sorted((corpus / "totalsegmentator/example_seg_fast").glob("*.nii.gz"))
    filled = [path.name.removesuffix(".nii.gz") for path in files if voxels(path).any()]
    assert (len(files), len(files) - len(filled)) == (117, 77)
    assert set(built("TotalSegmentator_fast").labels()) <= set(filled)


def test_flat_volumes_are_sliced_axially_only(built: Callable[[str], Built]) -> None:
    assert {axis for _, axis, _ in built("TotalSegmentator_CT").samples} == {"x"}
    assert {record["plane"] for record, _ in built("TotalSegmentator_MR").records()} == {"axial"}


def test_overlapping_masks_are_all_kept(built: Callable[[str], Built], corpus: Path) -> None:
    result, folder = built("TotalSegmentator_aorta"), corpus / "totalsegmentator-aorta-overlap/models"
    files = [voxels(path) != 0 for path in sorted(folder.glob("*.nii.gz")) if path.name != "ct_cropped.nii.gz"]
    assert (len(files), max(np.sum(files, axis=0).ravel())) == (18, 7)
    depth = 0
    for record, masks in result.records():
        depth = max(depth, int(masks.sum(axis=0).max()))
        assert len({mask["layer"] for mask in record["masks"]}) >= masks.sum(axis=0).max()
    assert depth == 6  # two of the seven files are the aorta
    assert not {"iliac_artery_left", "iliac_artery_right", "renal_arteries"} & set(result.labels())


# --- volumes in NRRD and MetaImage ------------------------------------------------------------------------------------


def test_label_values_with_gaps(built: Callable[[str], Built]) -> None:
    result = built("PyRadiomics_prostate")
    classes = {(m["class_id"], m["label"]) for record, _ in result.records() for m in record["masks"]}
    assert classes == {(f"{n:04d}", f"prostate_phantom_region_{value}") for n, value in enumerate((1, 7, 8, 9))}


def test_long_narrow_volume_leaves_no_slice(built: Callable[[str], Built]) -> None:
    assert f"edge {45 + 120 + 21}" in built("PyRadiomics_breast").ran.out


def test_mask_of_another_scan_is_refused(built: Callable[[str], Built]) -> None:
    (entry,) = built("ITKElastix_lung").build_file("quarantine")
    assert (entry["stage"], entry["file"]) == ("grid", "itkelastix-examples-data/CT_3D_lung_fixed_mask.mha")
    assert "57 x 78 x 64" in entry["reason"]
    assert "115 x 157 x 129" in entry["reason"]


def test_masks_without_image_are_listed(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    folder = "elastix/Testing/Data"
    ran = sa_med2d("build", RECIPES / "Elastix_lung.toml", "--raw", corpus / "elastix-metaimage", "--out", tmp_path)
    assert ran.code == 1
    assert "no image has a mask" in ran.err
    assert f"1 image such as {folder}/3DCT_lung_baseline_small.mha" in ran.err
    assert f"2 masks such as {folder}/3DCT_lung_followup_mask.mha" in ran.err
    assert not list(tmp_path.iterdir())


def test_raw_files_that_are_too_long(built: Callable[[str], Built], corpus: Path) -> None:
    raw = corpus / "elastix-metaimage/elastix/exampleinput/mask_fixed.raw"
    assert raw.stat().st_size == 256 * 256 + 12
    stored = np.frombuffer(raw.read_bytes(), np.int8)[: 256 * 256].reshape(256, 256) == 1
    _, masks = next((r, m) for r, m in built("Elastix_head").records() if r["case"] == "fixed")
    assert np.array_equal(masks.any(axis=0), stored)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_blended_edges_are_named_where_colours_must_be_exact(built: Callable[[str], Built], corpus: Path) -> None:
    for entry in built("PanNuke_exact").build_file("quarantine"):
        mask = np.asarray(PIL.Image.open(corpus / "pannuke-histology" / entry["file"]))
        colours = np.unique(mask.reshape(-1, 3), axis=0)
        blended = [colour for colour in colours.tolist() if not set(colour) <= {0, 255}]
        assert entry["stage"] == "gate"
        assert f"{len(blended)} colours" in entry["reason"]
        assert 'color_match = "nearest"' in entry["reason"]


def test_colour_pictures_stay_colour_and_grey_ones_become_grey(built: Callable[[str], Built]) -> None:
    modes = {
        name: {PIL.Image.open(io.BytesIO(sample["png"])).mode for sample in built(name).samples.values()}
        for name in ("CCAUS", "IDRiD", "ISIC2017", "PanNuke", "MammogramDensity", "SAMMed2D_demo")
    }
    assert modes.pop("MammogramDensity") == {"L"}
    assert modes.pop("SAMMed2D_demo") == {"L"}
    assert all(mode == {"RGB"} for mode in modes.values())


def test_frames_of_one_video_are_one_patient(built: Callable[[str], Built]) -> None:
    patients = {record["case"]: record["patient"] for record, _ in built("CCAUS").records()}
    assert len(patients) == 6
    assert len(set(patients.values())) == 5
    assert {patient for case, patient in patients.items() if "0022VAS" in case} == {"202201121748100022VAS"}


def test_instances_keep_their_ids_apart(built: Callable[[str], Built], corpus: Path) -> None:
    result = built("StarDist")
    instances = pages(corpus / "stardist-nuclei/data/images/mask2d.tif")
    assert np.unique(instances).size - 1 == 125
    merged, _ = scipy.ndimage.label(instances, np.ones((3, 3)))
    ((record, masks),) = [(r, m) for r, m in result.records() if r["axis"] == "2d"]
    assert len(record["masks"]) > len({int(merged[mask][0]) for mask in masks})  # some nuclei touch
    for mask in masks:
        assert np.unique(instances[mask]).size == 1
    stacks = [r for r, _ in result.records() if r["axis"] != "2d"]
    assert {(r["plane"], r["spacing"], r["stored_axes"]) for r in stacks} == {("unknown", None, None)}


def test_demo_masks_are_those_its_own_lists_name(built: Callable[[str], Built], corpus: Path) -> None:
    folder = corpus / "sam-med2d-demo/data_demo"
    train = json.loads((folder / "image2label_train.json").read_text())
    test = json.loads((folder / "label2image_test.json").read_text())
    named = [Path(mask).stem for masks in train.values() for mask in masks] + [Path(mask).stem for mask in test]
    ours = []
    for record, _ in built("SAMMed2D_demo").records():
        ours += [f"{record['case']}_{mask['label']}_{mask['instance']:03d}" for mask in record["masks"]]
    assert sorted(ours) == sorted(named)
    assert len(ours) == 30
    assert {"s0619_32_hip_left_000", "s0619_32_hip_left_001", "s0114_111_rib_left_9_000"} <= set(ours)


def test_demo_image_without_mask_is_listed(built: Callable[[str], Built]) -> None:
    result = built("SAMMed2D_demo")
    assert result.build_file("plan")["images_without_mask"] == ["data_demo/images/amos_0507_31.png"]
    assert "data_demo/images/amos_0507_31.png" in result.ran.err
