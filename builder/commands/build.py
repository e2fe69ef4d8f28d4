"""The command ``build``, and the options of every command that builds."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.commands.exit_codes import FAILED, code_of
from builder.run.executors import EXECUTORS
from builder.run.options import MODES, Options
from builder.sources import catalogue
from shards.arguments import add_json, output_folder, positive, size_in_bytes
from shards.console import console, print_json, results
from shards.paths import PREVIEWS

if TYPE_CHECKING:
    from rich.console import Console

    from builder.run.build import Summary
    from builder.sources.recipe import Recipe

EXTRA: Final = "build"
"""The extra of ``pyproject.toml`` that the command needs."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    command = commands.add_parser(
        "build",
        help="build sources into an output folder; run again to resume",
        description="Build sources into an output folder. Run the same command again to resume: finished shards are "
        "kept, and the output is the same byte for byte. A case that cannot be built is quarantined, with the reason "
        "in OUT/build/quarantine, and the rest goes on: exit code 3, or 1 where no case could be built. "
        "Where rules leave no sample of any, the exit code is 1 too.",
    )
    recipes = command.add_argument(
        "recipes", nargs="+", metavar="RECIPE", help="recipe file (.toml) or name in the catalogue"
    )
    recipes.completer = complete_recipe  # type: ignore[attr-defined]
    command.add_argument(
        "--raw",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with one folder per source, named as the recipe is; for a single recipe also the source itself",
    )
    command.add_argument(
        "--out",
        type=partial(output_folder, write=True),
        required=True,
        metavar="OUT",
        help="output folder, or its URL in an object store (s3://, gs://); may hold other sources",
    )
    add_build_options(command)
    add_json(command)
    command.set_defaults(run=_run, extra=EXTRA)


def add_build_options(command: argparse.ArgumentParser, sized: str = "images before compression") -> None:
    """Add what every command that builds takes.

    Args:
        command: The command.
        sized: What the size of a shard is counted in.
    """
    command.add_argument(
        "--workers",
        type=positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one a core)",
    )
    _add_executors(command)
    command.add_argument(
        "--shard-size",
        type=size_in_bytes,
        default=Options.shard_size,
        metavar="SIZE",
        help=f"size of a shard as {sized}, such as 500MB or 2GiB (default: 1GiB)",
    )
    command.add_argument(
        "--case-minutes",
        type=_minutes,
        default=Options.case_minutes,
        metavar="M",
        help="give a case up that takes longer (default: 60; with one worker no limit unless it is given)",
    )
    command.add_argument(
        "--preview",
        action="store_true",
        help=f"also draw a contact sheet of each source, into OUT/{PREVIEWS}",
    )
    command.add_argument(
        "--dedup",
        choices=MODES,
        help="compare the images of all cases, and leave out later cases that are copies (keep-first), or put all "
        "patients who share images into one split (group)",
    )
    command.add_argument("--limit-cases", type=positive, metavar="N", help="only the first N cases of each source")
    command.add_argument(
        "--strict",
        action="store_true",
        help="stop at the first case that cannot be built, at class names that the vocabulary does not know, and where "
        "sources put the same patients into different splits",
    )


def _add_executors(command: argparse.ArgumentParser) -> None:
    """Add the choice of an executor, and what executors take."""
    command.add_argument(
        "--executor",
        choices=sorted(EXECUTORS),
        default="local",
        help="where cases are converted (default: local)",
    )
    for module in EXECUTORS.values():
        module().add_options(command)


def complete_recipe(prefix: str, **_: object) -> Iterable[str]:
    """What a shell offers for a recipe: names in the catalogue, and recipe files."""
    from argcomplete.completers import FilesCompleter  # noqa: PLC0415 - it asks

    return [*catalogue.names(), *FilesCompleter(("toml",))(prefix)]


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of minutes above 0")
    return minutes


def _run(options: argparse.Namespace) -> int:
    from builder.sources.load import load_all, load_recipe  # noqa: PLC0415 - imported when it is called, here and below

    return exit_code(run_build(load_all(options.recipes, load_recipe), options.raw, options))


def exit_code(summary: Summary) -> int:
    """The exit code of a build."""
    from builder.run.progress import built_cases, is_empty  # noqa: PLC0415

    if is_empty(summary):
        return FAILED
    return code_of(sum(map(len, summary.quarantined.values())), built_cases(summary))


def run_build(recipes: Sequence[Recipe], raw: Path, options: argparse.Namespace) -> Summary:
    """Build with progress on the console, and print what was built.

    Args:
        recipes: What to build.
        raw: Folder with a folder for each source.
        options: Of `add_build_options`, ``out``, and ``json``: print one document instead of a table.
    """
    from builder.run.build import build  # noqa: PLC0415
    from builder.run.progress import BuildProgress, print_summary  # noqa: PLC0415
    from builder.run.result import result_of  # noqa: PLC0415

    speaker = console()
    with BuildProgress(speaker) as progress:
        chosen = chosen_options(options)
        executor = EXECUTORS[options.executor]().from_options(options, chosen)
        summary = build(recipes, raw, options.out, chosen, executor=executor, listener=progress)
    print_summary(results(quiet=options.json), speaker, summary)
    if options.preview:
        draw_previews(options.out, summary, results(quiet=options.json))
    if options.json:
        print_json(result_of(summary))
    return summary


def draw_previews(out: Path, summary: Summary, printer: Console) -> None:
    """Draw a contact sheet of each source of which anything was built."""
    from shards.card import write_card  # noqa: PLC0415
    from shards.lock import locked  # noqa: PLC0415
    from shards.show.preview import write_preview  # noqa: PLC0415

    for name in sorted({receipt.id.source for receipt in summary.receipts if receipt.samples}):
        printer.print(f"preview: {write_preview(out, name)}", markup=False, highlight=False, soft_wrap=True)
    with locked(out, "build"):
        write_card(out)  # which shows one of them


def chosen_options(options: argparse.Namespace) -> Options:
    """What `add_build_options` was given."""
    return Options(
        workers=options.workers,
        shard_size=options.shard_size,
        limit_cases=options.limit_cases,
        strict=options.strict,
        case_minutes=options.case_minutes,
        dedup=options.dedup,
    )
