"""The tables over all shards: a row for each sample and for each mask, and nothing that is not so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from builder.command_line import main
from tests.support.command import Command
from tests.support.output import members, tree
from tests.support.sources import write_source


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources in two splits, one with images without a mask, before `index`; nobody writes to it."""
    folder = tmp_path_factory.mktemp("built")
    for name, splits in (("Beta", 'train = ["case00"]\ntest = ["case01"]'), ("Gamma", 'train = ["*"]')):
        recipe = write_source(folder / "raw", name, cases=2)
        keep = "keep_empty = true\n" if name == "Gamma" else ""
        recipe.write_text(f"{keep}{recipe.read_text()}[splits]\n{splits}\n")
    build(folder, "Beta", "Gamma")
    return folder


def build(folder: Path, *names: str) -> None:
    recipes = [str(folder / f"raw/{name}.toml") for name in names]
    arguments = ["--raw", str(folder / "raw"), "--out", str(folder / "out"), "--workers", "1", "--shard-size", "100KB"]
    assert main(["build", *recipes, *arguments]) == 0


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "copy")
    return tmp_path / "copy/out"


def records(out: Path) -> list[dict[str, Any]]:
    """The metadata of all samples, read from the tars by the standard library."""
    return [json.loads(data) for name, data in members(out) if name.endswith(".json")]


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = pq.read_table(out / f"tables/{name}.parquet").to_pylist()
    return read


def test_a_row_for_each_sample_and_for_each_mask(sa_med2d: Command, out: Path) -> None:
    assert not (out / "tables").exists()
    assert sa_med2d("index", out).code == 0
    names = {f"{kind}-{split}.parquet" for kind in ("index", "masks") for split in ("train", "test")}
    assert {path.name for path in (out / "tables").iterdir()} == names
    for split in ("train", "test"):
        ours = [record for record in records(out) if record["split"] == split]
        samples = rows(out, f"index-{split}")
        assert [{name: row[name] for name in ours[0]} for row in samples] == ours
        for row in samples[:3]:
            shard = (out / row["shard"]).read_bytes()
            place = row["json_offset"]
            assert json.loads(shard[place : place + row["json_size"]])["key"] == row["key"]
        masks = rows(out, f"masks-{split}")
        expected = [(record, mask) for record in ours for mask in record["masks"]]
        assert len(masks) == len(expected)
        for row, (record, mask) in zip(masks, expected, strict=True):
            box = [row[f"bbox_{name}"] for name in ("x", "y", "width", "height")]
            assert {**{name: row[name] for name in mask if name != "bbox"}, "bbox": box} == mask
            assert row["shard"].startswith(f"data/{record['modality']}/")
            same = ("key", "source", "license", "patient", "plane", "height", "width")
            assert [row[name] for name in same] == [record[name] for name in same]
    assert any(not record["masks"] for record in records(out))
    assert sa_med2d("verify", out).code == 0


def test_the_index_is_a_dataset_of_arrow(out: Path) -> None:
    """Nothing else lies in its folder."""
    assert ds.dataset(str(out / "index")).count_rows() == len(records(out))


def test_how_they_are_written(sa_med2d: Command, out: Path) -> None:
    assert sa_med2d("index", out).code == 0
    for path in (out / "tables").iterdir():
        read = pq.ParquetFile(path).metadata
        for number in range(read.num_row_groups):
            column = read.row_group(number).column(0)
            assert (column.has_column_index, column.has_offset_index, column.compression) == (True, True, "ZSTD")
            assert column.statistics.min.split("--")[1] == column.statistics.max.split("--")[1]


def groups(path: Path) -> list[bytes]:
    """The bytes of each row group."""
    read, data = pq.ParquetFile(path).metadata, path.read_bytes()
    found = []
    for number in range(read.num_row_groups):
        columns = [read.row_group(number).column(at) for at in range(read.num_columns)]
        start = min(column.dictionary_page_offset or column.data_page_offset for column in columns)
        found.append(data[start : start + sum(column.total_compressed_size for column in columns)])
    return found


def test_another_source_leaves_the_bytes_of_the_others(sa_med2d: Command, out: Path) -> None:
    assert sa_med2d("index", out).code == 0
    before = {name: groups(out / f"tables/{name}-train.parquet") for name in ("index", "masks")}
    recipe = write_source(out.parent / "raw", "Alpha", cases=1)
    recipe.write_text(f'{recipe.read_text()}[splits]\ntrain = ["*"]\n')
    build(out.parent, "Alpha")
    for name, held in before.items():
        after = groups(out / f"tables/{name}-train.parquet")
        assert len(held) == 2
        assert after[1:] == held


def test_a_build_keeps_them_true(sa_med2d: Command, out: Path) -> None:
    assert sa_med2d("index", out).code == 0
    recipe = out.parent / "raw/Beta.toml"
    recipe.write_text(recipe.read_text().replace('train = ["case00"]\ntest = ["case01"]', 'train = ["*"]'))
    build(out.parent, "Beta")
    assert {path.name for path in (out / "tables").iterdir()} == {"index-train.parquet", "masks-train.parquet"}
    assert sa_med2d("verify", out).code == 0
    tables = tree(out, "tables")
    assert sa_med2d("index", out).code == 0
    assert tree(out, "tables") == tables


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def without_a_row(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(1), path)


def with_another_license(path: Path) -> None:
    table = pq.read_table(path)
    at = table.column_names.index("license")
    pq.write_table(table.set_column(at, "license", pa.array(["CC0-1.0"] * len(table))), path)


def without_a_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns("license"), path)


@pytest.mark.parametrize("kind", ["index", "masks"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut_short, "is no Parquet that can be read"),
        (without_a_row, "its rows are not those of the indexes"),
        (with_another_license, "its rows are not those of the indexes"),
        (without_a_column, "its columns are not those of this version"),
        (Path.unlink, "is missing"),
        (lambda path: shutil.copy(path, path.with_name("index-validation.parquet")), "is of no split that has shards"),
    ],
)
def test_what_is_not_so_is_found(sa_med2d: Command, out: Path, kind: str, damage: Any, said: str) -> None:
    assert sa_med2d("index", out).code == 0
    damage(out / f"tables/{kind}-train.parquet")
    ran = sa_med2d("verify", out)
    assert ran.code == 1
    words = " ".join(ran.err.split())
    assert said in words
    assert f"'sa-med2d index {out}' writes the tables anew" in words
    assert sa_med2d("index", out).code == 0
    assert sa_med2d("verify", out).code == 0
