"""Sets of the corpus by which what looks for copies and faults is measured; no two show the same pictures."""

from __future__ import annotations

SETS = {
    "TotalSegmentator_CT": "totalsegmentator",
    "TotalSegmentator_MR": "totalsegmentator",
    "TotalSegmentator_aorta": "totalsegmentator-aorta-overlap",
    "PyRadiomics_brain": "pyradiomics-nrrd",
    "PyRadiomics_prostate": "pyradiomics-nrrd",
    "ITKElastix_head": "elastix-metaimage",
    "ISIC2017": "isic2017-dermoscopy",
    "IDRiD": "idrid-fundus",
    "CCAUS": "ccaus-ultrasound",
    "MammogramDensity": "mammogram-density-xray",
    "PanNuke": "pannuke-histology",
    "SAMMed2D_demo": "sam-med2d-demo",
}
"""Name of the recipe -> folder of the corpus."""
