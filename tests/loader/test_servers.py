"""Servers that refuse, break off and talk too much: waits are shared and said, and no message holds a secret."""

from __future__ import annotations

import json
import logging
import random
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import datasets.distributed
import fsspec
import pytest

import sa_med2d_20m
from sa_med2d_20m import DatasetError, load
from tests.hub.server import HubServer
from tests.support.hand_made import SHARD, HandMade, cells, write_dataset
from tests.support.range_server import Served, serve

SECRETS = {
    "Authorization": "Bearer abc.DEF-123_very+secret==",
    "X-Api-Key": "0123456789-another-secret",
    "Cookie": "session=a-third-secret",
}
TOKEN = "hf_" + "oFtheHub" * 4


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No index and no server is known from another test, and no token is in the environment."""
    sa_med2d_20m._chosen.cache_clear()
    sa_med2d_20m._patience.cache_clear()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield
    fsspec.asyn.reset_lock()


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that repeats each header and the address that it was asked for, in its reason and in its answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = " ".join(f"{name}={value}" for name, value in self.headers.items()) + f" {self.path} {TOKEN}"
            self.send_response(403, f"No: {said} \x1b[31m")
            self.send_header("Content-Length", str(len(said.encode())))
            self.end_headers()
            self.wfile.write(said.encode())

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("address", ["http://{}/folder", "http://someone:pass-word-1@{}/f?X-Amz-Signature=5ecre7", "nowhere://someone:pass-word-1@{}/f"])  # fmt: skip
def test_no_message_holds_a_secret(echo: str, address: str) -> None:
    options = {"headers": SECRETS} if address.startswith("http:") else {}
    with pytest.raises(DatasetError) as raised:
        load(address.format(echo), "ct", storage_options=options)
    told = "".join(traceback.format_exception(raised.value))
    for secret in [*SECRETS.values(), "abc.DEF", "another-secret", "a-third-secret", TOKEN, "pass-word-1", "5ecre7"]:
        assert secret not in told
    assert "\x1b" not in told
    assert len(str(raised.value)) < 1000


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Served]:
    base, _ = cells(1)
    samples = [HandMade(base.image, base.mask, base.record | {"key": f"{base.record['key']}{at}"}) for at in range(48)]
    write_dataset(tmp_path, samples)
    with serve(tmp_path) as served:
        yield served


def test_a_connection_that_is_cut_is_opened_again_at_once(web: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sa_med2d_20m, "_AHEAD", 0)  # a request for each of 48 pieces
    web.failing = {".tar": ["cut", ""] * 48}
    start = time.monotonic()
    assert len(list(load(web.url))) == 48
    assert web.failing[".tar"] == []
    assert time.monotonic() - start < 16  # 48 waits of half a second would be 24


def test_a_wait_is_shared(web: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks while another was told to wait waits too, and is not refused."""
    web.failing = {"README.md": [503]}
    monkeypatch.setattr(sa_med2d_20m, "_wait", lambda *_: 1.0)
    first = threading.Thread(target=load, args=(web.url,))
    start = time.monotonic()
    first.start()
    while web.failing["README.md"]:
        time.sleep(0.01)
    time.sleep(0.3)
    load(web.url)
    assert time.monotonic() - start >= 1
    first.join()


def test_waiting_is_said_once(web: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sa_med2d_20m, "_AHEAD", 0)
    web.failing = {".tar": [503, 503, 503, ""] * 4}
    with caplog.at_level(logging.WARNING, "sa_med2d_20m"):
        rows = load(web.url)
        monkeypatch.setattr(sa_med2d_20m, "_wait", lambda *_: 0.02)
        monkeypatch.setattr(sa_med2d_20m, "_QUIET", 0.1)
        assert len(list(rows)) == 48
    [record] = [record for record in caplog.records if record.name == "sa_med2d_20m"]
    assert "train-00000.tar: waited 0 s so far" in record.getMessage()
    assert "503" in record.getMessage()


def test_pieces_of_a_small_shard_are_read_together(web: Served) -> None:
    keys = [row["key"] for row in load(web.url)]
    assert len(set(keys)) == 48
    sent = [size for path, size in web.sent if path.endswith(".tar")]
    assert len(sent) < 10  # of 48 pieces
    assert max(sent) <= 2**20


def test_nodes_do_not_read_what_others_read(web: Served, tmp_path: Path) -> None:
    """Of two nodes each takes every other piece."""
    rows = load(web.url)
    nodes = [list(datasets.distributed.split_dataset_by_node(rows, node, 2)) for node in range(2)]
    assert sorted(row["key"] for node in nodes for row in node) == sorted(row["key"] for row in rows)
    assert web.bytes_of(".tar") <= 2 * (tmp_path / SHARD).stat().st_size  # both together, and all rows once more


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, dict[str, str], list[str]]]:
    """A Hub with a repository ann/scans of 48 samples, the environment of its clients, and the keys of its rows."""
    base, _ = cells(1)
    folder = tmp_path_factory.mktemp("scans")
    samples = [HandMade(base.image, base.mask, base.record | {"key": f"{base.record['key']}{at}"}) for at in range(48)]
    write_dataset(folder / "out", samples)
    with HubServer(folder / "hub") as hub:
        hub.add_user("ann", "hf_ann")
        environment = hub.environment(home=folder / "home", token="hf_ann")  # noqa: S106 - of a Hub that is gone soon
        subprocess.run([sys.executable, "-c", UPLOAD, folder / "out"], env=environment, check=True)
        yield hub, environment, [sample.record["key"] for sample in samples]


UPLOAD = """
import sys
from huggingface_hub import HfApi
HfApi().create_repo("ann/scans", repo_type="dataset")
HfApi().upload_folder(repo_id="ann/scans", repo_type="dataset", folder_path=sys.argv[1])
"""


READ = """
import json, sys
import sa_med2d_20m
for setting in sys.argv[1:]:
    name, value = setting.split("=")
    assert hasattr(sa_med2d_20m, name)
    setattr(sa_med2d_20m, name, float(value))
try:
    print(json.dumps([row["key"] for row in sa_med2d_20m.load("ann/scans")]))
except sa_med2d_20m.DatasetError as error:
    print(json.dumps(str(error)))
"""


def read(environment: dict[str, str], **settings: float) -> tuple[Any, str, float]:
    """What a new process reads with some constants of the loader, what it says beside it, and its seconds."""
    start = time.monotonic()
    command = [sys.executable, "-c", READ, *(f"{name}={value}" for name, value in settings.items())]
    ran = subprocess.run(command, env=environment | {"PYTHONPATH": str(Path.cwd())}, capture_output=True, check=True)
    return json.loads(ran.stdout), ran.stderr.decode(), time.monotonic() - start


def test_the_hub_refuses_a_third_of_all_reads(scans: tuple[HubServer, dict[str, str], list[str]]) -> None:
    """All rows arrive, and waits are ours alone: those of the Hub's client start at a second and say each of them."""
    hub, environment, keys = scans
    hub.faults.clear()
    draw = random.Random(1)
    of_files = re.compile(r"^GET (?!/api/)")
    for fault in ({"status": 503}, {"status": 429, "retry_after": 0}, {"cut_after": 10}):
        hub.faults.add(
            lambda method, path: bool(of_files.search(f"{method} {path}")) and draw.random() < 1 / 9,
            times=10**6,
            **fault,  # type: ignore[arg-type]
        )
    before = len(hub.requests)
    found, said, seconds = read(environment, _AHEAD=2**18, _FIRST_WAIT=0.02)
    refused = [request.status for request in hub.requests[before:] if request.status in (429, 503)]
    assert found == keys
    assert len(refused) > 5
    assert "huggingface_hub" not in said
    assert seconds < 60  # each of their waits is a second or more


@pytest.mark.parametrize("asked", ["retry_after", "next_window"])
def test_what_the_hub_asks_to_wait_is_waited_once(
    scans: tuple[HubServer, dict[str, str], list[str]], asked: str
) -> None:
    hub, environment, keys = scans
    hub.faults.clear()
    before = len(hub.requests)
    hub.faults.add(r"GET .*\.tar$", status=429, **{asked: 2})  # type: ignore[arg-type]
    found, said, seconds = read(environment, _QUIET=1)
    assert found == keys
    assert [request.status for request in hub.requests[before:]].count(429) == 1
    assert seconds > 2
    assert said.count("waits 2 s more") == 1


def test_a_hub_that_asks_for_more_than_patience_is_given_up_at_once(
    scans: tuple[HubServer, dict[str, str], list[str]],
) -> None:
    hub, environment, _ = scans
    hub.faults.clear()
    hub.faults.add(r"GET .*\.tar$", times=10**6, status=429, retry_after=3600)
    found, _, seconds = read(environment)
    assert "train-00000.tar cannot be read" in found
    assert "the server asks for 3600 s more: try again then" in found
    assert seconds < 60  # of the hour it asks for
    hub.faults.clear()
