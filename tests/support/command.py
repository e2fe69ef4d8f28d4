"""The command line: how it is called in this process and how it ended."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from builder.command_line import main


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]


def run_quietly(*arguments: object) -> Ran:
    """Run ``sa-med2d`` in this process, for fixtures that several tests share; tests ask for ``sa_med2d``."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse, on wrong usage
            code = int(stop.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())
