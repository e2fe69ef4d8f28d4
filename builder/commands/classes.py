"""The action ``sources classes``: the classes that all sources share."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from builder.commands.exit_codes import BUILT
from builder.errors import RecipeError
from builder.sources.vocabulary import GROUPS, ORGANS, Term, unknown_class, vocabulary
from sa_med2d_20m import LABELS
from shards.arguments import add_json
from shards.console import print_json, print_table, results


def add_classes(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the action to ``sources``."""
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


def _classes(options: argparse.Namespace) -> int:
    terms = [
        term
        for term in _terms(options.names)
        if options.organ in (None, term.organ) and options.group in (None, term.group)
    ]
    if options.json:
        print_json([_class_record(term) for term in terms])
        return BUILT
    from rich.table import Table  # noqa: PLC0415 - imported when it is called

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
