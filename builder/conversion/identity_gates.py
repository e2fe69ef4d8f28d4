"""The gates over what files say of themselves: burned-in text, modality, patient."""

from __future__ import annotations

from builder.conversion.gates import Tally, apply_gate
from builder.readers.identity import Identity, contradiction
from builder.sources.source import Source


def check_identity(image: Identity, file: str, source: Source, tally: Tally) -> None:
    """Apply the gates ``burned_in_text`` and ``modality_mismatch`` to what an image says of itself.

    Raises:
        CaseError: A gate holds the case back.
    """
    gates, modality = source.recipe.gates, source.recipe.modality
    if image.burned_in:
        reason = "the image says that text is part of its pixels, which may name the patient"
        apply_gate("burned_in_text", gates.burned_in_text, file, reason, tally)
    if image.modality and modality not in image.fits:
        reason = f"the image says it is {image.modality}, the recipe {modality}"
        apply_gate("modality_mismatch", gates.modality_mismatch, file, reason, tally)


def check_same_patient(image: Identity, mask: Identity, file: str, source: Source, tally: Tally) -> None:
    """Apply the gate ``patient_mismatch`` to an image and the mask of a file; raises as `check_identity`."""
    reason = contradiction(image, mask)
    if reason is not None:
        apply_gate("patient_mismatch", source.recipe.gates.patient_mismatch, file, reason, tally)
