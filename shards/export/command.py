"""The command ``export``."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sa_med2d_20m import SPLITS
from shards.arguments import add_json, folder_to_write, positive
from shards.console import console, counting, plural, print_json, results
from shards.export.layouts import LAYOUTS

if TYPE_CHECKING:
    from sa_med2d_20m import Selection
    from shards.export.export import Expected, Exported

EXTRA: Final = "export"
"""The extra of ``pyproject.toml`` that the command needs."""
_FILTERS: Final = {
    "labels": ("--label", "L", "only masks of this class, and images that have one"),
    "organs": ("--organ", "O", "only masks of this organ"),
    "groups": ("--group", "G", "only masks of this group"),
    "sources": ("--source", "S", "only this source"),
    "licenses": ("--license", "SPDX", "only this licence"),
    "submodalities": ("--submodality", "M", "only this sub-modality"),
    "planes": ("--plane", "P", "only this plane: axial, coronal, sagittal, 2d, unknown"),
}
"""Filter of `sa_med2d_20m.select` -> option, its value, its help; each may be repeated."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    command = commands.add_parser(
        "export",
        help="write shards as the files that other tools train from",
        description="Write what is built, or a part of it, as the files that another tool reads. Run the same command "
        "again after any interruption: finished parts are kept, and the files are the same. SOURCES.md has the "
        "licences of what was written.",
    )
    command.add_argument("out", metavar="OUT", help="folder that was built, its URL, or a repository of the Hub")
    command.add_argument(
        "--to", type=_folder, required=True, metavar="DIR", help="folder to write to: empty, or not there yet"
    )
    command.add_argument("--layout", required=True, choices=sorted(LAYOUTS), help="what to write")
    command.add_argument(
        "--config", metavar="C", help="config of the card, such as ct-permissive (default: the card's)"
    )
    command.add_argument("--split", action="append", choices=SPLITS, help="only this (default: all); repeatable")
    for name, (option, value, meaning) in _FILTERS.items():
        command.add_argument(option, dest=name, action="append", metavar=value, help=f"{meaning}; repeatable")
    command.add_argument("--min-area", type=positive, metavar="N", help="only masks of at least N pixels")
    command.add_argument("--revision", metavar="R", help="branch, tag or commit of a repository")
    command.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a core)"
    )
    command.add_argument("--dry-run", action="store_true", help="say how much would be read and written, no more")
    add_json(command)
    command.set_defaults(run=_run, extra=EXTRA)


def _folder(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text}: tools read files of this machine; give a folder of it")
    folder_to_write(str(Path(text).parent))
    return Path(text)


def _run(options: argparse.Namespace) -> int:
    from sa_med2d_20m import select  # noqa: PLC0415 - imported when it is called, here and below
    from shards.export.export import Export  # noqa: PLC0415

    filters = {name: getattr(options, name) for name in (*_FILTERS, "min_area")}
    selection = select(options.out, options.config, splits=options.split, revision=options.revision, **filters)
    asked = {"config": options.config, "splits": options.split, **filters}
    export = Export(selection, options.layout, options.to, asked)
    speaker, printer = console(), results(quiet=options.json)
    left_out = sorted({tuple(path.split("/")[3:1:-1]) for path in selection.left_out})
    if left_out:
        speaker.print(_left_out(left_out, selection), markup=False, highlight=False)
    about = {
        "folder": str(options.to),
        "layout": options.layout,
        "left_out": [{"source": source, "license": license_id} for source, license_id in left_out],
    }
    if options.dry_run:
        expected = export.expected()
        printer.print(_expected(expected, options.to), markup=False, highlight=False, soft_wrap=True)
        if options.json:
            print_json({**about, **dataclasses.asdict(expected)})
        return 0
    if not export.has_begun and not (expected := export.expected()).fits:
        text = f"there may be too little room: {_expected(expected, options.to)}"
        speaker.print(text, markup=False, highlight=False)
    with counting(speaker, "exporting image") as count:
        done = export.run(options.workers, count)
    for remark in done.remarks:
        speaker.print(remark, markup=False, highlight=False)
    printer.print(_done(done, options.to), markup=False, highlight=False, soft_wrap=True)
    if options.json:
        print_json({**about, **dataclasses.asdict(done)})
    return 0


_SHOWN: Final = 5
"""Sources that a sentence names."""


def _left_out(named: Sequence[tuple[str, ...]], selection: Selection) -> str:
    """What of the dataset the card's default config does not hold: sources and their licences."""
    shown = [f"{source} ({license_id})" for source, license_id in named[:_SHOWN]]
    more = [f"{len(named) - _SHOWN} more"] if len(named) > _SHOWN else []
    return (
        f"left out: {', '.join([*shown, *more])}, which the default config {selection.config!r} does not hold; "
        f"'--config {selection.widest}' takes all"
    )


def _expected(expected: Expected, folder: Path) -> str:
    has = f"{plural(expected.images, 'image')} with {plural(expected.masks, 'mask')}, {expected.read / 1e6:,.1f} MB"
    files = "" if expected.free_files is None else f" and {plural(expected.free_files, 'file')}"
    room = f"{folder} has room for {expected.free_bytes / 1e6:,.1f} MB{files}"
    return f"{has} as stored, become about {plural(expected.files, 'file')} of {expected.bytes / 1e6:,.1f} MB; {room}"


def _done(done: Exported, folder: Path) -> str:
    has = f"{plural(done.images, 'image')} with {plural(done.masks, 'mask')}"
    if done.was_finished:
        return f"{folder}: was exported before, whole: {has}"
    return f"{folder}: {has}, {plural(done.files, 'file')} of {done.bytes / 1e6:,.1f} MB"
