"""The gates over what DICOM files say of themselves: burned-in text, modality, patient."""

from __future__ import annotations

from builder.conversion.gates import Tally, apply_gate
from builder.errors import CaseError, UnreadableError
from builder.readers.dicom.identity import Identity, contradict, fits, identity_of
from builder.readers.files import in_words
from builder.sources.source import Source


def check_image(file: str, source: Source, tally: Tally) -> None:
    """Apply the gates ``burned_in_text`` and ``modality_mismatch`` to an image.

    Raises:
        CaseError: A gate holds the case back, or the file is damaged.
    """
    found, gates = _identity(file, source), source.recipe.gates
    if found is None:
        return
    if found.burned_in:
        reason = "the image says that text is part of its pixels, which may name the patient"
        apply_gate("burned_in_text", gates.burned_in_text, file, reason, tally)
    if not fits(found, source.recipe.modality):
        reason = f"the image says it is {found.modality}, the recipe {source.recipe.modality}"
        apply_gate("modality_mismatch", gates.modality_mismatch, file, reason, tally)


def check_pair(image: str, mask: str, source: Source, tally: Tally) -> None:
    """Apply the gate ``patient_mismatch`` to an image and its mask; raises as `check_image`."""
    action = source.recipe.gates.patient_mismatch
    ours, theirs = _identity(image, source), _identity(mask, source)
    reason = contradict(ours, theirs) if ours and theirs else None
    if reason is not None:
        apply_gate("patient_mismatch", action, mask, reason, tally)


def _identity(file: str, source: Source) -> Identity | None:
    try:
        return identity_of(source.root / file, source.read_rules)
    except (UnreadableError, OSError) as error:
        raise CaseError("read", file, in_words(error)) from None
