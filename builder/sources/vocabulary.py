"""The vocabulary gives each class one name, organ and group, whatever a source calls it."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

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


@dataclass(frozen=True)
class Term:
    """An entry of the vocabulary.

    Attributes:
        label: Canonical class name.
        organ: One of `ORGANS`, or None.
        group: One of `GROUPS`.
    """

    label: str
    organ: str | None
    group: str


def normalise(name: str) -> str:
    """Bring a name to the form in which names are compared.

    Case, spaces, hyphens and underscores make no difference.
    """
    return re.sub(r"[-_\s]+", "_", name.strip()).casefold()


class Vocabulary:
    """Names and synonyms, looked up in any spelling.

    Args:
        text: TOML as in ``vocabulary.toml``.

    Raises:
        ValueError: Two entries claim one name, or an organ or group does not exist.
    """

    def __init__(self, text: str) -> None:
        self._terms: dict[str, Term] = {}
        for label, entry in tomllib.loads(text).items():
            term = Term(label, entry.get("organ"), entry["group"])
            if term.group not in GROUPS or (term.organ is not None and term.organ not in ORGANS):
                raise ValueError(f"vocabulary: {label} has an unknown organ or group: {term.organ}, {term.group}")
            for name in (label, *entry.get("synonyms", ())):
                if self._terms.setdefault(normalise(name), term) is not term:
                    raise ValueError(
                        f"vocabulary: {name!r} belongs to {self._terms[normalise(name)].label} and {label}"
                    )

    def find(self, name: str) -> Term | None:
        """Find the entry of a name or synonym."""
        return self._terms.get(normalise(name))

    def near(self, name: str) -> list[str]:
        """Find up to three canonical names that look like this one, best first."""
        close = difflib.get_close_matches(normalise(name), self._terms, n=6, cutoff=0.6)
        return list(dict.fromkeys(self._terms[spelling].label for spelling in close))[:3]


@cache
def vocabulary() -> Vocabulary:
    """Load the project's own vocabulary, once a process."""
    return Vocabulary(files("builder").joinpath("vocabulary.toml").read_text(encoding="utf-8"))
