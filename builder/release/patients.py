"""Whose a case of the release is, by its name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from builder.cases.split import hashed_split, official_split
from builder.sources.metadata import SourceMetadata
from builder.sources.pattern import Pattern
from builder.sources.recipe import Recipe


def patient_of(known: SourceMetadata, case: str) -> str:
    """The patient of a case, as the catalogue calls it.

    Args:
        known: What the catalogue knows of the source.
        case: Name of the case in the release.

    >>> patient_of(SourceMetadata(name="ACDC", title="ACDC", license="unknown", modality="mr"), "patient001_frame12")
    'patient001'
    """
    rule = _rules().get(known.name)
    found = None if rule is None else rule.fullmatch(case)
    if found is not None:
        return found[1]
    told = known.files.patient if isinstance(known, Recipe) else None
    match = told.match(case) if isinstance(told, Pattern) and rule is None else None
    return case if match is None else match["patient"]


def has_rule(source: str) -> bool:
    """Whether names of a source's cases hold more than the patient, so that a name that does not fit is a surprise."""
    return source in _rules()


def split_of(known: SourceMetadata, patient: str) -> tuple[str, bool]:
    """The split of a patient, and whether the source itself says it.

    It is by an official split where the recipe lists patients, else by a hash of name space and patient, as in a build
    of the source. An official split that stands in the folders of a source is not known here. The random split of the
    original is not imitated; it tore volumes apart.
    """
    if not isinstance(known, Recipe):
        return hashed_split(known.patient_space, patient), False
    official = official_split(None, patient, known.splits.official)
    if official is not None:
        return official, True
    person = known.patient_names.names.get(patient, patient)
    return hashed_split(known.patient_space, person, known.splits.ratios, known.splits.seed), False


@cache
def _rules() -> Mapping[str, re.Pattern[str]]:
    text = files("builder.release").joinpath("patients.toml").read_text(encoding="utf-8")
    return {source: re.compile(rule) for source, rule in tomllib.loads(text).items()}
