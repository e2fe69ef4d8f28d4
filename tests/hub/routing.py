"""From the path on the wire to the function that answers.

A revision or a tree path is one percent-encoded segment, so paths are matched before they are decoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from tests.hub.accounts import User
from tests.hub.hub import Dataset, Hub

VARIABLE = re.compile(r"\{(\w+)(\+?)\}")


@dataclass(frozen=True)
class Call:
    """A request to a route.

    Args:
        hub: What the server holds.
        user: Who asks, None without a token.
        method: HTTP method.
        path: As on the wire.
        values: The variables of the route, decoded.
        query: Decoded.
        headers: Of the request.
        body: All of it.
    """

    hub: Hub
    user: User | None
    method: str
    path: str
    values: dict[str, str]
    query: QueryParams
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    def flag(self, name: str) -> bool:
        """Whether a query parameter is set to true."""
        return self.query.get(name, "").lower() in {"true", "1"}

    def readable(self) -> Dataset:
        """The dataset of the path, for its metadata."""
        return self.hub.readable(self.values["owner"], self.values["name"], self.user)

    def open_to(self) -> Dataset:
        """The dataset of the path, for its content."""
        return self.hub.open_to(self.values["owner"], self.values["name"], self.user)

    def writable(self) -> tuple[Dataset, User]:
        """The dataset of the path, for changes, and who makes them."""
        return self.hub.writable(self.values["owner"], self.values["name"], self.user)


Handler = Callable[[Call], Response]


class Router:
    """Routes by method and template; ``{x}`` stands for one segment, ``{x+}`` for all that are left."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []

    def route(self, method: str, template: str) -> Callable[[Handler], Handler]:
        """Decorator: answer requests of this method and path with the function."""

        def register(handler: Handler) -> Handler:
            self._routes.append((method, _pattern(template), handler))
            return handler

        return register

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
        """The function for a path as on the wire, and the decoded variables."""
        for route_method, pattern, handler in self._routes:
            if route_method == method and (match := pattern.fullmatch(path)):
                return handler, {name: unquote(value) for name, value in match.groupdict().items()}
        return None


def _pattern(template: str) -> re.Pattern[str]:
    expression, at = "", 0
    for variable in VARIABLE.finditer(template):
        name, rest = variable.groups()
        expression += re.escape(template[at : variable.start()]) + f"(?P<{name}>{'.+' if rest else '[^/]+'})"
        at = variable.end()
    return re.compile(expression + re.escape(template[at:]))
