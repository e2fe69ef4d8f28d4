"""The command ``sources``: list, show, sketch and check recipes, and list the classes that they name."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from builder.commands import check
from builder.commands.catalogue import add_licences, add_list, add_overlaps, add_show
from builder.commands.classes import add_classes
from builder.commands.exit_codes import BUILT
from builder.commands.usage import help_of
from sa_med2d_20m import MODALITIES

EXTRA: Final = "build"
"""The extra of ``pyproject.toml`` that the command needs."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    command = commands.add_parser("sources", help="list, show and check recipes")
    command.set_defaults(run=help_of(command), extra=EXTRA)
    actions = command.add_subparsers(metavar="ACTION")
    add_list(actions)
    add_show(actions)
    add_licences(actions)
    add_overlaps(actions)
    add_classes(actions)
    _add_init(actions)
    schema = actions.add_parser(
        "schema",
        help="print the JSON Schema of a recipe, for editors",
        description="Print the JSON Schema (draft 2020-12) of a recipe. An editor that knows it, such as VS Code with "
        "Even Better TOML, completes the keys of a recipe and checks them while it is typed.",
    )
    schema.set_defaults(run=_schema)
    check.add(actions, EXTRA)


def _add_init(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = actions.add_parser(
        "init",
        help="draft a recipe for a folder",
        description="Write the recipe of a dataset to standard output, from what the dataset says of itself: a Medical "
        "Segmentation Decathlon or nnU-Net folder (dataset.json), BIDS derivatives (dataset_description.json), COCO "
        "annotations (.json), YOLO polygons (data.yaml), or a tree of DICOM files with SEG or RTSTRUCT. For any other "
        "folder of images and masks draft one from names and pixels, try it as 'sources check' does, say at its top "
        "what came of it and what you must fill in.",
    )
    init.add_argument(
        "--from", dest="dataset", type=Path, required=True, metavar="PATH", help="its folder, or the file named above"
    )
    init.add_argument("--name", required=True, help="name of the source; goes into every key")
    init.add_argument("--license", required=True, help="SPDX identifier, LicenseRef-..., unknown or conflict")
    init.add_argument("--modality", required=True, choices=MODALITIES, help="how the images were made")
    init.set_defaults(run=_init)


def _init(options: argparse.Namespace) -> int:
    from builder.commands.check import tried_draft  # noqa: PLC0415
    from builder.layouts import sketch_of  # noqa: PLC0415
    from builder.layouts.sketch import recipe_text  # noqa: PLC0415
    from builder.sources.load import parse_recipe  # noqa: PLC0415

    found = sketch_of(options.dataset, options.modality)
    described = {"name": options.name, "license_id": options.license, "modality": options.modality}
    text = recipe_text(found, **described)
    recipe = parse_recipe(text, f"{options.name}.toml")
    if found.root is not None:
        tried = tried_draft(recipe, found.root)
        text = recipe_text(replace(found, notes=(*tried, *found.notes)), **described)
    sys.stdout.write(text)
    return BUILT


def _schema(_: argparse.Namespace) -> int:
    from builder.sources.schema import schema_text  # noqa: PLC0415

    sys.stdout.write(schema_text())
    return BUILT
