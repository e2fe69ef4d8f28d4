"""What commands print, and where."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shards.console import complain, console, results


def test_complaints_go_to_standard_error_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    complain(console(), "scan[1].nii.gz [red]is[/red] no volume")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: scan[1].nii.gz [red]is[/red] no volume\n"


def test_results_in_a_pipe_are_not_cut_at_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    line = "x" * 150
    results().print(line)
    assert capsys.readouterr().out == f"{line}\n"


def test_rich_is_not_imported_before_anything_is_said() -> None:
    code = "import sys, shards.console; print('rich' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
