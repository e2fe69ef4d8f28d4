"""No message of a command holds a token or a password, whatever a server says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Command
from tests.support.sources import write_source

SECRETS = {
    "HF_TOKEN": "hf_" + "oFtheHub" * 4,
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCY",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEBYaD",
}
TYPED = ("pass-word-1", "5ecre7")
OTHERS = "hf_" + "somebodyElses" * 3


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that repeats in its answers every header, the address it was asked for, and secrets that it knows."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = " ".join([*SECRETS.values(), OTHERS, "https://o:pass-word-1@x/f?X-Amz-Signature=5ecre7&a=b"])
            said = " ".join(f"{name}={value}" for name, value in self.headers.items()) + f" {self.path} {known}"
            self.send_response(400, f"No: {said}")
            self.send_header("X-Error-Message", f"you said {said}")
            self.send_header("Content-Length", str(len(said.encode())))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said.encode())

        do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - names of the standard library

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    recipe = write_source(folder / "raw", cases=1)
    command = ["build", recipe, "--raw", folder / "raw", "--out", folder / "out", "--workers", 1]
    subprocess.run([sys.executable, "-m", "builder", *map(str, command)], check=True, capture_output=True)
    return folder / "out"


COMMANDS = {
    "publish": ["publish", "{out}", "ann/scans"],
    "status": ["status", "ann/scans"],
    "status, JSON": ["status", "ann/scans", "{out}", "--json"],
    "withdraw": ["withdraw", "Small", "ann/scans"],
    "a dataset of the Hub": ["verify", "hf://datasets/ann/scans"],
    "an object store": ["verify", "s3://bucket/folder"],
    "an address with a password": ["verify", "http://someone:pass-word-1@{echo}/f?X-Amz-Signature=5ecre7"],
    "a place that nobody knows": ["verify", "nowhere://someone:pass-word-1@{echo}/f?X-Amz-Signature=5ecre7"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_message_holds_a_secret(echo: str, out: Path, tmp_path: Path, name: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "builder", *(word.format(out=out, echo=echo) for word in COMMANDS[name])],
        env={
            **{key: value for key, value in os.environ.items() if not re.match("(?i)hf_|aws_|.*_proxy$", key)},
            **SECRETS,
            "HF_ENDPOINT": f"http://{echo}",
            "HF_HOME": str(tmp_path / "home"),
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7",
            "AWS_ENDPOINT_URL": f"http://{echo}",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode in (1, 2), ran
    assert "error:" in ran.stderr
    assert "Traceback" not in ran.stderr
    for secret in (*SECRETS.values(), *TYPED, OTHERS):
        assert secret not in ran.stdout + ran.stderr


def test_a_recipe_error_is_told_as_it_is(sa_med2d: Command, tmp_path: Path) -> None:
    """What looks like no secret stays: paths, names of files, keys of recipes."""
    ran = sa_med2d("build", tmp_path / "keys/tokens.toml", "--raw", tmp_path, "--out", tmp_path / "out")
    assert ran.code == 1
    assert "keys/tokens.toml" in ran.err
