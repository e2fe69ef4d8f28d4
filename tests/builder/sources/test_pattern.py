"""Patterns of paths, against regular expressions written out."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

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
    assert (found is None) == (not every)
    assert found is None or found in every
