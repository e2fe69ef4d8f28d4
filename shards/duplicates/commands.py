"""The command ``overlap``: which images of a set are copies, of each other or of those of another set."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shards.arguments import add_built_set, add_json, built_set, output_file, positive
from shards.console import console, plural, print_json, print_table, printable, results, working

if TYPE_CHECKING:
    from rich.console import Console

    from shards.duplicates.images import Images
    from shards.duplicates.pairs import Found

    Sets = tuple[Images, Images | None]

DONE: Final = 0
EXTRA: Final = "publish"
"""The extra that the command needs."""
_SHOWN: Final = 40
"""Pairs that are shown; ``--json`` lists all."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser; it sets ``run``, a function of the options, and ``extra``."""
    command = commands.add_parser(
        "overlap",
        help="images and volumes that are copies, within a set or of another",
        description="Find exact and near copies: mirrored, windowed, scaled to 8 bit, compressed, with borders cropped "
        "or padded. With OTHER, say which of its images are in OUT; without it, which images of OUT are in it twice. "
        "Fingerprints are kept in OUT/build/fingerprints, so a shard that did not change is read once.",
    )
    add_built_set(command)
    command.add_argument(
        "other",
        type=built_set,
        nargs="?",
        metavar="OTHER",
        help="another such set, a folder or a zip of pictures, or the release of SA-Med2D-20M (default: OUT itself)",
    )
    command.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a core)"
    )
    command.add_argument(
        "--html",
        type=output_file,
        metavar="FILE",
        help="also write one HTML page with the images of each pair side by side",
    )
    add_json(command)
    command.set_defaults(run=_overlap, extra=EXTRA)


def _overlap(options: argparse.Namespace) -> int:
    from shards.duplicates.pairs import find_pairs  # noqa: PLC0415 - imported when it is called, here and below

    speaker = console()
    step = ["starting", 0, 0]

    def on_step(what: str, done: int, count: int) -> None:
        step[:] = what, done, count

    with working(speaker, lambda: f"{step[0]} {step[1]:,} of {step[2]:,}" if step[2] else str(step[0])):
        first, unreadable = _images(options.out, options.workers, on_step)
        second = None
        if options.other is not None and not _is_same(options.out, options.other):
            second, unreadable = _images(options.other, options.workers, on_step)
        found = find_pairs(first, second, workers=options.workers, on_step=on_step)
    if options.json:
        print_json(_record(options, (first, second), found, unreadable))
    else:
        _print(speaker, options, (first, second), found, unreadable)
    if options.html is not None:
        said = _write_page(options, (first, second), found)
        (speaker if options.json else results()).print(said, markup=False, highlight=False, soft_wrap=True)
    return DONE


def _write_page(options: argparse.Namespace, sets: Sets, found: Found) -> str:
    from shards.report.copies_page import write_copies  # noqa: PLC0415

    first, second = sets
    said = [_total(options, sets, found), *_sentences(options, sets, found)]
    return write_copies(options.html, first, first if second is None else second, found.pairs, said)


def _is_same(out: Path, other: Path) -> bool:
    return f"{out}" == f"{other}" or (out.exists() and other.exists() and f"{out.resolve()}" == f"{other.resolve()}")


def _images(place: Path, workers: int, on_step: Any) -> tuple[Images, tuple[str, ...]]:
    """The images of a set, or of a folder or a zip of pictures, and the files that are none."""
    from sa_med2d_20m import DatasetError  # noqa: PLC0415
    from shards.duplicates.built import built_images, is_built  # noqa: PLC0415
    from shards.duplicates.folder import folder_images  # noqa: PLC0415
    from shards.store import is_here  # noqa: PLC0415

    if is_here(place) and not place.exists():
        raise DatasetError(f"{place} is not there; expected a built set, or a folder or a zip of pictures")
    if is_here(place) and not is_built(place):
        made = folder_images(
            place, workers=workers, on_image=lambda done, count: on_step(f"reading {place}, image", done, count)
        )
        return made.images, made.unreadable
    shards = built_images(
        place, workers=workers, on_shard=lambda done, count: on_step(f"reading {place}, shard", done, count)
    )
    return shards, ()


def _record(options: argparse.Namespace, sets: Sets, found: Found, unreadable: tuple[str, ...]) -> dict[str, Any]:
    from shards.duplicates.answer import counts, parts, record  # noqa: PLC0415

    first, second = sets
    other = first if second is None else second
    return {
        "folder": f"{options.out}",
        "other": None if second is None else f"{options.other}",
        "images": len(first),
        "other_images": None if second is None else len(second),
        "unreadable": list(unreadable),
        "crowded": found.crowded,
        "counts": counts(found.pairs),
        "parts": [asdict(part) for part in parts(found.pairs, first, second)],
        "pairs": [record(pair, first, other) for pair in found.pairs],
    }


def _print(
    speaker: Console, options: argparse.Namespace, sets: Sets, found: Found, unreadable: tuple[str, ...]
) -> None:
    from rich.table import Table  # noqa: PLC0415

    printer = results()
    first, second = sets
    other = first if second is None else second
    if unreadable:
        shown = ", ".join(unreadable[:3]) + (", ..." if len(unreadable) > 3 else "")
        text = f"{plural(len(unreadable), 'picture')} of {options.other or options.out} cannot be read: {shown}"
        speaker.print(printable(text), markup=False, highlight=False)
    if found.pairs:
        table = Table("one", "other", "kind", "slices", "distance", "mirrored")
        for pair in found.pairs[:_SHOWN]:
            slices = f"{len(pair.one):,}{' reversed' if pair.reverse else ''}" if pair.kind == "volume" else ""
            names = (_name(first, pair.one, pair.kind), _name(other, pair.other, pair.kind))
            flip = "" if pair.flip == "none" else pair.flip
            table.add_row(*map(printable, names), pair.kind, slices, f"{pair.distance:.3f}", flip)
        print_table(printer, table)
    if len(found.pairs) > _SHOWN:
        speaker.print(f"{len(found.pairs) - _SHOWN:,} more pairs: --json lists all", highlight=False)
    if found.crowded:
        many = f"{plural(found.crowded, 'image')} look like so many others that not all of these were compared"
        speaker.print(many, highlight=False)
    printer.print(_total(options, sets, found), markup=False, highlight=False, soft_wrap=True)
    for sentence in _sentences(options, sets, found):
        printer.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)


def _total(options: argparse.Namespace, sets: Sets, found: Found) -> str:
    from shards.duplicates.answer import counts  # noqa: PLC0415

    first, second = sets
    kinds = counts(found.pairs)
    total = f"{plural(len(first), 'image')} of {options.out}"
    total += " compared with each other" if second is None else f" and {len(second):,} of {options.other} compared"
    said = f"{kinds['volume']:,} pairs of volumes, {kinds['exact']:,} of equal and {kinds['near']:,} of near images"
    return f"{total}: {said}"


def _sentences(options: argparse.Namespace, sets: Sets, found: Found) -> list[str]:
    from shards.duplicates.answer import parts, sentences  # noqa: PLC0415

    first, second = sets
    where = {"here": f"{options.other or options.out}", "there": f"{options.out}"}
    return list(sentences(parts(found.pairs, first, second), within=second is None, **where))


def _name(images: Images, numbers: tuple[int, ...], kind: str) -> str:
    name = images.volumes[images.volume[numbers[0]]] if kind == "volume" else images.about["key"][numbers[0]].as_py()
    return str(name)
