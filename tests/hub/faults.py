"""What tests make go wrong: which requests, how, and how many times."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

Predicate = Callable[[str, str], bool]


@dataclass(frozen=True)
class Fault:
    """How one request goes wrong; the default is that nothing does.

    Args:
        status: Answer this instead of doing what was asked.
        retry_after: Seconds in a Retry-After header beside ``status``.
        next_window: Seconds in a RateLimit header that says that no request is left, as
            https://huggingface.co/docs/hub/rate-limits describes it.
        delay: Seconds to wait before the request is looked at.
        cut_after: Close the connection after this many bytes of the answer's body.
        lose_answer: Do what was asked, then close the connection without an answer.
    """

    status: int | None = None
    retry_after: int | None = None
    delay: float = 0.0
    cut_after: int | None = None
    lose_answer: bool = False
    next_window: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer that ``status`` gives."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.next_window is not None:
            headers["RateLimit"] = f'"resolvers";r=0;t={self.next_window}'
        return headers


@dataclass
class _Planned:
    matches: Predicate
    fault: Fault
    left: int


class Faults:
    """Faults that wait for a request they match; tests add them while the server runs in other threads."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []
        self._lock = threading.Lock()

    def add(
        self,
        match: str | Predicate,
        *,
        times: int = 1,
        status: int | None = None,
        retry_after: int | None = None,
        delay: float = 0.0,
        cut_after: int | None = None,
        lose_answer: bool = False,
        next_window: int | None = None,
    ) -> None:
        """Spoil the next ``times`` requests that match; each request meets the first fault that matches it.

        Args:
            match: A regular expression searched in ``METHOD path``, or a predicate of method and path. The path is
                as on the wire, percent-encoded and without the query.
            times: After that many requests the fault is over.
            status: See `Fault`, as for all that follow.
            retry_after: Seconds.
            delay: Seconds.
            cut_after: Bytes.
            lose_answer: Whether the answer is lost.
            next_window: Seconds.
        """
        matches = _searcher(match) if isinstance(match, str) else match
        fault = Fault(status, retry_after, delay, cut_after, lose_answer, next_window)
        with self._lock:
            self._planned.append(_Planned(matches, fault, times))

    def clear(self) -> None:
        """Forget all faults that are still to come."""
        with self._lock:
            self._planned.clear()

    def take(self, method: str, path: str) -> Fault:
        """The fault that this request meets; counts as one of its times."""
        with self._lock:
            for planned in self._planned:
                if planned.left > 0 and planned.matches(method, path):
                    planned.left -= 1
                    return planned.fault
        return Fault()


def _searcher(pattern: str) -> Predicate:
    compiled = re.compile(pattern)
    return lambda method, path: compiled.search(f"{method} {path}") is not None
