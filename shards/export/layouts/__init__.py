"""The layouts by name. A new one is a file here and an entry of the table."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # whoever only wants to know the names waits for nothing
    from shards.export.layout import Layout, Overview

LAYOUTS: Final = {
    "coco": "shards.export.layouts.coco.Coco",
    "files": "shards.export.layouts.files.Files",
    "monai": "shards.export.layouts.monai.Monai",
    "monai-3d": "shards.export.layouts.monai.MonaiVolumes",
    "nnunet": "shards.export.layouts.nnunet.NnUnet",
    "nnunet-3d": "shards.export.layouts.nnunet.NnUnetVolumes",
    "release": "shards.export.layouts.release.Release",
    "sam-med2d": "shards.export.layouts.sam_med2d.SamMed2D",
    "sam2": "shards.export.layouts.sam2.Sam2",
    "sam3": "shards.export.layouts.sam3.Sam3",
    "yolo": "shards.export.layouts.yolo.Yolo",
}
"""Name on the command line -> class, imported when it is used."""


def layout(name: str, overview: Overview) -> Layout:
    """A layout by its name."""
    module, _, made = LAYOUTS[name].rpartition(".")
    found: Layout = getattr(import_module(module), made)(overview)
    return found
