"""The commands that show what a set holds: ``stats``."""

from __future__ import annotations

import argparse
from typing import Any, Final

from shards.arguments import add_json, built_set
from shards.console import print_json, print_table, results

DONE: Final = 0
EXTRA: Final = "publish"
"""The extra that ``stats`` needs."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a parser; each sets ``run``, a function of the options, and ``extra``."""
    _add_stats(commands)


def _add_set(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "out", type=built_set, metavar="OUT", help="output folder, its URL, or a repository of the Hub (owner/name)"
    )


def _add_stats(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("stats", help="images, masks, classes and patients by modality, from the index")
    _add_set(command)
    add_json(command)
    command.set_defaults(run=_stats, extra=EXTRA)


def _stats(options: argparse.Namespace) -> int:
    from rich.table import Table  # noqa: PLC0415 - imported when it is called, here and below

    from shards.report.table import main_table  # noqa: PLC0415

    lines, total = main_table(options.out)
    records = {name: line.record() for name, line in lines.items()}
    if options.json:
        modalities = [{"modality": name, **record} for name, record in records.items()]
        print_json({"folder": str(options.out), "modalities": modalities, "total": total.record()})
        return DONE
    table = Table("modality")
    for name in total.record():
        table.add_column(name, justify="right")
    for name, record in records.items():
        table.add_row(name, *_cells(record))
    if len(records) > 1:
        table.add_section()
        table.add_row("all", *_cells(total.record()))
    print_table(results(), table)
    return DONE


def _cells(record: dict[str, Any]) -> list[str]:
    return [f"{count:,}" for count in record.values()]
