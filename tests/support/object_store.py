"""An output folder in an object store, and what the store really holds of it."""

from __future__ import annotations

from tests.hub.faults import Faults
from tests.hub.objects import ObjectStore
from tests.hub.traffic import LoggedRequest, RequestLog


class Store:
    """A folder in a bucket; what is asked of it here is no request, so that the log has those of the project alone.

    Args:
        bucket: See `ObjectStore`.
    """

    def __init__(self, bucket: str | None = None) -> None:
        self.faults, self.log = Faults(), RequestLog()
        self.server = ObjectStore(5 << 20, self.faults, self.log, bucket)
        self.server.start()
        self.url = f"s3://{self.server.bucket}/some/out"
        self.environment = {
            "AWS_ENDPOINT_URL": self.server.endpoint,
            "AWS_ACCESS_KEY_ID": "hub",
            "AWS_SECRET_ACCESS_KEY": "hub",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }

    def tree(self, *below: str) -> dict[str, bytes]:
        """Content of the objects in some subfolders, by path below the output folder."""
        held = {key.removeprefix("some/out/"): key for key in self.server.listing()}
        return {
            path: self.server.content(key)
            for path, key in sorted(held.items())
            if not below or path.startswith(tuple(f"{name}/" for name in below))
        }

    def unfinished(self) -> int:
        """Uploads that were begun and not finished."""
        return len(self.server.unfinished())

    def put(self, path: str, data: bytes) -> None:
        self.server.write(f"some/out/{path}", data)

    def delete(self, path: str) -> None:
        self.server.delete(f"some/out/{path}")

    def requests(self, since: int = 0) -> list[LoggedRequest]:
        return self.log.snapshot()[since:]

    def stop(self) -> None:
        self.server.stop()
