"""``sa-med2d import``: the original release into shards."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from builder.commands.build import EXTRA, add_build_options, chosen_options, draw_previews, exit_code
from builder.commands.exit_codes import QUARANTINED
from builder.release.repairs import REPAIRS
from builder.run.executors import EXECUTORS
from sa_med2d_20m import MODALITIES
from shards.arguments import add_json, output_folder
from shards.console import console, plural, print_json, printable, results

if TYPE_CHECKING:
    from rich.console import Console

    from builder.run.build import Summary
    from builder.run.release_plan import ImportOptions, ReleasePlan

_OLDER_SOURCE = "SAM-Med2D_demo"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = commands.add_parser(
        "import",
        help="import the original SA-Med2D-20M release",
        description="Import the original SA-Med2D-20M release into shards: the unpacked folder, one zip, or the split "
        "zip as it was downloaded, which is read in place. Running it again resumes.",
        epilog="Exit codes: 0 all imported, 1 failed or nothing imported, 3 imported, but for files or cases that "
        "cannot be used, which are named.",
    )
    command.add_argument(
        "release",
        type=Path,
        metavar="RELEASE",
        help="unpacked folder, zip, or of a split zip the part SA-Med2D-16M.zip with .z01 ... beside it",
    )
    command.add_argument(
        "--out",
        type=partial(output_folder, write=True),
        required=True,
        metavar="OUT",
        help="output folder, or its URL in an object store (s3://, gs://)",
    )
    wanted = command.add_argument_group("a part of it", "Only these members of the archive are read.")
    wanted.add_argument(
        "--modality", action="append", choices=MODALITIES, metavar="NAME", help="only this modality; may be repeated"
    )
    wanted.add_argument("--source", action="append", metavar="NAME", help="only this source; may be repeated")
    wanted.add_argument(
        "--label",
        action="append",
        metavar="NAME",
        help="only masks of this class, in any spelling, and images that have one; may be repeated",
    )
    older = command.add_argument_group("the older naming", "That of data_demo, which came with the code of SAM-Med2D.")
    older.add_argument(
        "--naming", choices=("release", "sam-med2d"), default="release", help="how files are named (default: release)"
    )
    older.add_argument(
        "--older-tag",
        metavar="MODALITY",
        help="modality of all images, such as ct or mr_t1, which older names do not say",
    )
    older.add_argument(
        "--older-source",
        default=_OLDER_SOURCE,
        metavar="NAME",
        help=f"source that they go under (default: {_OLDER_SOURCE})",
    )
    repairs = command.add_argument_group("repairs", "All are made and counted unless they are switched off.")
    repairs.add_argument("--no-repairs", action="store_true", help="switch all off: names and pixels as they stand")
    for repair in REPAIRS.values():
        without = f"; without it {repair.without}" if repair.without else ""
        repairs.add_argument(f"--no-repair-{repair.name}", action="store_true", help=f"do not: {repair.what}{without}")
    add_build_options(command, "files of the release, as they lie there")
    add_json(command)
    command.set_defaults(run=_run, extra=EXTRA, parser=command)


def _run(options: argparse.Namespace) -> int:
    from builder.run.build import build_planned  # noqa: PLC0415 - imported when it is called, here and below
    from builder.run.progress import BuildProgress, print_summary  # noqa: PLC0415
    from builder.run.release_plan import plan_import, refuse_built  # noqa: PLC0415
    from builder.run.result import result_of  # noqa: PLC0415

    speaker = console()
    with BuildProgress(speaker) as progress:
        chosen = chosen_options(options)
        executor = EXECUTORS[options.executor]().from_options(options, chosen)
        plan = plan_import(options.release, _import_options(options), progress.listed)
        refuse_built(options.out, plan.sources)
        summary = build_planned(plan.sources, options.out, chosen, executor=executor, listener=progress)
    print_summary(results(quiet=options.json), speaker, summary)
    _print_faults(speaker, plan)
    if options.preview:
        draw_previews(options.out, summary, results(quiet=options.json))
    if options.json:
        about = {"files": plan.files, "bytes": plan.bytes, "faults": list(plan.faults), "notes": plan.notes}
        print_json({**result_of(summary), **about, "twins": plan.twins})
    code = exit_code(summary)
    return QUARANTINED if not code and _has_bad_files(summary, plan) else code


def _import_options(options: argparse.Namespace) -> ImportOptions:
    from builder.release.listing import HowNamed, Wanted  # noqa: PLC0415
    from builder.release.names import Tag  # noqa: PLC0415
    from builder.run.release_plan import ImportOptions  # noqa: PLC0415
    from builder.sources.metadata import NAME  # noqa: PLC0415

    switched = {name for name in REPAIRS if options.no_repairs or getattr(options, f"no_repair_{_attribute(name)}")}
    repairs = frozenset(REPAIRS) - switched
    older = options.naming == "sam-med2d"
    if older and (options.older_tag is None or Tag.parse(options.older_tag) is None):
        options.parser.error(f"--older-tag: expected a modality ({', '.join(MODALITIES)}), as older names say none")
    if older and not NAME.fullmatch(options.older_source):
        options.parser.error("--older-source: expected letters, digits, underscores and single hyphens between them")
    how = HowNamed(
        options.naming, options.older_tag if older else "", options.older_source if older else "", "modality" in repairs
    )
    return ImportOptions(
        wanted=Wanted(frozenset(options.modality or ()), frozenset(options.source or ())),
        labels=tuple(options.label or ()),
        how=how,
        repairs=repairs,
        shard_size=options.shard_size,
        limit_cases=options.limit_cases,
        strict=options.strict,
    )


def _attribute(name: str) -> str:
    return name.replace("-", "_")


def _has_bad_files(summary: Summary, plan: ReleasePlan) -> bool:
    pieces = (piece for receipt in summary.receipts for piece in receipt.pieces)
    return bool(plan.faults) or any(piece.bad_masks for piece in pieces)


def _print_faults(speaker: Console, plan: ReleasePlan) -> None:
    _print_lines(speaker, "the release", plan.faults)
    for source, notes in plan.notes.items():
        _print_lines(speaker, source, notes)
        if plan.twins[source]:
            twins = plural(plan.twins[source], "image")
            _print_lines(speaker, source, [f"{twins} left out that it has under another name too (repair twins)"])


def _print_lines(speaker: Console, about: str, lines: Sequence[str]) -> None:
    for line in lines:
        speaker.print(f"[yellow]{about}:[/] ", end="")
        speaker.print(printable(line), markup=False, highlight=False)
