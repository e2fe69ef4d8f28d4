"""Commands that write to one output folder, as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.output import tree
from tests.support.sources import write_source

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a command is held by SIGSTOP")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_source(tmp_path / "raw", cases=1)


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "builder", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=120)
    return process.returncode, " ".join(err.split())


@contextmanager
def stopped(process: subprocess.Popen[str], out: Path) -> Iterator[None]:
    """Stop a command while it has the lock; it goes on when the block ends."""
    while not (out / "build/lock.owner").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    try:
        assert (out / "build/lock.owner").exists()
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_build_and_index_keep_each_other_out(recipe: Path, tmp_path: Path, sa_med2d: Command) -> None:
    """The one that is at work is a process of its own, the one that comes second is this one."""
    out = tmp_path / "out"
    building = ["build", recipe, "--raw", recipe.parent, "--out", out, "--workers", 1]
    assert sa_med2d(*building).code == 0
    before = tree(out, "data", "index", "build/receipts")
    for command in ("index", "build"):
        first = start("index", out) if command == "index" else start(*building)
        with stopped(first, out):
            for second in (building, ["index", out]):
                ran = sa_med2d(*second)
                said = " ".join(ran.err.split())
                assert ran.code == 1
                assert f"{out}: sa-med2d {command}, process {first.pid} on " in said
                assert "is writing to this folder; wait for it to end" in said
        assert finish(first)[0] == 0
    assert tree(out, "data", "index", "build/receipts") == before
    assert not (out / "build/lock.owner").exists()
