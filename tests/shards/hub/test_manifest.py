"""Manifests that somebody else may have written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sa_med2d_20m import DatasetError
from shards.description import SourceClass, SourceDescription
from shards.hub.manifest import Manifest, read_manifest
from shards.receipt import Receipt

CLASSES = (SourceClass("0001", "liver", "liver", "abdomen"),)
SOURCE = SourceDescription("Free", "A", "https://example.org", "CC-BY-4.0", None, "open", "Nobody", "ct", CLASSES)
STEM = "ct/cc-by-4.0/Free/train-00000"
MANIFEST = Manifest(SOURCE, (Receipt(STEM, "CC-BY-4.0", "ab" * 32, 10240, 1, 1, {"liver": 1}, ()),))


def test_it_is_read_as_it_was_written() -> None:
    assert read_manifest(MANIFEST.to_json(), "here") == MANIFEST


def changed(*path: str | int, to: Any) -> bytes:
    record = json.loads(MANIFEST.to_json())
    held = record
    for name in path[:-1]:
        held = held[name]
    held[path[-1]] = to
    return json.dumps(record).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[]", "expected 'source' and a list of 'shards'"),
        (changed("shards", to={}), "expected 'source' and a list of 'shards'"),
        (changed("shards", 0, to="train"), "shards[0]: expected a record"),
        (changed("shards", 0, "more", to=1), "shards[0]: expected a record"),
        (changed("shards", 0, "samples", to="1"), "shards[0]: samples is '1', expected int"),
        (changed("shards", 0, "labels", to={"liver": None}), "shards[0]: labels.liver is None, expected int"),
        (changed("shards", 0, "labels", to=["liver"]), "shards[0]: labels is ['liver'], expected a table"),
        (changed("shards", 0, "shard", to="../../etc"), "is no shard name"),
        (changed("shards", 0, "shard", to=STEM.replace("Free", "Other")), "is about Free and lists the shard"),
        (changed("source", to=None), "no description of a source"),
        (changed("source", "license", to=4), "license is 4, expected str"),
        (changed("source", "classes", to=[{"label": "liver"}]), "class_id is missing"),
    ],
)
def test_what_is_none_is_refused_in_words(data: bytes, said: str) -> None:
    with pytest.raises(DatasetError) as refused:
        read_manifest(data, "here")
    assert said in str(refused.value)
