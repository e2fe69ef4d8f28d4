"""The environment says where a store is and whom it lets in, and may say another thing at the next call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sa_med2d_20m
from sa_med2d_20m import DatasetError, load
from tests.support.hand_made import HandMade, cells, write_dataset

if TYPE_CHECKING:
    from tests.support.object_store import Store

pytest.importorskip("s3fs", reason="the extra 's3' is not installed")


@contextmanager
def store_of(folder: Path, *cases: str) -> Iterator[Store]:
    """A store in a bucket that each of them calls the same, with a dataset of these cases."""
    from tests.support.object_store import Store  # noqa: PLC0415

    samples = []
    for case in cases:
        made, _ = cells(2, case)
        samples.append(HandMade(made.image, made.mask, made.record))
    write_dataset(folder, samples)
    store = Store("objects-of-the-test")
    try:
        for path in folder.rglob("*.*"):
            store.put(path.relative_to(folder).as_posix(), path.read_bytes())
        yield store
    finally:
        store.stop()


def cases_in(url: str) -> list[str]:
    return [row["case"] for row in load(url)]


def test_two_stores_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second has the name of the first, another endpoint, and other shards."""
    for name, cases in (("first", ["a"]), ("second", ["b", "c"])):
        with store_of(tmp_path / name, *cases) as store:
            for variable, value in store.environment.items():
                monkeypatch.setenv(variable, value)
            assert cases_in(store.url) == cases
            assert cases_in(store.url) == cases


def test_credentials_that_are_set_after_a_first_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sa_med2d_20m, "_wait", lambda *_: 0.01)
    with store_of(tmp_path, "a") as store:
        for variable, value in store.environment.items():
            monkeypatch.setenv(variable, value)
        for missing in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(missing)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for elsewhere in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(elsewhere, str(tmp_path / "none"))
        with pytest.raises(DatasetError, match="cannot be read"):
            load(store.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hub")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hub")
        assert cases_in(store.url) == ["a"]
