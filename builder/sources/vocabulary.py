"""The vocabulary gives each class one name, organ, group and phrase, whatever a source calls it."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final

from builder.sources.spelling import SIDES, Side, Spelling, spelling_of

# fmt: off
ORGANS: Final = (
    "eye", "face", "parotid_gland", "mandible", "vertebrae", "brain", "ear",
    "trachea", "scapula", "humerus", "lung", "breast", "clavicula", "rib", "aorta", "heart",
    "liver", "gallbladder", "kidney", "pancreas", "bladder", "esophagus", "spleen", "stomach", "intestine",
    "hip", "prostate_gland", "uterus", "testicle", "femur", "skin",
)
# fmt: on
"""The 31 organs of the original (figure c of its paper)."""

GROUPS: Final = ("head_and_neck", "thorax", "abdomen", "pelvis", "lesion", "other")

LATERALITY: Final[Mapping[Side, str]] = {"left": "7771000", "right": "24028007"}
"""Codes of the sides in SNOMED CT (DICOM PS3.16, CID 244)."""

_NO_ORGAN: Final = "none"
_KEYS: Final = frozenset({"sides", "side", "phrase", "snomed", "site", "snomed_sides", "synonyms", "with_side"})


@dataclass(frozen=True)
class Term:
    """A class of the vocabulary.

    Attributes:
        label: Canonical class name.
        organ: One of `ORGANS`, or None.
        group: One of `GROUPS`.
        phrase: What it is in plain English, such as "left kidney".
        side: Which of two it is, left or right; None where it is neither, both, or the class does not say.
        snomed: Its code in SNOMED CT, or None.
        site: Code of the place, where ``snomed`` does not say it.
        laterality: Code of the side, where ``snomed`` does not say it.
        synonyms: Other names, as the file has them.
    """

    label: str
    organ: str | None
    group: str
    phrase: str
    side: Side | None = None
    snomed: str | None = None
    site: str | None = None
    laterality: str | None = None
    synonyms: tuple[str, ...] = ()


def normalise(name: str) -> str:
    """Bring a name that the vocabulary does not know to the form in which such names are compared.

    Case, spaces, hyphens and underscores make no difference.
    """
    return re.sub(r"[-_\s]+", "_", name.strip()).casefold()


class Vocabulary:
    """Names and synonyms, looked up in any spelling that `builder.sources.spelling` knows.

    Args:
        text: TOML as in ``vocabulary.toml``.

    Raises:
        ValueError: Two entries claim one name, or an organ, group or key does not exist.
    """

    def __init__(self, text: str) -> None:
        self._terms: dict[Spelling, Term] = {}
        self._owners: dict[str, Term] = {}
        for group, organs in tomllib.loads(text).items():
            for organ, entries in organs.items():
                if group not in GROUPS or organ not in (*ORGANS, _NO_ORGAN):
                    raise ValueError(f"vocabulary: [{group}.{organ}]: unknown group or organ")
                for label, entry in entries.items():
                    if not entry.keys() <= _KEYS:
                        raise ValueError(f"vocabulary: {label}: unknown key {', '.join(sorted(entry.keys() - _KEYS))}")
                    self._add(label, None if organ == _NO_ORGAN else organ, group, entry)

    @property
    def terms(self) -> tuple[Term, ...]:
        """All classes, in the order of the file."""
        return tuple({term.label: term for term in self._owners.values()}.values())

    def find(self, name: str) -> Term | None:
        """Find the class that a name or synonym means."""
        return self._terms.get(spelling_of(name))

    def near(self, name: str) -> list[str]:
        """Find up to three canonical names that look like this one, best first.

        Names that contain all its words come first: whoever writes "edema" meant one of some organ.
        """
        words = normalise(name)
        within = sorted((other for other in self._owners if f"_{words}_" in f"_{other}_"), key=len)
        close = difflib.get_close_matches(words, self._owners, n=6, cutoff=0.6)
        return list(dict.fromkeys(self._owners[other].label for other in (*within, *close)))[:3]

    def _add(self, label: str, organ: str | None, group: str, entry: Mapping[str, Any]) -> None:
        phrase, synonyms = entry.get("phrase", label.replace("_", " ")), tuple(entry.get("synonyms", ()))
        snomed, site = entry.get("snomed"), entry.get("site")
        whole = phrase.replace("{side} ", "")
        term = Term(label, organ, group, whole, entry.get("side"), snomed, site, None, synonyms)
        own = {None: term} | {side: _sided(term, side, phrase, entry) for side in SIDES.values() if "sides" in entry}
        for one in own.values():
            self._own(one.label, spelling_of(one.label), one)
        for name in synonyms:
            stem, said = spelling_of(name)
            for side, one in own.items():
                if said is None or len(own) == 1 or said == side:
                    self._own(name, Spelling(stem, said or side), one)
        for name in entry.get("with_side", ()):
            for side in SIDES.values():
                self._own(name, Spelling(spelling_of(name).stem, side), own[side])

    def _own(self, name: str, spelling: Spelling, term: Term) -> None:
        owner = self._terms.setdefault(spelling, term)
        if owner is not term:
            raise ValueError(f"vocabulary: {name!r} belongs to {owner.label} and {term.label}")
        self._owners.setdefault(normalise(name), term)


def unknown_class(name: str, near: Sequence[str]) -> str:
    """A sentence on a name that the vocabulary does not know.

    Args:
        name: The name.
        near: Names in it that look like this one.
    """
    return f"class {name!r} is not in the vocabulary" + (f"; near are {', '.join(near)}" if near else "")


def _sided(term: Term, side: Side, phrase: str, entry: Mapping[str, Any]) -> Term:
    """The class of one side, of an entry that has sides."""
    pattern = f"{term.label}_{{side}}" if entry["sides"] is True else entry["sides"]
    own = phrase if "{side}" in phrase else f"{{side}} {phrase}"
    laterality = LATERALITY[side] if term.snomed else None
    sided = replace(
        term, label=pattern.format(side=side), phrase=own.format(side=side), side=side, laterality=laterality
    )
    if "snomed_sides" not in entry:
        return sided
    codes = dict(zip(SIDES.values(), entry["snomed_sides"], strict=True))
    return replace(sided, snomed=codes[side], laterality=None)


@cache
def vocabulary() -> Vocabulary:
    """Load the project's own vocabulary, once a process."""
    return Vocabulary(files("builder").joinpath("vocabulary.toml").read_text(encoding="utf-8"))
