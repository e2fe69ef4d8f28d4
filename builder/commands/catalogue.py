"""The actions of ``sources`` that ask the catalogue: list, show, licences, overlaps."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.commands.build import complete_recipe
from builder.commands.exit_codes import BUILT
from sa_med2d_20m import MODALITIES, TIERS
from shards.arguments import add_json
from shards.console import plural, print_json, print_table, results

if TYPE_CHECKING:
    from builder.sources.metadata import SourceMetadata

_ACCESS: Final = ("open", "registration", "private")
_CHECKED: Final = ("real", "two", "one")


def add_list(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``sources list``."""
    action = actions.add_parser("list", help="list the catalogue, or what of it fits")
    action.add_argument("--modality", choices=MODALITIES, help="only sources of this modality")
    action.add_argument("--organ", help="only sources with a class in this organ")
    action.add_argument("--label", help="only sources with this class, in any spelling that the vocabulary knows")
    action.add_argument("--tier", choices=TIERS, help="only sources whose licence allows this tier")
    action.add_argument("--access", choices=_ACCESS, help="only sources that are had in this way")
    action.add_argument(
        "--checked",
        choices=_CHECKED,
        help="only sources whose layout and labels were seen in real files, or read in two places or one, or better",
    )
    form = action.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument("--markdown", action="store_true", help="print a Markdown table")
    action.set_defaults(run=_list)


def add_show(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``sources show``."""
    action = actions.add_parser("show", help="show what is known of a source, by name or from a recipe file")
    recipe = action.add_argument("recipe", metavar="NAME")
    recipe.completer = complete_recipe  # type: ignore[attr-defined]
    form = action.add_mutually_exclusive_group()
    form.add_argument("--recipe", dest="text", action="store_true", help="print the recipe itself, to begin one with")
    add_json(form)
    action.set_defaults(run=_show)


def add_licences(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``sources licences``."""
    action = actions.add_parser("licences", help="which sources may be published in which tier, and what is in the way")
    add_json(action)
    action.set_defaults(run=_licences)


def add_overlaps(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``sources overlaps``."""
    action = actions.add_parser(
        "overlaps",
        help="list sources that hold the same scans or people",
        description="List sources that hold the same scans or people, and whether these get the same split in each.",
    )
    names = action.add_argument("names", nargs="*", metavar="NAME", help="only overlaps of these sources")
    names.completer = complete_recipe  # type: ignore[attr-defined]
    add_json(action)
    action.set_defaults(run=_overlaps)


def _list(options: argparse.Namespace) -> int:
    from builder.sources.catalogue_table import row, table_in_markdown  # noqa: PLC0415 - imported when called, here and below
    from builder.sources.search import Wanted, matching, whole_catalogue  # noqa: PLC0415
    from builder.sources.vocabulary import vocabulary  # noqa: PLC0415

    wanted = Wanted(
        options.modality, known_organ(options.organ), known_label(options.label), options.tier, options.access,
        options.checked,
    )  # fmt: skip
    found = matching(whole_catalogue(), wanted, vocabulary())
    if options.json:
        print_json([row(source, vocabulary()) for source in found])
    elif options.markdown:
        sys.stdout.write(table_in_markdown(found, vocabulary()))
    else:
        _print_list(found)
    return BUILT


def _print_list(found: list[SourceMetadata]) -> None:
    from rich.table import Table  # noqa: PLC0415

    from builder.sources.recipe import Recipe  # noqa: PLC0415
    from shards.license import tiers  # noqa: PLC0415

    table = Table("name", "modality", "licence", "tiers", "access", "builds", "title")
    for source in found:
        builds, allowed = "yes" if isinstance(source, Recipe) else "no", ", ".join(tiers(source.license))
        table.add_row(source.name, source.modality, source.license, allowed, source.access, builds, source.title)
    if found:
        print_table(results(), table)
    results().print(f"{plural(len(found), 'source')} of the catalogue", highlight=False)


def known_organ(organ: str | None) -> str | None:
    """An organ that the vocabulary has.

    Raises:
        RecipeError: It has none of that name; the message names near ones.
    """
    from builder.sources.vocabulary import ORGANS  # noqa: PLC0415

    if organ is not None and organ not in ORGANS:
        raise _unknown("organ", organ, ORGANS)
    return organ


def known_label(label: str | None) -> str | None:
    """A class that the vocabulary knows.

    Raises:
        RecipeError: It knows none of that name; the message names near ones.
    """
    from builder.errors import RecipeError  # noqa: PLC0415
    from builder.sources.vocabulary import vocabulary  # noqa: PLC0415

    if label is not None and vocabulary().find(label) is None:
        near = vocabulary().near(label)
        raise RecipeError([f"--label: {label!r} is no class of the vocabulary{_hint(near)}"])
    return label


def _unknown(what: str, given: str, allowed: tuple[str, ...]) -> Exception:
    import difflib  # noqa: PLC0415

    from builder.errors import RecipeError  # noqa: PLC0415

    near = difflib.get_close_matches(given, allowed, n=3) or list(allowed)
    return RecipeError([f"--{what}: {given!r} is no {what} of the vocabulary{_hint(near)}"])


def _hint(near: list[str]) -> str:
    return f"; near are {', '.join(near)}" if near else ""


def _show(options: argparse.Namespace) -> int:
    from builder.sources.catalogue import text_of  # noqa: PLC0415
    from builder.sources.catalogue_table import row  # noqa: PLC0415
    from builder.sources.load import load_metadata  # noqa: PLC0415
    from builder.sources.page import page  # noqa: PLC0415
    from builder.sources.vocabulary import vocabulary  # noqa: PLC0415

    source = load_metadata(options.recipe)
    path = Path(options.recipe)
    if options.text:
        sys.stdout.write(path.read_text(encoding="utf-8") if path.is_file() else text_of(source.name))
    elif options.json:
        print_json(row(source, vocabulary()) | source.model_dump(mode="json", include=_KNOWN, exclude_none=True))
    else:
        sys.stdout.write(page(source, vocabulary()))
    return BUILT


_KNOWN: Final = {"homepage", "citation", "license_evidence", "patients", "notes", "size", "evidence", "download"}


def _licences(options: argparse.Namespace) -> int:
    from builder.sources.search import whole_catalogue  # noqa: PLC0415
    from shards.license import refusal, tiers  # noqa: PLC0415

    rows: list[dict[str, Any]] = []
    for source in whole_catalogue():
        refused = refusal(source.license, source.license_evidence, source.access)
        allowed = [] if refused else list(tiers(source.license))
        rows.append({"name": source.name, "license": source.license, "tiers": allowed, "in_the_way": refused})
    if options.json:
        print_json(rows)
        return BUILT
    from rich.table import Table  # noqa: PLC0415

    table = Table("name", "licence", *TIERS, "in the way")
    for record in rows:
        marks = ["yes" if tier in record["tiers"] else "" for tier in TIERS]
        table.add_row(record["name"], record["license"], *marks, record["in_the_way"] or "")
    print_table(results(), table)
    counts = ", ".join(f"{tier} {sum(tier in record['tiers'] for record in rows)}" for tier in TIERS)
    results().print(f"{plural(len(rows), 'source')}; publishable: {counts}", highlight=False)
    return BUILT


def _overlaps(options: argparse.Namespace) -> int:
    from builder.sources.load import load_metadata  # noqa: PLC0415
    from builder.sources.overlaps import MEANINGS, known_overlaps, patients_are_mapped  # noqa: PLC0415

    asked = [load_metadata(name).name for name in options.names]
    found = [one for one in known_overlaps() if not asked or set(asked) & set(one.sources)]
    same = [patients_are_mapped(map(load_metadata, one.sources)) for one in found]
    if options.json:
        records = [one.model_dump(mode="json") for one in found]
        print_json([record | {"same_split": is_same} for record, is_same in zip(records, same, strict=True)])
        return BUILT
    for one, is_same in zip(found, same, strict=True):
        split = "a patient gets the same split in each" if is_same else "a patient may stand in two splits"
        sys.stdout.write(f"{', '.join(one.sources)}: {MEANINGS[one.kind]}; {split}. {one.what}\n")
        sys.stdout.write("".join(f"  {address}\n" for address in one.evidence))
    sys.stdout.write(f"{plural(len(found), 'known overlap')}\n")
    return BUILT
