"""The command ``cache``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sa_med2d_20m import MODALITIES, SPLITS, DatasetError
from shards.arguments import add_json, folder_to_write, positive, size_in_bytes
from shards.console import console, counting, plural, print_json, results

if TYPE_CHECKING:
    from shards.cache.plan import Plan

RESIZE: Final = ("pad", "stretch", "crop")


def add_cache(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    command = commands.add_parser(
        "cache",
        help="keep images and masks decoded and in one size, to be read ten times as fast",
        description="Decode and resize images and label maps once, into files that load(OUT, ..., cache=DIR) maps into "
        "memory. Says what it takes on disk before it starts. Run the same command again after any interruption, and "
        "when OUT has changed: only shards that are not there yet, or are others now, are written.",
    )
    command.add_argument("out", type=_folder, metavar="OUT")
    command.add_argument("--to", type=_folder_to_write, required=True, metavar="DIR", help="folder of the cache")
    command.add_argument(
        "--size", type=_sides, required=True, metavar="SIZE", help="height and width in pixels: 512, or 384x512"
    )
    command.add_argument(
        "--resize", choices=RESIZE, default=RESIZE[0], help="how images are fitted into it, as of Output (default: pad)"
    )
    command.add_argument(
        "--window",
        type=_window,
        metavar="W",
        help="of sources built lossless: a name, or CENTRE,WIDTH, as of Output (--window=-600,1500 below 0)",
    )
    command.add_argument("--grey", action="store_true", help="one channel, also of coloured images")
    command.add_argument("--source", action="append", default=[], metavar="S", help="only this; repeatable")
    command.add_argument("--modality", action="append", default=[], choices=MODALITIES, help="only this; repeatable")
    command.add_argument("--split", action="append", default=[], choices=SPLITS, help="only this; repeatable")
    command.add_argument(
        "--limit", type=size_in_bytes, metavar="SIZE", help="most that it may take on disk, such as 200GB"
    )
    command.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a core)"
    )
    add_json(command)
    command.set_defaults(run=_cache, extra="publish")


def _folder(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text}: expected a folder on this machine, which can be mapped into memory")
    return Path(text)


def _folder_to_write(text: str) -> Path:
    return folder_to_write(str(_folder(text)))


def _sides(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected pixels such as 512, or height and width such as 384x512")
    return int(parts[0]), int(parts[-1])


def _window(text: str) -> tuple[float, float] | str:
    if "," not in text:
        return text
    try:
        centre, width = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a name, or CENTRE,WIDTH such as 40,400") from None
    return centre, width


def _cache(options: argparse.Namespace) -> int:
    from sa_med2d_20m import CacheSettings  # noqa: PLC0415 - imported when it is called, here and below
    from shards.cache.build import Wanted, build  # noqa: PLC0415
    from shards.cache.plan import size_of  # noqa: PLC0415

    if not options.out.is_dir():
        raise DatasetError(f"{options.out} is no folder; expected one that 'sa-med2d build' wrote")
    speaker = console()

    def announce(planned: Plan) -> None:
        free = f"{planned.bytes:,} bytes for {plural(len(planned.tasks), 'shard')}, {planned.total:,} in all"
        speaker.print(f"{options.to}: writing at most {free}", markup=False, highlight=False)

    settings = CacheSettings(options.size, options.resize, options.window, 1 if options.grey else None)
    settings.output.sides  # noqa: B018 - it refuses what is no output
    with counting(speaker, "caching shards") as count:
        done = build(
            options.out,
            options.to,
            settings,
            Wanted(options.source, options.modality, options.split),
            limit=options.limit,
            workers=options.workers,
            on_plan=announce,
            on_shard=count,
        )
    text = f"{plural(len(done.tasks), 'shard')} written, {len(done.held)} kept, {len(done.gone)} deleted"
    printer = results(quiet=options.json)
    printer.print(f"{options.to}: {text}", markup=False, highlight=False, soft_wrap=True)
    if options.json:
        print_json({"folder": str(options.to), **_record(done), "bytes": size_of(options.to)})
    return 0


def _record(done: Plan) -> dict[str, list[str]]:
    """What was done, shard by shard."""
    return {
        "written": [task.shard.stem for task in done.tasks],
        "kept": [receipt.shard for receipt in done.held],
        "deleted": [receipt.shard for receipt in done.gone],
    }
