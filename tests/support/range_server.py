"""Files over HTTP with ranges, listings, a log and faults on demand, to read from as from a real server."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Served:
    """A running server.

    Attributes:
        url: Of its root.
        sent: Path and number of bytes of each answer with content.
        failing: What the next requests for files that end so meet: a status, or ``cut`` after half of the content.
    """

    url: str = ""
    sent: list[tuple[str, int]] = field(default_factory=list)
    failing: dict[str, list[int | str]] = field(default_factory=dict)

    def bytes_of(self, ending: str) -> int:
        """Bytes of all files with an ending that were sent."""
        return sum(count for path, count in self.sent if path.endswith(ending))

    def fault_for(self, path: str) -> int | str | None:
        """The fault that a request meets."""
        return next(
            (faults.pop(0) for ending, faults in self.failing.items() if path.endswith(ending) and faults), None
        )


@contextmanager
def serve(folder: Path) -> Iterator[Served]:
    """Serve a folder on a free port of this machine."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, body: bool = True) -> None:
            path = folder / self.path.strip("/")
            if path.is_dir():
                links = "".join(
                    f'<a href="{html.escape(name.name)}{"/" * name.is_dir()}">x</a>' for name in path.iterdir()
                )
                return self.answer(200, links.encode(), {"Content-Type": "text/html"}, body)
            if not path.is_file():
                return self.answer(404, b"", {}, body)
            fault = served.fault_for(self.path) if body else None
            if isinstance(fault, int):
                return self.answer(fault, b"", {"Retry-After": "0"}, body)
            content = path.read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            start, stop = (int(asked[1]), int(asked[2] or len(content) - 1) + 1) if asked else (0, len(content))
            part = content[start:stop]
            head = {"Accept-Ranges": "bytes", "Content-Length": str(len(part))}
            if asked:
                head["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
            return self.answer(206 if asked else 200, part, head, body, cut=fault == "cut")

        def answer(self, status: int, content: bytes, head: dict[str, str], body: bool, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **head}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                sent = content[: len(content) // 2] if cut else content
                self.wfile.write(sent)
                served.sent.append((self.path, len(sent)))
            self.close_connection = self.close_connection or cut

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
