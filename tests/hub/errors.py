"""Refusals, as the Hub words them: a status, a code that clients turn into an exception, and a message."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response


class HubError(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        message: What a person is told.
        code: What the client tells apart errors of one status by, if it does.
        headers: Headers that go with this refusal only.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}

    def response(self) -> Response:
        """The refusal on the wire; a header takes only ASCII in one line, the body takes all."""
        line = " ".join(self.message.encode("ascii", "replace").decode().split())
        headers = {"X-Error-Message": line, **self.headers}
        if self.code is not None:
            headers["X-Error-Code"] = self.code
        return JSONResponse({"error": self.message}, self.status, headers)


def repository_not_found(known_user: bool) -> HubError:
    """Missing and private look alike; who shows no token is asked for one."""
    if known_user:
        return HubError(404, "Repository not found", "RepoNotFound")
    return HubError(401, "Invalid username or password.", "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(message: str, headers: Mapping[str, str] | None = None) -> HubError:
    return HubError(404, message, "EntryNotFound", headers)
