"""The index says where everything is, and can be made again from the shards alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.command_line import main
from shards.tar import read_shard
from tests.support.command import Command
from tests.support.output import members, tree
from tests.support.sources import write_source

MASK = pa.struct(
    [
        ("id", pa.int64()),
        ("layer", pa.int64()),
        ("label", pa.string()),
        ("class_id", pa.string()),
        ("organ", pa.string()),
        ("group", pa.string()),
        ("instance", pa.int64()),
        ("bbox", pa.list_(pa.int64())),
        ("area", pa.int64()),
    ]
)
INTENSITY = pa.struct(
    [
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("scaling", pa.string()),
        ("slope", pa.float64()),
        ("intercept", pa.float64()),
        ("clipped", pa.int64()),
    ]
)
TEXTS = [
    "key",
    "source",
    "modality",
    "submodality",
    "license",
    "patient",
    "case",
    "split",
    "plane",
    "axis",
    "stored_axes",
    "image_file",
    "shard",
]
NUMBERS = [
    "index",
    "slices",
    "height",
    "width",
    "schema",
    "image_offset",
    "image_size",
    "mask_offset",
    "mask_size",
    "json_offset",
    "json_size",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One source in several shards; nobody writes to it."""
    folder = tmp_path_factory.mktemp("built")
    recipe = write_source(folder / "raw", cases=4)
    more = ["--raw", folder / "raw", "--out", folder / "out", "--shard-size", "250KB", "--workers", 1]
    assert main([str(argument) for argument in ("build", recipe, *more)]) == 0
    return folder


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out"


def test_columns_and_their_types(built: Path) -> None:
    expected: dict[str, pa.DataType] = {**dict.fromkeys(TEXTS, pa.string()), **dict.fromkeys(NUMBERS, pa.int64())}
    expected |= {"spacing": pa.list_(pa.float64()), "intensity": INTENSITY, "masks": pa.list_(MASK)}
    expected |= {"origin": pa.list_(pa.float64()), "direction": pa.list_(pa.float64()), "slice_spacing": pa.float64()}
    expected |= {"official_split": pa.bool_(), "not_annotated": pa.list_(pa.string()), "rater": pa.string()}
    expected |= {
        "dropped": pa.struct([("masks", pa.int64()), ("pixels", pa.int64()), ("labels", pa.list_(pa.string()))])
    }
    paths = sorted(built.rglob("*.parquet"))
    assert len(paths) > 1
    for path in paths:
        schema = pq.read_schema(path)
        assert dict(zip(schema.names, schema.types, strict=True)) == expected


def test_a_folder_of_indexes_is_one_table(built: Path) -> None:
    table = pq.read_table(built / "out/index")
    assert table.num_rows == sum(name.endswith(".json") for name, _ in members(built / "out"))


def test_rows_point_at_the_members(out: Path) -> None:
    found = dict(members(out))
    rows = [row for path in sorted(out.rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert [row["key"] for row in rows] == [name.removesuffix(".json") for name in found if name.endswith(".json")]
    for row in rows:
        data = (out / row["shard"]).read_bytes()
        for column, member in (("image", "png"), ("mask", "mask.png"), ("json", "json")):
            start = row[f"{column}_offset"]
            assert data[start : start + row[f"{column}_size"]] == found[f"{row['key']}.{member}"]
        record = json.loads(found[f"{row['key']}.json"])
        assert {name: row[name] for name in record} == record


def test_index_is_made_again_from_the_shards_alone(sa_med2d: Command, out: Path) -> None:
    before, card = tree(out, "index"), (out / "README.md").read_text()
    counts = {path.name: json.loads(path.read_text()) for path in out.rglob("receipts/**/*.json")}
    shutil.rmtree(out / "index")
    shutil.rmtree(out / "build")
    (out / "README.md").unlink()
    ran = sa_med2d("index", out)
    assert ran.code == 0, ran.err
    assert tree(out, "index") == before
    for path in out.rglob("receipts/**/*.json"):
        again = json.loads(path.read_text())
        for name in ("sha256", "bytes", "samples", "masks", "labels", "cases", "license"):
            assert again[name] == counts[path.name][name]
    assert sa_med2d("verify", out, "--deep").code == 0
    assert (out / "README.md").read_text().split("## Sources")[0] == card.split("## Sources")[0]


def test_receipts_that_agree_are_kept(sa_med2d: Command, out: Path) -> None:
    before = tree(out)
    assert sa_med2d("index", out).code == 0
    assert {path: data for path, data in tree(out).items() if not path.startswith("tables/")} == before


def test_shard_with_a_damaged_header_is_not_indexed_in_part(sa_med2d: Command, out: Path) -> None:
    tar = next(out.rglob("*.tar"))
    spoilt, at = bytearray(tar.read_bytes()), list(read_shard(tar))[3][1].image.offset
    spoilt[at - 512 + 5] ^= 255
    tar.write_bytes(spoilt)
    shutil.rmtree(out / "build")
    ran = sa_med2d("index", out)
    assert ran.code == 1
    assert tar.name in ran.err


def test_deleted_shards_are_gone_from_index_receipts_and_card(sa_med2d: Command, out: Path) -> None:
    for tar in out.rglob("train-*.tar"):
        tar.unlink()
    assert sa_med2d("index", out).code == 0
    assert list(out.rglob("train-*")) == []
    assert "/train-*.tar" not in (out / "README.md").read_text()


def test_receipt_with_wrong_counts_is_written_anew(sa_med2d: Command, out: Path) -> None:
    path = next(out.rglob("receipts/**/train-00000.json"))
    true = json.loads(path.read_text())
    path.write_text(json.dumps({**true, "samples": 9999}))
    sa_med2d("index", out)
    assert json.loads(path.read_text())["samples"] == true["samples"]


def test_metadata_of_other_types_is_named_and_the_rest_indexed(sa_med2d: Command, out: Path) -> None:
    tars = sorted(out.rglob("*.tar"))
    data = tars[0].read_bytes()
    tars[0].write_bytes(data.replace(b'"height":40', b'"height":""', 1))
    assert tars[0].read_bytes() != data
    shutil.rmtree(out / "index")
    ran = sa_med2d("index", out)
    assert ran.code == 1
    assert tars[0].name in ran.err
    assert len(list((out / "index").rglob("*.parquet"))) == len(tars) - 1


def test_shard_at_no_shard_name_is_named_and_left_alone(sa_med2d: Command, out: Path) -> None:
    tar = next(out.rglob("*.tar"))
    odd = tar.rename(tar.with_name("first.tar"))
    ran = sa_med2d("index", out)
    assert ran.code == 1
    assert "'ct/cc-by-4.0/Small/first' is no shard name" in ran.err
    assert odd.is_file()
    assert not list(out.rglob("first.parquet"))


def test_index_of_what_is_no_folder(sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("index", tmp_path / "no")
    assert ran.code == 1
    assert "is no folder" in ran.err


def test_shard_that_cannot_be_read_is_named_and_the_rest_indexed(sa_med2d: Command, out: Path) -> None:
    tars = sorted(out.rglob("*.tar"))
    tars[0].write_bytes(tars[0].read_bytes()[:3000])
    shutil.rmtree(out / "index")
    ran = sa_med2d("index", out)
    assert ran.code == 1
    assert tars[0].name in ran.err
    assert len(list((out / "index").rglob("*.parquet"))) == len(tars) - 1
