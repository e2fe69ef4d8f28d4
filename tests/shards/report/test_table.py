"""The main table: numbers as the metadata in the shards give them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hub.server import HubServer
from tests.support.command import Command
from tests.support.object_store import Store
from tests.support.output import members


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(data) for name, data in members(out) if name.endswith(".json")]


def line(of: list[dict[str, Any]]) -> dict[str, int]:
    """What the metadata of some samples count up to."""
    splits = Counter(record["split"] for record in of)
    return {
        "images": len(of),
        **{split: splits[split] for split in ("train", "validation", "test")},
        "masks": sum(len(record["masks"]) for record in of),
        "classes": len({mask["label"] for record in of for mask in record["masks"]}),
        "sources": len({record["source"] for record in of}),
        "patients": len({(record["source"], record["patient"]) for record in of}),
    }


def expected(out: Path, keep: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
    kept = [record for record in records(out) if keep(record)]
    by_modality = Counter(record["modality"] for record in kept)
    modalities = [
        {"modality": name, **line([record for record in kept if record["modality"] == name])}
        for name, _ in by_modality.most_common()
    ]
    return {"modalities": modalities, "total": line(kept)}


def test_the_table_counts_what_the_shards_hold(sa_med2d: Command, built: Path) -> None:
    ran = sa_med2d("stats", built, "--json")
    assert ran.code == 0
    assert json.loads(ran.out) == {"folder": str(built), **expected(built)}
    assert json.loads(ran.out)["total"]["patients"] == 6


def test_the_table_on_a_terminal_has_a_line_for_each_modality(sa_med2d: Command, built: Path) -> None:
    ran = sa_med2d("stats", built)
    assert ran.code == 0
    numbers = [[int(cell) for cell in re.findall(r"\d+", row.replace(",", ""))] for row in ran.out.splitlines()]
    found = expected(built)
    lines = [list(one.values())[1:] for one in found["modalities"]] + [list(found["total"].values())]
    assert [row for row in numbers if len(row) == 8] == lines


def test_a_file_that_holds_rows_of_several_sources(sa_med2d: Command, built: Path, tmp_path: Path) -> None:
    """The tables over all shards, in the place of an index."""
    shutil.copytree(built, tmp_path / "out")
    assert sa_med2d("index", tmp_path / "out").code == 0
    shutil.rmtree(tmp_path / "out/index")
    for split in ("train", "validation", "test"):
        shutil.copy(tmp_path / f"out/tables/index-{split}.parquet", tmp_path / f"out/index-{split}.parquet")
        place = tmp_path / f"out/index/ct/cc-by-4.0/Mixed/{split}-00000.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"out/index-{split}.parquet").rename(place)
    ran = sa_med2d("stats", tmp_path / "out", "--json")
    assert ran.err == ""
    assert json.loads(ran.out)["total"] == expected(built)["total"]


def test_a_folder_in_a_store(sa_med2d: Command, built: Path, store: Store) -> None:
    put(store, built)
    ran = sa_med2d("stats", store.url, "--json")
    assert json.loads(ran.out) == {"folder": store.url, **expected(built)}


def put(store: Store, out: Path) -> None:
    for path in out.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(out).as_posix(), path.read_bytes())


@pytest.mark.slow
def test_the_report_of_a_store_is_written_there(sa_med2d: Command, built: Path, store: Store, tmp_path: Path) -> None:
    put(store, built)
    assert sa_med2d("report", store.url, "--html", tmp_path / "page.html", "--samples", "20").code == 0
    said = json.loads(store.tree("report")["report/statistics.json"])
    assert said["total"]["images"] == len(records(built))
    assert {row["source"] for row in said["dropped"]["source_and_reason"]} == {"Alpha", "Beta", "Magnet"}
    assert sa_med2d("report", built, "--to", tmp_path, "--html", tmp_path / "here.html", "--samples", "20").code == 0
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "here.html").read_bytes()


def test_a_repository_of_the_hub(built: Path, tmp_path: Path) -> None:
    """By its name; it holds what may be published, and the tables are read, not hundreds of indexes."""
    with HubServer(tmp_path / "hub", objects="direct") as hub:
        hub.add_user("ann", "hf_ann")
        environment = hub.environment(home=tmp_path / "home", token="hf_ann")  # noqa: S106 - of the tests' own Hub

        def run(*arguments: object, code: int = 0) -> str:
            command = [sys.executable, "-m", "builder", *map(str, arguments)]
            ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert ran.returncode == code, ran.stderr
            return ran.stdout or ran.stderr

        run("publish", built, "ann/scans", "--tier", "commercial", "--no-figures")
        before = len(hub.requests)
        found = json.loads(run("stats", "ann/scans", "--json"))
        asked = [one.path for one in hub.requests[before:]]
        assert "--to" in run("report", "ann/scans", code=1)
        run("report", "ann/scans", "--to", tmp_path / "report", "--html", tmp_path / "page.html", "--samples", "20")
        said = json.loads((tmp_path / "report/statistics.json").read_text())
    free = expected(built, lambda record: record["license"] != "CC-BY-NC-4.0")
    assert (found["modalities"], found["total"]) == (free["modalities"], free["total"])
    assert [path for path in asked if "/index/" in path and path.endswith(".parquet")] == []
    assert said["total"]["images"] == free["total"]["images"]
    assert {row["source"] for row in said["dropped"]["source_and_reason"]} == {"Alpha", "Magnet"}
    assert "Beta" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("damage", [b"", b"no Parquet", b"PAR1" * 100])
def test_a_damaged_index_is_named(sa_med2d: Command, built: Path, tmp_path: Path, damage: bytes) -> None:
    shutil.copytree(built / "index", tmp_path / "index")
    path = next((tmp_path / "index").rglob("*.parquet"))
    path.write_bytes(damage)
    ran = sa_med2d("stats", tmp_path)
    assert ran.code == 1
    assert f"{path}: is no Parquet that can be read" in ran.err.replace("\n", "")


def test_a_folder_without_an_index(sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("stats", tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert "holds no index" in ran.err
