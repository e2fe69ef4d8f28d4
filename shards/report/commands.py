"""The commands that show what a set holds: ``stats`` and ``report``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shards.arguments import add_built_set, add_json, output_file, output_folder, positive
from shards.console import console, counting, plural, print_json, print_table, results, working

if TYPE_CHECKING:
    from rich.console import Console

    from shards.description import SourceDescription
    from shards.receipt import Receipt
    from shards.report.findings.look import Looked

    Known = Callable[[Path], tuple[Sequence[Receipt], Mapping[str, SourceDescription]]]
    """Gives the receipts of a set, and its sources by name."""

DONE: Final = 0
SAMPLES: Final = 1000
"""Pictures in a gallery, unless another number is asked for."""
LOOKED_AT: Final = 200
"""Images of each source in which a gallery's findings are looked for: a fault of a source shows in 50."""
EXTRA: Final = "publish"
"""The extra that ``stats`` needs."""
FIGURES_EXTRA: Final = "report"
"""The extra that ``report`` needs, for figures."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser], known: Known) -> None:
    """Add the commands to a parser; each sets ``run``, a function of the options, and ``extra``."""
    _add_stats(commands)
    _add_report(commands, known)


def _add_stats(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("stats", help="images, masks, classes and patients by modality, from the index")
    add_built_set(command)
    add_json(command)
    command.set_defaults(run=_stats, extra=EXTRA)


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser], known: Known) -> None:
    command = commands.add_parser(
        "report",
        help="statistics and figures of what a set holds",
        description="Count a set in one pass over its index, and write statistics as JSON and Parquet, and figures as "
        "SVG and PNG. With --html also a gallery: sample images of every source and class with their masks, and what "
        "looks wrong, in one page that works from disk and without a network.",
    )
    add_built_set(command)
    command.add_argument(
        "--to", type=partial(output_folder, write=True), metavar="FOLDER", help="where files go (default: OUT/report)"
    )
    command.add_argument(
        "--html", type=output_file, metavar="FILE", help="also write a gallery, one HTML page that holds its pictures"
    )
    command.add_argument(
        "--samples", type=positive, default=SAMPLES, metavar="N", help=f"pictures in the gallery (default: {SAMPLES:,})"
    )
    command.add_argument(
        "--findings",
        type=positive,
        metavar="N",
        help="say what looks wrong in as many images of each source, see sa-med2d findings (default: "
        f"{LOOKED_AT} with --html, else none)",
    )
    command.set_defaults(run=partial(_report, known=known), extra=FIGURES_EXTRA)


def _report(options: argparse.Namespace, known: Known) -> int:
    import matplotlib as mpl  # noqa: F401, PLC0415 - before a long count, who lacks it is told so

    from shards.report.choose import Chooser  # noqa: PLC0415
    from shards.report.files import write_report  # noqa: PLC0415
    from shards.report.rows import rows_of  # noqa: PLC0415
    from shards.report.summary import summarize  # noqa: PLC0415

    folder = options.to if options.to is not None else _beside(options.out)
    if folder.is_file():
        from sa_med2d_20m import DatasetError  # noqa: PLC0415

        raise DatasetError(f"{folder} is a file; expected a folder, or the name of one that is made")
    receipts, sources = known(options.out)
    speaker, printer = console(), results()
    looked_at = options.findings or (LOOKED_AT if options.html is not None else None)
    looked = None if looked_at is None else _looked(options.out, looked_at, speaker)
    chooser = Chooser(options.samples)
    with counting(speaker, "counting indexes") as count:
        summary = summarize(rows_of(options.out), receipts, count, [chooser] if options.html else [])
    with working(speaker, lambda: "drawing figures"):
        statistics = {**summary.statistics, "findings": None if looked is None else looked.record()}
        files = write_report(folder, statistics, summary.counted, summary.plots())
    total = summary.statistics["total"]
    said = f"{plural(total['images'], 'image')} with {plural(total['masks'], 'mask')}"
    printer.print(f"{said}: {plural(len(files), 'file')} in {folder}", markup=False, highlight=False, soft_wrap=True)
    if looked is not None:
        found = plural(len(looked.findings), "finding") if looked.findings else "no findings"
        printer.print(f"{plural(looked.images, 'image')} looked at: {found}", highlight=False, soft_wrap=True)
    if options.html is not None:
        from shards.report.samples_page import write_page  # noqa: PLC0415

        entries = chooser.chosen([] if looked is None else looked.examples(options.samples // 4))
        said = write_page(options.out, options.html, entries, sources, speaker=speaker, looked=looked)
        printer.print(said, markup=False, highlight=False, soft_wrap=True)
    return DONE


def _looked(out: Path, images: int, speaker: Console) -> Looked:
    from shards.report.findings.look import look  # noqa: PLC0415

    with counting(speaker, "looking at cases") as count:
        return look(out, images=images, workers=os.cpu_count() or 1, on_case=count)


def _beside(out: Path) -> Path:
    """Where the files of a report go that nobody names a folder for."""
    from sa_med2d_20m import DatasetError  # noqa: PLC0415
    from shards.paths import REPORT  # noqa: PLC0415
    from shards.store import writable  # noqa: PLC0415

    try:
        writable(f"{out}")
    except DatasetError:
        raise DatasetError(f"{out}: a report is not written into a repository; name a folder with --to") from None
    return out / REPORT


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
