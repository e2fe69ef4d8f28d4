"""The names of gates and of what they do, as types and as keys of a recipe."""

from __future__ import annotations

from typing import get_args

from builder.sources.recipe import GateAction, GateName, Gates


def test_each_gate_has_a_key_and_each_key_is_a_gate() -> None:
    assert set(get_args(GateName)) == set(Gates.model_fields)


def test_no_key_takes_an_action_that_is_none() -> None:
    taken = {action for field in Gates.model_fields.values() for action in get_args(field.annotation)}
    assert taken == set(get_args(GateAction))
