"""The command ``show``: a sample, or the slices of a case, as a picture with its masks."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shards.arguments import add_built_set, output_file, positive
from shards.console import complain, console, results

if TYPE_CHECKING:
    from shards.show.shown import Shown

DONE, USAGE = 0, 2
EXTRA: Final = "publish"
"""The extra of ``pyproject.toml`` that the command needs."""
_SLICES: Final = 36


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser; it sets ``run``, a function of the options, and ``extra``."""
    command = commands.add_parser(
        "show",
        help="draw a sample, or the slices of a case, with masks",
        description="Draw one sample with its masks, or the slices of a case on one sheet, and write a PNG.",
    )
    add_built_set(command)
    command.add_argument("key", nargs="?", metavar="KEY", help="key of a sample, as metadata and index have it")
    command.add_argument("--case", metavar="CASE", help="draw the slices of this case instead")
    command.add_argument("--source", metavar="S", help="with --case, where several sources have one of that name")
    command.add_argument("--plane", metavar="PLANE", help="with --case: this plane (default: the one of most slices)")
    command.add_argument("--submodality", metavar="M", help="with --case: this one (default: the one of most slices)")
    command.add_argument(
        "--slices", type=positive, metavar="N", help=f"with --case: as many, evenly spread (default: {_SLICES})"
    )
    command.add_argument(
        "--to", type=output_file, metavar="FILE", help="PNG to write (default: KEY.png or CASE.png, here)"
    )
    command.add_argument("--open", action="store_true", help="also open it, in the program this system has for it")
    command.add_argument("--terminal", action="store_true", help="draw it in the terminal, and write no file")
    command.set_defaults(run=_run, extra=EXTRA)


def _run(options: argparse.Namespace) -> int:
    fault = _fault(options)
    if fault:
        complain(console(), fault)
        return USAGE
    if options.terminal:
        from shards.show.terminal import drawn  # noqa: PLC0415 - imported when it is called, here and below

        shown = _shown(options)
        for text in drawn(shown.bare(), shown.legend, os.environ):
            sys.stdout.write(text)
        return DONE
    from shards.atomic import write_atomic  # noqa: PLC0415
    from shards.key import escape  # noqa: PLC0415
    from shards.show.sheet import png  # noqa: PLC0415

    path = options.to or Path(f"{options.key or escape(options.case)}.png")
    write_atomic(path, png(_shown(options).page()))
    results().print(str(path), markup=False, highlight=False, soft_wrap=True)
    if options.open:
        webbrowser.open(path.resolve().as_uri())
    return DONE


def _fault(options: argparse.Namespace) -> str | None:
    """What is wrong with how the arguments stand together."""
    if (options.key is None) == (options.case is None):
        return "expected either KEY or --case CASE"
    of_case = {name: getattr(options, name) for name in ("source", "plane", "submodality", "slices")}
    strays = [f"--{name}" for name, value in of_case.items() if value is not None]
    if strays and options.case is None:
        return f"{' and '.join(strays)} go with --case CASE; a key names one sample"
    if options.terminal and (options.open or options.to):
        return "--terminal writes no file; leave out --to and --open"
    if options.terminal and not sys.stdout.isatty():
        return "--terminal draws on a terminal, and the output goes elsewhere; leave it out to write a PNG"
    return None


def _shown(options: argparse.Namespace) -> Shown:
    from shards.show.find import row_of, rows_of_case  # noqa: PLC0415
    from shards.show.sample import read_sample  # noqa: PLC0415
    from shards.show.shown import one, slices_of  # noqa: PLC0415

    if options.key is not None:
        return one(read_sample(options.out, row_of(options.out, options.key)))
    rows = rows_of_case(options.out, options.case, options.source, options.plane, options.submodality)
    return slices_of(options.out, rows, options.slices or _SLICES)
