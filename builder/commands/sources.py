"""The command ``sources``: list, show, sketch and check recipes, and list the classes that they name."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.commands.build import complete_recipe
from builder.commands.exit_codes import BUILT, code_of
from builder.commands.usage import help_of
from builder.errors import RecipeError
from builder.run.options import Options
from builder.sources import catalogue
from builder.sources.vocabulary import GROUPS, ORGANS, Term, unknown_class, vocabulary
from sa_med2d_20m import LABELS, MODALITIES, SPLITS
from shards.arguments import add_json
from shards.console import plural, print_json, print_table, results

if TYPE_CHECKING:
    from builder.run.plan import SourcePlan
    from builder.sources.recipe import Recipe

EXTRA: Final = "build"
"""The extra of ``pyproject.toml`` that the command needs."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    command = commands.add_parser("sources", help="list, show and check recipes")
    command.set_defaults(run=help_of(command), extra=EXTRA)
    actions = command.add_subparsers(metavar="ACTION")
    listed = actions.add_parser("list", help="list the catalogue")
    add_json(listed)
    listed.set_defaults(run=_list)
    show = actions.add_parser("show", help="show a recipe of the catalogue or a file")
    _add_recipe(show, "NAME")
    show.set_defaults(run=_show)
    _add_classes(actions)
    _add_init(actions)
    schema = actions.add_parser(
        "schema",
        help="print the JSON Schema of a recipe, for editors",
        description="Print the JSON Schema (draft 2020-12) of a recipe. An editor that knows it, such as VS Code with "
        "Even Better TOML, completes the keys of a recipe and checks them while it is typed.",
    )
    schema.set_defaults(run=_schema)
    check = actions.add_parser("check", help="check a recipe, and with --raw what it would build")
    _add_recipe(check, "RECIPE")
    check.add_argument(
        "--raw", type=Path, metavar="DIR", help="folder as for build; without it only the recipe is checked"
    )
    add_json(check)
    check.set_defaults(run=_check)


def _add_recipe(action: argparse.ArgumentParser, metavar: str) -> None:
    recipe = action.add_argument("recipe", metavar=metavar)
    recipe.completer = complete_recipe  # type: ignore[attr-defined]


def _add_classes(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    classes = actions.add_parser(
        "classes",
        help="list the classes of the vocabulary",
        description="List the classes that all sources share: number in semantic maps, name, organ, group, phrase, and "
        "code in SNOMED CT. A name that is given is looked up as recipes do, in any spelling and by synonym.",
    )
    classes.add_argument("names", nargs="*", metavar="NAME", help="only the classes that these names mean")
    classes.add_argument("--organ", choices=ORGANS, metavar="ORGAN", help=f"one of {', '.join(ORGANS)}")
    classes.add_argument("--group", choices=GROUPS, metavar="GROUP", help=f"one of {', '.join(GROUPS)}")
    add_json(classes)
    classes.set_defaults(run=_classes)


def _add_init(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
    init.add_argument("--modality", required=True, choices=MODALITIES, help="how the images were made")
    init.set_defaults(run=_init)


def _list(options: argparse.Namespace) -> int:
    from shards.license import tiers  # noqa: PLC0415 - imported when it is called, here and below

    if options.json:
        print_json([{**asdict(entry), "tiers": tiers(entry.license)} for entry in catalogue.entries()])
        return BUILT
    from rich.table import Table  # noqa: PLC0415

    table = Table("name", "modality", "licence", "tiers", "title")
    for entry in catalogue.entries():
        table.add_row(entry.name, entry.modality, entry.license, ", ".join(tiers(entry.license)), entry.title)
    print_table(results(), table)
    return BUILT


def _show(options: argparse.Namespace) -> int:
    from builder.sources.load import load_recipe  # noqa: PLC0415

    recipe = load_recipe(options.recipe)
    path = Path(options.recipe)
    sys.stdout.write(path.read_text(encoding="utf-8") if path.is_file() else catalogue.text_of(recipe.name))
    return BUILT


def _classes(options: argparse.Namespace) -> int:
    terms = [
        term
        for term in _terms(options.names)
        if options.organ in (None, term.organ) and options.group in (None, term.group)
    ]
    if options.json:
        print_json([_class_record(term) for term in terms])
        return BUILT
    from rich.table import Table  # noqa: PLC0415

    table = Table("number", "class", "organ", "group", "phrase", "SNOMED CT")
    for term in terms:
        code = " of ".join(filter(None, (term.snomed, term.site)))
        row = (str(LABELS.index(term.label) + 1), term.label, term.organ or "", term.group, term.phrase, code)
        table.add_row(*row)
    print_table(results(), table)
    return BUILT


def _class_record(term: Term) -> dict[str, Any]:
    return {"number": LABELS.index(term.label) + 1, **asdict(term)}


def _terms(names: list[str]) -> list[Term]:
    """The classes that names mean, or all.

    Raises:
        RecipeError: The vocabulary does not know a name.
    """
    words = vocabulary()
    found = {name: words.find(name) for name in names}
    unknown = [unknown_class(name, words.near(name)) for name, term in found.items() if term is None]
    if unknown:
        raise RecipeError(unknown)
    return list(dict.fromkeys(term for term in found.values() if term)) if names else list(words.terms)


def _init(options: argparse.Namespace) -> int:
    from builder.layouts import sketch_of  # noqa: PLC0415
    from builder.layouts.sketch import recipe_text  # noqa: PLC0415
    from builder.sources.load import parse_recipe  # noqa: PLC0415

    found = sketch_of(options.dataset)
    text = recipe_text(found, name=options.name, license_id=options.license, modality=options.modality)
    parse_recipe(text, f"{options.name}.toml")
    sys.stdout.write(text)
    return BUILT


def _schema(_: argparse.Namespace) -> int:
    from builder.sources.schema import schema_text  # noqa: PLC0415

    sys.stdout.write(schema_text())
    return BUILT


def _check(options: argparse.Namespace) -> int:
    from builder.run.build import plan  # noqa: PLC0415
    from builder.sources.load import load_recipe  # noqa: PLC0415

    recipe = load_recipe(options.recipe)
    planned = None if options.raw is None else plan([recipe], options.raw, Options())[0]
    record = _described(recipe) | ({} if planned is None else _found(planned))
    if options.json:
        print_json(record)
    else:
        sys.stdout.write("\n".join(_sentences(record)) + "\n")
    return BUILT if planned is None else code_of(len(planned.discovery.quarantined), len(planned.discovery.cases))


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
    cases, classes = planned.discovery.cases, planned.source.classes.classes
    return {
        "cases": len(cases),
        "splits": {split: sum(case.split == split for case in cases) for split in SPLITS},
        "patients": len({case.patient for case in cases}),
        "images": sum(len(case.images) for case in cases),
        "masks": sum(len(case.masks) for case in cases),
        "submodalities": sorted({image.submodality for case in cases for image in case.images}),
        "classes": {entry.class_id: entry.label for entry in classes},
        "problems": _problems(planned),
    }


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
    return [
        *lines,
        f"cases: {record['cases']} ({splits})",
        f"patients: {record['patients']}",
        f"files: {plural(record['images'], 'image')}, {plural(record['masks'], 'mask')}",
        f"sub-modalities: {', '.join(record['submodalities'])}",
        f"labels: {', '.join(f'{class_id} {label}' for class_id, label in record['classes'].items())}",
        f"problems: {len(record['problems']) or 'none'}",
        *(f"  {problem}" for problem in record["problems"]),
    ]


def _problems(planned: SourcePlan) -> list[str]:
    from builder.run.build import unknown_classes  # noqa: PLC0415

    found = planned.discovery
    problems = [f"{entry.file}: {entry.stage}: {entry.reason}" for entry in found.quarantined]
    problems += [f"{path}: image without a mask" for path in found.images_without_mask]
    problems += [f"{path}: mask without an image" for path in found.masks_without_image]
    return problems + unknown_classes(planned)
