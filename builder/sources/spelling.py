"""Spelling of class names: what makes no difference between two names is left out, and the side is set apart.

Sources write one class as ``kidney_left``, ``LeftKidney``, ``Kidney_L``, ``kidneys, left`` and ``Kidney/Left``.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal, NamedTuple

Side = Literal["left", "right"]

SIDES: Final[dict[str, Side]] = {"left": "left", "right": "right"}
_SHORT_SIDES: Final[dict[str, Side]] = {"l": "left", "lt": "left", "r": "right", "rt": "right"}
"""Stand for a side as the first or last word only: elsewhere an L may be a lumbar vertebra."""

_UMLAUTS: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"})
_WORD: Final = re.compile(r"[^\W_]+|&")
_PLAIN: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BETWEEN_NUMBERS: Final = re.compile(r"(?<=\d) (?=\d)")
_BRITISH: Final = {
    "oesoph": "esoph",
    "oedem": "edem",
    "haem": "hem",  # ischaemic too
    "aemia": "emia",
    "foet": "fet",
    "caec": "cec",
    "coeliac": "celiac",
    "tumour": "tumor",
    "grey": "gray",
    "fibre": "fiber",
    "disk": "disc",
    "chiasma": "chiasm",
    "vascularis": "vasculariz",
    "centre": "center",
    "colour": "color",
    "vertebrae": "vertebra",  # a plural within names: vertebrae_C1
}
"""British stem -> American one, and a plural. Stems, not letters: the oe of toe stays."""
_BRITISH_STEM: Final = re.compile("|".join(_BRITISH))
_SINGULAR: Final = ("ss", "us", "is", "pancreas", "atlas", "lens", "pons")
"""Endings of words that end in s and are no plural."""


class Spelling(NamedTuple):
    """A name as names are compared.

    Attributes:
        stem: Small letters and numbers without blanks, singular, American; without the side.
        side: Which side the name says, None where it says none or both.
    """

    stem: str
    side: Side | None


def spelling_of(name: str) -> Spelling:
    """Bring a name to the form in which names are compared.

    No difference make: case and CamelCase; blanks, hyphens, underscores, slashes, commas and brackets; where the word
    for the side stands, and how it is written (left, L, Lt); a plural at the end; British and American spelling;
    accents, and umlauts written out. A name that says two sides keeps them in its stem, so that it is no name of one
    side.

    >>> spelling_of("Kidneys, left") == spelling_of("LKidney") == Spelling("kidney", "left")
    True
    >>> spelling_of("Left_Atrium_R")
    Spelling(stem='leftatriumr', side=None)
    """
    words = _words(name)
    sides = [(at, side) for at, word in enumerate(words) if (side := _side(word, at in (0, len(words) - 1)))]
    if len(sides) == 1 and len(words) > 1:
        at, side = sides[0]
        return Spelling(_stem(words[:at] + words[at + 1 :]), side)
    return Spelling(_stem(words), None)


def _words(name: str) -> list[str]:
    if _PLAIN.fullmatch(name):  # as nearly all are: the vocabulary itself is read fast
        return name.split("_")
    text = unicodedata.normalize("NFC", name).translate(_UMLAUTS)
    if not text.isascii():
        text = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    words = " ".join(_WORD.findall(text)).replace("&", "and")
    return (words if words.islower() else _CAMEL.sub(" ", words).casefold()).split()


def _side(word: str, at_end: bool) -> Side | None:
    return SIDES.get(word) or (_SHORT_SIDES.get(word) if at_end else None)


def _stem(words: list[str]) -> str:
    stem = _BETWEEN_NUMBERS.sub("_", " ".join(words)).replace(" ", "")  # T1 1 is not T11
    stem = _BRITISH_STEM.sub(lambda found: _BRITISH[found[0]], stem)
    return _singular(stem)


def _singular(stem: str) -> str:
    if stem.endswith("ies"):
        return stem[:-3] + "y"
    if stem.endswith(("sses", "uses", "nses")):
        return stem[:-2]
    if stem.endswith("s") and not stem.endswith(_SINGULAR) and stem[-2:-1].isalpha():
        return stem[:-1]
    return stem
