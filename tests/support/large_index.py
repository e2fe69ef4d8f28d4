"""An index as large as is asked for, of images that do not exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sa_med2d_20m import LABELS, MODALITIES
from shards.index_schema import INDEX_SCHEMA
from shards.paths import ShardId

_SPLITS = ("train", "train", "train", "validation", "test")
_SLICES = 60
_CLASSES = 30


def write_large_index(out: Path, images: int, in_shard: int = 4000) -> None:
    """Write indexes of shards of five to a source, four masks of thirty classes to an image on average."""
    rng = np.random.default_rng(0)
    for number in range(images // in_shard):
        source, part = divmod(number, len(_SPLITS))
        modality = ("ct", "mr")[source % 2] if source % 10 < 8 else MODALITIES[source % len(MODALITIES)]
        split = _SPLITS[part]
        shard = ShardId(modality, "cc-by-4.0", f"S{source:04d}", split, part if split == "train" else 0)
        path = out / shard.index
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_rows(shard, in_shard, rng), path, compression="zstd")


def _rows(shard: ShardId, count: int, rng: np.random.Generator) -> pa.Table:
    cases = [f"{shard.split}{shard.number}case{number // _SLICES:05d}" for number in range(count)]
    axes = [number % 3 for number in range(count)]
    height = rng.integers(200, 512, count)
    spacing = pa.FixedSizeListArray.from_arrays(pa.array(rng.uniform(0.4, 2, 2 * count)), 2)
    texts = {
        "source": shard.source,
        "modality": shard.modality,
        "submodality": "00",
        "license": "CC-BY-4.0",
        "split": shard.split,
        "stored_axes": "LAS",
        "shard": shard.tar,
    }
    key = f"{shard.modality}_00--{shard.source}--"
    columns: dict[str, Any] = {
        **{name: [text] * count for name, text in texts.items()},
        "key": [f"{key}{case}--{'xyz'[axes[at]]}_{at % _SLICES:04d}" for at, case in enumerate(cases)],
        "patient": cases,
        "case": cases,
        "plane": [("axial", "coronal", "sagittal")[axis] for axis in axes],
        "axis": ["xyz"[axis] for axis in axes],
        "index": [at % _SLICES for at in range(count)],
        "height": height,
        "width": height + rng.integers(0, 60, count),
        "spacing": spacing.cast(pa.list_(pa.float64())),
        "slice_spacing": rng.uniform(0.5, 5, count),
        "intensity": _struct("intensity", min=rng.uniform(-1000, 0, count), max=rng.uniform(100, 3000, count)),
        "dropped": _struct("dropped", masks=rng.integers(0, 3, count), pixels=rng.integers(0, 100, count)),
        "not_annotated": [[]] * count,
        "masks": _masks(count, rng),
    }
    arrays = []
    for field in INDEX_SCHEMA:
        values = columns.get(field.name, [None] * count)
        is_array = isinstance(values, pa.Array | np.ndarray)
        arrays.append(pa.array(values).cast(field.type) if is_array else pa.array(values, field.type))
    return pa.table(arrays, schema=INDEX_SCHEMA)


def _struct(name: str, **values: Any) -> pa.StructArray:
    fields = list(INDEX_SCHEMA.field(name).type)
    count = len(next(iter(values.values())))
    arrays = [pa.array(values.get(field.name, [None] * count), field.type) for field in fields]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def _masks(count: int, rng: np.random.Generator) -> pa.ListArray:
    ends = np.concatenate([[0], np.cumsum(rng.poisson(4, count))])
    total = int(ends[-1])
    classes = rng.integers(0, _CLASSES, total)
    labels = rng.choice(LABELS, _CLASSES, replace=False)
    values = {
        "label": labels[classes],
        "organ": np.array(["liver", "kidney", "spleen"])[classes % 3],
        "group": np.array(["abdomen", "lesion", "other"])[classes % 3],
        "area": rng.integers(400, 20000, total),
    }
    fields = list(INDEX_SCHEMA.field("masks").type.value_type)
    arrays = [pa.array(values.get(field.name, [None] * total), field.type) for field in fields]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.StructArray.from_arrays(arrays, fields=fields))
