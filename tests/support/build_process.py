"""A build in a process of its own, and the workers that it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

SABOTAGE = """
import os, sys, time, pathlib
import builder.run.work
from builder.command_line import main
real = builder.run.work.convert

def convert(case, source):
    {act}
    return real(case, source)

builder.run.work.convert = convert
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def command(recipe: Path, out: Path, *further: object, script: Path | None = None) -> list[str]:
    how: list[object] = ["-m", "builder"] if script is None else [script]
    arguments = ["build", recipe, "--raw", recipe.parent, "--out", out, "--shard-size", "60KB", "--workers", 2]
    return [str(part) for part in (sys.executable, *how, *arguments, *further)]


def sabotaged(tmp_path: Path, act: str) -> Path:
    """The command, with something done to a case before it is converted; workers import it as their main module."""
    script = tmp_path / "sabotage.py"
    script.write_text(SABOTAGE.format(act=act))
    return script


def run(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(*arguments, text=True, capture_output=True, check=False, timeout=120, **options)


def workers_of(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []
