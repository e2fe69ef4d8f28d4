"""What a file says of itself, whatever its format: which modality it is of, whose it is, and whether text is on it.

Nothing of it is kept or shown but the modality: the gates compare it and forget it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Identity:
    """What a file says of itself. The defaults are those of a format that says nothing.

    Attributes:
        modality: As the file calls it, such as ``MR``; empty where it does not say.
        fits: The modalities of the vocabulary that this may be.
        burned_in: Whether text is part of the pixels.
        patient: Hash of the patient's id; empty where there is none.
        frame_of_reference: Hash of the name of the coordinate system; empty where there is none.
    """

    modality: str = ""
    fits: frozenset[str] = frozenset()
    burned_in: bool = False
    patient: str = ""
    frame_of_reference: str = ""


ANONYMOUS: Final = Identity()
"""Of a file that says nothing of itself."""


def contradiction(image: Identity, mask: Identity) -> str | None:
    """What says that a mask is not of the patient of an image; None where nothing does."""
    if image.patient and mask.patient and image.patient != mask.patient:
        return "image and mask name different patients"
    frames = image.frame_of_reference, mask.frame_of_reference
    if all(frames) and frames[0] != frames[1]:
        return "image and mask name different frames of reference"
    return None
