"""SA-Med2D-20M: the data contract, a fast PNG decoder and the loader, in one file.

The file imports nothing else of this project, so it can be copied next to a training script::

    from sa_med2d_20m import decode_masks, load

    for sample in load("OUT", "mr-permissive", split="train"):
        image, masks = sample["image"], decode_masks(sample)   # PIL image, (N, H, W) bool

The metadata of a sample is defined once, by the dataclasses `Metadata`, `Mask` and `Intensity`. The JSON
member of a shard, the Parquet index and the features of the dataset card are all derived from them.
"""

from __future__ import annotations

import io
import json
import struct
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

try:
    from isal import isal_zlib as zlib
except ImportError:  # the loader alone also runs without ISA-L, only slower
    import zlib  # type: ignore[no-redef]

if typing.TYPE_CHECKING:
    import datasets

__all__ = [
    "MODALITIES",
    "SCHEMA",
    "SPLITS",
    "DatasetError",
    "Intensity",
    "Mask",
    "Metadata",
    "decode_masks",
    "decode_png",
    "load",
    "split_layers",
]

SCHEMA: Final = 1
"""Number of the data contract. It changes when bytes, order or fields of a shard change."""

MODALITIES: Final = (
    "ct",
    "mr",
    "pet",
    "ultrasound",
    "x_ray",
    "fundus_photography",
    "dermoscopy",
    "endoscopy",
    "oct",
    "microscopy",
    "histopathology",
)
SPLITS: Final = ("train", "validation", "test")


class DatasetError(ValueError):
    """A dataset, a config or a member of a shard is not what was asked for or what it should be."""


@dataclass(frozen=True)
class Intensity:
    """How the pixels of a stored image relate to the values of its source.

    A source value is ``slope * pixel + intercept``: exactly with scaling ``none`` and ``lossless``, within half
    a grey level with ``slice`` and ``volume``, and only inside the window with ``window``.

    Attributes:
        min: Smallest source value of the stored image, in the source's own units (HU for most CT).
        max: Largest source value of the stored image.
        scaling: ``none``, ``slice``, ``volume``, ``window`` or ``lossless``.
        slope: Source units per grey level.
        intercept: Source value of pixel 0.
    """

    min: float
    max: float
    scaling: str
    slope: float
    intercept: float


@dataclass(frozen=True)
class Mask:
    """One 8-connected object of one class in one image.

    Attributes:
        id: Pixel value of the object in the label map; 1 .. N, unique within the sample.
        layer: Layer of the label map that holds it, from 0.
        label: Class name in the vocabulary that all sources share.
        class_id: Four digits, the class within its source (the original release's numbering scheme).
        organ: One of the 31 organs of the original, or null.
        group: ``head_and_neck``, ``thorax``, ``abdomen``, ``pelvis``, ``lesion`` or ``other``.
        instance: Number of the object within its class and image, from 0.
        bbox: x, y, width, height in pixels; x counts columns, y counts rows.
        area: Number of pixels.
    """

    id: int
    layer: int
    label: str
    class_id: str
    organ: str | None
    group: str
    instance: int
    bbox: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True)
class Metadata:
    """The JSON member of a sample: always these fields, in this order, with these types.

    Attributes:
        key: WebDataset key: ``{modality}_{submodality}--{source}--{case}--{axis}_{slice:04d}``.
        source: Name of the source dataset (the recipe's name).
        modality: One of `MODALITIES`.
        submodality: Sequence, phase or channel; ``00`` where there is none.
        license: SPDX identifier, or ``LicenseRef-...``.
        patient: Patient the case belongs to; the unit of the split.
        case: Case name as in the source (unescaped, unlike in the key).
        split: ``train``, ``validation`` or ``test``.
        plane: ``axial``, ``coronal``, ``sagittal``; ``2d`` for pictures; ``unknown`` for stacks without orientation.
        axis: ``x``, ``y``, ``z`` (axes 0, 1, 2 of the LPS array in z, y, x order) or ``2d``.
        index: Slice number along that axis, towards superior, posterior, left; null for pictures.
        height: Rows of the image in pixels.
        width: Columns of the image in pixels.
        spacing: Row and column spacing in mm, or null.
        stored_axes: Axis codes of the volume as it was stored, such as ``LAS``, or null.
        schema: `SCHEMA` of the build.
        intensity: See `Intensity`.
        image_file: Path of the image below the source's root.
        masks: See `Mask`; ordered by ``id``.
    """

    key: str
    source: str
    modality: str
    submodality: str
    license: str
    patient: str
    case: str
    split: str
    plane: str
    axis: str
    index: int | None
    height: int
    width: int
    spacing: tuple[float, float] | None
    stored_axes: str | None
    schema: int
    intensity: Intensity
    image_file: str
    masks: tuple[Mask, ...]

    def to_record(self) -> dict[str, Any]:
        """The metadata as plain data, its fields in order of definition."""
        return {**vars(self), "intensity": vars(self.intensity), "masks": [vars(mask) for mask in self.masks]}

    def to_json(self) -> bytes:
        """The metadata as compact UTF-8 JSON with its fields in order of definition."""
        return json.dumps(self.to_record(), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


# --- the one definition, as features and as an Arrow schema ----------------------------------------------------------

_SCALARS: Final = {str: "string", int: "int64", float: "float64"}


def metadata_types(of: type = Metadata) -> dict[str, Any]:
    """The field types of a metadata dataclass as nested plain data.

    Returns:
        Field name -> Arrow type name (``"int64"``), ``[item]`` for a list, or a dict for a record.
    """
    hints = typing.get_type_hints(of)
    return {field.name: _describe(hints[field.name]) for field in fields(of)}


def _describe(hint: Any) -> Any:
    if is_dataclass(hint):
        return metadata_types(typing.cast("type", hint))
    if isinstance(hint, types.UnionType):
        return _describe(next(arm for arm in typing.get_args(hint) if arm is not type(None)))
    if typing.get_origin(hint) is tuple:
        return [_describe(typing.get_args(hint)[0])]
    return _SCALARS[hint]


def features(view: Literal["stock", "image", "mask"] = "stock") -> datasets.Features:
    """Features of a dataset of samples.

    Args:
        view: ``stock`` for the columns that the WebDataset reader of `datasets` yields from our shards; ``image``
            and ``mask`` for those of `load`.
    """
    import datasets  # noqa: PLC0415 - two seconds that writing shards need not pay

    def convert(described: Any) -> Any:
        if isinstance(described, dict):
            return {name: convert(item) for name, item in described.items()}
        if isinstance(described, list):
            return [convert(described[0])]
        return datasets.Value(described)

    record = metadata_types()
    text = datasets.Value("string")
    if view == "stock":
        pictures = {"png": datasets.Image(), "mask.png": datasets.Image()}
        return datasets.Features({**pictures, "json": convert(record), "__key__": text, "__url__": text})
    if view == "mask":
        record = {**{name: kind for name, kind in record.items() if name != "masks"}, **record["masks"][0]}
    return datasets.Features({"image": datasets.Image(), "mask": datasets.Image(), **convert(record)})


# --- PNG --------------------------------------------------------------------------------------------------------------

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {0: 1, 2: 3}
_NONE, _SUB = 0, 1


def decode_png(data: bytes) -> npt.NDArray[np.uint8 | np.uint16]:
    """Decode a PNG into an array.

    Our shards hold PNG of one fixed row filter (SUB for images, NONE for label maps), which is undone by a
    cumulative sum; any other PNG goes through OpenCV.

    Args:
        data: A whole PNG file.

    Returns:
        (H, W) for greyscale, (H, W, 3) RGB or (H, W, 4) RGBA; uint8, or uint16 for 16 bit.

    Raises:
        DatasetError: The bytes are no PNG, or a damaged one.
    """
    if data[:8] != _PNG_SIGNATURE or len(data) < 33:
        raise DatasetError(f"expected a PNG file, got {len(data)} bytes that start with {bytes(data[:8])!r}")
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    if not width or not height:
        raise DatasetError(f"damaged PNG: its size is {width} x {height}")
    if depth in (8, 16) and colour in _CHANNELS and not interlace:
        rows = _inflate_rows(data, height, width * _CHANNELS[colour] * (depth // 8))
        pixels = _undo_filter(rows, _CHANNELS[colour] * (depth // 8))
        if pixels is not None:
            return _as_pixels(pixels, height, width, depth, colour)
    return _decode_any_png(data)


def _inflate_rows(data: bytes, height: int, stride: int) -> npt.NDArray[np.uint8]:
    body, position = [], 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            body.append(data[position + 8 : position + 8 + length])
        position += 12 + length
    try:
        raw = zlib.decompress(body[0] if len(body) == 1 else b"".join(body))
    except zlib.error as error:  # type: ignore[misc]
        raise DatasetError(f"damaged PNG: its pixel data cannot be inflated ({error})") from None
    if len(raw) != height * (stride + 1):
        raise DatasetError(f"damaged PNG: expected {height * (stride + 1)} bytes of pixel rows, got {len(raw)}")
    return np.frombuffer(raw, np.uint8).reshape(height, stride + 1)


def _undo_filter(rows: npt.NDArray[np.uint8], bytes_per_pixel: int) -> npt.NDArray[np.uint8] | None:
    kinds = rows[:, 0]
    if not kinds.any():
        return rows[:, 1:]
    if not (kinds == _SUB).all():
        return None
    if bytes_per_pixel == 1:
        return np.cumsum(rows[:, 1:], axis=1, dtype=np.uint8)
    return np.cumsum(rows[:, 1:].reshape(rows.shape[0], -1, bytes_per_pixel), axis=1, dtype=np.uint8)


def _as_pixels(
    rows: npt.NDArray[np.uint8], height: int, width: int, depth: int, colour: int
) -> npt.NDArray[np.uint8 | np.uint16]:
    shape = (height, width) if colour == 0 else (height, width, _CHANNELS[colour])
    if depth == 8:
        return np.ascontiguousarray(rows).reshape(shape)
    return np.ascontiguousarray(rows).reshape(-1).view(">u2").astype(np.uint16).reshape(shape)


def _decode_any_png(data: bytes) -> npt.NDArray[np.uint8 | np.uint16]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DatasetError(f"damaged PNG: OpenCV refuses it ({error.err})") from None
    if pixels is None:
        raise DatasetError("damaged PNG: OpenCV cannot decode it either")
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return typing.cast("npt.NDArray[np.uint8 | np.uint16]", pixels)


# --- masks ------------------------------------------------------------------------------------------------------------


def split_layers(label_map: npt.NDArray[Any], height: int) -> npt.NDArray[Any]:
    """Separate the stacked layers of a label map.

    Args:
        label_map: (layers * H, W), as stored in ``mask.png``.
        height: H, the height of the image.

    Returns:
        (layers, H, W), a view.
    """
    rows, width = label_map.shape
    if height <= 0 or rows % height:
        raise DatasetError(f"label map of {rows} rows is no stack of layers of the image's {height} rows")
    return label_map.reshape(rows // height, height, width)


def decode_masks(sample: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """The masks of a sample as a stack of binary arrays.

    Args:
        sample: A row of `load`, of stock ``datasets.load_dataset`` on our shards, or a sample of plain `webdataset`
            (decoded or not).

    Returns:
        (N, H, W) bool; mask ``n`` belongs to entry ``n`` of the sample's list of masks.

    Raises:
        DatasetError: The sample holds no label map or no list of masks.
    """
    record = _record(sample)
    layers = split_layers(_label_map(sample), int(record["height"]))
    masks = record["masks"]
    stack = np.zeros((len(masks), *layers.shape[1:]), np.bool_)
    for mask, out in zip(masks, stack, strict=True):
        x, y, width, height = mask["bbox"]
        box = np.s_[y : y + height, x : x + width]
        out[box] = layers[mask["layer"]][box] == mask["id"]
    return stack


def _record(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    record: Any = sample if "masks" in sample else sample.get("json")
    if isinstance(record, bytes | str):
        record = json.loads(record)
    if not isinstance(record, Mapping) or "masks" not in record:
        raise DatasetError(f"expected a sample with 'masks' or 'json', got the columns {sorted(sample)}")
    return record


def _label_map(sample: Mapping[str, Any]) -> npt.NDArray[Any]:
    stored = sample.get("mask", sample.get("mask.png"))
    if stored is None:
        raise DatasetError(f"expected a sample with 'mask' or 'mask.png', got the columns {sorted(sample)}")
    if isinstance(stored, Mapping):
        stored = stored["bytes"]
    return decode_png(stored) if isinstance(stored, bytes) else np.asarray(stored)


# --- loading ----------------------------------------------------------------------------------------------------------


def load(
    path: str | Path,
    config: str | None = None,
    *,
    split: str = "train",
    streaming: bool = True,
    view: Literal["image", "mask"] = "image",
) -> datasets.IterableDataset | datasets.Dataset:
    """Load one split of one config of a built folder.

    Args:
        path: Folder that `sa-med2d build` wrote: it holds README.md, data/ and index/.
        config: ``ct``, ``mr-commercial``, ``all-permissive`` ...; default: the card's default config.
        split: ``train``, ``validation`` or ``test``.
        streaming: Read the shards as they are (True), or copy them to the cache of `datasets` first (False).
        view: ``image``: one row per image with the columns ``image``, ``mask`` (the label map) and the fields of
            `Metadata`. ``mask``: one row per mask, ``mask`` is that mask alone (0 and 255), and the fields of `Mask`
            stand beside those of `Metadata`.

    Raises:
        DatasetError: There is no such folder, config or split; the message lists those that exist.
    """
    import datasets  # noqa: PLC0415 - see features()

    if view not in ("image", "mask"):
        raise DatasetError(f"view is {view!r}, expected 'image' or 'mask'")
    root = Path(path)
    shards = [_Shard.at(root, tar) for tar in _tars(root, config, split)]
    make = datasets.IterableDataset if streaming else datasets.Dataset
    rows = _image_rows if view == "image" else _mask_rows
    if not streaming and not _has_rows(shards, view):  # which Dataset.from_generator cannot make
        return datasets.Dataset.from_dict({name: [] for name in features(view)}, features(view), split=split)
    split_name = datasets.NamedSplit(split)
    return make.from_generator(rows, features=features(view), gen_kwargs={"shards": shards}, split=split_name)


@dataclass(frozen=True)
class _Shard:
    """A shard on disk. Size and time make `datasets` build its cache anew when the file was replaced."""

    tar: str
    index: str
    bytes: int
    modified_ns: int

    @classmethod
    def at(cls, root: Path, tar: str) -> _Shard:
        index = root / "index" / Path(tar).relative_to("data").with_suffix(".parquet")
        if not index.is_file():
            raise DatasetError(f"{index} is missing; 'sa-med2d index {root}' writes it again")
        state = (root / tar).stat()
        return cls(str(root / tar), str(index), state.st_size, state.st_mtime_ns)


def _has_rows(shards: Sequence[_Shard], view: str) -> bool:
    import pyarrow.parquet as pq  # noqa: PLC0415 - only loading reads an index

    if view == "image":
        return any(pq.read_metadata(shard.index).num_rows for shard in shards)
    return any(any(pq.read_table(shard.index, columns=["masks"])["masks"].to_pylist()) for shard in shards)


def _tars(root: Path, config: str | None, split: str) -> list[str]:
    configs = {entry["config_name"]: entry for entry in _card_configs(root)}
    if config is None:
        config = next((name for name, entry in configs.items() if entry.get("default")), None)
    if config not in configs:
        raise DatasetError(f"no config {config!r} in {root}; it has {', '.join(configs) or 'none'}")
    globs = {files["split"]: files["path"] for files in configs[config]["data_files"]}
    if split not in globs:
        raise DatasetError(f"config {config!r} of {root} has no split {split!r}; it has {', '.join(globs)}")
    patterns = [globs[split]] if isinstance(globs[split], str) else globs[split]
    return sorted(tar.relative_to(root).as_posix() for pattern in patterns for tar in root.glob(pattern))


def _card_configs(root: Path) -> list[dict[str, Any]]:
    from huggingface_hub import metadata_load  # noqa: PLC0415 - only loading reads a card

    card = root / "README.md"
    if not card.is_file():
        raise DatasetError(f"{root} is no built dataset: it has no README.md; 'sa-med2d build' writes one")
    return list((metadata_load(card) or {}).get("configs", []))


def _members(shards: Sequence[_Shard]) -> Iterator[tuple[bytes, bytes, dict[str, Any]]]:
    import pyarrow.parquet as pq  # noqa: PLC0415 - only loading reads an index

    columns = [f"{member}_{what}" for member in ("image", "mask", "json") for what in ("offset", "size")]
    for shard in shards:
        index = pq.read_table(shard.index, columns=columns)
        with Path(shard.tar).open("rb") as tar:
            for row in zip(*(column.to_pylist() for column in index.columns), strict=True):
                image, mask, record = (_read(tar, shard.tar, *row[i : i + 2]) for i in (0, 2, 4))
                yield image, mask, json.loads(record)


def _read(tar: io.BufferedReader, name: str, offset: int, size: int) -> bytes:
    tar.seek(offset)
    data = tar.read(size)
    if len(data) != size:
        raise DatasetError(f"{name} ends at byte {offset + len(data)}, its index says {offset + size}: it is truncated")
    return data


def _image_rows(shards: Sequence[_Shard]) -> Iterator[dict[str, Any]]:
    for image, mask, record in _members(shards):
        yield {"image": _picture(image), "mask": _picture(mask), **record}


def _mask_rows(shards: Sequence[_Shard]) -> Iterator[dict[str, Any]]:
    for image, mask, record in _members(shards):
        layers = split_layers(decode_png(mask), record["height"])
        for entry in record.pop("masks"):
            binary = (layers[entry["layer"]] == entry["id"]).view(np.uint8) * np.uint8(255)
            data = cv2.imencode(".png", binary)[1].tobytes()
            yield {"image": _picture(image), "mask": _picture(data), **record, **entry}


def _picture(data: bytes) -> dict[str, Any]:
    return {"bytes": data, "path": None}
