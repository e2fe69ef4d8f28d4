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
        frames_of_reference: Hashes of the names of coordinate systems: of an image its own, of a mask those it refers
            to; empty where there is none.
        series: Hashes of the names of series, as above.
        instances: Hashes of the names of single images, as above.
    """

    modality: str = ""
    fits: frozenset[str] = frozenset()
    burned_in: bool = False
    patient: str = ""
    frames_of_reference: frozenset[str] = frozenset()
    series: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()

    @property
    def is_known(self) -> bool:
        """Whether its modality is a term of the standard, and no other text that somebody put there."""
        return bool(self.fits)


ANONYMOUS: Final = Identity()
"""Of a file that says nothing of itself."""


def contradiction(image: Identity, mask: Identity) -> str | None:
    """What says that a mask is not of the patient of an image; None where nothing does.

    Masks often refer to another copy of their images, or to another series of the same examination. So references to
    images count only where no frame of reference tells, and one that fits outweighs all that do not.
    """
    if image.patient and mask.patient and image.patient != mask.patient:
        return "image and mask name different patients"
    if image.frames_of_reference and mask.frames_of_reference:
        if image.frames_of_reference & mask.frames_of_reference:
            return None
        return "image and mask name different frames of reference"
    pairs = (image.series, mask.series), (image.instances, mask.instances)
    known = [bool(own & referred) for own, referred in pairs if own and referred]
    return "the mask refers to other series and images than its image" if known and not any(known) else None
