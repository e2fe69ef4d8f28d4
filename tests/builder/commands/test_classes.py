"""The command ``sources classes``: what the vocabulary has, for people and for programs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sa_med2d_20m import LABELS
from tests.support.command import Command


def listed(sa_med2d: Command, *arguments: str) -> list[dict[str, Any]]:
    ran = sa_med2d("sources", "classes", "--json", *arguments)
    assert ran.code == 0, ran.err
    found: list[dict[str, Any]] = json.loads(ran.out)
    return found


def test_all_classes_are_listed_with_their_numbers(sa_med2d: Command) -> None:
    found = listed(sa_med2d)
    assert {entry["label"]: entry["number"] for entry in found} == {
        label: number for number, label in enumerate(LABELS, 1)
    }


def test_a_class_is_described(sa_med2d: Command) -> None:
    assert listed(sa_med2d, "LeftKidney") == [
        {
            "number": LABELS.index("kidney_left") + 1,
            "label": "kidney_left",
            "organ": "kidney",
            "group": "abdomen",
            "phrase": "left kidney",
            "side": "left",
            "snomed": "64033007",
            "site": None,
            "laterality": "7771000",
            "synonyms": [],
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        (("--organ", "spleen"), {"spleen", "spleen_lesion"}),
        (("--organ", "spleen", "--group", "lesion"), {"spleen_lesion"}),
        (("kidneys, left", "liver tumour", "Kidney_L"), {"kidney_left", "liver_tumor"}),
        (("liver", "--group", "lesion"), set()),
    ],
)
def test_classes_are_filtered(sa_med2d: Command, arguments: tuple[str, ...], labels: set[str]) -> None:
    found = [entry["label"] for entry in listed(sa_med2d, *arguments)]
    assert set(found) == labels
    assert len(found) == len(labels)


def test_table_shows_name_and_phrase(sa_med2d: Command) -> None:
    ran = sa_med2d("sources", "classes", "--organ", "trachea")
    assert ran.code == 0
    assert "airway_wall" in ran.out
    assert "wall of the airways" in ran.out
    assert "kidney" not in ran.out


def test_an_unknown_name_is_told_with_near_ones(sa_med2d: Command) -> None:
    ran = sa_med2d("sources", "classes", "gallblader", "liver", "Nieree")
    assert ran.code == 1
    assert ran.out == ""
    assert "error: class 'gallblader' is not in the vocabulary; near are gallbladder" in ran.err
    assert "error: class 'Nieree' is not in the vocabulary" in ran.err


def test_an_unknown_organ_is_wrong_usage(sa_med2d: Command) -> None:
    ran = sa_med2d("sources", "classes", "--organ", "livr")
    assert ran.code == 2
    assert "invalid choice: 'livr'" in ran.err
