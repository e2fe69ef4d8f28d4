"""Between the sockets and what answers: every request is logged, and meets the fault that waits for it.

Two kinds of server need the same: the Hub is an ASGI application, the object store a WSGI application.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from werkzeug.test import run_wsgi_app
from werkzeug.wsgi import get_input_stream

from tests.hub.faults import Fault, Faults

CHUNK = 1 << 16
LOST = 0

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
WsgiAnswer = tuple[str, list[tuple[str, str]], bytes]


@dataclass
class LoggedRequest:
    """A request and how it was answered.

    Args:
        method: HTTP method.
        path: Percent-encoded as on the wire, without the query.
        status: What was answered, 0 if the answer was lost on purpose.
        sent: Bytes of the body given to the socket; never less than what the client has got.
        range: The Range header.
    """

    method: str
    path: str
    status: int
    sent: int
    range: str | None


class RequestLog:
    """All requests in the order of their answers."""

    def __init__(self) -> None:
        self._requests: list[LoggedRequest] = []
        self._lock = threading.Lock()

    def add(self, method: str, path: str, status: int, byte_range: str | None) -> LoggedRequest:
        """Log a request whose answer begins; the caller counts the bytes before each is sent."""
        request = LoggedRequest(method, path, status, 0, byte_range)
        with self._lock:
            self._requests.append(request)
        return request

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._requests.clear()

    def snapshot(self) -> list[LoggedRequest]:
        """The requests so far."""
        with self._lock:
            return list(self._requests)


def _chunks(body: bytes, cut_after: int | None) -> Iterator[bytes]:
    body = body[:cut_after]
    return (body[start : start + CHUNK] for start in range(0, len(body), CHUNK))


class OpenProtocol(H11Protocol):
    """HTTP/1.1 that hands the application its connection, so that a fault can close it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        application = self.app
        self.app = lambda scope, receive, send: application({**scope, "transport": transport}, receive, send)


class HubApplication:
    """ASGI around a plain function from request and body to response.

    Args:
        answer: Runs in a worker thread.
        faults: What goes wrong.
        log: Where requests are written down.
    """

    def __init__(self, answer: Callable[[Request, bytes], Response], faults: Faults, log: RequestLog) -> None:
        self._answer = answer
        self._faults = faults
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        method, path = request.method, scope["raw_path"].decode("ascii")
        byte_range = request.headers.get("range")
        fault = self._faults.take(method, path)
        await asyncio.sleep(fault.delay)
        if fault.status is None:
            response = await run_in_threadpool(self._answer, request, body)
        else:
            response = Response(status_code=fault.status, headers=fault.headers)
        if fault.lose_answer:
            self._log.add(method, path, LOST, byte_range)
            await _close(scope, receive)
            return
        logged = self._log.add(method, path, response.status_code, byte_range)
        await _send(response, logged, fault, scope, receive, send)


async def _send(
    response: Response, logged: LoggedRequest, fault: Fault, scope: Scope, receive: Receive, send: Send
) -> None:
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    for chunk in _chunks(bytes(response.body), fault.cut_after):
        if scope["transport"].is_closing():
            break
        logged.sent += len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    if fault.cut_after is not None or scope["transport"].is_closing():
        await _close(scope, receive)
    else:
        await send({"type": "http.response.body"})


async def _close(scope: Scope, receive: Receive) -> None:
    """Close the connection and wait until the server has noticed, or it would answer with an error of its own."""
    scope["transport"].close()
    while (await receive())["type"] != "http.disconnect":
        pass


class ObjectsApplication:
    """WSGI around another WSGI application, for the requests of clients.

    Args:
        application: The object store.
        own_agent: How the User-Agent of the Hub's own requests begins, which are neither logged nor spoilt.
        faults: What goes wrong.
        log: Where requests are written down.
    """

    def __init__(self, application: WsgiApplication, own_agent: str, faults: Faults, log: RequestLog) -> None:
        self._application = application
        self._own_agent = own_agent
        self._faults = faults
        self._log = log

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_USER_AGENT", "").startswith(self._own_agent):
            return self._application(environ, start_response)
        return self._answer(environ, start_response)

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        method, path, byte_range = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_RANGE")
        fault = self._faults.take(method, path)
        time.sleep(fault.delay)
        status, headers, body = (
            _refused(environ, fault.status, fault.headers) if fault.status else self._asked_for(environ)
        )
        if fault.lose_answer:
            self._log.add(method, path, LOST, byte_range)
            _break_off(environ)
        logged = self._log.add(method, path, int(status.split()[0]), byte_range)
        start_response(status, headers)
        yield b""  # the headers go out even if the cut is before the first byte
        for chunk in _chunks(body, fault.cut_after):
            logged.sent += len(chunk)
            yield chunk
        if fault.cut_after is not None:
            _break_off(environ)

    def _asked_for(self, environ: dict[str, Any]) -> WsgiAnswer:
        blocks, status, headers = run_wsgi_app(self._application, environ, buffered=True)
        return status, list(headers), b"".join(blocks)


def _refused(environ: dict[str, Any], status: int, headers: dict[str, str]) -> WsgiAnswer:
    get_input_stream(environ).read()  # closing with input unread would reset the connection before the answer is seen
    return f"{status} {HTTPStatus(status).phrase}", [*headers.items(), ("Content-Length", "0")], b""


def _break_off(environ: dict[str, Any]) -> NoReturn:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError
