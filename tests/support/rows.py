"""Rows of the loader beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def assert_alike(cached: Any, expected: Any) -> None:
    """Equal with their types, whatever they consist of; None and NaN equal themselves."""
    assert type(cached) is type(expected) or isinstance(cached, int | float)
    if isinstance(expected, Mapping):
        assert list(cached) == list(expected)
        for name, value in expected.items():
            assert_alike(cached[name], value)
    elif isinstance(expected, np.ndarray):
        assert cached.dtype == expected.dtype
        np.testing.assert_array_equal(cached, expected)
        assert cached.flags.writeable
    elif isinstance(expected, list | tuple):
        assert len(cached) == len(expected)
        for pair in zip(cached, expected, strict=True):
            assert_alike(*pair)
    else:
        np.testing.assert_equal(cached, expected)
