"""Recipes described for editors and for people: a JSON Schema, and a reference of every key, both from the models.

``python -m builder.sources.schema`` writes the schema, with ``--markdown`` the reference as it stands in ``docs``.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from builder.sources.metadata import NAME, SourceMetadata
from builder.sources.pattern import CAPTURES, Pattern
from builder.sources.recipe import Recipe
from builder.sources.table import models_in
from shards.license import TERMS, UNPUBLISHED

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_PATTERN_TEXT: Final = (
    r"^(?!/|(.*/)?\.\.(/|$)|.*//+[^/])([^{}\\]|\{(" + "|".join(map(re.escape, (*CAPTURES, "*"))) + r")\})+$"
)
"""What `Pattern` accepts, as far as a regular expression of JSON Schema (ECMA-262) can say it."""
_ENTRY = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
"""An entry of the Attributes section of a docstring, with its indented further lines."""
_REFERENCE = re.compile(r"`(?:[\w.]+\.)?(\w+)`")
"""A name in a docstring, such as `sa_med2d_20m.SPLITS`."""


class _Generator(GenerateJsonSchema):
    def is_instance_schema(self, schema: core_schema.IsInstanceSchema) -> JsonSchemaValue:
        if schema["cls"] is Pattern:
            return {"type": "string", "pattern": _PATTERN_TEXT}
        return super().is_instance_schema(schema)


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a recipe.

    It accepts every recipe that the builder accepts. It refuses unknown keys, wrong types and values that no key may
    have; what one key demands of another, such as labels that fit the masks, only ``sa-med2d sources check`` knows.
    """
    schema = Recipe.model_json_schema(schema_generator=_Generator)
    models = {model.__name__: model for model in tables_in(Recipe)}
    tables = {name: _described(table, models[name]) for name, table in schema.pop("$defs").items()}
    root = _described(schema, Recipe)
    for table in (root, *tables.values()):
        table["properties"] = {key: _introduced(entry, tables) for key, entry in table["properties"].items()}
    root["properties"]["name"]["pattern"] = f"^{NAME.pattern}$"
    # offered by editors; any other SPDX identifier, in any case, may stand there too
    root["properties"]["license"]["anyOf"] = [{"enum": [*sorted(TERMS), *UNPUBLISHED]}, {"type": "string"}]
    # a recipe that says nothing of files holds metadata only; one that says anything of them says where they are
    root["required"].remove("files")
    root["dependentRequired"] = {
        key: ["files"] for key in Recipe.model_fields if key != "files" and key not in SourceMetadata.model_fields
    }
    return {"$schema": DIALECT, "title": "Recipe of a source of SA-Med2D-20M", **root, "$defs": tables}


def tables_in(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and the models of all tables in it, each before those that it holds."""
    yield model
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            yield from tables_in(inner)


def _described(table: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """A table with what its model's docstring says of it and of its keys, and without ``null``, which TOML has not."""
    meanings = _meanings(model)
    properties = {}
    for key, entry in table["properties"].items():
        arms = [arm for arm in entry.get("anyOf", ()) if arm != {"type": "null"}]
        plain = {name: value for name, value in entry.items() if name not in ("title", "anyOf") and value is not None}
        alternatives = arms[0] if len(arms) == 1 else {"anyOf": arms} if arms else {}
        properties[key] = {"description": meanings[key], **alternatives, **plain}
    kept: dict[str, Any] = {name: table[name] for name in ("type", "required", "additionalProperties") if name in table}
    return {"description": _summary(model), **kept, "properties": properties}


def _introduced(entry: dict[str, Any], tables: dict[str, Any]) -> dict[str, Any]:
    """An entry; one that is a table, or a list of tables, has the description of the table."""
    if "$ref" in entry:
        return {"$ref": entry["$ref"], "description": _table_of(entry, tables)["description"]}
    if "$ref" in entry.get("items", ()):
        return {**entry, "description": _table_of(entry["items"], tables)["description"]}
    return entry


def _table_of(entry: dict[str, Any], tables: dict[str, Any]) -> dict[str, Any]:
    """The table that an entry refers to."""
    table: dict[str, Any] = tables[entry["$ref"].rpartition("/")[2]]
    return table


def _summary(model: type[BaseModel]) -> str:
    return _plain(inspect.cleandoc(model.__doc__ or "").partition("\n\nAttributes:")[0])


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Key -> meaning, from the Attributes sections of its docstring and of those of the models that it extends."""
    texts = [inspect.cleandoc(vars(base).get("__doc__") or "") for base in reversed(model.__mro__)]
    return {key: _plain(text) for written in texts for key, text in _ENTRY.findall(written)}


def _plain(text: str) -> str:
    """Docstring markup as Markdown on one line, which editors show too."""
    return " ".join(_REFERENCE.sub(r"\1", text.replace("``", "\0")).replace("\0", "`").split())


def reference() -> str:
    """The reference of every key of a recipe, as Markdown."""
    schema = recipe_schema()
    lines = [_HEAD.format(pattern=_pattern_syntax()), *_section("Keys at the top", schema)]
    lines += [line for title, table in _tables_below("", schema, schema["$defs"]) for line in _section(title, table)]
    return "\n".join(lines)


def _tables_below(prefix: str, table: dict[str, Any], tables: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables in a table, in the order of the keys, each with the title of its section."""
    for key, entry in table["properties"].items():
        path = f"{prefix}{key}"
        found = [(f"`[{path}]`", entry)]
        found += [(f"`[[{path}]]`", entry["items"])] if "items" in entry else []
        found += [(f"An entry of `[{path}]`", arm) for arm in entry.get("additionalProperties", {}).get("anyOf", ())]
        for title, inner in found:
            if "$ref" in inner:
                yield title, _table_of(inner, tables)
                yield from _tables_below(f"{path}.", _table_of(inner, tables), tables)


_HEAD: Final = """\
# Every key of a recipe

Written by `python -m builder.sources.schema --markdown` from the models in `builder/sources/recipe.py`; do not edit it
by hand. `sa-med2d sources schema` prints the same as a JSON Schema, with which an editor completes and checks a recipe
while it is typed: see [the index](README.md).

What one key demands of another stands in words beside it; `sa-med2d sources check` names every fault of that kind too.

## Patterns

{pattern}
"""


def _pattern_syntax() -> str:
    text = inspect.cleandoc(Pattern.__doc__ or "").split("\nArgs:")[0]
    return "\n\n".join(_plain(paragraph) for paragraph in text.strip().split("\n\n"))


def _section(title: str, table: dict[str, Any]) -> list[str]:
    required, summary, rows = table.get("required", ()), table["description"].removeprefix(f"{title}: "), []
    for key, entry in table["properties"].items():
        cells = (f"`{key}`", _kind(entry), "required" if key in required else _default(entry), entry["description"])
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [
        f"## {title}",
        "",
        summary[0].upper() + summary[1:],
        "",
        "| key | value | default | meaning |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _default(entry: dict[str, Any]) -> str:
    value = entry.get("default")
    return f"`{json.dumps(value)}`" if value or value in (0, False) else ""


def _kind(entry: dict[str, Any]) -> str:
    """The allowed values in words; what stands beside a type only suggests some of them."""
    if "anyOf" in entry and "type" not in entry:
        return " or ".join(dict.fromkeys(_kind(arm) for arm in entry["anyOf"]))
    if "$ref" in entry:
        return "table, see below"
    if "const" in entry or "enum" in entry:
        return ", ".join(f"`{json.dumps(value)}`" for value in entry.get("enum", [entry.get("const")]))
    if entry["type"] in _INNER:
        inner = entry[_INNER[entry["type"]]]
        return f"{'list' if entry['type'] == 'array' else 'table'} of: {_kind(inner)}"
    return "pattern" if entry.get("pattern") == _PATTERN_TEXT else _SCALARS[entry["type"]] + _bounds(entry)


_INNER: Final = {"array": "items", "object": "additionalProperties"}
_SCALARS: Final = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true`, `false`"}
_BOUNDS: Final = {"exclusiveMinimum": "above", "minimum": "from", "maximum": "up to", "exclusiveMaximum": "below"}


def _bounds(entry: dict[str, Any]) -> str:
    return "".join(f" {word} {entry[bound]:g}" for bound, word in _BOUNDS.items() if bound in entry)


def main() -> None:
    """Write the schema, or the reference, to standard output."""
    parser = argparse.ArgumentParser(prog="python -m builder.sources.schema", description=main.__doc__)
    parser.add_argument("--markdown", action="store_true", help="write the reference instead")
    sys.stdout.write(reference() if parser.parse_args().markdown else schema_text())


def schema_text() -> str:
    """`recipe_schema` as the text of a file."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
