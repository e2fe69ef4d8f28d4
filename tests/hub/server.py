"""A Hugging Face Hub for datasets in this process, for real clients over a real socket."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from tests.hub import content_routes, metadata_routes, xet_routes
from tests.hub.accounts import Accounts, Role
from tests.hub.errors import HubError
from tests.hub.faults import Faults
from tests.hub.hub import Hub, Objects, Options, Saved
from tests.hub.objects import ObjectStore
from tests.hub.repository import GitError
from tests.hub.routing import Call
from tests.hub.traffic import HubApplication, LoggedRequest, OpenProtocol, RequestLog
from tests.hub.xet import XetStore

ROUTERS = (metadata_routes.router, content_routes.router, xet_routes.router)
MEBIBYTE = 1 << 20


class HubServer:
    """A Hub that starts empty; what it serves is gone when it stops, but for the git repositories.

    Args:
        folder: Where the git repositories go, at ``OWNER/NAME.git``.
        objects: ``s3`` redirects downloads of large files to the store, ``direct`` answers with their bytes.
        page_size: Entries of a tree, or commits of a history, in one answer.
        part_size: Large files above it are uploaded in parts of it; at least 5 MiB, as S3 has it.
        lfs_threshold: Files above it are large whatever they are called.
        xet: Whether clients upload large files by Xet, to a store in the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        objects: Objects = "s3",
        page_size: int = 1000,
        part_size: int = 5 * MEBIBYTE,
        lfs_threshold: int = 10_000_000,
        xet: bool = False,
    ) -> None:
        self.faults = Faults()
        self._log = RequestLog()
        self._accounts = Accounts()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._store = ObjectStore(part_size, self.faults, self._log)
        options = Options(objects, page_size, lfs_threshold)
        self._xet = XetStore(folder / "xet") if xet else None
        self._hub = Hub(self.url, folder, self._accounts, self._store, options, self._xet)
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                HubApplication(self._answer, self.faults, self._log),
                http=OpenProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._uvicorn.run, args=([self._socket],), daemon=True)

    def start(self) -> Self:
        """Serve, from threads of this process."""
        self._store.start()
        self._thread.start()
        while not self._uvicorn.started:
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stop serving; requests that are still under way are broken off."""
        self._uvicorn.should_exit = True
        self._thread.join()
        self._socket.close()
        self._store.stop()

    def clear(self) -> None:
        """Be a Hub that has just started: no dataset, user, fault or request is known any more."""
        self._hub.clear()
        self._accounts.clear()
        self.faults.clear()
        self._log.clear()

    def save(self) -> Saved:
        """All datasets as they are now; not users, faults and requests."""
        return self._hub.save()

    def restore(self, saved: Saved) -> None:
        """Hold the datasets that were saved, and no others."""
        self._hub.restore(saved)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def requests(self) -> list[LoggedRequest]:
        """All requests so far, those to the object store among them."""
        return self._log.snapshot()

    def add_user(self, name: str, token: str, role: Role = "write") -> None:
        """Let a token stand for a user, who owns the datasets below the user's name."""
        self._accounts.add(name, token, role)

    def git_folder(self, dataset_id: str) -> Path:
        """The bare git repository of a dataset."""
        return self._hub.folder_of(dataset_id)

    def environment(self, *, home: Path, token: str | None = None) -> dict[str, str]:
        """All environment variables of a process whose Hub this is; clients read them when they are imported.

        Args:
            home: Cache of the client, best a new folder for each test.
            token: Whose requests they are, None for nobody's.
        """
        other = re.compile("HF_|HUGGING_?FACE|.*_proxy$", re.IGNORECASE)
        inherited = {name: value for name, value in os.environ.items() if not other.match(name)}
        variables = {
            **inherited,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1" if self._xet is None else "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        return variables if token is None else {**variables, "HF_TOKEN": token}

    def _answer(self, request: Request, body: bytes) -> Response:
        try:
            return self._routed(request, body)
        except HubError as error:
            return error.response()
        except GitError as error:
            return HubError(400, str(error)).response()

    def _routed(self, request: Request, body: bytes) -> Response:
        path = request.scope["raw_path"].decode("ascii")
        user = self._accounts.identify(request.headers.get("authorization"))
        for router in ROUTERS:
            if found := router.find(request.method, path):
                handler, values = found
                query = request.query_params
                return handler(Call(self._hub, user, request.method, path, values, query, request.headers, body))
        raise HubError(404, "Not Found")
