"""What all tables of a recipe have in common."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A table of a recipe: frozen, without keys it does not know, and with no value turned into another type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, strict=True, allow_inf_nan=False
    )


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that the annotation of a key names, at any depth of its lists, tables and unions."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from models_in(argument)
