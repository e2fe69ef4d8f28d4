"""Removing a source from an output folder: nothing of it is left, nothing else is touched, whenever it is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from builder.command_line import main
from sa_med2d_20m import load
from shards.lock import locked
from tests.support.command import Command
from tests.support.output import tree
from tests.support.sources import write_source

if TYPE_CHECKING:
    from tests.support.object_store import Store

LOCK = {"build/lock", "build/lock.owner"}


def build(folder: Path, out: object, *names: str, shard_size: str = "100KB") -> None:
    for name, license_id, modality in (("Free", "CC-BY-4.0", "ct"), ("Magnet", "CC-BY-NC-4.0", "mr")):
        if not (folder / f"raw/{name}.toml").exists():
            write_source(folder / "raw", name, cases=2, license_id=license_id, modality=modality)
    recipes = [folder / f"raw/{name}.toml" for name in names]
    arguments = ["build", *recipes, "--raw", folder / "raw", "--out", out, "--workers", 1, "--shard-size", shard_size]
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``both`` holds two sources, ``one`` only Free, each as a build wrote it; nobody writes to them."""
    folder = tmp_path_factory.mktemp("built")
    build(folder, folder / "both", "Free", "Magnet")
    build(folder, folder / "one", "Free")
    return folder


@pytest.fixture(scope="module")
def built_in_few_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `built`, with one shard for each split."""
    folder = tmp_path_factory.mktemp("few")
    build(folder, folder / "both", "Free", "Magnet", shard_size="1GB")
    build(folder, folder / "one", "Free", shard_size="1GB")
    return folder


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built / "both", tmp_path / "out")
    leave_unfinished(tmp_path / "out")
    return tmp_path / "out"


def leave_unfinished(out: Path) -> None:
    """What a build that was killed leaves of a source, and the files of a repository that was downloaded over it."""
    stem = "mr/cc-by-nc-4.0/Magnet/train-00000"
    for path in (
        f"build/pieces/{stem}/0.pieces",
        f"build/previous/0123456789abcdef/{stem}.tar",
        "build/identifiers/Magnet.json",
    ):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text("{}")


def content(out: Path) -> dict[str, bytes]:
    return {path: data for path, data in tree(out).items() if path not in LOCK}


def test_what_is_left_is_a_folder_that_never_had_it(built: Path, out: Path, sa_med2d: Command) -> None:
    ran = sa_med2d("remove", "Magnet", out)
    assert (ran.code, ran.err) == (0, "")
    assert content(out) == content(built / "one")
    assert not [path for path in out.rglob("*") if "Magnet" in path.name]
    assert not list((out / "data").glob("mr"))
    assert "of Magnet deleted, and the card is written without it" in ran.out
    assert sa_med2d("verify", out, "--deep").code == 0
    assert {row["source"] for row in load(out, "all")} == {"Free"}
    assert "mr" not in {config["config_name"] for config in configs(out)}


def configs(out: Path) -> list[dict[str, str]]:
    card = (out / "README.md").read_text().split("---\n")[1]
    listed: list[dict[str, str]] = yaml.load(card, yaml.CSafeLoader)["configs"]
    return listed


def test_the_last_source(built: Path, tmp_path: Path, sa_med2d: Command) -> None:
    shutil.copytree(built / "one", tmp_path / "out")
    assert sa_med2d("remove", "Free", tmp_path / "out").code == 0
    assert set(content(tmp_path / "out")) <= {"README.md", "LICENSE.md", "SOURCES.md", "CLASSES.md", "id2label.json"}
    assert configs(tmp_path / "out") == []


def test_it_can_be_built_again(built: Path, out: Path, sa_med2d: Command) -> None:
    assert sa_med2d("remove", "Magnet", out).code == 0
    build(built, out, "Magnet")
    assert content(out) == content(built / "both")


def test_dry_run_says_what_would_go_and_writes_nothing(out: Path, sa_med2d: Command) -> None:
    before = tree(out)
    ran = sa_med2d("remove", "Magnet", out, "--dry-run")
    assert ran.code == 0
    assert tree(out) == before
    named = [path for path in before if "Magnet" in path]
    assert ran.out.splitlines()[-1] == f"{len(named)} files of Magnet would be deleted"
    shards = [path for path in named if path.startswith("data/")]
    size = sum(len(before[path]) for path in shards) / 1e6
    assert f"data/mr/cc-by-nc-4.0/Magnet: {len(shards)} files, {size:.1f} MB" in ran.out
    assert "build/sources: 1 file, 0.0 MB" in ran.out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Magnte", "holds no source 'Magnte'; did you mean Magnet?"),
        ("magnet", "did you mean Magnet?"),
        ("Spleen", "holds no source 'Spleen'; it holds Free, Magnet"),
        ("", "holds no source ''; it holds Free, Magnet"),
        ("../Free", "holds no source '../Free'"),
        ("*", "holds no source '*'"),
    ],
)
@pytest.mark.parametrize("further", [[], ["--dry-run"]])
def test_names_that_are_not_there(out: Path, name: str, said: str, further: list[str], sa_med2d: Command) -> None:
    before = tree(out)
    ran = sa_med2d("remove", name, out, *further)
    assert ran.code == 1
    assert said in " ".join(ran.err.split())
    assert tree(out) == before


def test_a_folder_of_something_else_stays_as_it_is(tmp_path: Path, sa_med2d: Command) -> None:
    ran = sa_med2d("remove", "Free", tmp_path)
    assert (ran.code, "holds no source 'Free'; it holds none" in ran.err) == (1, True)
    assert not list(tmp_path.iterdir())
    assert "is no folder" in sa_med2d("remove", "Free", tmp_path / "no").err


def test_a_download_without_receipts_is_not_left_without_a_card(out: Path, sa_med2d: Command) -> None:
    shutil.rmtree(out / "build")
    before = (out / "README.md").read_bytes()
    ran = sa_med2d("remove", "Magnet", out)
    assert ran.code == 1
    assert f"'sa-med2d index {out}' writes it, then remove Magnet again" in ran.err
    assert (out / "README.md").read_bytes() == before
    assert sa_med2d("index", out).code == 0
    assert sa_med2d("remove", "Magnet", out).code == 0
    assert {row["source"] for row in load(out, "all")} == {"Free"}


def test_it_waits_for_nobody(out: Path, sa_med2d: Command) -> None:
    before = {path: data for path, data in tree(out).items() if path not in LOCK}
    with locked(out, "build"):
        ran = sa_med2d("remove", "Magnet", out)
    assert ran.code == 1
    assert "sa-med2d build, process" in ran.err
    assert "is writing to this folder" in ran.err
    assert content(out) == before


KILLED_AT_EACH_STEP = """
    import os, shutil, signal, sys
    import cv2, filelock, pyarrow.parquet, rich.table  # here and below: what no child then has to import
    import shards.removal, shards.show.picture
    from builder.command_line import main
    whole, work = sys.argv[1:]
    changes = ("os.remove", "os.rename", "os.rmdir", "os.mkdir")

    def die_at(step):
        seen = 0
        def hook(event, arguments):
            nonlocal seen
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if (event in changes or writes) and str(arguments[0]).startswith(work):
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)

    step, killed = 0, True
    while killed:
        step += 1
        out = f"{work}/{step}"
        shutil.copytree(whole, out)
        child = os.fork()
        if child == 0:
            die_at(step)
            os._exit(main(["remove", "Magnet", out]))
        status = os.waitpid(child, 0)[1]
        killed = os.WIFSIGNALED(status)
    assert os.waitstatus_to_exitcode(status) == 0
"""
"""Copies a folder and has a process remove Magnet from it, which is killed at its first change of a file; then at its
second, and so on, until it ends before that."""


@pytest.mark.skipif(os.name == "nt", reason="a process forks and is killed")
def test_killed_at_each_step(built_in_few_files: Path, tmp_path: Path, sa_med2d: Command) -> None:
    built, out = built_in_few_files, tmp_path / "out"
    shutil.copytree(built / "both", out)
    leave_unfinished(out)
    (tmp_path / "work").mkdir()
    script = textwrap.dedent(KILLED_AT_EACH_STEP)
    subprocess.run([sys.executable, "-c", script, str(out), str(tmp_path / "work")], check=True, timeout=300)
    states = sorted((tmp_path / "work").iterdir(), key=lambda path: int(path.name))
    whole, expected = content(out), content(built / "one")
    of_source = [path for path in whole if "Magnet" in path]
    assert len(states) > len(of_source)
    lefts = [sum((state / path).exists() for path in of_source) for state in states]
    assert sorted(lefts, reverse=True) == lefts
    assert set(lefts) == set(range(len(of_source) + 1))
    others = {path: data for path, data in expected.items() if path.startswith(("data/", "index/", "build/receipts/"))}
    for state, left in zip(states, lefts, strict=True):
        held = content(state)
        assert others.items() <= held.items()
        listed = {config["config_name"] for config in configs(state)}
        assert left == len(of_source) or "mr" not in listed  # the card never names what is gone
        ran = sa_med2d("remove", "Magnet", state)
        said = "holds no source 'Magnet'"
        assert (ran.code, said in ran.err) == ((0, False) if left else (1, True)), ran.err
        finished = {path: data for path, data in content(state).items() if not path.endswith(".part")}
        assert finished == expected


def test_in_an_object_store(store: Store, tmp_path: Path, sa_med2d: Command) -> None:
    build(tmp_path, store.url, "Free", "Magnet")
    whole = store.tree()
    ran = sa_med2d("remove", "Magnte", store.url)
    assert (ran.code, "did you mean Magnet?" in ran.err) == (1, True)
    assert sa_med2d("remove", "Magnet", store.url, "--dry-run").code == 0
    assert store.tree() == whole
    assert sa_med2d("remove", "Magnet", store.url).code == 0
    left = store.tree()
    assert set(left) == {path for path in whole if "Magnet" not in path}
    assert {path for path in left if left[path] != whole[path]} <= {
        "README.md",
        "LICENSE.md",
        "SOURCES.md",
        "CLASSES.md",
    }
    assert {row["source"] for row in load(store.url, "all")} == {"Free"}
    assert sa_med2d("verify", store.url).code == 0
