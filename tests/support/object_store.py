"""An output folder in an object store, seen by a client that is not the project's."""

from __future__ import annotations

import boto3  # type: ignore[import-untyped]

from tests.hub.faults import Faults
from tests.hub.objects import ObjectStore
from tests.hub.traffic import LoggedRequest, RequestLog


class Store:
    """A folder in a bucket, seen by a client that is not the project's.

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
        self._client = boto3.client("s3", endpoint_url=self.server.endpoint, config=None, **self._keys())

    def tree(self, *below: str) -> dict[str, bytes]:
        """Content of the objects in some subfolders, by path below the output folder."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.server.bucket)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        held = {key.removeprefix("some/out/"): key for key in keys}
        return {
            path: self._client.get_object(Bucket=self.server.bucket, Key=key)["Body"].read()
            for path, key in sorted(held.items())
            if not below or path.startswith(tuple(f"{name}/" for name in below))
        }

    def unfinished(self) -> int:
        """Uploads that were begun and not finished."""
        return len(self._client.list_multipart_uploads(Bucket=self.server.bucket).get("Uploads", []))

    def put(self, path: str, data: bytes) -> None:
        self._client.put_object(Bucket=self.server.bucket, Key=f"some/out/{path}", Body=data)

    def delete(self, path: str) -> None:
        self._client.delete_object(Bucket=self.server.bucket, Key=f"some/out/{path}")

    def requests(self, since: int = 0) -> list[LoggedRequest]:
        return self.log.snapshot()[since:]

    def stop(self) -> None:
        self._client.close()
        self.server.stop()

    @staticmethod
    def _keys() -> dict[str, str]:
        return {"aws_access_key_id": "hub", "aws_secret_access_key": "hub", "region_name": "us-east-1"}
