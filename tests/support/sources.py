"""A source that a test writes: volumes, label maps and their recipe."""

from __future__ import annotations

from pathlib import Path

from tests.support.nifti import write_nifti
from tests.support.volumes import ct_like, organ_map

RECIPE = """\
name = "{name}"
title = "A source that a test wrote"
homepage = "https://example.org"
license = "{license}"
license_evidence = "https://example.org/license"
citation = "Nobody, 2026"
modality = "{modality}"

[files]
image = "images/{{case}}.nii.gz"
mask = "labels/{{case}}.nii.gz"

[labels]
1 = "liver"
2 = "spleen"
"""


def write_source(
    raw: Path, name: str = "Small", *, cases: int = 3, license_id: str = "CC-BY-4.0", modality: str = "ct"
) -> Path:
    """Write a source of NIfTI volumes below ``raw`` and its recipe beside them; returns the recipe."""
    for number in range(cases):
        write_nifti(raw / name / "images" / f"case{number:02d}.nii.gz", ct_like(number))
        write_nifti(raw / name / "labels" / f"case{number:02d}.nii.gz", organ_map())
    raw.mkdir(parents=True, exist_ok=True)
    recipe = raw / f"{name}.toml"
    recipe.write_text(RECIPE.format(name=name, license=license_id, modality=modality))
    return recipe
