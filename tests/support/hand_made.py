"""A dataset that no build wrote: shard by `tarfile`, index by pyarrow, card by hand, so that each may hold anything."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

CARD = """\
---
configs:
- config_name: microscopy
  default: true
  data_files:
  - split: train
    path: data/microscopy/mit/Cells/train-*.tar
---
"""
SHARD = "data/microscopy/mit/Cells/train-00000.tar"
INDEX = "index/microscopy/mit/Cells/train-00000.parquet"


@dataclass(frozen=True)
class HandMade:
    """Image and label map as PNG files, and the metadata."""

    image: bytes
    mask: bytes
    record: dict[str, Any]


def png(pixels: npt.NDArray[Any]) -> bytes:
    """Encoded by OpenCV."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def cells(schema: int, case: str = "a") -> tuple[HandMade, npt.NDArray[np.uint16]]:
    """400 cells of 6 x 6 pixels with gaps, 160 x 200 pixels: 16 bit in schema 1, two layers in schema 2.

    Returns:
        The sample, and the pixels with the number of each cell, 1 to 400.
    """
    numbers = np.kron(np.arange(1, 401, dtype=np.uint16).reshape(20, 20), np.ones((8, 10), np.uint16))
    rows, columns = np.indices(numbers.shape)
    numbers[(rows % 8 >= 6) | (columns % 10 >= 6)] = 0
    first, second = np.where(numbers < 256, numbers, 0), np.where(numbers > 255, numbers - np.uint16(255), 0)
    label_map = numbers if schema == 1 else np.concatenate([first, second]).astype(np.uint8)
    masks = []
    for number in range(1, 401):
        layer, own = (0, number) if schema == 1 or number < 256 else (1, number - 255)
        row, column = divmod(number - 1, 20)
        masks.append(
            {
                "id": own, "layer": layer, "label": "nucleus" if number % 2 else "cell", "class_id": "0000",
                "organ": None, "group": "other", "instance": number - 1, "bbox": [column * 10, row * 8, 6, 6], "area": 36,
            }
        )  # fmt: skip
    key = f"microscopy_00--Cells--{case}--2d_none"
    image = np.random.default_rng(0).integers(0, 255, numbers.shape, np.uint8)
    record = {
        "key": key, "source": "Cells", "modality": "microscopy", "submodality": "00", "license": "MIT", "patient": case,
        "case": case, "split": "train", "plane": "2d", "axis": "2d", "index": None, "height": 160, "width": 200,
        "spacing": None, "stored_axes": None, "schema": schema,
        "intensity": {"min": 0.0, "max": 255.0, "scaling": "none", "slope": 1.0, "intercept": 0.0},
        "image_file": f"{case}.png", "masks": masks,
    }  # fmt: skip
    return HandMade(png(image), png(label_map), record), numbers


def write_dataset(
    folder: Path,
    samples: Sequence[HandMade],
    *,
    text_of: Callable[[dict[str, Any]], bytes] = lambda record: json.dumps(record).encode(),
    row_of: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row,
) -> Path:
    """Write a shard with its index and card.

    Args:
        folder: Where to.
        samples: What it holds.
        text_of: Makes the JSON member of a record.
        row_of: Changes a row of the index.

    Returns:
        The folder.
    """
    rows = []
    for path in (SHARD, INDEX):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / SHARD, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            row: dict[str, Any] = dict(sample.record)
            members = {"png": sample.image, "mask.png": sample.mask, "json": text_of(sample.record)}
            for name, (ending, data) in zip(("image", "mask", "json"), members.items(), strict=True):
                info = tarfile.TarInfo(f"{sample.record['key']}.{ending}")
                info.size = len(data)
                row |= {f"{name}_offset": tar.offset + 512, f"{name}_size": len(data)}
                tar.addfile(info, io.BytesIO(data))
            rows.append(row_of(row))
    pq.write_table(pa.Table.from_pylist(rows), folder / INDEX)
    (folder / "README.md").write_text(CARD)
    return folder
