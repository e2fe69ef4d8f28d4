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


def build(recipe: Path, out: Path) -> subprocess.Popen[str]:
    return start("build", recipe, "--raw", recipe.parent, "--out", out, "--workers", 1)


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


def test_build_and_index_keep_each_other_out(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert finish(build(recipe, out))[0] == 0
    before = tree(out, "data", "index", "build/receipts")
    for command in ("index", "build"):
        first = start("index", out) if command == "index" else build(recipe, out)
        with stopped(first, out):
            for code, said in (finish(build(recipe, out)), finish(start("index", out))):
                assert code == 1
                assert f"{out}: sa-med2d {command}, process {first.pid} on " in said
                assert "is writing to this folder; wait for it to end" in said
                assert "Traceback" not in said
        assert finish(first)[0] == 0
    assert tree(out, "data", "index", "build/receipts") == before
    assert not (out / "build/lock.owner").exists()
