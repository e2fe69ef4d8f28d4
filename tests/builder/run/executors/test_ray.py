"""The executor on a Ray cluster of two nodes: the same bytes as here, also when a node dies in mid-build."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.build_process import command, struck, write_long_source
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.object_store import Store
from tests.support.output import tree
from tests.support.sources import write_source
from tests.support.volumes import ct_like

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    recipe = write_source(tmp_path / "raw", cases=10)
    write_nifti(tmp_path / "raw/Small/labels/case03.nii.gz", ct_like()[:5].astype("uint8"))  # fits no image
    recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["*"]\n')
    return recipe


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=2)
    yield made
    made.shutdown()


def arguments(recipe: Path, out: Path, *further: object) -> list[str]:
    return [*command(recipe, out)[3:], *map(str, further)]


def receipts(out: Path) -> dict[str, Any]:
    return {name: json.loads(data) for name, data in tree(out, "build/receipts").items()}


def test_a_node_dies_in_mid_build(source: Path, tmp_path: Path, sa_med2d: Command, cluster: Any) -> None:
    assert sa_med2d(*arguments(source, tmp_path / "calm", "--workers", 1)).code == 3
    for number in range(10, 40):
        for folder in ("images", "labels"):
            (tmp_path / f"raw/Small/{folder}/case{number}.nii.gz").hardlink_to(
                tmp_path / f"raw/Small/{folder}/case00.nii.gz"
            )
    assert sa_med2d(*arguments(source, tmp_path / "calm", "--workers", 1)).code == 3
    doomed = cluster.worker_nodes.copy().pop()

    def kill() -> None:
        while not any((tmp_path / "out/data").rglob("*.tar")):
            time.sleep(0.02)
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    ran = sa_med2d(*arguments(source, tmp_path / "out", "--executor", "ray", "--ray-address", cluster.address))
    killer.join()
    assert ran.code == 3, ran.err
    assert "case03: labels/case03.nii.gz: grid: " in ran.err
    assert tree(tmp_path / "out", "data", "index") == tree(tmp_path / "calm", "data", "index")
    assert receipts(tmp_path / "out") == receipts(tmp_path / "calm")
    again = sa_med2d(*arguments(source, tmp_path / "out", "--executor", "ray", "--ray-address", cluster.address))
    assert again.code == 3
    assert "40 of 40 shards are finished already and kept" in again.err


@pytest.mark.usefixtures("cluster")
def test_a_cluster_of_its_own(source: Path, tmp_path: Path, sa_med2d: Command) -> None:
    """Also where the machine runs one already: that is joined by its address only."""
    assert sa_med2d(*arguments(source, tmp_path / "calm", "--workers", 1)).code == 3
    assert sa_med2d(*arguments(source, tmp_path / "out", "--executor", "ray")).code == 3
    assert tree(tmp_path / "out", "data", "index") == tree(tmp_path / "calm", "data", "index")
    ran = sa_med2d(*arguments(source, tmp_path / "strict", "--executor", "ray", "--strict"))
    assert ran.code == 1
    assert "labels/case03.nii.gz: grid: " in ran.err
    assert "stopped here because of --strict" in ran.err


def test_no_cluster(source: Path, tmp_path: Path, sa_med2d: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = sa_med2d(*arguments(source, tmp_path / "out", "--executor", "ray", "--ray-address", "127.0.0.1:1"))
    assert ran.code == 1
    assert "no Ray cluster at 127.0.0.1:1" in ran.err
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = sa_med2d(*arguments(source, tmp_path / "out", "--executor", "ray"))
    assert ran.code == 1
    assert "pip install 'sa-med2d-20m[ray]'" in ran.err


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSTOP, "took longer than 0.1 minutes (--case-minutes)"),
        (signal.SIGKILL, "could not be converted 6 times, the process died each time"),
    ],
    ids=["hangs", "crashes"],
)
def test_a_case_that_ends_its_process(tmp_path: Path, sa_med2d: Command, number: signal.Signals, reason: str) -> None:
    recipe = write_long_source(tmp_path / "raw", [5], cases=10)
    write_nifti(tmp_path / "raw/Small/labels/case03.nii.gz", ct_like()[:5].astype("uint8"))  # fits no image
    assert sa_med2d(*arguments(recipe, tmp_path / "calm", "--workers", 1)).code == 3
    further = ("--executor", "ray", "--case-minutes", 0.1)
    with struck(os.getpid(), tmp_path / "raw/Small/images/case05.nii.gz", number):
        assert sa_med2d(*arguments(recipe, tmp_path / "out", *further)).code == 3
    entries = json.loads((tmp_path / "out/build/quarantine/Small.json").read_text())
    assert [entry["case"] for entry in entries] == ["case03", "case05"]
    assert reason in entries[1]["reason"]
    # and the next build tries it again
    assert sa_med2d(*arguments(recipe, tmp_path / "out", *further)).code == 3
    assert tree(tmp_path / "out", "data", "index") == tree(tmp_path / "calm", "data", "index")
    assert receipts(tmp_path / "out") == receipts(tmp_path / "calm")


def test_into_an_object_store(source: Path, tmp_path: Path, sa_med2d: Command, store: Store) -> None:
    assert sa_med2d(*arguments(source, tmp_path / "calm", "--workers", 1)).code == 3
    into = [store.url if part == str(tmp_path / "out") else part for part in arguments(source, tmp_path / "out")]
    ran = sa_med2d(*into, "--executor", "ray")
    assert ran.code == 3, ran.err
    assert store.tree("data", "index", "build/receipts") == tree(tmp_path / "calm", "data", "index", "build/receipts")


def test_copies_are_left_out_as_here(tmp_path: Path, sa_med2d: Command) -> None:
    """All cases of the source are the same patient, so all but the first are copies."""
    recipe = write_source(tmp_path / "raw", cases=3)
    for number in (1, 2):
        (tmp_path / f"raw/Small/images/case0{number}.nii.gz").unlink()
        (tmp_path / f"raw/Small/images/case0{number}.nii.gz").hardlink_to(tmp_path / "raw/Small/images/case00.nii.gz")
    keep = ("--dedup", "keep-first")
    assert sa_med2d(*arguments(recipe, tmp_path / "calm", "--workers", 1, *keep)).code == 0
    ran = sa_med2d(*arguments(recipe, tmp_path / "out", "--executor", "ray", *keep))
    assert ran.code == 0, ran.err
    assert "2 cases with" in ran.err
    assert tree(tmp_path / "out", "data", "index") == tree(tmp_path / "calm", "data", "index")
    assert receipts(tmp_path / "out") == receipts(tmp_path / "calm")
