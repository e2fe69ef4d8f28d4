"""What a recipe leaves out on purpose: values, names of classes, files that {label} finds, segments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from builder.errors import RecipeError
from builder.sources.load import parse_recipe
from tests.support.command import Command, Ran
from tests.support.output import members
from tests.support.sources import RECIPE

SIDE = 64
HEAD = RECIPE.format(name="Parts", license="CC-BY-4.0", modality="endoscopy").replace(".nii.gz", ".png")
HEAD = HEAD.split("[files]")[0]
MAP = HEAD + '[files]\nimage = "images/{case}.png"\nmask = "labels/{case}.png"\n'
PER_FILE = HEAD + '[files]\nimage = "images/{case}.png"\nmask = "parts/{case}/{label}.png"\n'
NAMED = '[labels]\n1 = "liver"\n2 = "spleen"\n3 = "stomach"\n'


def picture(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(pixels, np.uint8))


def squares(*values: int) -> Any:
    """A square of 20 x 20 pixels for each value, side by side."""
    drawn = np.zeros((SIDE, SIDE), np.uint8)
    for at, value in enumerate(values):
        drawn[2 + 30 * (at // 3) : 22 + 30 * (at // 3), 1 + 21 * (at % 3) : 21 + 21 * (at % 3)] = value
    return drawn


def build(sa_med2d: Command, folder: Path, text: str) -> Ran:
    picture(folder / "raw/images/a.png", np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 251)
    (folder / "Parts.toml").write_text(text)
    return sa_med2d("build", folder / "Parts.toml", "--raw", folder / "raw", "--out", folder / "out")


def labels_of(out: Path) -> list[str]:
    (record,) = (json.loads(data) for name, data in members(out) if name.endswith(".json"))
    assert record["not_annotated"] == []
    return [mask["label"] for mask in record["masks"]]


def classes_of(out: Path) -> list[str]:
    return [entry["label"] for entry in json.loads((out / "build/sources/Parts.json").read_text())["classes"]]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("ignore = [9]", ["liver", "spleen", "stomach"]),
        ('ignore = ["9"]', ["liver", "spleen", "stomach"]),
        ('ignore = [9, "Spleen"]', ["liver", "stomach"]),
        ('ignore = [9, 2, "st*"]', ["liver"]),
        ("only_named = true", ["liver", "spleen", "stomach"]),
        ('only_named = true\nignore = ["liver"]', ["spleen", "stomach"]),
    ],
)
def test_values_of_a_label_map(sa_med2d: Command, tmp_path: Path, rule: str, kept: list[str]) -> None:
    picture(tmp_path / "raw/labels/a.png", squares(1, 2, 3, 9))
    ran = build(sa_med2d, tmp_path, f"{MAP}{NAMED}[masks]\n{rule}\n")
    assert ran.code == 0, ran.err
    assert labels_of(tmp_path / "out") == classes_of(tmp_path / "out") == kept


def test_a_value_that_nothing_names_costs_the_case_as_before(sa_med2d: Command, tmp_path: Path) -> None:
    picture(tmp_path / "raw/labels/a.png", squares(1, 2, 3, 9))
    ran = build(sa_med2d, tmp_path, f'{MAP}{NAMED}[masks]\nignore = ["spleen"]\n')
    assert ran.code == 1
    assert "unnamed_values: the mask holds the values 9" in ran.err


def test_colours_by_name(sa_med2d: Command, tmp_path: Path) -> None:
    drawn = squares(1, 2, 3)
    colours = np.zeros((SIDE, SIDE, 3), np.uint8)
    for value, rgb in ((1, (255, 0, 0)), (2, (0, 255, 0)), (3, (9, 9, 9))):
        colours[drawn == value] = rgb[::-1]
    picture(tmp_path / "raw/labels/a.png", colours)
    text = f'{MAP}[labels]\n"#ff0000" = "liver"\n"#00ff00" = "spleen"\n[masks]\n'
    ran = build(sa_med2d, tmp_path, f'{text}ignore = ["spleen", "#090909"]\n')
    assert ran.code == 0, ran.err
    assert labels_of(tmp_path / "out") == ["liver"]
    ran = build(sa_med2d, tmp_path, f"{text}only_named = true\n")
    assert ran.code == 0, ran.err
    assert labels_of(tmp_path / "out") == ["liver", "spleen"]


@pytest.mark.parametrize(
    ("rule", "labels", "kept"),
    [
        ("", "", ["liver", "rib_left_1", "rib_left_2", "spleen"]),
        ('ignore = ["RIB_left*"]', "", ["liver", "spleen"]),
        ("only_named = true", 'spleen = "spleen"\n"rib.right" = "rib_right"\n', ["spleen"]),
        ('ignore = ["1*", "rib*"]', 'spleen = "stomach"\n', ["stomach", "liver"]),
        ('ignore = ["stomach", "rib*"]', 'spleen = "stomach"\n', ["liver"]),
    ],
)
def test_files_that_a_label_finds(sa_med2d: Command, tmp_path: Path, rule: str, labels: str, kept: list[str]) -> None:
    """Files that are left out are never opened: one of them is damaged, and its name is no class name."""
    for at, name in enumerate(("liver", "spleen", "rib left 1", "rib left 2"), 1):
        picture(tmp_path / f"raw/parts/a/{name}.png", squares(1, 2, 3, 4, 5) == at)
    if "*" in rule:
        (tmp_path / "raw/parts/a/rib-left.png").write_bytes(b"none")
    ran = build(sa_med2d, tmp_path, f"{PER_FILE}[labels]\n{labels}[masks]\n{rule}\n")
    assert ran.code == 0, ran.err
    (record,) = (json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json"))
    assert sorted(mask["label"] for mask in record["masks"]) == sorted(kept)
    assert record["not_annotated"] == ([] if "rib.right" not in labels else ["rib_right"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{MAP}{NAMED}[masks]\nignore = ["kidney"]\n', "masks: ignore: kidney: expected values, or names that [labels] has"),
        (f'{MAP}[labels]\n"#ff0000" = "liver"\n[masks]\nignore = [9]\n', "ignore: 9: expected colours, or names that"),
        (f'{MAP}{NAMED}[masks]\nignore = ["*"]\n', "masks: ignore leaves out all that [labels] names"),
        (f"{PER_FILE}[masks]\nonly_named = true\n", "masks: only_named: [labels] names nothing"),
        (
            f'regions = {{ both = [1, 2] }}\n{MAP}{NAMED}[masks]\nignore = ["spleen"]\n',
            "regions: both: masks.ignore leaves out its part 2",
        ),
    ],
)  # fmt: skip
def test_what_leaves_nothing_or_names_nothing(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        parse_recipe(text, "Parts.toml")
    assert said in str(raised.value)


def test_a_source_all_of_whose_files_are_left_out(sa_med2d: Command, tmp_path: Path) -> None:
    picture(tmp_path / "raw/parts/a/liver.png", squares(1))
    ran = build(sa_med2d, tmp_path, f'{PER_FILE}[labels]\nspleen = "spleen"\n[masks]\nonly_named = true\n')
    assert ran.code == 1
    assert "masks.only_named leaves every mask out: {label} captures liver; [labels] names spleen" in ran.err
