"""Folders that only their names describe: ``sources init`` drafts a recipe, and it builds as it is."""

from __future__ import annotations

import gzip
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import PIL.Image
import pytest

from builder.layouts.names import named_file, without_role
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.volumes import ct_like, organ_map


@dataclass(frozen=True)
class Tree:
    """A folder, and what should be made of it.

    Attributes:
        files: Its images and masks; those whose path a pattern of the draft takes for masks hold 0 and 255 or, in
            volumes, 0 to 2.
        masks: Which of them are masks.
        image: Pattern of the draft.
        mask: Pattern of the draft.
        cases: How many are built.
    """

    files: tuple[str, ...]
    masks: tuple[str, ...]
    image: str
    mask: str
    cases: int


def tree(images: str, masks: str, image: str, mask: str, cases: int) -> Tree:
    return Tree((*images.split(), *masks.split()), tuple(masks.split()), image, mask, cases)


TREES = {
    "two folders": tree(
        "images/a.png images/b.png", "masks/a.png masks/b.png", "images/{case}.png", "masks/{case}.png", 2
    ),
    "other words": tree("img/a.png img/b.png", "gt/a.png gt/b.png", "img/{case}.png", "gt/{case}.png", 2),
    "role in both folder and name": tree(
        "data/images/image_1.png data/images/image_2.png",
        "data/labels/label_1.png data/labels/label_2.png",
        "data/images/image_{case}.png",
        "data/labels/label_{case}.png",
        2,
    ),
    "suffix": tree("a.png b.png", "a_mask.png b_mask.png", "{case}.png", "{case}_mask.png", 2),
    "two suffixes": tree(
        "x/p1_image.nrrd x/p2_image.nrrd",
        "x/p1_label.nrrd x/p2_label.nrrd",
        "x/{case}_image.nrrd",
        "x/{case}_label.nrrd",
        2,
    ),
    "splits above": tree(
        "train/images/a.png train/images/b.png test/images/c.png",
        "train/masks/a.png train/masks/b.png test/masks/c.png",
        "{split}/images/{case}.png",
        "{split}/masks/{case}.png",
        3,
    ),
    "splits below": tree(
        "images/train/a.png images/val/b.png images/test/c.png",
        "annotations/train/a.png annotations/val/b.png annotations/test/c.png",
        "images/{split}/{case}.png",
        "annotations/{split}/{case}.png",
        3,
    ),
    "a folder a case": tree(
        "p1/ct.nii.gz p2/ct.nii.gz", "p1/seg.nii.gz p2/seg.nii.gz", "{case}/ct.nii.gz", "{case}/seg.nii.gz", 2
    ),
    "a folder a case, MetaImage": tree(
        "p1/ct.mha p2/ct.mha", "p1/seg.mha p2/seg.mha", "{case}/ct.mha", "{case}/seg.mha", 2
    ),
    "a folder and its name": tree(
        "p1/p1_ct.nii.gz p2/p2_ct.nii.gz",
        "p1/p1_seg.nii.gz p2/p2_seg.nii.gz",
        "{case}/{case}_ct.nii.gz",
        "{case}/{case}_seg.nii.gz",
        2,
    ),
    "sequences that share a mask": tree(
        "p1/p1_t1.nii.gz p1/p1_flair.nii.gz p2/p2_t1.nii.gz p2/p2_flair.nii.gz",
        "p1/p1_seg.nii.gz p2/p2_seg.nii.gz",
        "{case}/{case}_{submodality}.nii.gz",
        "{case}/{case}_seg.nii.gz",
        2,
    ),
    "one file a class": tree(
        "p1/ct.nii.gz p2/ct.nii.gz",
        "p1/segmentations/liver.nii.gz p1/segmentations/spleen.nii.gz p2/segmentations/liver.nii.gz",
        "{case}/ct.nii.gz",
        "{case}/segmentations/{label}.nii.gz",
        2,
    ),
    "one file a class, by suffix": tree(
        "images/a_1.png images/b_1.png",
        "masks/a_1_liver.png masks/a_1_spleen.png masks/b_1_liver.png",
        "images/{case}.png",
        "masks/{case}_{label}.png",
        2,
    ),
    "one folder a class": tree(
        "images/a.png images/b.png",
        "masks/liver/a.png masks/spleen/a.png masks/liver/b.png",
        "images/{case}.png",
        "masks/{label}/{case}.png",
        2,
    ),
    "patients": tree(
        "p1/images/a.png p1/images/b.png p2/images/a.png",
        "p1/masks/a.png p1/masks/b.png p2/masks/a.png",
        "{patient}/images/{case}.png",
        "{patient}/masks/{case}.png",
        3,
    ),
    "patients and studies": tree(
        "p1/s1/ct.nii.gz p1/s2/ct.nii.gz p2/s1/ct.nii.gz",
        "p1/s1/seg.nii.gz p1/s2/seg.nii.gz p2/s1/seg.nii.gz",
        "{patient}/{case}/ct.nii.gz",
        "{patient}/{case}/seg.nii.gz",
        3,
    ),
    "no word for masks": tree(
        "a/one.nii.gz b/one.nii.gz", "a/two.nii.gz b/two.nii.gz", "{case}/one.nii.gz", "{case}/two.nii.gz", 2
    ),
    "nnU-Net folders without their description": tree(
        "imagesTr/x_1_0000.nii.gz imagesTr/x_2_0000.nii.gz",
        "labelsTr/x_1.nii.gz labelsTr/x_2.nii.gz",
        "imagesTr/{case}_0000.nii.gz",
        "labelsTr/{case}.nii.gz",
        2,
    ),
    "channels of nnU-Net": tree(
        "imagesTr/x_1_0000.nii.gz imagesTr/x_1_0001.nii.gz imagesTr/x_2_0000.nii.gz imagesTr/x_2_0001.nii.gz",
        "labelsTr/x_1.nii.gz labelsTr/x_2.nii.gz",
        "imagesTr/{case}_{submodality}.nii.gz",
        "labelsTr/{case}.nii.gz",
        2,
    ),
    "names that begin with their folder, each with a mask": tree(
        "benign/benign(1).png benign/benign(2).png malignant/malignant(1).png",
        "benign/benign(1)_mask.png benign/benign(2)_mask.png malignant/malignant(1)_mask.png",
        "{patient}/{case}.png",
        "{patient}/{case}_mask.png",
        3,
    ),
    "NumPy arrays": tree(
        "P1/data.npy P2/data.npy", "P1/gt_alpha.npy P2/gt_alpha.npy", "{case}/data.npy", "{case}/gt_alpha.npy", 2
    ),
    "HDF5 arrays": tree("images/a.h5 images/b.h5", "masks/a.h5 masks/b.h5", "images/{case}.h5", "masks/{case}.h5", 2),
    "GIF masks of TIFF": tree(
        "images/21_training.tif images/22_training.tif",
        "manual/21_manual.gif manual/22_manual.gif",
        "images/{case}_training.tif",
        "manual/{case}_manual.gif",
        2,
    ),
    "Netpbm in gzip": tree(
        "images/im1.ppm.gz images/im2.ppm.gz",
        "labels/im1.ppm.gz labels/im2.ppm.gz",
        "images/{case}.ppm.gz",
        "labels/{case}.ppm.gz",
        2,
    ),
    "outlines in XML": tree(
        "Tissue/a.tif Tissue/b.tif", "Outlines/a.xml Outlines/b.xml", "Tissue/{case}.tif", "Outlines/{case}.xml", 2
    ),
    "Decathlon folders without their description": tree(
        "imagesTr/x_1.nii.gz imagesTr/x_2.nii.gz",
        "labelsTr/x_1.nii.gz labelsTr/x_2.nii.gz",
        "imagesTr/{case}.nii.gz",
        "labelsTr/{case}.nii.gz",
        2,
    ),
}


def write(path: Path, *, mask: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    square = np.zeros((48, 48), np.uint8)
    square[8:30, 10:40] = 255
    picture = PIL.Image.fromarray(square if mask else np.arange(48 * 48).reshape(48, 48).astype(np.uint8))
    if path.suffix in (".png", ".gif", ".tif"):
        picture.save(path)
    elif path.name.endswith(".ppm.gz"):
        plain = path.with_suffix("")
        picture.save(plain)
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    elif path.suffix == ".npy":
        np.save(path, organ_map() if mask else ct_like())
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["array"] = organ_map() if mask else ct_like()
    elif path.suffix == ".xml":
        corners = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((10, 8), (40, 8), (40, 30), (10, 30)))
        region = f"<Region><Vertices>{corners}</Vertices></Region>"
        path.write_text(f'<Annotations><Annotation Name="tumor"><Regions>{region}</Regions></Annotation></Annotations>')
    elif path.name.endswith(".nii.gz"):
        write_nifti(path, organ_map() if mask else ct_like())
    else:
        import SimpleITK as sitk  # noqa: N813, PLC0415 - half a second that most trees need not pay

        sitk.WriteImage(sitk.GetImageFromArray(organ_map() if mask else ct_like()), str(path))


def init(sa_med2d: Command, folder: Path) -> str:
    named = ("--name", "Draft", "--license", "CC-BY-4.0", "--modality", "ct")
    ran = sa_med2d("sources", "init", "--from", folder, *named)
    assert ran.code == 0, ran.err
    return ran.out


@pytest.mark.parametrize("name", TREES)
def test_a_draft_builds_as_it_is(sa_med2d: Command, tmp_path: Path, name: str) -> None:
    given = TREES[name]
    for path in given.files:
        write(tmp_path / "raw" / path, mask=path in given.masks)
    text = init(sa_med2d, tmp_path / "raw")
    recipe = tomllib.loads(text)
    assert (recipe["files"]["image"], recipe["files"]["mask"]) == (given.image, given.mask)
    assert text.startswith("# tried: ")
    (tmp_path / "Draft.toml").write_text(text)
    where = ("--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1, "--json")
    built = sa_med2d("build", tmp_path / "Draft.toml", *where)
    assert built.code == 0, built.err
    (source,) = json.loads(built.out)["sources"]
    assert source["cases"] == given.cases
    assert not source["images_without_mask"]
    assert not source["masks_without_image"]


def test_the_top_says_what_a_person_must_fill_in(sa_med2d: Command, tmp_path: Path) -> None:
    for case in ("p1_slice_01", "p1_slice_02", "p2_slice_01"):
        write(tmp_path / f"raw/images/{case}.png", mask=False)
        write(tmp_path / f"raw/masks/{case}.png", mask=True)
    write(tmp_path / "raw/images/p3_slice_01.png", mask=False)
    text = init(sa_med2d, tmp_path / "raw")
    assert "# TO DO: [labels]: the files do not say what their masks show; write a class for each class_..." in text
    assert "# TO DO: files.patient: names share a beginning, taken for the patient ({patient}_slice_{*})" in text
    assert "# 1 of 7 image files fit nothing and are left out, such as images/p3_slice_01.png" in text
    assert tomllib.loads(text)["files"]["patient"] == "{patient}_slice_{*}"


def test_a_draft_that_does_not_build_says_so(sa_med2d: Command, tmp_path: Path) -> None:
    for case in ("a", "b"):
        write(tmp_path / f"raw/images/{case}.png", mask=False)
        write(tmp_path / f"raw/masks/{case}.png", mask=True)
    PIL.Image.fromarray(np.zeros((20, 48), np.uint8)).save(tmp_path / "raw/masks/b.png")
    text = init(sa_med2d, tmp_path / "raw")
    assert text.startswith("# TO DO: tried: 1 of 2 cases can be built, 1 cannot\n# TO DO: masks/b.png: grid: ")


@pytest.mark.parametrize("kind", ["jpeg", "blended", "colours", "objects", "values", "probabilities"])
def test_how_masks_say_classes_is_seen_in_their_pixels(sa_med2d: Command, tmp_path: Path, kind: str) -> None:
    write(tmp_path / "raw/images/a.png", mask=False)
    (tmp_path / "raw/masks").mkdir()
    square = np.zeros((48, 48), np.uint8)
    square[8:30, 10:40] = 255
    where, ending = tmp_path / "raw/masks/a", ".png"
    expected: tuple[list[str], dict[str, object]]
    if kind == "jpeg":
        ending = ".jpg"
        PIL.Image.fromarray(square).save(where.with_suffix(ending), quality=70)
        expected = ["255"], {"threshold": 128}
    elif kind == "blended":
        PIL.Image.fromarray(square).rotate(10, PIL.Image.Resampling.BICUBIC).save(where.with_suffix(ending))
        expected = ["255"], {"threshold": 128}
    elif kind == "colours":
        colours = np.zeros((96, 96, 3), np.uint8)
        colours[4:44, 4:44], colours[50:90, 50:90] = (255, 0, 0), (0, 255, 255)
        small = PIL.Image.fromarray(colours).resize((48, 48), PIL.Image.Resampling.BICUBIC, box=(1, 1, 94, 94))
        small.save(where.with_suffix(ending))
        expected = ["#00ffff", "#ff0000"], {"color_match": "nearest"}
    elif kind == "objects":
        numbers = np.zeros((48, 48), np.uint16)
        for number in range(30):
            row, column = divmod(number, 6)
            numbers[row * 8 : row * 8 + 6, column * 8 : column * 8 + 6] = 3 * number + 1
        PIL.Image.fromarray(numbers).save(where.with_suffix(ending))
        expected = ["*"], {"instances": True, "min_area": 0}
    elif kind == "values":
        PIL.Image.fromarray(square // 85 + (square.T > 0)).save(where.with_suffix(ending))
        expected = ["1", "3", "4"], {}
    else:
        ending = ".tif"
        PIL.Image.fromarray(square / np.float32(255) * np.float32(0.9)).save(where.with_suffix(ending))
        expected = ["1"], {"threshold": pytest.approx(0.45)}
    text = init(sa_med2d, tmp_path / "raw")
    recipe = tomllib.loads(text)
    assert sorted(recipe["labels"]) == expected[0]
    assert recipe.get("masks", {}) == expected[1]
    assert text.startswith("# tried: the case can be built"), text


def test_a_folder_without_pairs_says_what_it_holds(sa_med2d: Command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"raw/{name}.png", mask=False)
    ran = sa_med2d("sources", "init", "--from", tmp_path / "raw", "--name", "D", "--license", "MIT", "--modality", "ct")
    assert ran.code == 1
    assert "2 images such as a.png, b.png; 0 masks such as none" in ran.err


@pytest.mark.parametrize(
    ("folder", "cases"),
    [
        ("ccaus-ultrasound", 6),
        ("isic2017-dermoscopy", 2),
        ("idrid-fundus", 3),
        ("pannuke-histology", 4),
        ("pyradiomics-nrrd", 3),
        ("stardist-nuclei", 2),
        ("sam-med2d-demo", 4),
        ("elastix-metaimage", 2),
        ("totalsegmentator-aorta-overlap", 1),
        ("mammogram-density-xray", 10),
    ],
)
def test_real_sets_build_from_their_draft(
    sa_med2d: Command, corpus: Path, tmp_path: Path, folder: str, cases: int
) -> None:
    (tmp_path / "Draft.toml").write_text(init(sa_med2d, corpus / folder))
    where = ("--raw", corpus / folder, "--out", tmp_path / "out", "--json")
    built = sa_med2d("build", tmp_path / "Draft.toml", *where)
    assert built.code == 0, built.err
    (source,) = json.loads(built.out)["sources"]
    assert source["cases"] + len(source["without_sample"]) == cases


def test_colours_of_real_masks_are_those_of_their_classes(sa_med2d: Command, corpus: Path) -> None:
    """The masks were scaled with interpolation: 38 colours, four of which are classes (README of the corpus)."""
    recipe = tomllib.loads(init(sa_med2d, corpus / "pannuke-histology"))
    assert set(recipe["labels"]) == {"#0000ff", "#00ffff", "#ff0000", "#00ff00"}


def test_a_name_that_no_pattern_can_say_is_left_out(sa_med2d: Command, tmp_path: Path) -> None:
    for name in ("a", "b", "{c}"):
        write(tmp_path / f"raw/images/{name}.png", mask=False)
        write(tmp_path / f"raw/masks/{name}.png", mask=True)
    write(tmp_path / "raw/masks/other.png", mask=True)
    text = init(sa_med2d, tmp_path / "raw")
    assert tomllib.loads(text)["files"] == {"image": "images/{case}.png", "mask": "masks/{case}.png"}
    assert "files whose names hold braces or a backslash, or are no UTF-8" in text


@pytest.mark.parametrize(
    ("path", "core", "is_mask"),
    [
        ("masks/image_01.png", "01", True),
        ("images/mask2d.tif", "2d", True),
        ("x/unmasked.png", "unmasked", False),
        ("segmentation_set/images/a.png", "a", False),
        ("Training_GroundTruth/ISIC_1_segmentation.png", "ISIC_1", True),
        ("x/prostate-label.nrrd", "prostate", True),
        ("trainMasks/a.png", "a", True),
    ],
)
def test_what_a_name_says(path: str, core: str, is_mask: bool) -> None:
    found = named_file(path)
    assert found is not None
    assert (found.core, found.says_mask) == (core, is_mask)


@pytest.mark.parametrize(
    ("folder", "rest"), [("train_masks", "train"), ("imagesTr", "Tr"), ("images", ""), ("p01", "p01")]
)
def test_what_is_left_of_a_folder(folder: str, rest: str) -> None:
    assert without_role(folder) == rest
