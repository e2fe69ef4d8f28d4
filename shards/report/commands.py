"""The commands that show what a set holds: ``stats`` and ``report``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shards.arguments import add_built_set, add_json, output_folder, positive
from shards.console import console, counting, plural, print_json, print_table, results, working

if TYPE_CHECKING:
    from rich.console import Console

    from shards.description import SourceDescription
    from shards.receipt import Receipt
    from shards.report.choose import Entry

    Known = Callable[[Path], tuple[Sequence[Receipt], Mapping[str, SourceDescription]]]
    """Gives the receipts of a set, and its sources by name."""

DONE: Final = 0
SAMPLES: Final = 1000
"""Pictures in a gallery, unless another number is asked for."""
_Thing = TypeVar("_Thing")
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
        "SVG and PNG. With --html also a gallery: sample images of every source and class with their masks, in one "
        "page that works from disk and without a network.",
    )
    add_built_set(command)
    command.add_argument(
        "--to", type=partial(output_folder, write=True), metavar="FOLDER", help="where files go (default: OUT/report)"
    )
    command.add_argument(
        "--html", type=Path, metavar="FILE", help="also write a gallery, one HTML page that holds its pictures"
    )
    command.add_argument(
        "--samples", type=positive, default=SAMPLES, metavar="N", help=f"pictures in the gallery (default: {SAMPLES:,})"
    )
    command.set_defaults(run=partial(_report, known=known), extra=FIGURES_EXTRA)


def _report(options: argparse.Namespace, known: Known) -> int:
    import matplotlib as mpl  # noqa: F401, PLC0415 - before a long count, who lacks it is told so

    from shards.report.choose import Chooser  # noqa: PLC0415
    from shards.report.files import write_report  # noqa: PLC0415
    from shards.report.rows import rows_of  # noqa: PLC0415
    from shards.report.summary import summarize  # noqa: PLC0415

    folder = options.to if options.to is not None else _beside(options.out)
    receipts, sources = known(options.out)
    speaker, printer = console(), results()
    chooser = Chooser(options.samples)
    with counting(speaker, "counting indexes") as count:
        summary = summarize(rows_of(options.out), receipts, count, [chooser] if options.html else [])
    with working(speaker, lambda: "drawing figures"):
        files = write_report(folder, summary.statistics, summary.counted, summary.plots())
    total = summary.statistics["total"]
    said = f"{plural(total['images'], 'image')} with {plural(total['masks'], 'mask')}"
    printer.print(f"{said}: {plural(len(files), 'file')} in {folder}", markup=False, highlight=False, soft_wrap=True)
    if options.html is not None:
        said = _write_gallery(options.out, options.html, chooser.chosen(), sources, speaker)
        printer.print(said, markup=False, highlight=False, soft_wrap=True)
    return DONE


def _write_gallery(
    out: Path, page: Path, entries: Sequence[Entry], sources: Mapping[str, SourceDescription], speaker: Console
) -> str:
    """Write the page; gives a sentence about it."""
    from shards.atomic import open_atomic  # noqa: PLC0415
    from shards.report.gallery import write_gallery  # noqa: PLC0415
    from shards.report.pictures import read_pictures  # noqa: PLC0415

    rows = [row for entry in entries for row in entry.rows]
    with counting(speaker, "reading pictures") as count, open_atomic(page) as file:
        write_gallery(file, entries, _told(read_pictures(out, rows), len(rows), count), sources)
        size = file.tell()
    volumes = sum(len(entry.rows) > 1 for entry in entries)
    held = f"{plural(len(rows), 'picture')}, among them slices of {plural(volumes, 'volume')}"
    return f"{page}: {held}, {size / 1e6:.1f} MB"


def _told(things: Iterable[_Thing], total: int, count: Callable[[int, int], None]) -> Iterator[_Thing]:
    """The same things; says how many have come."""
    for number, thing in enumerate(things, 1):
        count(number, total)
        yield thing


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
