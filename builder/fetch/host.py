"""Asking a host: what fails for the moment is asked again, every other answer is told in words."""

from __future__ import annotations

import email.utils
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3

from builder.fetch.fault import FetchError, RefusedError
from sa_med2d_20m import SAMed2DError, redacted

TRIES: Final = 5
"""How many times in a row a request may bring nothing before it is given up."""
FIRST_WAIT: Final = 0.5
"""Seconds before the second try; each further wait is twice as long."""
LONGEST_WAIT: Final = 300.0
"""Seconds that a host may ask to wait for; who asks for more is told to the reader."""
_TIMEOUT: Final = (15.0, 60.0)
"""Seconds to connect, and of silence."""
_BUSY: Final = (408, 429, 500, 502, 503, 504)

BROKEN: Final = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_CUT: Final = (urllib3.exceptions.HTTPError, OSError)


class Broken(SAMed2DError):  # noqa: N818 - it never reaches a reader
    """An answer that ended before it was whole, or did not come."""


class Host:
    """Requests of one fetch, from any of its threads.

    Args:
        home: Where a person finds the source, for messages.
    """

    def __init__(self, home: str = "") -> None:
        self._home = home
        self._local = threading.local()
        self.stopped = threading.Event()
        """Set when the fetch is given up, so that its threads end."""

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            # bytes as they are stored: a checksum is one of the file, not of what a client makes of it
            self._local.session.headers["Accept-Encoding"] = "identity"
            self._local.session.headers["User-Agent"] = "sa-med2d"
        session: requests.Session = self._local.session
        return session

    @contextmanager
    def ask(
        self, url: str, headers: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """An answer whose body is still to come, of status 200, 206 or 416.

        Raises:
            FetchError: The host refuses, or brings nothing after `TRIES`.
        """
        response = self._patiently(url, headers, params)
        try:
            yield response
        finally:
            response.close()

    def json(self, url: str, params: Mapping[str, str] | None = None) -> Any:
        """The document at an address.

        Raises:
            FetchError: It cannot be had, or is no JSON.
        """
        for wait in self.waits(url):
            try:
                with self.ask(url, params=params) as response:
                    content = b"".join(body(response))
                    return json.loads(content)
            except ValueError:
                raise FetchError(f"{url}: expected a JSON document, got something else; try again later") from None
            except Broken as error:
                wait(str(error))
        raise AssertionError

    def _patiently(
        self, url: str, headers: Mapping[str, str] | None, params: Mapping[str, str] | None
    ) -> requests.Response:
        for wait in self.waits(url):
            try:
                response = self._session().get(url, headers=headers, params=params, stream=True, timeout=_TIMEOUT)
            except BROKEN as error:
                wait(_reason(error))
                continue
            except requests.RequestException as error:
                raise FetchError(f"{url}: cannot be asked: {redacted(_reason(error))}") from None
            if response.status_code in (200, 206, 416):
                return response
            response.close()
            if response.status_code not in _BUSY:
                raise self._refusal(url, response.status_code)
            wait(f"the host answers {response.status_code}", _asked_to_wait(response.headers.get("Retry-After")))
        raise AssertionError

    def waits(self, url: str) -> Iterator[Callable[..., None]]:
        """Tries, each with a function that is called when it failed: it waits, and at last raises.

        Raises:
            FetchError: From the function, when it is called too often, or asked to wait for too long.
            KeyboardInterrupt: From the function, when the fetch was given up.
        """
        for number in range(TRIES):

            def wait(reason: str, seconds: float | None = None, number: int = number) -> None:
                if number == TRIES - 1:
                    again = "run the same command again later: it goes on from what is here"
                    raise FetchError(f"{url}: {redacted(reason)}, {TRIES} times in a row; {again}")
                if seconds is not None and seconds > LONGEST_WAIT:
                    minutes = round(seconds / 60)
                    again = f"run the same command again in {minutes} minutes: it goes on from what is here"
                    raise FetchError(f"{url}: {redacted(reason)} and asks to wait {minutes} minutes; {again}")
                growing = FIRST_WAIT * 2**number * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
                if self.stopped.wait(growing if seconds is None else seconds):
                    raise KeyboardInterrupt

            yield wait

    def _refusal(self, url: str, status: int) -> FetchError:
        home = self._home or "its home page"
        if status in (401, 403, 407, 451):
            asks = "it may ask for a login or for terms to be accepted"
            return RefusedError(f"{url}: the host refuses it ({status}); {asks}: get it at {home}")
        if status in (404, 410):
            return FetchError(f"{url}: the host no longer has it ({status}); look at {home} where it is now")
        return FetchError(f"{url}: expected the file, the host answers {status}; look at {home}")

    def refuse_page(self, response: requests.Response, url: str, name: str) -> None:
        """Refuse an answer that is a page for people where a file was asked for.

        Raises:
            FetchError: It is one.
        """
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml") and not name.lower().endswith((".html", ".htm", ".xhtml")):
            raise RefusedError(self.page_instead(url, response.url))

    def page_instead(self, url: str, end: str | None = None) -> str:
        """What is said where a page came in place of a file.

        Args:
            url: What was asked.
            end: Address that answered in the end, after redirects.
        """
        other = "" if end is None else urlsplit(end).netloc
        where = f" of {other}" if other and other != urlsplit(url).netloc else ""
        home = f" from {self._home}" if self._home else ""
        return (
            f"{url}: expected a file, got a web page{where}, such as a login, terms to accept or a warning; "
            f"get it in a browser{home}"
        )


def body(response: requests.Response) -> Iterator[bytes]:
    """The bytes of an answer as the host sent them.

    Raises:
        Broken: They end before the length that the host gave.
    """
    expected, got = response.headers.get("Content-Length"), 0
    try:
        while piece := response.raw.read(1 << 20, decode_content=False):
            got += len(piece)
            yield piece
    except _CUT as error:
        raise Broken(_reason(error)) from None
    if expected is not None and got != int(expected):
        raise Broken(f"the connection broke off after {got} of {expected} bytes")


def _reason(error: Exception) -> str:
    """The innermost reason of what a connection died of."""
    text = str(error)
    for known, words in (
        ("Name or service not known", "there is no such host"),
        ("Connection refused", "the host refuses the connection"),
        ("imed out", "the host is silent"),
    ):
        if known in text:
            return words
    return "the connection broke off"


def _asked_to_wait(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
