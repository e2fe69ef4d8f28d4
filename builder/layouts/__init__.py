"""Folder layouts that say themselves what a recipe must say.

To read a new layout, add a module with the two functions of `Layout` and one entry to `LAYOUTS`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from builder.errors import RecipeError
from builder.layouts.sketch import Sketch


class Layout(Protocol):
    """What a layout module offers."""

    def description_of(self, path: Path) -> Path | None:
        """The file that describes a dataset of this layout: ``path`` itself, or one in this folder; None if none is."""
        ...

    def sketch(self, description: Path, modality: str) -> Sketch:
        """What the dataset says of its images of a modality; RecipeError where it does not say enough."""
        ...


LAYOUTS: Final = ("bids", "yolo", "coco", "dataset_json", "dicom", "pairs")
"""Modules, in the order in which they are asked."""


def sketch_of(path: Path, modality: str) -> Sketch:
    """What a dataset in a known layout says of itself.

    Args:
        path: Its folder, or the file that describes it.
        modality: How its images were made: a dataset may hold those of several.

    Raises:
        RecipeError: There is no such file or folder, it has no known layout, or does not say enough.
    """
    if not path.exists():
        raise RecipeError([f"{path}: there is no such file or folder"])
    for name in LAYOUTS:
        layout = cast("Layout", import_module(f"builder.layouts.{name}"))
        description = layout.description_of(path)
        if description is not None:
            return layout.sketch(description, modality)
    raise RecipeError(
        [
            f"{path}: no known layout: expected dataset.json (Decathlon, nnU-Net), dataset_description.json (BIDS), "
            "COCO annotations (.json), the data.yaml of YOLO labels, DICOM files, or a folder of images and masks"
        ]
    )
