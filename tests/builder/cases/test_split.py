"""The split of a patient whom no official split names."""

from __future__ import annotations

import pytest

from builder.cases.split import hashed_split


def test_hashed_split_is_about_80_10_10() -> None:
    drawn = [hashed_split("Files", f"patient{number}") for number in range(4000)]
    shares = [drawn.count(split) / 4000 for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
