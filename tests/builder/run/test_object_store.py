"""Output folders in an object store: the real client of S3 against moto's S3 over a socket, with faults."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shards.store
from sa_med2d_20m import load
from shards.lock import mark_of
from tests.hub.server import HubServer
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.object_store import Store
from tests.support.output import tree
from tests.support.sources import write_source

pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
from aiobotocore.session import AioSession  # type: ignore[import-untyped]

BUILD = ("data", "index", "build/receipts", "build/plan", "build/quarantine", "build/sources")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_source(tmp_path / "raw", cases=4)


def arguments(recipe: Path, out: object, *further: object) -> list[object]:
    return ["build", recipe, "--raw", recipe.parent, "--out", out, "--shard-size", "60KB", *further]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_bytes_of_a_local_build(
    store: Store, recipe: Path, tmp_path: Path, sa_med2d: Command, workers: int
) -> None:
    assert sa_med2d(*arguments(recipe, tmp_path / "out", "--workers", 1)).code == 0
    ran = sa_med2d(*arguments(recipe, store.url, "--workers", workers))
    assert ran.code == 0, ran.err
    assert store.tree(*BUILD) == tree(tmp_path / "out", *BUILD)
    assert store.tree()["README.md"] == (tmp_path / "out/README.md").read_bytes()
    assert "build/lock.owner" not in store.tree()
    verified = sa_med2d("verify", store.url, "--deep")
    assert (verified.code, "no findings" in verified.out) == (0, True), verified.err


def test_resume_lists_and_reads_no_shard(store: Store, recipe: Path, sa_med2d: Command) -> None:
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 0
    held = store.tree()
    shards_held = sorted(path for path in held if path.startswith("data/"))
    assert len(shards_held) > 3
    since = len(store.requests())
    assert since
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 0
    touched = [one for one in store.requests(since) if one.path.endswith((".tar", ".parquet"))]
    assert not touched
    assert store.tree() == held
    store.delete(shards_held[1])
    since = len(store.requests())
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 0
    written = [one.path for one in store.requests(since) if one.method == "PUT" and one.path.endswith(".tar")]
    assert [path.removeprefix(f"/{store.server.bucket}/some/out/") for path in written] == [shards_held[1]]
    assert store.tree() == held


def test_all_objects_go_through_one_client(
    store: Store, recipe: Path, sa_med2d: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making a client takes longer than reading an object, and each has connections of its own."""
    made = []
    create = AioSession.create_client

    def counted(self: AioSession, *arguments: Any, **options: Any) -> Any:
        made.append(arguments)
        return create(self, *arguments, **options)

    monkeypatch.setattr(AioSession, "create_client", counted)
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 0
    for command in (["verify", store.url, "--deep"], ["stats", store.url], ["publish", store.url, "a/b", "--dry-run"]):
        made.clear()
        assert sa_med2d(*command).code == 0
        assert len(made) == 1


def test_large_shards_go_up_in_parts(
    store: Store, tmp_path: Path, sa_med2d: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (66, 512, 512)).astype(np.int16)
    recipe = write_source(tmp_path / "raw", cases=0)
    write_nifti(tmp_path / "raw/Small/images/a.nii.gz", noise)
    write_nifti(
        tmp_path / "raw/Small/labels/a.nii.gz",
        np.pad(np.ones((66, 300, 300), np.uint8), ((0, 0), (99, 113), (99, 113))),
    )
    monkeypatch.setattr(shards.store, "PART", 5 << 20)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    build = arguments(recipe, store.url, "--workers", 1, "--shard-size", "1GB")
    # the third part is refused until the client gives up: nothing may stand under the shard's name
    parts = iter(range(99))
    store.faults.add(lambda method, path: method == "PUT" and path.endswith(".tar") and next(parts) > 1, times=40, status=503)  # fmt: skip
    ran = sa_med2d(*build)
    assert (ran.code, "Traceback" in ran.err) == (1, False)
    assert "run the same command again" in ran.err
    assert not store.tree("data", "index", "build/receipts")
    store.faults.clear()
    assert sa_med2d(*build).code == 0
    assert store.unfinished() == 0
    (shard,) = store.tree("data").values()
    assert len(shard) > 15_000_000
    puts = [one for one in store.requests() if one.method == "PUT" and one.path.endswith(".tar") and one.status == 200]
    assert len(puts) >= 3
    assert sa_med2d(*arguments(recipe, tmp_path / "out", "--workers", 1, "--shard-size", "1GB")).code == 0
    assert tree(tmp_path / "out", *BUILD) == store.tree(*BUILD)


def test_parts_of_a_killed_build_are_dropped(store: Store, recipe: Path, sa_med2d: Command) -> None:
    ours, theirs = "some/out/data/x.tar", "other/x.tar"
    for key in (ours, theirs):
        store.server.begin_multipart(key, 1)
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 0
    assert store.unfinished() == 1  # that of another folder


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": 500}, marks=pytest.mark.slow),  # the client takes it as 503
        {"status": 503},
        {"delay": 0.4},
        {"lose_answer": True},
        {"cut_after": 10},
    ],
    ids=["status500", "status503", "delay", "lose_answer", "cut_after"],
)
def test_faults_of_the_store(
    store: Store, recipe: Path, tmp_path: Path, sa_med2d: Command, fault: dict[str, float]
) -> None:
    assert sa_med2d(*arguments(recipe, tmp_path / "out", "--workers", 1)).code == 0
    for match in (r"PUT .*\.tar", r"PUT .*\.parquet", r"PUT .*receipts", "GET .*sources", "PUT .*README"):
        times = 2 if match.endswith("tar") else 1  # the client waits longer each time
        store.faults.add(match, times=times, **fault)  # type: ignore[arg-type]
    ran = sa_med2d(*arguments(recipe, store.url, "--workers", 1))
    assert ran.code == 0, ran.err
    assert store.tree(*BUILD) == tree(tmp_path / "out", *BUILD)
    store.faults.add(r"GET .*\.tar", **fault)  # type: ignore[arg-type]
    verified = sa_med2d("verify", store.url)
    assert verified.code == 0, verified.err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_that_stays_away(
    store: Store, recipe: Path, sa_med2d: Command, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the client's waits are not what is tested
    store.faults.add(r"PUT .*\.tar", times=10_000, status=503)
    ran = sa_med2d(*arguments(recipe, store.url, "--workers", workers))
    assert (ran.code, "Traceback" in ran.err) == (1, False)
    assert "run the same command again" in ran.err
    assert not store.tree("data", "index", "build/receipts")
    store.faults.clear()
    assert sa_med2d(*arguments(recipe, store.url, "--workers", workers)).code == 0
    assert sa_med2d("verify", store.url, "--deep").code == 0


def test_nobody_answers(recipe: Path, sa_med2d: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    ran = sa_med2d(*arguments(recipe, "s3://nowhere/out", "--workers", 1))
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert str(free) in ran.err


def test_a_bucket_that_is_not_there(store: Store, recipe: Path, sa_med2d: Command) -> None:
    ran = sa_med2d(*arguments(recipe, "s3://never-made/out", "--workers", 1))
    assert ran.code == 1
    assert "bucket" in ran.err
    assert sa_med2d("verify", "s3://never-made/out").code == 1


def test_two_builds_at_once(store: Store, recipe: Path, sa_med2d: Command) -> None:
    owner = mark_of(os.getpid(), "build")
    store.put("build/lock.owner", owner.encode())
    ran = sa_med2d(*arguments(recipe, store.url, "--workers", 1))
    assert ran.code == 1
    assert owner in ran.err
    assert "lock.owner" in ran.err
    assert not store.tree("data")
    store.put("build/lock.owner", b"sa-med2d build, process 1 on another-machine, since 2026-01-01 00:00")
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 1


def test_the_lock_of_a_process_that_was_killed_is_taken_over(store: Store, recipe: Path, sa_med2d: Command) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mark = mark_of(ended.pid, "index")
    elsewhere = re.sub(r"\(.*\)", "(0123abcd)", mark)  # a machine of the same name, where that number may be at work
    assert elsewhere != mark
    store.put("build/lock.owner", elsewhere.encode())
    ran = sa_med2d(*arguments(recipe, store.url, "--workers", 1))
    assert ran.code == 1
    assert elsewhere in ran.err
    store.put("build/lock.owner", mark.encode())
    claim = f"build/lock.owner.{hashlib.sha256(mark.encode()).hexdigest()[:8]}"
    store.put(claim, b"another build, which has found it dead a moment ago")
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 1
    store.delete(claim)
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 0
    assert not [path for path in store.tree() if "lock.owner" in path]


def test_index_and_verify_of_damaged_objects(store: Store, recipe: Path, sa_med2d: Command) -> None:
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 0
    whole = store.tree("data", "index")
    path = next(path for path in whole if path.endswith(".parquet"))
    store.delete(path)
    ran = sa_med2d("verify", store.url)
    assert ran.code == 1
    assert f"{store.url}/{path}: is missing" in ran.err
    assert sa_med2d("index", store.url).code == 0
    assert store.tree("data", "index") == whole
    shard = next(path for path in whole if path.endswith(".tar"))
    store.put(shard, whole[shard][:5000])
    ran = sa_med2d("verify", store.url)
    assert ran.code == 1
    assert f"{store.url}/{shard}: has 5000 bytes" in ran.err
    assert "damaged header" in ran.err


def test_a_source_that_shrinks_leaves_no_object(store: Store, recipe: Path, tmp_path: Path, sa_med2d: Command) -> None:
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 0
    for folder in ("images", "labels"):
        (tmp_path / f"raw/Small/{folder}/case03.nii.gz").unlink()
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 0
    assert sa_med2d(*arguments(recipe, tmp_path / "out", "--workers", 1)).code == 0
    assert store.tree(*BUILD) == tree(tmp_path / "out", *BUILD)


def test_it_streams_from_where_it_was_built(store: Store, recipe: Path, tmp_path: Path, sa_med2d: Command) -> None:
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 0
    assert sa_med2d(*arguments(recipe, tmp_path / "out", "--workers", 1)).code == 0
    for labels in (None, ["liver"]):
        here = {row["key"]: row["image"] for row in load(tmp_path / "out", "ct-permissive", labels=labels)}
        there = {row["key"]: row["image"] for row in load(store.url, "ct-permissive", labels=labels)}
        assert here
        assert there.keys() == here.keys()
        assert all((there[key] == here[key]).all() for key in here)


def test_published_from_where_it_was_built(store: Store, recipe: Path, tmp_path: Path, sa_med2d: Command) -> None:
    assert sa_med2d(*arguments(recipe, store.url, "--workers", 1)).code == 0
    with HubServer(tmp_path / "hub", objects="direct") as hub:
        hub.add_user("ann", "hf_ann_secret")
        environment = {**hub.environment(home=tmp_path / "home", token="hf_ann_secret"), **store.environment}  # noqa: S106
        command = [sys.executable, "-m", "builder", "publish", store.url, "ann/scans", "--no-figures"]
        first, again = (
            subprocess.run(command, env=environment, capture_output=True, text=True, check=False) for _ in range(2)
        )
        assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
        assert "0 files changed" in " ".join(again.stderr.split())
        held = store.tree("data", "index")
        for path, data in held.items():
            sent = subprocess.run(
                ["git", "-C", str(hub.git_folder("ann/scans")), "show", f"main:{path}"],
                capture_output=True,
                check=True,
            ).stdout
            assert sent == data or f"size {len(data)}".encode() in sent  # a pointer to the large file


def test_places_where_nothing_can_be_built(recipe: Path, sa_med2d: Command) -> None:
    for command in (arguments(recipe, "hf://datasets/ann/scans"), ["index", "hf://datasets/ann/scans"]):
        hub = sa_med2d(*command)
        assert (hub.code, "sa-med2d publish" in hub.err) == (2, True)
    unknown = sa_med2d(*arguments(recipe, "nowhere://bucket/out"))
    assert (unknown.code, "nowhere" in unknown.err) == (2, True)
