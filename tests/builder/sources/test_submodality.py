"""Sub-modalities: which names of sources are one, and that keys have the canonical one."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from builder.sources import catalogue
from builder.sources.load import load_metadata
from builder.sources.metadata import SUBMODALITY
from builder.sources.recipe import Recipe
from builder.sources.submodality import known_submodality, submodality_of
from sa_med2d_20m import MODALITIES
from tests.support.command import Command
from tests.support.output import members
from tests.support.sources import write_source


@pytest.mark.parametrize(
    ("modality", "name", "canonical"),
    [
        ("mr", "t1", "t1"),
        ("mr", "T1w", "t1"),
        ("mr", "T1-weighted", "t1"),
        ("mr", "mprage", "t1"),
        ("mr", "MP-RAGE", "t1"),
        ("mr", "t1gd", "t1ce"),
        ("mr", "ceT1", "t1ce"),
        ("mr", "t1c", "t1ce"),
        ("mr", "hrT2", "t2"),
        ("mr", "FLAIR", "flair"),
        ("mr", "t2_flair", "flair"),
        ("mr", "T2*", "t2star"),
        ("mr", "T2star", "t2star"),
        ("mr", "PDw", "pd"),
        ("mr", "DE", "lge"),
        ("mr", "C0", "bssfp"),
        ("mr", "00", "00"),
        ("ct", "00", "00"),
        ("ct", "Tmax", "tmax"),
        ("ct", "non-contrast", "plain"),
        # a word of MR is none of CT: a point in time
        ("ct", "t1", None),
        ("endoscopy", "t2", None),
        ("mr", "t1_mprage", None),
        ("mr", "t1_t2", None),
        ("mr", "", None),
    ],
)
def test_names_of_one_submodality(modality: str, name: str, canonical: str | None) -> None:
    assert known_submodality(modality, name) == canonical
    assert submodality_of(modality, name) == (canonical or name)


def test_submodalities_of_the_release_keep_their_names_or_get_the_one_of_their_synonym() -> None:
    """The sub-modalities that occur in the release's own file names."""
    mr = "00 adc cbf cbv cmr dwi flair hbv lge mprage mtt pd rcbf rcbv t1 t1c t1ce t1gd t1w t2 t2w tmax ttp"
    ct = "00 cbf cbv mtt tmax"
    renamed = {"mprage": "t1", "t1w": "t1", "t1c": "t1ce", "t1gd": "t1ce", "t2w": "t2"}
    assert {name: known_submodality("mr", name) for name in mr.split()} == {
        name: renamed.get(name, name) for name in mr.split()
    }
    assert {name: known_submodality("ct", name) for name in ct.split()} == {name: name for name in ct.split()}


def test_canonical_names_may_stand_in_keys_and_are_their_own() -> None:
    table = tomllib.loads(files("builder").joinpath("submodalities.toml").read_text())
    assert set(table) <= set(MODALITIES)
    names = [(modality, name) for modality, entries in table.items() for name in entries]
    assert [name for _, name in names if not re.fullmatch(SUBMODALITY, name)] == []
    assert [name for modality, name in names if known_submodality(modality, name) != name] == []


def test_a_recipe_with_a_synonym_gives_canonical_keys(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", "Scans", cases=1, modality="mr")
    recipe.write_text(recipe.read_text().replace('modality = "mr"', 'modality = "mr"\nsubmodality = "mprage"'))
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 0, ran.err
    assert {name.split("--")[0] for name, _ in members(tmp_path / "out")} == {"mr_t1"}


def test_channels_that_are_one_submodality_are_refused(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "raw", "Scans", cases=1, modality="mr")
    recipe.write_text(recipe.read_text().replace("[files]", '[files]\nchannels = ["flair", "t1w", "mprage"]'))
    ran = sa_med2d("sources", "check", recipe)
    assert ran.code == 1
    assert "files.channels: 't1w' and 'mprage' are names of one sub-modality, t1; give one of them a name" in ran.err


@pytest.mark.parametrize("name", catalogue.names())
def test_submodalities_of_the_catalogue_are_known(name: str) -> None:
    recipe = load_metadata(name)
    named = [recipe.submodality]
    if isinstance(recipe, Recipe):
        named += [*recipe.submodalities.values(), *(recipe.files.channels or ())]
    assert [one for one in named if known_submodality(recipe.modality, one) is None] == []
