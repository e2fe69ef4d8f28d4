"""Users and the tokens they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.hub.errors import HubError

Role = Literal["read", "write"]


@dataclass(frozen=True)
class User:
    """Who a token stands for, and whether that token may change anything."""

    name: str
    role: Role


class Accounts:
    """All tokens that the server knows."""

    def __init__(self) -> None:
        self._by_token: dict[str, User] = {}

    def add(self, name: str, token: str, role: Role) -> None:
        """Let ``token`` stand for a user; one user may have several tokens."""
        self._by_token[token] = User(name, role)

    def clear(self) -> None:
        """Know nobody."""
        self._by_token.clear()

    def identify(self, authorization: str | None) -> User | None:
        """The user of an Authorization header, nobody without one; a token that is not known is refused."""
        if authorization is None:
            return None
        user = self._by_token.get(authorization.removeprefix("Bearer "))
        if user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return user
