"""Servers that refuse, break off and talk too much: waits are shared and said, and no message holds a secret."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

import sa_med2d_20m
from sa_med2d_20m import DatasetError, load
from tests.support.hand_made import HandMade, cells, write_dataset
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
    threading.Thread(target=server.serve_forever, daemon=True).start()
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


def test_a_connection_that_is_cut_is_opened_again_at_once(web: Served) -> None:
    web.failing = {".tar": ["cut", ""] * 48}
    start = time.monotonic()
    assert len(list(load(web.url))) == 48
    assert web.failing[".tar"] == []
    assert time.monotonic() - start < 8  # 48 waits of half a second would be 24


def test_a_wait_is_shared(web: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks while another was told to wait waits too, and is not refused."""
    web.failing = {"README.md": [503]}
    monkeypatch.setattr(sa_med2d_20m, "_wait", lambda *_: 2.0)
    first = threading.Thread(target=load, args=(web.url,))
    start = time.monotonic()
    first.start()
    while web.failing["README.md"]:
        time.sleep(0.01)
    time.sleep(0.3)
    load(web.url)
    assert time.monotonic() - start >= 2
    first.join()


def test_waiting_is_said_once(web: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    web.failing = {".tar": [503, 503, 503, ""] * 4}
    with caplog.at_level(logging.WARNING, "sa_med2d_20m"):
        rows = load(web.url)
        monkeypatch.setattr(sa_med2d_20m, "_wait", lambda *_: 0.02)
        monkeypatch.setattr(sa_med2d_20m, "_QUIET", 0.1)
        assert len(list(rows)) == 48
    [record] = [record for record in caplog.records if record.name == "sa_med2d_20m"]
    assert "train-00000.tar: waited 0 s so far" in record.getMessage()
    assert "503" in record.getMessage()
