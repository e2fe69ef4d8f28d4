"""The catalogue as a person asks it: list and filters, the page of a source, licences, overlaps, and the document."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import builder
from builder.sources.catalogue_table import document
from builder.sources.load import load_metadata
from builder.sources.overlaps import known_overlaps
from tests.support.command import Command

CATALOGUE = {
    path.stem: tomllib.loads(path.read_text()) for path in (Path(builder.__file__).parent / "catalog").glob("*")
}
DOCUMENT = Path(__file__).parents[3] / "docs" / "catalogue.md"


def listed(sa_med2d: Command, *filters: str) -> dict[str, Any]:
    ran = sa_med2d("sources", "list", "--json", *filters)
    assert ran.code == 0
    return {record["name"]: record for record in json.loads(ran.out)}


def test_list_says_what_the_recipes_say(sa_med2d: Command) -> None:
    found = listed(sa_med2d)
    for key in ("title", "modality", "license"):
        assert {name: record[key] for name, record in found.items()} == {n: r[key] for n, r in CATALOGUE.items()}
    assert {name for name, record in found.items() if record["builds"]} == {
        n for n, r in CATALOGUE.items() if "files" in r
    }


@pytest.mark.parametrize("form", [(), ("--markdown",)])
def test_every_name_is_in_the_list(form: tuple[str, ...], sa_med2d: Command) -> None:
    ran = sa_med2d("sources", "list", *form)
    assert ran.code == 0
    assert [name for name in CATALOGUE if name not in ran.out] == []


@pytest.mark.parametrize(
    ("filters", "inside", "outside"),
    [
        (("--modality", "mr"), "MSD_Heart", "MSD_Liver"),
        (("--organ", "liver"), "MSD_Liver", "MSD_Heart"),
        (("--label", "Liver Tumour"), "MSD_HepaticVessel", "MSD_Spleen"),
        (("--tier", "permissive"), "StarDist_Nuclei", "MSD_Liver"),
        (("--access", "open"), "MSD_Liver", None),
        (("--checked", "real"), "MNI152", "MSD_Liver"),
        (("--modality", "ct", "--label", "spleen"), "MSD_Spleen", "MSD_Liver"),
    ],
)
def test_a_filter_keeps_what_fits(
    filters: tuple[str, ...], inside: str, outside: str | None, sa_med2d: Command
) -> None:
    found = listed(sa_med2d, *filters)
    assert inside in found
    assert outside not in found


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        (("--organ", "livr"), "--organ: 'livr' is no organ of the vocabulary; near are liver"),
        (("--label", "kidny"), "--label: 'kidny' is no class of the vocabulary; near are kidney"),
    ],
)
def test_a_filter_that_nothing_knows_is_an_error_with_near_names(
    filters: tuple[str, ...], told: str, sa_med2d: Command
) -> None:
    ran = sa_med2d("sources", "list", *filters)
    assert ran.code == 1
    assert told in ran.err


def test_a_page_says_licence_way_classes_and_evidence(sa_med2d: Command) -> None:
    shown = sa_med2d("sources", "show", "MSD_Lung")
    assert shown.code == 0
    for part in (
        "Medical Segmentation Decathlon, Task 06: Lung.",
        "- May be published: yes",
        "https://registry.opendata.aws/msd/",
        "Task06_Lung.tar (checksum known)",
        "| lung_tumor | lung | lesion |",
        "- Layout: read in two independent places",
    ):
        assert part in shown.out
    assert "\n\n\n" not in shown.out


def test_the_recipe_itself_can_be_had(sa_med2d: Command) -> None:
    shown = sa_med2d("sources", "show", "MSD_Spleen", "--recipe")
    assert tomllib.loads(shown.out) == CATALOGUE["MSD_Spleen"]


def test_a_page_of_metadata_says_that_it_builds_not(sa_med2d: Command, tmp_path: Path) -> None:
    text = 'name = "Unseen"\ntitle = "Nobody saw it"\nlicense = "conflict"\nmodality = "mr"\nnotes = ["Two pages disagree."]\n'
    (tmp_path / "Unseen.toml").write_text(text + '[download]\nsteps = ["Write to its authors."]\n')
    shown = sa_med2d("sources", "show", tmp_path / "Unseen.toml")
    for part in (
        "cannot be built yet",
        "no, its licence is conflict",
        "1. Write to its authors.",
        "- Two pages disagree.",
    ):
        assert part in shown.out


def test_licences_say_what_is_in_the_way(sa_med2d: Command) -> None:
    rows = {row["name"]: row for row in json.loads(sa_med2d("sources", "licences", "--json").out)}
    assert rows["MSD_Liver"]["tiers"] == ["all", "commercial"]
    assert rows["MSD_Liver"]["in_the_way"] is None
    for name, row in rows.items():
        assert (CATALOGUE[name]["license"] in ("unknown", "conflict")) <= (
            row["tiers"] == [] and bool(row["in_the_way"])
        )
    assert "publishable: all" in sa_med2d("sources", "licences").out


def test_overlaps_are_of_sources_that_the_catalogue_has(sa_med2d: Command) -> None:
    for overlap in known_overlaps():
        assert [name for name in overlap.sources if name not in CATALOGUE] == []
        assert len(set(overlap.sources)) == len(overlap.sources)
    kinds = Counter((frozenset(overlap.sources), overlap.kind) for overlap in known_overlaps())
    assert [sorted(sources) for (sources, _), count in kinds.items() if count > 1] == []
    records = json.loads(sa_med2d("sources", "overlaps", "--json").out)
    assert [record["sources"] for record in records] == [overlap.sources for overlap in known_overlaps()]
    for record in records:
        spaces = {load_metadata(name).patients or name for name in record["sources"]}
        assert record["same_split"] == (len(spaces) == 1)


def test_the_document_is_what_the_recipes_say() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), (
        "python -m builder.sources.catalogue_table > docs/catalogue.md"
    )
