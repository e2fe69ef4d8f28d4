"""The command ``sa-med2d``."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from builder.commands.demo import DEMO, DemoError, demo_folder, show_sample
from builder.errors import CaseError, RecipeError
from builder.layouts import sketch_of
from builder.layouts.sketch import recipe_text
from builder.run.build import Summary, build, plan, unknown_classes
from builder.run.executors import EXECUTORS
from builder.run.executors.attempts import WorkerLostError
from builder.run.options import Options
from builder.run.progress import BuildProgress, print_summary
from builder.sources.load import catalogue, load_recipe, parse_recipe
from builder.sources.recipe import Recipe
from sa_med2d_20m import MODALITIES, DatasetError
from shards.card import write_card
from shards.command_line import add_commands, output_folder
from shards.hub.repository import PublishError
from shards.index import rebuild
from shards.license import refusal, tiers
from shards.lock import OutputError
from shards.paths import ShardId
from shards.store import store_errors, writable
from shards.verify import verify

BUILT, FAILED, USAGE, QUARANTINED = range(4)
"""Exit codes: all built, failed, wrong usage, built with quarantined cases."""

_LOG_WIDTH: Final = 160
"""Columns of tables that go to a file or a pipe."""

_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 all built (or nothing found wrong), 1 failed, 2 wrong usage, 3 built with quarantined cases.
    """
    options = _parser().parse_args(arguments)
    if threading.current_thread() is threading.main_thread():  # elsewhere signals are not ours to handle
        signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=True, soft_wrap=True, width=None if sys.stderr.isatty() else _LOG_WIDTH)
    try:
        with store_errors():
            return int(options.run(options, console))
    except RecipeError as error:
        for problem in error.problems:
            _complain(console, problem)
    except CaseError as error:
        _complain(console, f"{error}; stopped here because of --strict")
    except (DatasetError, DemoError, OutputError, PublishError, WorkerLostError) as error:
        _complain(console, str(error))
    except OSError as error:
        _complain(
            console,
            f"{error.filename or 'output'}: {error.strerror or error}; run the same command again to go on",
        )
    except KeyboardInterrupt:
        _complain(console, "interrupted; run the same command again to go on from the shards that are finished")
    return FAILED


def _interrupt(*_: object) -> None:
    """A polite request to stop ends a command as Ctrl-C does."""
    raise KeyboardInterrupt


def _complain(console: Console, text: str) -> None:
    console.print("error: ", style="bold red", end="")
    console.print(text, markup=False, highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sa-med2d",
        description="Medical segmentation datasets to WebDataset shards that stream by modality and by licence.",
        epilog="Exit codes: 0 all built, 1 failed, 2 wrong usage, 3 built with quarantined cases.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_build(commands)
    _add_demo(commands)
    _add_sources(commands)
    _add_index_and_verify(commands)
    add_commands(commands)
    return parser


def _add_build(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "build",
        help="build sources into an output folder; run again to resume",
        description="Build sources into an output folder. Run the same command again to resume: finished shards are "
        "kept, and the output is the same byte for byte. A case that cannot be built is quarantined, with the reason "
        "in OUT/build/quarantine, and the rest goes on.",
    )
    command.add_argument("recipes", nargs="+", metavar="RECIPE", help="recipe file (.toml) or name in the catalogue")
    command.add_argument(
        "--raw",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with one folder per source, named as the recipe is; for a single recipe also the source itself",
    )
    command.add_argument(
        "--out",
        type=partial(output_folder, place=writable),
        required=True,
        metavar="OUT",
        help="output folder, or its URL in an object store (s3://, gs://); may hold other sources",
    )
    _add_build_options(command)
    command.set_defaults(run=_build)


def _add_build_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--workers",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one a core)",
    )
    command.add_argument(
        "--executor",
        choices=sorted(EXECUTORS),
        default="local",
        help="where shards are built (default: local)",
    )
    command.add_argument(
        "--ray-address",
        metavar="ADDR",
        help="cluster of --executor ray that runs already, such as auto or HOST:6379 (default: one on this machine)",
    )
    command.add_argument(
        "--shard-size",
        type=_size,
        default=Options.shard_size,
        metavar="SIZE",
        help="size of a shard as images before compression, such as 500MB or 2GiB (default: 1GiB)",
    )
    command.add_argument(
        "--case-minutes",
        type=_minutes,
        default=Options.case_minutes,
        metavar="M",
        help="give a case up that takes longer (default: 60; with one worker no limit unless it is given)",
    )
    command.add_argument("--limit-cases", type=_positive, metavar="N", help="only the first N cases of each source")
    command.add_argument(
        "--strict",
        action="store_true",
        help="stop at the first case that cannot be built and at class names that the vocabulary does not know",
    )


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "demo",
        help="build, verify and stream a small set of real images that Python packages ship",
        description=f"Build the sources {', '.join(DEMO)} from data inside the packages of the extra 'demo', verify "
        "the result and print one streamed sample.",
    )
    command.add_argument("--out", type=Path, default=Path("demo"), metavar="OUT", help="output folder (default: demo)")
    _add_build_options(command)
    command.set_defaults(run=_demo)


def _add_sources(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("sources", help="list, show and check recipes")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="list the catalogue")
    listed.set_defaults(run=_list)
    show = actions.add_parser("show", help="show a recipe of the catalogue or a file")
    show.add_argument("recipe", metavar="NAME")
    show.set_defaults(run=_show)
    init = actions.add_parser(
        "init",
        help="write a recipe for a folder in a known layout",
        description="Write the recipe of a dataset to standard output, from what the dataset says of itself: a Medical "
        "Segmentation Decathlon or nnU-Net folder (dataset.json), BIDS derivatives (dataset_description.json), COCO "
        "annotations (.json), YOLO polygons (data.yaml).",
    )
    init.add_argument(
        "--from", dest="dataset", type=Path, required=True, metavar="PATH", help="its folder, or the file named above"
    )
    init.add_argument("--name", required=True, help="name of the source; goes into every key")
    init.add_argument("--license", required=True, help="SPDX identifier, LicenseRef-..., unknown or conflict")
    init.add_argument("--modality", required=True, choices=MODALITIES)
    init.set_defaults(run=_init)
    check = actions.add_parser("check", help="check a recipe, and with --raw what it would build")
    check.add_argument("recipe", metavar="RECIPE")
    check.add_argument(
        "--raw", type=Path, metavar="DIR", help="folder as for build; without it only the recipe is checked"
    )
    check.set_defaults(run=_check)


def _add_index_and_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    index = commands.add_parser("index", help="write index, receipts and card anew from the shards alone")
    index.add_argument("out", type=partial(output_folder, place=writable), metavar="OUT")
    index.set_defaults(run=_index)
    check = commands.add_parser("verify", help="check shards against receipts and index; exit code 1 on any finding")
    check.add_argument("out", type=output_folder, metavar="OUT")
    check.add_argument("--deep", action="store_true", help="also decode every picture and check each mask")
    check.set_defaults(run=_verify)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of minutes above 0")
    return minutes


def _size(text: str) -> int:
    number = text.upper().removesuffix("B")
    unit = number.lstrip("0123456789.")
    try:
        size = int(float(number.removesuffix(unit)) * _UNITS[unit])
    except (KeyError, ValueError):
        size = 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size such as 500MB or 2GiB")
    return size


def _options(options: argparse.Namespace) -> Options:
    return Options(
        workers=options.workers,
        executor=options.executor,
        ray_address=options.ray_address,
        shard_size=options.shard_size,
        limit_cases=options.limit_cases,
        strict=options.strict,
        case_minutes=options.case_minutes,
    )


def _build(options: argparse.Namespace, console: Console) -> int:
    recipes = _load_all(options.recipes)
    summary = _run_build(recipes, options.raw, options, console)
    return QUARANTINED if summary.quarantined else BUILT


def _load_all(references: Sequence[str]) -> list[Recipe]:
    recipes, problems = [], []
    for reference in references:
        try:
            recipes.append(load_recipe(reference))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    return recipes


def _run_build(recipes: list[Recipe], raw: Path, options: argparse.Namespace, console: Console) -> Summary:
    with BuildProgress(console) as progress:
        summary = build(recipes, raw, options.out, _options(options), progress)
    print_summary(console, summary)
    return summary


def _demo(options: argparse.Namespace, console: Console) -> int:
    recipes = [load_recipe(name) for name in DEMO]
    with demo_folder() as raw:
        summary = _run_build(recipes, raw, options, console)
    findings = _report(verify(options.out, deep=True, on_shard=_quiet), console)
    if findings or summary.quarantined:
        return FAILED if findings else QUARANTINED
    console.print(f"verified {options.out}: no findings; one streamed sample:")
    sys.stdout.write(show_sample(options.out) + "\n")
    return BUILT


def _list(_: argparse.Namespace, __: Console) -> int:
    table = Table("name", "modality", "licence", "tiers", "title")
    for name in catalogue():
        recipe = load_recipe(name)
        table.add_row(name, recipe.modality, recipe.license, ", ".join(tiers(recipe.license)), recipe.title)
    Console(width=None if sys.stdout.isatty() else _LOG_WIDTH).print(table)
    return BUILT


def _show(options: argparse.Namespace, _: Console) -> int:
    recipe = load_recipe(options.recipe)
    path = Path(options.recipe)
    source = path if path.is_file() else Path(__file__).parent / "catalog" / f"{recipe.name}.toml"
    sys.stdout.write(source.read_text(encoding="utf-8"))
    return BUILT


def _init(options: argparse.Namespace, _: Console) -> int:
    found = sketch_of(options.dataset)
    text = recipe_text(found, name=options.name, license_id=options.license, modality=options.modality)
    parse_recipe(text, f"{options.name}.toml")
    sys.stdout.write(text)
    return BUILT


def _check(options: argparse.Namespace, _: Console) -> int:
    recipe = load_recipe(options.recipe)
    lines = [
        f"{recipe.name}: {recipe.title}",
        f"licence: {recipe.license}, tiers: {', '.join(tiers(recipe.license)) or 'none'}",
    ]
    refused = refusal(recipe.license, recipe.license_evidence)
    lines.append(f"publishable: {'no: ' + refused if refused else 'yes'}")
    if options.raw is None:
        lines.append("recipe is valid; give --raw DIR to see what it would build")
        sys.stdout.write("\n".join(lines) + "\n")
        return BUILT
    planned = plan([recipe], options.raw, Options())[0]
    found, classes = planned.discovery, planned.source.classes
    submodalities = sorted({image.submodality for case in found.cases for image in case.images})
    splits = {split: sum(case.split == split for case in found.cases) for split in ("train", "validation", "test")}
    lines += [
        f"cases: {len(found.cases)} ({', '.join(f'{split} {count}' for split, count in splits.items())})",
        f"patients: {len({case.patient for case in found.cases})}",
        f"files: {sum(len(case.images) for case in found.cases)} images, "
        f"{sum(len(case.masks) for case in found.cases)} masks",
        f"sub-modalities: {', '.join(submodalities)}",
        f"labels: {', '.join(f'{entry.class_id} {entry.label}' for entry in classes.classes)}",
    ]
    problems = [f"{entry.file}: {entry.stage}: {entry.reason}" for entry in found.quarantined]
    problems += [f"{path}: image without a mask" for path in found.images_without_mask]
    problems += [f"{path}: mask without an image" for path in found.masks_without_image]
    problems += unknown_classes(planned)
    lines += [f"problems: {len(problems) or 'none'}", *(f"  {problem}" for problem in problems)]
    sys.stdout.write("\n".join(lines) + "\n")
    return QUARANTINED if found.quarantined else BUILT


def _index(options: argparse.Namespace, console: Console) -> int:
    _existing(options.out)
    with console.status("indexing") as status:
        count, findings = rebuild(options.out, lambda shard: status.update(f"indexing {shard.tar}"))
    write_card(options.out)
    for finding in findings:
        _complain(console, finding)
    console.print(f"{count} shards indexed, {len(findings)} could not be read")
    return FAILED if findings else BUILT


def _verify(options: argparse.Namespace, console: Console) -> int:
    _existing(options.out)
    with console.status("verifying") as status:
        found = verify(options.out, deep=options.deep, on_shard=lambda shard: status.update(f"verifying {shard.tar}"))
        findings = _report(found, console)
    console.print(f"{findings} findings" if findings else "no findings")
    return FAILED if findings else BUILT


def _report(findings: Iterable[str], console: Console) -> int:
    count = 0
    for finding in findings:
        _complain(console, finding)
        count += 1
    return count


def _existing(out: Path) -> None:
    if not out.is_dir():
        raise DatasetError(f"{out} is no folder; expected one that 'sa-med2d build' wrote")


def _quiet(_: ShardId) -> None:
    return None
