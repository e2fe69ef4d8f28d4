"""Where the recipes of tests and the corpus of real images lie."""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
RECIPES = Path(__file__).parents[1] / "recipes"
CORPUS_SETS = {
    "TotalSegmentator_CT": "totalsegmentator",
    "TotalSegmentator_aorta": "totalsegmentator-aorta-overlap",
    "ISIC2017": "isic2017-dermoscopy",
    "IDRiD": "idrid-fundus",
}
"""Recipe -> folder of the corpus: a label map of CT, 17 overlapping masks of CT, and pictures in colour."""
