"""What users of the release repaired by hand: one table, each entry with a switch of its own.

Found by torch-em (`sa_med2d.py`), on the card of the release and in its threads; `docs/import.md` says which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Repair:
    """A repair.

    Attributes:
        name: In receipts and in the summary; the switch against it is ``--no-repair-NAME``.
        what: What it does, for the help of the command.
        without: What happens without it, where that is not that things stay as they are.
    """

    name: str
    what: str
    without: str = ""


REPAIRS: Final = {
    repair.name: repair
    for repair in (
        Repair(
            "mask-size",
            "leave out masks whose size is not that of their image",
            "each such mask is reported as one that cannot be used",
        ),
        Repair("grey-values", "leave out images that have one or two grey values, which are masks (Brain_PTM)"),
        Repair("inverted", "turn masks back whose object and background are swapped (ichallenge_adam_task2)"),
        Repair("acdc-0003", "leave out class 0003 of ACDC, the whole heart beside its parts"),
        Repair("modality", "give images of QUBIQ2020 that are MR and stand there as CT their modality"),
        Repair("synonyms", "bring names of sub-modalities to one, such as t1w and mprage to t1"),
        Repair(
            "mask-values",
            "take whatever is not 0 in a mask for the object, also where it is not 255",
            "each such mask is reported as one that cannot be used",
        ),
        Repair("unions", "record of which classes a union_... label is made"),
        Repair("twins", "leave out an image that stands in its source under another name too, with the same masks"),
    )
}
"""Name -> repair, in the order of the help."""

INVERTED: Final = frozenset({"ichallenge_adam_task2"})
"""Sources whose masks have object and background swapped: torch-em turns them."""
WHOLE: Final = {"acdc-0003": ("ACDC", "0003")}
"""Repair -> source and class that it leaves out: the cavity and the wall together, which torch-em drops."""
_QUBIQ_MR: Final = re.compile(r"brain|prostate", re.IGNORECASE)
"""Of the tasks of QUBIQ brain growth, brain tumour and prostate are MR, and kidney is CT."""


def true_modality(modality: str, source: str, case: str) -> str:
    """The modality of an image, where the release has a wrong one (repair ``modality``).

    >>> true_modality("ct", "QUBIQ2020", "brain-growth_case01"), true_modality("ct", "QUBIQ2020", "kidney_case01")
    ('mr', 'ct')
    """
    if source == "QUBIQ2020" and modality == "ct" and _QUBIQ_MR.search(case):
        return "mr"
    return modality
