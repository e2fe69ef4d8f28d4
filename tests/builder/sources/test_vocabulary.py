"""The vocabulary: names of classes, their organs and groups."""

from __future__ import annotations

import pytest

from builder.sources.vocabulary import GROUPS, ORGANS, Vocabulary, vocabulary


def test_vocabulary_keeps_to_organs_and_groups() -> None:
    words = vocabulary()
    for name, organ, group in (
        ("liver", "liver", "abdomen"),
        ("vertebrae_T9", "vertebrae", "thorax"),
        ("Kidney Left", "kidney", "abdomen"),
        ("liver-tumor", "liver", "lesion"),
        ("rib_left_9", "rib", "thorax"),
    ):
        term = words.find(name)
        assert term is not None, name
        assert (term.organ, term.group) == (organ, group)
    assert len(ORGANS) == 31
    assert len(GROUPS) == 6


def test_vocabulary_refuses_two_owners_of_a_name() -> None:
    text = '[liver]\ngroup = "abdomen"\nsynonyms = ["hepar"]\n[hepar]\ngroup = "abdomen"\n'
    with pytest.raises(ValueError, match="'hepar' belongs to liver and hepar"):
        Vocabulary(text)
