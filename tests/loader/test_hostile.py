"""Shards, indexes and cards as somebody else may have made them: an error with file, field, expected and got."""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sa_med2d_20m import MEMORY_LIMIT, DatasetError, decode_masks, decode_png, load
from tests.support.hand_made import CARD, INDEX, SHARD, HandMade, cells, png, write_dataset

Record = dict[str, Any]


def small(**changes: Any) -> HandMade:
    """One mask in 8 x 9 pixels."""
    label_map = np.zeros((8, 9), np.uint8)
    label_map[2:4, 3:6] = 1
    record = cells(1)[0].record | {"height": 8, "width": 9}
    record["masks"] = [record["masks"][0] | {"bbox": [3, 2, 3, 2], "area": 6}]
    return HandMade(png(np.arange(72, dtype=np.uint8).reshape(8, 9)), png(label_map), record | changes)


def mask_with(**changes: Any) -> HandMade:
    return small(masks=[small().record["masks"][0] | changes])


def test_the_small_dataset_itself_is_read(tmp_path: Path) -> None:
    [row] = load(write_dataset(tmp_path, [small()]))
    assert decode_masks(row).sum() == 6


SAMPLES: dict[str, tuple[HandMade, str]] = {
    "number for text": (small(case=7), "case: expected text, got 7"),
    "null for text": (small(license=None), "license: expected text, got None"),
    "text for a number": (small(index="7"), "index: expected a whole number or null, got '7'"),
    "true for a number": (small(height=True), "height: expected a whole number, got True"),
    "a part": (small(width=9.0), "width: expected a whole number, got 9.0"),
    "beyond 64 bit": (small(index=2**64), "index: expected a number of 64 bit, got one of 65 bit"),
    "list for a record": (small(intensity=[]), "intensity: expected a record, got []"),
    "record of other types": (
        small(intensity={"min": "0", "max": 1.0, "scaling": "none", "slope": 1.0, "intercept": 0.0}),
        "intensity: min: expected a number or a whole number, got '0'",
    ),
    "spacing of three": (small(spacing=[1.0, 1.0, 1.0]), "spacing: expected two numbers or null"),
    "origin of text": (small(origin=["1", 2.0, 3.0]), "origin: expected three numbers or null"),
    "direction of eight": (small(direction=[1.0] * 8), "direction: expected nine numbers or null"),
    "slices of 70 bit": (small(slices=2**69), "slices: expected a number of 64 bit, got one of 70 bit"),
    "dropped is a list": (small(dropped=[1, 2]), "dropped: expected a record, got [1, 2]"),
    "dropped pixels are text": (small(dropped={"masks": 1, "pixels": "7"}), "dropped: pixels: expected a whole number"),
    "dropped pixels of 70 bit": (
        small(dropped={"masks": 1, "pixels": 2**69}),
        "dropped.pixels: expected a number of 64",
    ),
    "official_split is 1": (small(official_split=1), "official_split: expected true or false, got 1"),
    "not_annotated holds numbers": (small(not_annotated=[1]), "not_annotated: expected a list of labels, got [1]"),
    "no list": (small(masks={}), "masks: expected a list, got {}"),
    "masks in words": (small(masks=["liver"]), "masks[0]: expected the fields of a mask, got 'liver'"),
    "id of another type": (mask_with(id="1"), "masks[0]: id: expected a whole number, got '1'"),
    "id beyond the map": (mask_with(id=256), "masks[0]: id: expected 1 to 255, got 256"),
    "background": (mask_with(id=0), "masks[0]: id: expected 1 to 255, got 0"),
    "layer that is not there": (mask_with(layer=1), "masks[0]: layer: expected 0 to 0, got 1"),
    "negative layer": (mask_with(layer=-1), "masks[0]: layer: expected 0 to 0, got -1"),
    "box outside": (mask_with(bbox=[3, 2, 30, 2]), "masks[0]: bbox: expected a box within 9 x 8 pixels"),
    "box before": (mask_with(bbox=[-3, 2, 3, 2]), "masks[0]: bbox: expected four whole numbers from 0 on"),
    "box of three": (mask_with(bbox=[3, 2, 3]), "masks[0]: bbox: expected four whole numbers"),
    "area of more": (mask_with(area=7), "masks[0]: area: expected 1 to what its bbox holds"),
    "instance beyond 64 bit": (mask_with(instance=2**70), "masks[0]: instance: expected 0 or more, in 64 bit"),
    "the same twice": (small(masks=small().record["masks"] * 2), "masks: expected each id once in its layer, got 2"),
    "other height": (small(height=9), "height and width: expected those of its image, 8 x 9, got 9 x 9"),
    "half a layer": (
        HandMade(small().image, png(np.zeros((12, 9), np.uint8)), small().record),
        "its label map is 12 x 9, expected layers of 8 x 9 pixels",
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("view", ["image", "mask"])
def test_metadata_that_breaks_the_contract(tmp_path: Path, name: str, view: Any) -> None:
    sample, said = SAMPLES[name]
    write_dataset(tmp_path, [small()])
    index = (tmp_path / INDEX).read_bytes()
    held = dict.fromkeys(("image", "mask", "json"), 0)
    write_dataset(tmp_path / "other", [sample], row_of=lambda row: held.update(row) or small().record | places(row))
    (tmp_path / "other" / INDEX).write_bytes(with_places(index, held))
    with pytest.raises(DatasetError, match=re.escape(f"{SHARD}: {sample.record['key']}.json: {said}")):
        list(load(tmp_path / "other", view=view))


def places(row: Record) -> Record:
    return {name: value for name, value in row.items() if name.endswith(("_offset", "_size"))}


def with_places(index: bytes, row: Record) -> bytes:
    """An index of sound types with the places of another shard."""
    table = pq.read_table(io.BytesIO(index))
    for name, value in places(row).items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array([value]))
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


TEXTS: dict[str, tuple[Callable[[Record], bytes], str]] = {
    "deep": (lambda _: b'{"key":' + b"[" * 10**6, "expected JSON of a few levels"),
    "cut": (lambda record: json.dumps(record).encode()[:-9], "expected JSON, got"),
    "not UTF-8": (lambda record: json.dumps(record).encode().replace(b"Cells", b"Cell\xff"), "expected JSON, got"),
    "endless number": (lambda record: b'{"key":' + b"9" * 10**5 + b"}", "expected JSON, got"),
    "a list": (lambda _: b"[]", "does not hold"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_json_that_is_none(tmp_path: Path, name: str) -> None:
    text_of, said = TEXTS[name]
    write_dataset(tmp_path, [small()], text_of=text_of)
    with pytest.raises(DatasetError, match=said) as raised:
        list(load(tmp_path))
    assert SHARD in str(raised.value)


ROWS: dict[str, tuple[Record, str]] = {
    "size that lies": ({"json_size": 2**40}, "json_size 1099511627776"),
    "place far away": ({"json_offset": 2**40}, "expected members that lie within 1,073,741,824 bytes of each other"),
    "place beyond all files": ({"json_offset": 2**62, "json_size": 2**62}, "expected members that lie within"),
    "place before the start": ({"image_offset": -1}, "image_offset -1"),
    "negative size": ({"mask_size": -5}, "mask_size -5"),
    "places in words": ({"image_offset": "7th"}, "is damaged: "),
    "no place": ({"image_offset": None}, "image_offset: expected a value in each row"),
    "no masks": ({"masks": 3}, "is damaged: "),
    "masks of another kind": ({"masks": [{"label": 1, "organ": 2, "group": [], "area": "x"}]}, "is damaged: "),
    "endless name": ({"key": "k" * 10**6}, "key: expected texts of at most 4096 bytes, got one of 1,000,000"),
}


@pytest.mark.parametrize("name", ROWS)
def test_indexes_that_lie(tmp_path: Path, name: str) -> None:
    changes, said = ROWS[name]
    write_dataset(tmp_path, [small()], row_of=lambda row: row | changes)
    with pytest.raises(DatasetError, match=re.escape(said)) as raised:
        list(load(tmp_path))
    assert "Cells/train-00000" in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_an_index_without_a_column(tmp_path: Path) -> None:
    write_dataset(tmp_path, [small()], row_of=lambda row: {name: row[name] for name in row if name != "plane"})
    with pytest.raises(DatasetError, match="plane: expected a column of this name"):
        load(tmp_path)


CARDS = {
    "empty": b"",
    "cut short": CARD.encode()[:60],
    "cut in a letter": "---\npretty_name: é".encode()[:-1],
    "no YAML": b"---\n\t{[\n---\n",
    "deep": b"---\nconfigs: " + b"[" * 10**5 + b"\n---\n",
    "configs in words": b"---\nconfigs: many\n---\n",
    "config without files": b"---\nconfigs:\n- config_name: microscopy\n---\n",
    "path out of the folder": CARD.replace("data/microscopy/mit/Cells", "../../../../etc").encode(),
    "absolute path": CARD.replace("data/", "/data/").encode(),
}


@pytest.mark.parametrize("name", CARDS)
def test_a_damaged_card_is_an_error_of_that_file(tmp_path: Path, name: str) -> None:
    write_dataset(tmp_path, [small()])
    (tmp_path / "README.md").write_bytes(CARDS[name])
    with pytest.raises(DatasetError, match=r"README\.md: .*expected .*fetch it again"):
        load(tmp_path, "microscopy")


def bomb(width: int, height: int) -> bytes:
    """A PNG of zeros, a thousandth of its pixels."""
    packer, row = zlib.compressobj(9), bytes(width + 1)
    rows = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_a_picture_of_four_gibibytes(tmp_path: Path) -> None:
    data = bomb(2**16, 8)
    claimed = data[:20] + struct.pack(">I", 2**16) + data[24:]
    with pytest.raises(
        DatasetError, match=r"a PNG of 65536 x 65536 pixels takes 17,179,869,184 bytes, expected at most"
    ):
        decode_png(claimed)


def test_a_stack_of_masks_that_takes_more_than_is_allowed() -> None:
    """200,000 masks of 92 x 92 pixels: 1.7 GiB."""
    mask = {"id": 1, "layer": 0, "bbox": [0, 0, 1, 1], "area": 1}
    with pytest.raises(DatasetError, match=r'masks takes 1,692,800,000 bytes.* view="mask"\) gives masks one by one'):
        decode_masks({"mask": np.ones((92, 92), np.uint8), "height": 92, "masks": [mask] * 200_000})


MEMORY = """
import json, resource, sys
import datasets, pyarrow.parquet, sa_med2d_20m
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    list(sa_med2d_20m.load(sys.argv[1]))
    said = "nothing"
except sa_med2d_20m.DatasetError as error:
    said = str(error)
print(json.dumps([said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024]))
"""


@pytest.mark.parametrize("remote", [False, True])
def test_an_index_that_unfolds_to_millions_of_rows(tmp_path: Path, remote: bool) -> None:
    """Three million equal rows in a small file."""
    write_dataset(tmp_path, [small()])
    row = pq.read_table(tmp_path / INDEX)
    many = pa.concat_tables([row] * 1000).combine_chunks()
    with pq.ParquetWriter(tmp_path / INDEX, row.schema, compression="zstd") as writer:
        for _ in range(3):
            writer.write_table(pa.concat_tables([many] * 1000), row_group_size=10**6)
    assert (tmp_path / INDEX).stat().st_size < 2_000_000
    place = f"local://{tmp_path}" if remote else str(tmp_path)
    ran = subprocess.run([sys.executable, "-c", MEMORY, place], check=True, stdout=subprocess.PIPE)
    said, taken = json.loads(ran.stdout)
    assert re.search(r"num_rows: expected at most [\d,]+, got 3,000,000", said)
    assert taken < MEMORY_LIMIT / 4
