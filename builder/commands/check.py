"""The command ``sources check``: what a recipe would build, and what is wrong with it and with the files."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.commands.build import complete_recipe
from builder.commands.exit_codes import BUILT, FAILED, code_of
from builder.run.options import Options
from sa_med2d_20m import SPLITS
from shards.arguments import add_json
from shards.console import console, in_bytes, plural, print_json, printable, working

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.run.inspection import Inspection
    from builder.run.plan import SourcePlan
    from builder.sources.recipe import Recipe

_SHOWN: Final = 10
"""Problems that are printed; a file has all."""
_VALUES: Final = 24
_LONGEST: Final = 500
"""Characters of a problem that are printed."""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser], extra: str) -> None:
    """Add the command to those of ``sources``.

    Args:
        actions: Where it is added.
        extra: The extra of ``pyproject.toml`` that it needs.
    """
    check = actions.add_parser(
        "check",
        help="check a recipe, and with --raw what it would build",
        description="Check a recipe. With --raw read the headers of all its files, convert some cases as a build does "
        "(all of a small source), and say what masks hold, what would come out and what is wrong. Names are those of "
        "your own folder, also where a build would write hashes. Exit code 1 where nothing could be built, 3 where "
        "some cases could not.",
    )
    recipe = check.add_argument("recipe", metavar="RECIPE", help="recipe file (.toml) or name in the catalogue")
    recipe.completer = complete_recipe  # type: ignore[attr-defined]
    check.add_argument(
        "--raw", type=Path, metavar="DIR", help="folder as for build; without it only the recipe is checked"
    )
    check.add_argument("--quick", action="store_true", help="match names only, open no file but for its size")
    check.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="where all problems and mask values are written, if they are too many to print (default: "
        "NAME.check.txt in this folder)",
    )
    add_json(check)
    check.set_defaults(run=_run, extra=extra)


def _run(options: argparse.Namespace) -> int:
    from builder.sources.load import load_recipe  # noqa: PLC0415 - imported when it is called, here and below

    recipe = load_recipe(options.recipe)
    record, code = _described(recipe), BUILT
    if options.raw is not None:
        found, code = _checked(recipe, options)
        record |= found
    if options.json:
        print_json(record)
        return code
    lines = _sentences(record)
    report = _write_report(record, options.report or Path(f"{recipe.name}.check.txt"))
    if report is not None:
        lines.insert(len(lines) - 1, report)
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
    return code


def _checked(recipe: Recipe, options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """What is found in the folder, and the exit code."""
    from builder.run.build import plan  # noqa: PLC0415
    from builder.run.inspection import Step, inspect  # noqa: PLC0415

    step = Step()
    with working(console(), lambda: str(step)):
        planned = plan([recipe], options.raw, Options(), on_file=step.reach)[0]
        if options.quick:
            discovery = planned.discovery
            return _found(planned), code_of(len(discovery.quarantined), len(discovery.cases))
        inspection = inspect(planned, Options(workers=os.cpu_count() or 1), step)
    made_nothing = not inspection.good or (inspection.opened and not inspection.samples)
    code = FAILED if made_nothing else code_of(len(inspection.failing), inspection.good)
    return _found(planned) | _inspected(planned, inspection), code


def tried_draft(recipe: Recipe, root: Path) -> list[str]:
    """What a check says of a draft, as sentences for its top.

    Args:
        recipe: The draft.
        root: Folder of the source.
    """
    from builder.errors import RecipeError  # noqa: PLC0415
    from builder.run.inspection import Step, inspect  # noqa: PLC0415
    from builder.run.plan import plan_source  # noqa: PLC0415

    step = Step()
    try:
        with working(console(), lambda: str(step)):
            planned = plan_source(recipe, root, None, shard_size=Options.shard_size)
            inspection = inspect(planned, Options(workers=os.cpu_count() or 1), step)
    except RecipeError as error:
        return [f"TO DO: it does not work yet: {problem}" for problem in error.problems]
    works = not inspection.failing and inspection.samples
    faults = [f"TO DO: {entry.file}: {entry.stage}: {entry.reason}" for entry in inspection.failing[:_SHOWN]]
    return [f"{'tried' if works else 'TO DO: tried'}: {_verdict(inspection)}", *faults]


def _described(recipe: Recipe) -> dict[str, Any]:
    from shards.license import refusal, tiers  # noqa: PLC0415

    return {
        "name": recipe.name,
        "title": recipe.title,
        "license": recipe.license,
        "tiers": tiers(recipe.license),
        "not_publishable": refusal(recipe.license, recipe.license_evidence, recipe.access),
    }


def _found(planned: SourcePlan) -> dict[str, Any]:
    from builder.run.build import unknown_classes  # noqa: PLC0415

    discovery, classes = planned.discovery, planned.source.classes.classes
    cases = discovery.cases
    return {
        "cases": len(cases),
        "splits": {split: sum(case.split == split for case in cases) for split in SPLITS},
        "patients": len({case.patient for case in cases}),
        "images": sum(len(case.images) for case in cases),
        "masks": sum(len(case.masks) for case in cases),
        "submodalities": sorted({image.submodality for case in cases for image in case.images}),
        "classes": {entry.class_id: entry.label for entry in classes},
        "hashed": planned.hashed,
        "problems": [
            *(f"{entry.file}: {entry.stage}: {entry.reason}" for entry in discovery.quarantined),
            *(f"{path}: image without a mask" for path in discovery.images_without_mask),
            *(f"{path}: mask without an image" for path in discovery.masks_without_image),
            *(f"{entry} fits no case" for entry in discovery.idle_entries),
            *unknown_classes(planned),
        ],
        "left_out": list(discovery.left_out),
    }


def _inspected(planned: SourcePlan, inspection: Inspection) -> dict[str, Any]:
    from builder.run.headers import sizes_of  # noqa: PLC0415
    from shards.receipt import summed  # noqa: PLC0415

    headers, opened = inspection.headers, inspection.opened
    images = {image.path for case in planned.discovery.cases for image in case.images}
    matched = len(planned.discovery.quarantined)
    late = [f"{entry.file}: {entry.stage}: {entry.reason}" for entry in inspection.failing[matched:]]
    named = {entry.file for entry in inspection.failing}
    late += [str(fault) for path, fault in headers.faults.items() if path not in named]
    record = _found(planned)
    return {
        "opened": len(opened),
        "formats": dict(headers.formats.most_common()),
        "sizes": dict(sizes_of(shape for path, shape in headers.shapes.items() if path in images).most_common()),
        "mask_values": [asdict(one) for one in inspection.contents],
        "unseen_labels": list(inspection.unseen),
        "failing": [asdict(entry) for entry in inspection.failing],
        "opened_samples": inspection.samples,
        "opened_dropped": summed(piece.dropped for piece in opened),
        "opened_flagged": summed(piece.flagged for piece in opened),
        "shards": inspection.shards,
        "expected_bytes": inspection.bytes,
        "problems": [*record["problems"][:matched], *late, *record["problems"][matched:]],
        "verdict": _verdict(inspection),
    }


def _verdict(inspection: Inspection) -> str:
    from shards.receipt import summed  # noqa: PLC0415

    held = len(inspection.failing)
    total = inspection.cases + held - inspection.failing_of_plan
    opened = len(inspection.opened)
    if not inspection.good:
        tried = "" if opened == inspection.cases else f"; {opened:,} were opened"
        return f"nothing could be built: {held:,} of {plural(total, 'case')} cannot be converted{tried}"
    if opened and not inspection.samples:
        left_out = _counted(summed(piece.dropped for piece in inspection.opened))
        return f"nothing would come out: of {plural(opened, 'opened case')} rules leave no slice: {left_out}"
    unopened = inspection.cases - opened
    rest = f" (of {unopened:,} of them only headers were read)" if unopened else ""
    if not held:
        return f"all {plural(total, 'case')} can be built{rest}" if total > 1 else "the case can be built"
    return f"{inspection.good:,} of {plural(total, 'case')} can be built{rest}, {held:,} cannot"


def _sentences(record: dict[str, Any]) -> list[str]:
    refused = record["not_publishable"]
    lines = [
        f"{record['name']}: {record['title']}",
        f"licence: {record['license']}, tiers: {', '.join(record['tiers']) or 'none'}",
        f"publishable: {'no: ' + refused if refused else 'yes'}",
    ]
    if "cases" not in record:
        return [*lines, "recipe is valid; give --raw DIR to see what it would build"]
    splits = ", ".join(f"{split} {count}" for split, count in record["splits"].items())
    problems = record["problems"]
    lines += [
        f"cases: {record['cases']} ({splits})",
        *_left_out(record["left_out"]),
        f"patients: {record['patients']}",
        f"files: {plural(record['images'], 'image')}, {plural(record['masks'], 'mask')}",
        f"sub-modalities: {', '.join(record['submodalities'])}",
        f"labels: {', '.join(f'{class_id} {label}' for class_id, label in record['classes'].items())}",
    ]
    if record["hashed"]:
        lines.append(
            "names: those of your own folder, which may name patients; a build writes hashes in their place, and only "
            "its table build/identifiers says which is which"
        )
    if "verdict" in record:
        lines += _opened(record)
    lines += [
        f"problems: {len(problems) or 'none'}",
        *(f"  {_cut(problem)}" for problem in problems[:_SHOWN]),
        *([f"  ... and {len(problems) - _SHOWN:,} more"] if len(problems) > _SHOWN else []),
    ]
    return [*lines, f"verdict: {record['verdict']}"] if "verdict" in record else lines


def _left_out(names: Sequence[str]) -> list[str]:
    """A line on the cases that ``[cases]`` leaves out, where there are any."""
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return [f"left out by [cases]: {plural(len(names), 'case')}: {shown}"] if names else []


def _opened(record: dict[str, Any]) -> list[str]:
    """What the files hold, and what would come of it."""
    values = _values(record)
    lines = [
        f"kinds of files: {_counted(record['formats'])}",
        f"sizes of images: {_counted(record['sizes'], most=_SHOWN)}",
        f"opened: {plural(record['opened'], 'case')}, {plural(record['opened_samples'], 'sample')}",
    ]
    counted = {what: record[f"opened_{what}"] for what in ("dropped", "flagged")}
    lines += [f"  {what}: {_counted(counts)}" for what, counts in counted.items() if counts]
    lines += ["masks hold:" if values else "masks hold: nothing that can be read", *values[:_VALUES]]
    if len(values) > _VALUES:
        lines.append(f"  ... and {len(values) - _VALUES:,} more; --json has all")
    if record["unseen_labels"]:
        lines.append(f"  named in [labels] and not seen: {', '.join(record['unseen_labels'])}")
    size = record["expected_bytes"]
    expected = "size unknown" if size is None else f"about {in_bytes(size)}"
    return [*lines, f"expected: {plural(record['shards'], 'shard')}, {expected}"]


def _values(record: dict[str, Any]) -> list[str]:
    """A line for each thing that masks hold; blended colours, of which there may be thousands, are one."""
    from builder.conversion.masks.census import NEAREST  # noqa: PLC0415

    found = record.get("mask_values", ())
    blended = [one for one in found if one["meaning"] == NEAREST]
    lines = [
        f"  {one['key']}: "
        + (f"{plural(one['pixels'], 'pixel')} in " if one["pixels"] else "")
        + f"{plural(one['files'], 'file')}, "
        + (one["meaning"] or "NOT NAMED in [labels]")
        for one in found
        if one["meaning"] != NEAREST
    ]
    if blended:
        pixels = plural(sum(one["pixels"] for one in blended), "pixel")
        lines.append(f"  {plural(len(blended), 'further colour')}: {pixels}, each becomes the nearest in [labels]")
    return lines


def _counted(counts: dict[str, int], most: int | None = None) -> str:
    shown = ", ".join(f"{name} ({count:,})" for name, count in list(counts.items())[:most])
    return shown + (f" and {len(counts) - most:,} more" if most is not None and len(counts) > most else "")


def _cut(problem: str) -> str:
    return problem if len(problem) <= _LONGEST else f"{problem[:_LONGEST]}..."


def _write_report(record: dict[str, Any], path: Path) -> str | None:
    """Write everything down where not everything is printed; gives the sentence that names the file."""
    problems: Sequence[str] = record.get("problems", ())
    values = _values(record)
    unnamed = sum(one["meaning"] is None for one in record.get("mask_values", ()))
    if len(problems) <= _SHOWN and unnamed <= _VALUES and all(len(one) <= _LONGEST for one in problems):
        return None
    text = _report_text(record, problems, values)
    try:
        where = _write(path, text)
    except OSError:  # the folder is not ours to write to
        handle, name = tempfile.mkstemp(prefix=f"{record['name']}.check.", suffix=".txt")
        os.close(handle)
        where = _write(Path(name), text)
    return f"all problems and mask values: {where}"


def _report_text(record: dict[str, Any], problems: Iterable[str], values: Iterable[str]) -> str:
    hint = "Names are those of the folder that was checked and may name patients." if record["hashed"] else ""
    lines = [f"{record['name']}: problems", hint, *problems, "", "masks hold:", *values]
    return "".join(f"{printable(line)}\n" for line in lines)


def _write(path: Path, text: str) -> Path:
    from shards.atomic import write_atomic  # noqa: PLC0415

    write_atomic(path, text.encode(), private=True)
    return path
