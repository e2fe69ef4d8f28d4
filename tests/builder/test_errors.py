"""All errors of the builder are of one family, so that a caller catches one class."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType

import pytest

import builder
from builder.errors import CaseError, RecipeError
from sa_med2d_20m import SAMed2DError


def modules() -> Iterator[ModuleType]:
    """All modules of the builder whose extras are installed."""
    for found in walk_packages(builder.__path__, "builder."):
        if found.name != "builder.__main__":
            try:
                yield import_module(found.name)
            except ModuleNotFoundError as error:
                if (error.name or "").startswith(("builder", "shards", "sa_med2d")):
                    raise


def test_every_error_class_is_of_the_family() -> None:
    found = {
        thing
        for module in modules()
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, Exception) and thing.__module__.startswith("builder.")
    }
    assert {error.__name__ for error in found if not issubclass(error, SAMed2DError)} == set()
    assert {CaseError, RecipeError} <= found


@pytest.mark.parametrize("error", [CaseError("grid", "a.nii.gz", "no"), RecipeError(["a", "b"])])
def test_errors_come_out_of_a_worker_process_as_they_were(error: SAMed2DError) -> None:
    arrived = copy.copy(error)  # by the protocol of pickle
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
