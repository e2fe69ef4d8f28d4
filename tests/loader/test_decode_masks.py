"""Masks out of label maps of both schemas, as stock decoders hand them over; what a decoder clipped is refused."""

from __future__ import annotations

import gc
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import webdataset

from sa_med2d_20m import DatasetError, Prompts, Semantic, decode_masks, load
from tests.support.hand_made import SHARD, cells, png, write_dataset


def expected(numbers: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
    return np.stack([numbers == number for number in range(1, 401)])


def picture(data: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(data))


def as_array(data: bytes) -> npt.NDArray[Any]:
    return np.asarray(picture(data))


def as_tensor(data: bytes) -> Any:
    return pytest.importorskip("torch").from_numpy(as_array(data).astype(np.int32))


FORMS_OF_ANY: dict[str, Callable[[bytes], Any]] = {
    "PNG": lambda data: data,
    "bytearray": bytearray,
    "undecoded by datasets": lambda data: {"bytes": data, "path": None},
    "PIL": picture,
    "array": as_array,
    "int64": lambda data: as_array(data).astype(np.int64),
    "float": lambda data: as_array(data).astype(np.float32),
    "channel first": lambda data: as_array(data)[None],
    "channel last": lambda data: as_array(data)[..., None],
    "tensor": as_tensor,
    "tensor, channel first": lambda data: as_tensor(data)[None],
}
FORMS_OF_8_BIT: dict[str, Callable[[bytes], Any]] = {
    "PIL, RGB": lambda data: picture(data).convert("RGB"),
    "PIL, RGBA": lambda data: picture(data).convert("RGBA"),
    "RGB by OpenCV": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR),
    "RGB, channels first": lambda data: np.stack([as_array(data)] * 3),
    "parts of one": lambda data: as_array(data) / np.float32(255),
    "PNG in colour": lambda data: png(np.stack([as_array(data)] * 3, -1)),
}


@pytest.mark.parametrize(
    ("schema", "form"), [(1, form) for form in FORMS_OF_ANY] + [(2, form) for form in FORMS_OF_ANY | FORMS_OF_8_BIT]
)
def test_what_decoders_make_of_a_label_map(schema: int, form: str) -> None:
    sample, numbers = cells(schema)
    stored = (FORMS_OF_ANY | FORMS_OF_8_BIT)[form](sample.mask)
    for row in ({"mask": stored, **sample.record}, {"mask.png": stored, "json": sample.record}):
        assert np.array_equal(decode_masks(row), expected(numbers))


@pytest.mark.parametrize(
    "decoder", ["l8", "rgb8", "rgb", "l", "pil", "pill", "pilrgb", "torchrgb8", "torchrgb", "torchl8"]
)
@pytest.mark.parametrize("schema", [1, 2])
def test_webdataset_and_its_decoders(schema: int, decoder: str, tmp_path: Path) -> None:
    if decoder.startswith("torch"):
        pytest.importorskip("torch")
    sample, numbers = cells(schema)
    shard = write_dataset(tmp_path, [sample]) / SHARD
    with warnings.catch_warnings(action="ignore"):  # it leaves the file open
        [row] = webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False).decode(decoder)
        gc.collect()
    if schema == 2:
        assert np.array_equal(decode_masks(row), expected(numbers))
    else:
        with pytest.raises(DatasetError, match=r"clipped to 8 bit \(its values end at 255, the ids at 400\)"):
            decode_masks(row)


def changed(pixels: npt.NDArray[Any], **changes: Any) -> dict[str, Any]:
    sample, _ = cells(2)
    return {"mask": pixels, **sample.record, **changes}


def label_map() -> npt.NDArray[np.uint8]:
    return as_array(cells(2)[0].mask)


CHANGED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "flipped": (lambda: changed(label_map()[:, ::-1]), "area: expected 36 pixels, got 0: the label map was changed"),
    "half as large": (lambda: changed(label_map()[::2, ::2]), "area: expected 36 pixels, got 9"),
    "smoothed": (lambda: changed(cv2.blur(label_map().astype(np.float32), (3, 3))), "expected whole numbers"),
    "a photo": (
        lambda: changed(np.random.default_rng(0).integers(0, 9, (320, 200, 3), np.uint8)),
        "expected equal channels",
    ),
    "a layer short": (lambda: changed(label_map()[:160]), r"masks\[255\]: layer: expected 0 to 0, got 1"),
    "no stack": (lambda: changed(label_map()[:300]), "300 rows is no stack of layers of the image's 160 rows"),
    "one line": (lambda: changed(np.zeros(9)), r"got an array of \(9,\)"),
    "text": (lambda: changed(np.array("x")), "expected a label map"),
    "height in words": (lambda: changed(label_map(), height="tall"), "height: expected a whole number, got 'tall'"),
    "mask without box": (lambda: changed(label_map(), masks=[{"id": 1}]), r"masks\[0\]: bbox: expected four whole"),
    "mask in words": (lambda: changed(label_map(), masks=["liver"]), r"masks\[0\]: expected the fields of a mask"),
}


@pytest.mark.parametrize("how", CHANGED)
def test_what_was_changed_on_the_way_is_refused(how: str) -> None:
    make, said = CHANGED[how]
    with pytest.raises(DatasetError, match=said):
        decode_masks(make())


@pytest.mark.parametrize("schema", [1, 2])
def test_all_views(schema: int, tmp_path: Path) -> None:
    sample, numbers = cells(schema)
    write_dataset(tmp_path, [sample])
    [row] = load(tmp_path)
    assert np.array_equal(decode_masks(row), expected(numbers))
    rows = list(load(tmp_path, view="mask", prompts=Prompts(positive=2)))
    assert np.array_equal(np.stack([row["mask"] for row in rows]), expected(numbers))
    for row in rows:
        assert all(row["mask"][int(y), int(x)] for x, y in row["points"])
    assert len({tuple(np.subtract(row["points"][0], row["bbox"][:2])) for row in rows}) > 25
    [row] = load(tmp_path, view=Semantic(["cell", "nucleus"]))
    assert np.array_equal(row["mask"], np.where(numbers > 0, numbers % 2 + 1, 0))
    [row] = load(tmp_path, labels=["nucleus"])
    assert np.array_equal(decode_masks(row), expected(numbers)[::2])


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    sample, _ = cells(2)
    sample.record["schema"] = 3
    write_dataset(tmp_path, [sample])
    said = f"{SHARD}: {sample.record['key']}.json: schema: expected 1 or 2, got 3: it was built by a later release"
    with pytest.raises(DatasetError, match=re.escape(said)):
        list(load(tmp_path))
