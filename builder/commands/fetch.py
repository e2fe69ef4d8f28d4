"""The command ``fetch``: from the name of a source to its files, and on request to shards."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.commands.build import add_build_options, complete_recipe, exit_code, run_build
from builder.commands.exit_codes import BUILT, FAILED, USAGE
from shards.arguments import add_json, output_folder, positive
from shards.console import complain, console, in_bytes, plural, print_json, working

if TYPE_CHECKING:
    from builder.fetch.fetch import Plan
    from builder.sources.metadata import SourceMetadata

EXTRA: Final = "fetch"
"""The extra of ``pyproject.toml`` that the command needs."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    command = commands.add_parser(
        "fetch",
        help="fetch the files of sources; run again to go on",
        description="Fetch the files of sources into a folder each, check and unpack them. Run the same command again "
        "to go on after any interruption: what is here is not fetched again. Of a source that asks for a registration "
        "it prints what to do.",
    )
    recipes = command.add_argument(
        "recipes", nargs="+", metavar="RECIPE", help="name in the catalogue or recipe file (.toml)"
    )
    recipes.completer = complete_recipe  # type: ignore[attr-defined]
    command.add_argument(
        "--raw", type=Path, required=True, metavar="DIR", help="folder in which each source gets a folder of its name"
    )
    command.add_argument("--dry-run", action="store_true", help="list the files and their bytes, and fetch nothing")
    command.add_argument("--keep-archives", action="store_true", help="do not delete archives that are unpacked")
    command.add_argument("--connections", type=positive, default=4, metavar="N", help="at once (default: 4)")
    command.add_argument("--anyway", action="store_true", help="fetch also what seems not to fit on the disk")
    command.add_argument("--build", action="store_true", help="build the sources afterwards, into --out")
    command.add_argument(
        "--out", type=partial(output_folder, write=True), metavar="OUT", help="output folder of --build, as for build"
    )
    add_build_options(command)
    add_json(command)
    command.set_defaults(run=_run, extra=EXTRA)


def _run(options: argparse.Namespace) -> int:
    from builder.sources.load import (  # noqa: PLC0415 - imported when it is called, here and below
        load_all,
        load_metadata,
        load_recipe,
    )

    if options.build != (options.out is not None):
        complain(console(), "--build needs --out OUT, and --out belongs to --build")
        return USAGE
    sources = load_all(options.recipes, load_recipe if options.build else load_metadata)
    ended = _fetch_all(sources, options)
    fetched = all(one["state"] in ("fetched", "listed") for one in ended)
    if options.build and fetched and not options.dry_run:
        return exit_code(run_build(load_all(options.recipes, load_recipe), options.raw, options))
    if options.json:
        print_json({"sources": ended})
    else:
        sys.stdout.write("\n".join(line for one in ended for line in _sentences(one)) + "\n")
    return BUILT if fetched else FAILED


def _fetch_all(sources: Sequence[SourceMetadata], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Fetch each source; what one lacks does not stop the others."""
    from builder.fetch.fault import FetchError  # noqa: PLC0415
    from builder.fetch.fetch import Progress, check_space, fetch, plan  # noqa: PLC0415
    from builder.fetch.host import Host  # noqa: PLC0415
    from sa_med2d_20m import redacted  # noqa: PLC0415

    speaker, progress, ended = console(), Progress(), []
    with working(speaker, progress.line):
        for reference, source in zip(options.recipes, sources, strict=True):
            root = options.raw / source.name
            if source.download is None or not source.download.automatic:
                ended.append(_by_hand(source, reference, options.raw))
                continue
            progress.begin(source.name, None)
            host = Host(source.homepage)
            try:
                planned = plan(source, root, host)
                if options.dry_run:
                    ended.append(_record(planned, "listed", []))
                    continue
                if not options.anyway:
                    check_space(planned)
                faults = fetch(
                    planned,
                    host,
                    connections=options.connections,
                    keep_archives=options.keep_archives,
                    progress=progress,
                )
                ended.append(_record(planned, "failed" if faults else "fetched", faults))
            except FetchError as error:
                ended.append({"name": source.name, "state": "failed", "problems": [str(error)]})
    for one in ended:
        one["problems"] = [redacted(problem) for problem in one["problems"]]
        for problem in one["problems"]:
            complain(speaker, f"{one['name']}: {problem}")
    return ended


def _record(planned: Plan, state: str, faults: list[str]) -> dict[str, Any]:
    return {
        "name": planned.source.name,
        "state": state,
        "folder": str(planned.root),
        "files": planned.files,
        "here_already": planned.here,
        "bytes": planned.bytes,
        "problems": faults,
    }


def _by_hand(source: SourceMetadata, reference: str, raw: Path) -> dict[str, Any]:
    """What a person does where no program may, or knows how."""
    from builder.sources.recipe import Recipe  # noqa: PLC0415

    steps = list(source.download.steps) if source.download is not None else []
    if not steps:
        steps = [f"Get the files from {source.homepage or 'their authors'}; the recipe does not say how."]
    places = {}
    if isinstance(source, Recipe):
        places = {"images": source.files.image.text, "masks": ", ".join(mask.text for mask in source.files.mask)}
        if source.examples:
            places["example"] = ", ".join([source.examples[0].image, *source.examples[0].masks])
    return {
        "name": source.name,
        "state": "by hand",
        "title": source.title,
        "license": source.license,
        "access": source.access,
        "folder": str(raw / source.name),
        "steps": steps,
        "places": places,
        "check": shlex.join(["sa-med2d", "sources", "check", reference, "--raw", str(raw)]) if places else None,
        "problems": [],
    }


def _sentences(record: dict[str, Any]) -> list[str]:

    name, state = record["name"], record["state"]
    if state == "by hand":
        lines = [f"{name}: {record['title']}", f"licence: {record['license']}; access: {record['access']}"]
        lines += [f"{number}. {step}" for number, step in enumerate(record["steps"], 1)]
        lines.append(f"The files go into {record['folder']}")
        lines += [f"  {what}: {pattern}" for what, pattern in record["places"].items()]
        if record["check"] is None:
            return [*lines, "It cannot be built yet: the layout of its files is not known."]
        return [*lines, f"Then: {record['check']}"]
    if "files" not in record:
        return [f"{name}: {state}"]
    count = len(record["files"])
    size = "size not known" if record["bytes"] is None else in_bytes(record["bytes"])
    here = f", {record['here_already']:,} here already" if record["here_already"] else ""
    if state == "failed":
        return [f"{name}: {plural(len(record['problems']), 'fault')} in {plural(count, 'file')}{here}"]
    lines = [
        f"{name}: {plural(count, 'file')}{f', {size}' if count and record['bytes'] else ''}{here} in {record['folder']}"
    ]
    if state == "listed":
        lines[0] = f"{name}: {plural(count, 'file')} to fetch{f', {size}' if count else ''}{here}"
        lines += [
            f"  {path}: {'size not known' if one is None else in_bytes(one)}" for path, one in record["files"].items()
        ]
    return lines
