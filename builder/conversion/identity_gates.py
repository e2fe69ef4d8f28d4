"""The gates over what files say of themselves: burned-in text, modality, patient."""

from __future__ import annotations

from builder.conversion.gates import Tally, apply_gate
from builder.readers.identity import Identity, contradiction
from builder.sources.recipe import Gates


def check_identity(image: Identity, file: str, modality: str, gates: Gates) -> Tally:
    """Apply the gates ``burned_in_text`` and ``modality_mismatch`` to what an image says of itself.

    Args:
        image: What it says.
        file: The image, relative to the source's root.
        modality: What the recipe says.
        gates: ``[gates]`` of the recipe.

    Raises:
        CaseError: A gate holds the case back.
    """
    text = "the image says that text is part of its pixels, which may name the patient" if image.burned_in else None
    tally = apply_gate(gates, "burned_in_text", file, text)
    unlike = bool(image.modality) and modality not in image.fits
    reason = f"the image says it is {image.modality}, the recipe {modality}" if unlike else None
    withheld = f"the image says it is of another modality than the recipe, which says {modality}"
    return tally + apply_gate(gates, "modality_mismatch", file, reason, None if image.is_known else withheld)


def check_same_patient(image: Identity, mask: Identity, file: str, gates: Gates) -> Tally:
    """Apply the gate ``patient_mismatch`` to an image and the mask of a file; raises as `check_identity`."""
    return apply_gate(gates, "patient_mismatch", file, contradiction(image, mask))
