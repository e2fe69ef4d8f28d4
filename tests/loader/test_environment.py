"""The environment says where a store is and whom it lets in, and may say another thing at the next call."""

from __future__ import annotations

import socket
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sa_med2d_20m
from sa_med2d_20m import DatasetError, load
from tests.support.command import Command
from tests.support.hand_made import HandMade, cells, write_dataset

if TYPE_CHECKING:
    from tests.support.object_store import Store

pytest.importorskip("s3fs", reason="the extra 's3' is not installed")


@contextmanager
def store_of(folder: Path, *cases: str) -> Iterator[Store]:
    """A store in a bucket that each of them calls the same, with a dataset of these cases."""
    from tests.support.object_store import Store  # noqa: PLC0415

    store = Store("objects-of-the-test")
    try:
        put(store, folder, *cases)
        yield store
    finally:
        store.stop()


def put(store: Store, folder: Path, *cases: str) -> None:
    """Put a dataset of these cases into a store."""
    samples = []
    for case in cases:
        made, _ = cells(2, case)
        samples.append(HandMade(made.image, made.mask, made.record))
    write_dataset(folder, samples)
    for path in folder.rglob("*.*"):
        store.put(path.relative_to(folder).as_posix(), path.read_bytes())


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


def test_credentials_that_are_set_after_a_first_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sa_med2d: Command
) -> None:
    """What is missing is said at once, by all that read: it is no fault that passes."""
    monkeypatch.setattr(sa_med2d_20m, "_wait", lambda *_: pytest.fail("it waits"))
    with store_of(tmp_path, "a") as store:
        for variable, value in store.environment.items():
            monkeypatch.setenv(variable, value)
        for missing in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(missing)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for elsewhere in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(elsewhere, str(tmp_path / "none"))
        how = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a bucket that is public, FSSPEC"
        with pytest.raises(DatasetError, match=f"Unable to locate credentials; {how}"):
            load(store.url)
        export = ("export", store.url, "--to", tmp_path / "to", "--layout", "files")
        for command in (("verify", store.url), ("stats", store.url), export):
            ran = sa_med2d(*command)
            assert (ran.code, f"Unable to locate credentials; {how}" in ran.err) == (1, True), ran.err
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hub")
        with pytest.raises(DatasetError, match=f"missing: AWS_SECRET_ACCESS_KEY; {how}"):
            load(store.url)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hub")
        assert cases_in(store.url) == ["a"]


def test_a_request_that_the_store_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking again does not help, unlike where it is busy."""
    waits: list[int] = []

    def wait(_: Exception, attempt: int) -> float:
        waits.append(attempt)
        return 0.0

    monkeypatch.setattr(sa_med2d_20m, "_wait", wait)
    with store_of(tmp_path, "a") as store:
        for variable, value in store.environment.items():
            monkeypatch.setenv(variable, value)
        store.faults.add("GET .*README", times=3, status=503)
        assert (cases_in(store.url), waits) == (["a"], [1, 2, 3])
        store.faults.add("GET .*README", times=99, status=400)
        since = len(store.requests())
        with pytest.raises(DatasetError, match=r"README.md cannot be read: OSError"):
            load(store.url)
        assert [one.status for one in store.requests(since) if one.method == "GET"] == [400]


def test_options_within_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the client of S3 takes its endpoint."""
    with store_of(tmp_path, "a") as store:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        client = {"endpoint_url": store.environment["AWS_ENDPOINT_URL"], "region_name": "us-east-1"}
        options = {"client_kwargs": client, "key": "hub", "secret": "hub"}
        assert [row["case"] for row in load(store.url, labels=["cell"], storage_options=options)] == ["a"]


@pytest.mark.parametrize("address", ["ftp://127.0.0.1:{port}/out", "zip://out::{folder}/none.zip", "zip://::{zipped}"])
def test_an_address_that_opens_no_file_system(tmp_path: Path, address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as file:
        file.writestr("README.md", "")
    with pytest.raises(DatasetError, match=address.split(":", maxsplit=1)[0]):
        load(address.format(port=port, folder=tmp_path, zipped=tmp_path / "some.zip"))


def test_an_address_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own waits do not come on top of ours, and ours end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
    options = {"endpoint_url": endpoint, "key": "x", "secret": "y", "client_kwargs": {"region_name": "us-east-1"}}
    monkeypatch.setattr(sa_med2d_20m, "_wait", lambda *_: 0.01)
    started = time.monotonic()
    with pytest.raises(DatasetError, match=f"after 8 attempts: .*{endpoint}/nowhere/out"):
        load("s3://nowhere/out", storage_options=options)
    assert time.monotonic() - started < 5  # 8 times 5 attempts of the client take a minute
    monkeypatch.setattr(sa_med2d_20m, "_wait", lambda *_: pytest.fail("it waits"))
    with pytest.raises(DatasetError, match=r"README.md cannot be read: ParamValidationError: .*Invalid bucket name"):
        load("s3://no?where/out", storage_options=options)
    monkeypatch.setattr(sa_med2d_20m, "_wait", lambda *_: 0.01)
    monkeypatch.setattr(sa_med2d_20m, "_PATIENCE_WITH_STRANGERS", 0)
    with pytest.raises(DatasetError, match=f"README.md cannot be read: .*{endpoint}/nowhere/out"):
        load("s3://nowhere/out", storage_options=options)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_store_that_is_written_to_between_two_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    """In one process, which has seen the listing, the index and the rows of the first."""
    with store_of(tmp_path / "first", "a") as store:
        for variable, value in store.environment.items():
            monkeypatch.setenv(variable, value)

        def cases() -> list[str]:
            return [row["case"] for row in load(store.url, labels=["cell"], streaming=streaming)]

        assert cases() == ["a"]
        put(store, tmp_path / "second", "b", "c")
        assert cases() == ["b", "c"]
