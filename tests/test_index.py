"""The index says where everything is, and can be made again from the shards alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import Command, members, tree, write_source


@pytest.fixture
def out(sa_med2d: Command, tmp_path: Path) -> Path:
    recipe = write_source(tmp_path / "raw", cases=4)
    arguments = ["--raw", tmp_path / "raw", "--out", tmp_path / "out", "--shard-size", "250KB"]
    assert sa_med2d("build", recipe, *arguments).code == 0
    return tmp_path / "out"


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
    assert tree(out) == before


def test_shard_that_cannot_be_read_is_named_and_the_rest_indexed(sa_med2d: Command, out: Path) -> None:
    tars = sorted(out.rglob("*.tar"))
    tars[0].write_bytes(tars[0].read_bytes()[:3000])
    shutil.rmtree(out / "index")
    ran = sa_med2d("index", out)
    assert ran.code == 1
    assert tars[0].name in ran.err
    assert len(list(out.rglob("*.parquet"))) == len(tars) - 1
