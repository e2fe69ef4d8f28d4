"""The layout ``sam-med2d``: what the training and test code of SAM-Med2D reads.

Rules: https://github.com/OpenGVLab/SAM-Med2D, ``DataLoader.py``, ``utils.py`` and ``test.py``. Training reads
``image2label_train.json`` (image -> its masks), a test ``label2image_test.json`` (mask -> its image); both open paths
as they stand there, so they begin with the target folder as the user named it. A test may take its prompts from a file:
name of the mask -> box, point and label of the point, in the picture of 256 x 256 that the network sees.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from shards.export.layout import Gathered, Layout, Overview, Unit, member, write_json_list
from shards.export.pictures import eight_bit_png, mask_png
from shards.export.release_names import names_of_sources
from shards.export.sample import Sample

SIDE: Final = 256
"""Rows and columns of what the network sees (``image_size``)."""


class SamMed2D(Layout):
    """``images/{name}.png``, ``masks/{name}_{label}_{instance}.png`` (0 and 255), the two indexes, and prompts.

    The other splits go where a ``mode`` of that name reads them: ``label2image_validation.json``.
    """

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._names = names_of_sources(overview.sources, overview.labels_of)

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        names = self._names[sample.record["source"]]
        name = names.image(sample.record)
        image = f"images/{name}.png"
        paths = []
        for entry, mask in sample.masks():
            path = f"masks/{names.older_mask(name, entry)}.png"
            prompt = prompt_of(mask, path)
            if prompt is None:
                unit.count("vanishing")
                continue
            unit.file(path, mask_png(mask))
            paths.append(self._path(path))
            if sample.split != "train":
                unit.entry(f"masks_{sample.split}", member(paths[-1], self._path(image)))
                unit.entry(f"prompts_{sample.split}", member(path.rsplit("/", 1)[-1], prompt))
        if not paths:
            unit.count("without_mask")
            return
        unit.file(image, eight_bit_png(sample))
        if sample.split == "train":
            unit.entry("images", member(self._path(image), paths))

    def _path(self, below: str) -> str:
        return (Path(self.overview.target) / below).as_posix()

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        documents = {}
        for split in self.overview.splits:
            if split == "train":
                documents["image2label_train.json"] = "images"
            else:
                documents[f"label2image_{split}.json"] = f"masks_{split}"
                documents[prompt_file(split)] = f"prompts_{split}"
        for path, document in documents.items():
            with gathered.open(path) as file:
                file.write(b"{")
                write_json_list(file, gathered.lines(document))
                file.write(b"}\n")
        said = {
            "vanishing": f"masks left out, as nothing is left of them at {SIDE} x {SIDE}, where SAM-Med2D would stop",
            "without_mask": "images left out, as they have no mask",
        }
        return [f"{what}: {int(gathered.counted(name)):,}" for name, what in said.items() if gathered.counted(name)]


def prompt_file(split: str) -> str:
    """Name of the file with the prompts of a split: of a test the one that ``test.py`` itself writes."""
    return f"{SIDE}_prompt.json" if split == "test" else f"{SIDE}_prompt_{split}.json"


def prompt_of(mask: npt.NDArray[np.bool_], name: str) -> dict[str, Any] | None:
    """Box and point of a mask where the network sees it, as ``get_boxes_from_mask`` and ``init_point_sampling`` do.

    Args:
        mask: (H, W).
        name: Decides which pixel is the point, so that it is always the same.

    Returns:
        ``boxes`` [[x0, y0, x1, y1]], the ends exclusive, of the largest component, ``point_coords`` [[x, y]] and
        ``point_labels``; None where nothing is left of the mask.
    """
    seen = _as_seen(mask)
    left, top, width, height = cv2.boundingRect(seen)
    if not width:
        return None
    seen = np.ascontiguousarray(seen[top : top + height, left : left + width])
    _, _, boxes, _ = cv2.connectedComponentsWithStats(seen, connectivity=8)
    x, y, width, height = boxes[1:][boxes[1:, cv2.CC_STAT_AREA].argmax()][:4].tolist()
    rows, columns = np.nonzero(seen)
    at = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big") % len(rows)
    return {
        "boxes": [[left + x, top + y, left + x + width, top + y + height]],
        "point_coords": [[left + int(columns[at]), top + int(rows[at])]],
        "point_labels": [1],
    }


def _as_seen(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """A mask of 0 and 1 at `SIDE` x `SIDE`: padded around its middle where it is smaller, else resized (nearest)."""
    height, width = mask.shape
    pixels = mask.astype(np.uint8)
    if height >= SIDE or width >= SIDE:
        return np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST), np.uint8)
    above, before = (SIDE - height) // 2, (SIDE - width) // 2
    return np.pad(pixels, ((above, SIDE - height - above), (before, SIDE - width - before)))
