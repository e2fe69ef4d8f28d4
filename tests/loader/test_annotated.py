"""What a source annotates: absent classes, pixels that nobody looked at, and rows of true negatives."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.command_line import main
from sa_med2d_20m import DatasetError, Masks, Prompts, Semantic, decode_masks, load
from shards.description import read_sources
from shards.hub.manifest import Manifest
from shards.receipt import read_receipts
from tests.support.nifti import write_nifti
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map


def build(folder: Path, name: str, more: str, text: str = RECIPE) -> Path:
    recipe = folder / f"{name}.toml"
    recipe.write_text(f"keep_empty = true\n{text.format(name=name, license='MIT', modality='ct')}{more}")
    return recipe


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Abdomen annotates liver and spleen, and a speck of stomach that is too small to keep; Files annotates liver and
    kidney by one file each, of which its second case lacks that of the kidney."""
    folder = tmp_path_factory.mktemp("annotated")
    train = '[splits]\ntrain = ["*"]\n'
    labels = organ_map()
    labels[3, 30, 30] = 7
    write_nifti(folder / "raw/Abdomen/images/a.nii.gz", ct_like())
    write_nifti(folder / "raw/Abdomen/labels/a.nii.gz", labels)
    for case in "ab":
        write_nifti(folder / f"raw/Files/images/{case}.nii.gz", ct_like(7))
        for label in ("liver", "kidney")[: 2 if case == "a" else 1]:
            write_nifti(folder / f"raw/Files/labels/{case}/{label}.nii.gz", (organ_map() == 1).astype(np.uint8))
    by_file = RECIPE.split("[labels]")[0].replace("labels/{{case}}", "labels/{{case}}/{{label}}")
    recipes = [build(folder, "Abdomen", f'7 = "stomach"\n{train}'), build(folder, "Files", train, by_file)]
    command = ["build", *recipes, "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    assert main([str(part) for part in command]) == 0
    return folder / "out"


ANNOTATED = {
    ("Abdomen", "a"): {"liver", "spleen", "stomach"},
    ("Files", "a"): {"kidney", "liver"},
    ("Files", "b"): {"liver"},
}
"""As the fixture says it."""


def shown(row: dict[str, Any]) -> set[str]:
    return {entry["label"] for entry in row["masks"]}


@pytest.mark.parametrize("streaming", [True, False])
def test_absent_is_what_was_looked_for_and_is_not_there(
    out: Path, streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    rows, specks = list(load(out, "ct", streaming=streaming)), 0
    for row in rows:
        speck = {"stomach"} if row["dropped"]["masks"] else set()
        assert set(row["absent"]) == ANNOTATED[row["source"], row["case"]] - shown(row) - speck
        assert row["dropped"]["labels"] == sorted(speck)
        specks += bool(speck)
    assert specks == 3  # one voxel lies in a slice along each axis
    assert {len(row["absent"]) for row in rows if row["source"] == "Abdomen"} == {1, 2, 3}


def test_filters_do_not_make_classes_absent(out: Path) -> None:
    every = {row["key"]: row["absent"] for row in load(out, "ct")}
    for row in load(out, "ct", labels="liver"):
        assert row["absent"] == every[row["key"]]
    for row in load(out, "ct", view="mask", labels="liver"):
        assert row["absent"] == every[row["key"]]


def test_volumes_lack_what_none_of_their_slices_shows(out: Path) -> None:
    found = {(row["source"], row["case"]): row["absent"] for row in load(out, "ct", view="volume")}
    assert found == {("Abdomen", "a"): [], ("Files", "a"): [], ("Files", "b"): []}
    for row in load(out, "ct", view="clip", sources="Abdomen"):
        assert set(row["absent"]) == ANNOTATED["Abdomen", "a"] - shown(row) - set(row["dropped"]["labels"])


@pytest.mark.parametrize("classes", [["liver"], ["liver", "spleen"], ["kidney"]])
def test_pixels_that_nobody_looked_at_are_ignored(out: Path, classes: list[str]) -> None:
    plain = load(out, "ct", view=Semantic(classes))
    ignored = Counter[tuple[str, str]]()
    for row, other in zip(load(out, "ct", view=Semantic(classes, ignore=True)), plain, strict=True):
        assert row["mask"].dtype == np.uint8
        all_known = ANNOTATED[row["source"], row["case"]] >= set(classes)
        expected = other["mask"] if all_known else np.where(other["mask"] > 0, other["mask"], 255)
        assert np.array_equal(row["mask"], expected)
        ignored[row["source"], row["case"]] += int((row["mask"] == 255).sum())
    assert {case for case, count in ignored.items() if count} == {
        case for case, known in ANNOTATED.items() if not known >= set(classes)
    }


@pytest.mark.parametrize("most", [1, 2, 5])
def test_empty_masks_of_absent_classes(out: Path, most: int) -> None:
    images = {row["key"]: row for row in load(out, "ct")}
    rows = load(out, "ct", view=Masks(negatives=most, seed=3))
    held, empty = Counter[str](), Counter[str]()
    for row in rows:
        image = images[row["key"]]
        if row["area"]:
            held[row["key"]] += 1
            continue
        empty[row["key"]] += 1
        assert not row["mask"].any()
        assert row["mask"].shape == image["image"].shape
        assert row["label"] in image["absent"]
        assert (row["id"], row["bbox"]) == (0, [0, 0, 0, 0])
    assert held == Counter({key: len(row["masks"]) for key, row in images.items() if row["masks"]})
    assert empty == Counter({key: min(most, len(row["absent"])) for key, row in images.items() if row["absent"]})
    assert len(rows) == held.total() + empty.total()


def test_negatives_of_the_classes_that_are_asked_for(out: Path) -> None:
    """Images without a spleen come as negatives where their source annotates it, and only there."""
    images = {row["key"]: row for row in load(out, "ct")}
    rows = load(out, "ct", labels="spleen", view=Masks(negatives=1))
    found = [(row["key"], row["area"] > 0) for row in rows]
    expected = [(key, True) for key, row in images.items() if "spleen" in shown(row)]
    expected += [(key, False) for key, row in images.items() if "spleen" in row["absent"]]
    assert sorted(found) == sorted(expected)
    assert len(rows) == len(found)
    assert {row["label"] for row in rows} == {"spleen"}
    known = {(row["label"], row["class_id"], row["organ"], row["group"]) for row in rows}
    assert len(known) == 1  # a negative says of its class what a mask does


def test_negatives_of_a_class_that_no_mask_shows(out: Path) -> None:
    """Its source annotates it, and drew a speck that is too small to keep."""
    expected = [row["key"] for row in load(out, "ct") if "stomach" in row["absent"]]
    rows = load(out, "ct", labels="stomach", view=Masks(negatives=1))
    assert [row["key"] for row in rows] == expected
    assert len(rows) == len(expected) > 0
    with pytest.raises(DatasetError, match="no labels 'stomach' here"):
        load(out, "ct", labels="stomach", view="mask")


def test_another_seed_draws_other_negatives(out: Path) -> None:
    def drawn(seed: int) -> list[tuple[str, str]]:
        return [(row["key"], row["label"]) for row in load(out, "ct", view=Masks(1, seed)) if not row["area"]]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_prompts_of_negatives_lie_beside_them(out: Path) -> None:
    for row in load(out, "ct", view=Masks(2), prompts=Prompts(positive=1, negative=3)):
        if not row["area"]:
            assert (row["box"], row["points"][0]) == ([0.0] * 4, [-1.0, -1.0])
            assert row["point_labels"] == [-1, 0, 0, 0]
            assert all(0 < x < row["width"] and 0 < y < row["height"] for x, y in row["points"][1:])


def test_a_folder_that_does_not_say_what_is_annotated(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "bare", ignore=shutil.ignore_patterns("sources"))
    assert {row["absent"] for row in load(tmp_path / "bare", "ct")} == {None}
    assert all(row["area"] for row in load(tmp_path / "bare", "ct", view=Masks(2)))
    assert len(load(tmp_path / "bare", "ct", view=Masks(2))) == len(load(tmp_path / "bare", "ct", view="mask"))
    said = "nothing says which classes its source annotates, .* there is no sources/Abdomen.json or build/"
    with pytest.raises(DatasetError, match=said):
        list(load(tmp_path / "bare", "ct", view=Semantic(["liver"], ignore=True)))


def test_a_published_folder_says_it_too(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "hub", ignore=shutil.ignore_patterns("build"))
    (tmp_path / "hub/sources").mkdir()
    receipts = read_receipts(out).values()
    for name, source in read_sources(out).items():
        own = tuple(receipt for receipt in receipts if receipt.id.source == name)
        (tmp_path / f"hub/sources/{name}.json").write_bytes(Manifest(source, own).to_json())
    assert [row["absent"] for row in load(tmp_path / "hub", "ct")] == [row["absent"] for row in load(out, "ct")]


@pytest.mark.parametrize(
    "text", ['{"classes": 3}', "[]", '{"classes": [{"label": 7}]}', "{", '{"source": {"classes": {}}}']
)
def test_a_description_that_breaks_the_contract(out: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(out, tmp_path / "other")
    (tmp_path / "other/build/sources/Files.json").write_text(text)
    with pytest.raises(DatasetError, match=r"build/sources/Files.json: "):
        list(load(tmp_path / "other", "ct"))


def test_card_and_documents_say_what_is_annotated(out: Path) -> None:
    assert "`absent`" in (out / "README.md").read_text()
    assert "Annotates 3 classes: liver, spleen, stomach." in (out / "SOURCES.md").read_text()
    lines = (out / "CLASSES.md").read_text().splitlines()
    liver, kidney = (next(line for line in lines if line.startswith(f"| {label} |")) for label in ("liver", "kidney"))
    assert (liver.split("|")[-2].strip(), kidney.split("|")[-2].strip()) == ("2", "1")
    assert json.loads((out / "build/sources/Files.json").read_text())["classes"][0]["label"] == "kidney"


def test_masks_decode_as_before(out: Path) -> None:
    for row in load(out, "ct", planes="axial"):
        assert len(decode_masks(row)) == len(row["masks"])
