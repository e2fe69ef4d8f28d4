"""The command ``findings``: what looks wrong in a set."""

from __future__ import annotations

import argparse
import os
from functools import partial
from typing import TYPE_CHECKING, Final

from shards.arguments import add_built_set, add_json, output_file, positive
from shards.console import console, counting, plural, print_json, print_table, printable, results

if TYPE_CHECKING:
    from shards.report.commands import Known

DONE: Final = 0
EXTRA: Final = "publish"
"""The extra that the command needs."""
_IMAGES: Final = 2000
"""Images of a source that are looked at: a fault of a source shows in 50, one of 2 % of its cases in 2,000."""
MOST_EXAMPLES: Final = 1000
"""Pictures of a page: one of each finding, then a second of each, so that it is loaded in a moment."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser], known: Known) -> None:
    """Add the command to a parser; it sets ``run``, a function of the options, and ``extra``."""
    command = commands.add_parser(
        "findings",
        help="what looks wrong in a set: masks beside their organ, mirrored, inverted, slices out of order",
        description="Look at some whole cases of each source for faults of conversion and annotation. A finding is a "
        "reason to look at its examples, no verdict; docs/findings.md has measure, threshold and false alarms of each.",
    )
    add_built_set(command)
    command.add_argument(
        "--images",
        type=positive,
        default=_IMAGES,
        metavar="N",
        help=f"images of each source that are looked at, at least (default: {_IMAGES:,})",
    )
    command.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, metavar="N", help="threads (default: one a core)"
    )
    command.add_argument(
        "--html", type=output_file, metavar="FILE", help="also write one HTML page with pictures of the examples"
    )
    add_json(command)
    command.set_defaults(run=partial(_findings, known=known), extra=EXTRA)


def _findings(options: argparse.Namespace, known: Known) -> int:
    from rich.table import Table  # noqa: PLC0415 - imported when it is called, here and below

    from shards.report.choose import Entry  # noqa: PLC0415
    from shards.report.findings.look import look  # noqa: PLC0415
    from shards.report.gallery import FINDINGS_TITLE  # noqa: PLC0415
    from shards.report.samples_page import write_page  # noqa: PLC0415

    speaker = console()
    with counting(speaker, "looking at cases") as count:
        looked = look(options.out, images=options.images, workers=options.workers, on_case=count)
    written = None
    if options.html is not None:
        entries = [Entry((row,)) for row in looked.examples(MOST_EXAMPLES)]
        _, sources = known(options.out)
        written = write_page(
            options.out, options.html, entries, sources, speaker=speaker, looked=looked, title=FINDINGS_TITLE
        )
    if options.json:
        print_json({"folder": f"{options.out}", **looked.record()})
        return DONE
    printer = results()
    if looked.findings:
        table = Table("source", "finding", "class", "images", "measure", "threshold")
        for one in looked.findings:
            counts = f"{one.found:,} of {one.looked_at:,}"
            row = (one.source, one.check, one.of or "", counts, f"{one.measure:.3g}", f"{one.threshold:.3g}")
            table.add_row(*map(printable, row))
        print_table(printer, table)
        for one in looked.findings:
            examples = ", ".join(one.examples[:2])
            text = f"{one.source}: {one.sentence}; such as {examples}"
            printer.print(printable(text), markup=False, highlight=False, soft_wrap=True)
    said = f"{plural(looked.images, 'image')} of {looked.of:,} in {plural(looked.sources, 'source')} looked at"
    total = plural(len(looked.findings), "finding") if looked.findings else "no findings"
    printer.print(f"{said}: {total}", highlight=False, soft_wrap=True)
    if written is not None:
        printer.print(written, markup=False, highlight=False, soft_wrap=True)
    return DONE
