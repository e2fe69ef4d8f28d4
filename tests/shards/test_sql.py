"""The examples of docs/tables.md: against the Hub of the tests, and on a folder where a client knows one Hub alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.command_line import main
from tests.hub.server import HubServer
from tests.support.output import members
from tests.support.sources import write_source

DOCUMENT = (Path(__file__).parents[2] / "docs/tables.md").read_text(encoding="utf-8")
REPO = "owner/name"
"""As the examples have it."""


def example(heading: str) -> str:
    found = re.search(rf"^## {heading}\n.*?^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    recipe = write_source(folder / "raw", cases=2)
    recipe.write_text(f'{recipe.read_text()}[splits]\ntrain = ["*"]\n')
    assert main(["build", str(recipe), "--raw", str(folder / "raw"), "--out", str(folder / "out")]) == 0
    assert main(["index", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, out: Path) -> Iterator[dict[str, str]]:
    """The environment of a process whose Hub holds what was built."""
    folder = tmp_path_factory.mktemp("hub")
    with HubServer(folder / "hub", objects="direct") as server:
        server.add_user("owner", "hf_owner")
        environment = server.environment(home=folder / "home", token="hf_owner")  # noqa: S106 - of the tests' own Hub
        command = [sys.executable, "-m", "builder", "publish", str(out), REPO]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        yield environment


def run(text: str, environment: dict[str, str] | None = None) -> str:
    ran = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def samples(out: Path) -> int:
    return sum(name.endswith(".json") for name, _ in members(out))


def test_duckdb(hub: dict[str, str], out: Path) -> None:
    pytest.importorskip("duckdb")
    said = run(example("DuckDB"), hub)
    words = Counter(re.findall(r"liver|spleen", said))
    assert words == {"liver": 1, "spleen": 1}
    glob = f"""
import duckdb
from huggingface_hub import HfFileSystem
duckdb.register_filesystem(HfFileSystem())
print(duckdb.read_parquet("hf://datasets/{REPO}/index/**/*.parquet").count("*").fetchall()[0][0])
"""
    assert int(run(glob, hub)) == samples(out)


def test_duckdb_finds_what_is_absent(hub: dict[str, str], out: Path) -> None:
    """Slices without a spleen, of a source that annotates it."""
    pytest.importorskip("duckdb")
    text = example("Absent").replace("print(\n    duckdb", "found = (\n    duckdb")
    said = run(f"{text}\nprint(*sorted(key for (key,) in found.fetchall()))", hub).split()
    records = [json.loads(data) for name, data in members(out) if name.endswith(".json")]
    expected = [one["key"] for one in records if "spleen" not in {mask["label"] for mask in one["masks"]}]
    assert said == sorted(expected)
    assert 0 < len(expected) < len(records)


def test_polars(out: Path) -> None:
    """Its `hf://` knows huggingface.co alone."""
    pytest.importorskip("polars")
    text = example("Polars")
    assert f"hf://datasets/{REPO}/" in text
    said = run(f"{text.replace(f'hf://datasets/{REPO}', str(out))}\nassert len(large) > 0\nprint(large.columns)")
    assert "['shard', 'key', 'area']" in said


def test_pyarrow(hub: dict[str, str]) -> None:
    assert "data/ct/cc-by-4.0/Small/train-00000.tar" in run(example("pyarrow"), hub)
