"""Modules that every command loads stay light."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("cv2", "datasets", "filelock", "fsspec", "huggingface_hub", "numpy", "packaging", "pyarrow", "rich", "yaml")


@pytest.mark.parametrize(
    "module",
    ["sa_med2d_20m"]
    + [
        f"shards.{name}"
        for name in ("atomic", "command_line", "console", "description", "license", "lock", "paths", "receipt", "store")
    ],
)
def test_importing_takes_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
