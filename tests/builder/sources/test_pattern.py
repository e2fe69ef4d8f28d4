"""Patterns of paths, against regular expressions written out."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import RecipeError
from builder.sources.pattern import Pattern

FIELDS = st.lists(st.sampled_from(["{case}", "{label}", "{*}", "_", "a", "-", "/", "."]), min_size=1, max_size=7)


@given(FIELDS.map("".join), st.text("ab_-./", min_size=1, max_size=14))
def test_pattern_agrees_with_a_plain_regular_expression(text: str, path: str) -> None:
    try:
        pattern = Pattern(text)
    except ValueError:
        return
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match[1]
        if name == "\\*":
            return "[^/]*"
        again = f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
        seen.add(name)
        return again

    regex = re.sub(r"\\\{(case|label|\\\*)\\\}", group, re.escape(text))
    expected = re.fullmatch(regex, path)
    found = pattern.match(path)
    assert found == (expected.groupdict() if expected else None)
    every = list(pattern.matches(path))
    assert every[:1] == ([] if found is None else [found])


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{case}_{*}_{*}_{*}_{*}_{*}_{*}_{label}.png", "_" * 200 + ".jpg"),
        ("{case}_{*}_{*}_{*}_{*}_{*}_{*}_{label}.png", "_" * 200 + "!.png"),
        ("{case}{*}" + "a{*}" * 25 + "b", "a" * 200 + "/b"),
        ("{case}{*}{*}{*}{*}{*}{*}{label}.png", "a" * 200 + ".png"),
        ("{case}{label}{split}{submodality}{case}.png", "a" * 99 + "b" + "c" * 100 + ".png"),
        ("{case}_{label}_{split}_{submodality}_{patient}.png", "_" * 200 + "x.png"),
        ("{*}_{*}/" * 8 + "{case}.png", "_____________________/" * 9 + ".png"),
    ],
)
def test_no_pattern_takes_long_over_one_path(text: str, path: str) -> None:
    pattern = Pattern(text)
    began = time.process_time()
    with suppress(RecipeError):
        pattern.match(path)
    with suppress(RecipeError):
        list(pattern.matches(path))
    assert time.process_time() - began < 3


def test_a_path_that_matches_in_too_many_ways_is_told() -> None:
    pattern = Pattern("{case}_{label}_{split}_{submodality}_{patient}.png")
    with pytest.raises(RecipeError, match=r"in too many ways; put more text between its captures"):
        list(pattern.matches("_" * 200 + ".png"))


def test_a_pattern_of_a_thousand_captures_is_refused() -> None:
    with pytest.raises(ValueError, match="has 1001 captures, expected at most 32"):
        Pattern("{case}" + "{*}" * 1000)
