"""A host of files as they are on the net: ranges or none, redirects, cut connections, refusals, pages in place of files."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Hosted:
    """What a path answers.

    Attributes:
        content: The file.
        ranges: Whether parts of it can be had.
        etag: What it is called, or nothing.
        headers: Further headers.
        length: Whether its length is said; only without ranges.
        pause: Seconds before each mebibyte of an answer.
        faults: What the next requests meet: a status, headers with it, or ``cut``: half of the answer.
        redirect: Where it is instead.
    """

    content: bytes = b""
    ranges: bool = True
    etag: str = '"1"'
    headers: dict[str, str] = field(default_factory=dict)
    length: bool = True
    pause: float = 0.0
    faults: list[int | str | tuple[int, dict[str, str]]] = field(default_factory=list)
    redirect: str | None = None


@dataclass
class FileHost:
    """A running host.

    Attributes:
        url: Of its root.
        files: Path, with its query where it has one, -> what it answers.
        sent: Path -> bytes that were sent of it.
        asked: Path -> number of requests.
        most: Most requests that were under way at once.
    """

    url: str = ""
    files: dict[str, Hosted] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    most: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, path: str, content: bytes, **options: Any) -> str:
        """Host a file; returns its address."""
        self.files[path] = Hosted(content, **options)
        return f"{self.url}{path}"


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that leaves is nothing to tell."""


@contextmanager
def file_host() -> Iterator[FileHost]:
    """A host on a free port of this machine."""
    host = FileHost()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

        def do_GET(self) -> None:
            with host.lock:
                host.now += 1
                host.most = max(host.most, host.now)
                host.asked[self.path] = host.asked.get(self.path, 0) + 1
            try:
                self.serve()
            except OSError:  # the client is gone
                self.close_connection = True
            finally:
                with host.lock:
                    host.now -= 1

        def serve(self) -> None:
            file = host.files.get(self.path) or host.files.get(urlsplit(self.path).path)
            if file is None:
                return self.answer(404, b"not here", {})
            fault = file.faults.pop(0) if file.faults else None
            if isinstance(fault, int):
                fault = (fault, {"Retry-After": "0"})
            if isinstance(fault, tuple):
                return self.answer(fault[0], b"", fault[1])
            if file.redirect:
                return self.answer(302, b"", {"Location": file.redirect})
            content, headers = file.content, dict(file.headers)
            if file.etag:
                headers["ETag"] = file.etag
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if asked and file.ranges:
                start, stop = int(asked[1]), min(int(asked[2]) + 1, len(content))
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
                status = 206 if start < len(content) else 416
                return self.answer(status, content[start:stop], headers, file, cut=fault == "cut")
            return self.answer(200, content, headers, file, cut=fault == "cut")

        def answer(
            self, status: int, content: bytes, headers: dict[str, str], file: Hosted | None = None, cut: bool = False
        ) -> None:
            self.send_response(status)
            if file is None or file.length:
                self.send_header("Content-Length", str(len(content)))
            else:
                self.send_header("Connection", "close")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            content = content[: len(content) // 2] if cut else content
            for at in range(0, len(content), 1 << 20):
                piece = content[at : at + (1 << 20)]
                if file is not None and file.pause:
                    time.sleep(file.pause)
                self.wfile.write(piece)
                with host.lock:
                    host.sent[self.path] = host.sent.get(self.path, 0) + len(piece)
            self.close_connection = self.close_connection or cut or (file is not None and not file.length)

    server = _Quiet(("127.0.0.1", 0), Handler)
    host.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
