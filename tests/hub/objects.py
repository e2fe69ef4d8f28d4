"""The store of large files: an S3 in this process, which clients reach by presigned URLs.

What the Hub itself wants to know of an object it asks that S3 without a request: most of a publish would be those.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from dataclasses import dataclass
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from moto.s3.models import FakeKey, S3Backend, s3_backends
from werkzeug.serving import make_server

from tests.hub.faults import Faults
from tests.hub.traffic import ObjectsApplication, RequestLog

OWN_AGENT = "hub-server"


@dataclass(frozen=True)
class Multipart:
    """An upload in parts that has begun: its id and the URL to PUT each part to."""

    upload_id: str
    urls: list[str]


class _QuietHandler(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: the request log of the Hub has it."""


class ObjectStore:
    """Objects by key, in a bucket of their own since all stores of a process share one S3.

    Args:
        part_size: Objects above it are uploaded in parts of it; S3 takes no parts below 5 MiB.
        faults: What goes wrong for clients.
        log: Where requests of clients are written down.
        bucket: Name of the bucket, None for one that no other store has.
    """

    def __init__(self, part_size: int, faults: Faults, log: RequestLog, bucket: str | None = None) -> None:
        self.part_size = part_size
        self._bucket = bucket or f"objects-{uuid.uuid4()}"
        application = ObjectsApplication(create_backend_app("s3"), OWN_AGENT, faults, log)
        self._server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="hub",
            aws_secret_access_key="hub",  # noqa: S106
            config=Config(
                proxies={},
                request_checksum_calculation="when_required",
                s3={"addressing_style": "path"},
                signature_version="s3v4",
                user_agent=OWN_AGENT,
            ),
        )

    @property
    def endpoint(self) -> str:
        """Where other clients of S3 reach it."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def bucket(self) -> str:
        """Name of its bucket."""
        return self._bucket

    def start(self) -> None:
        """Serve, from a thread."""
        self._thread.start()
        self._backend.create_bucket(self._bucket, "us-east-1")

    def stop(self) -> None:
        """Drop all objects and stop serving."""
        self.delete_below("")
        for upload in self.unfinished():
            self._backend.abort_multipart_upload(self._bucket, upload)
        self._backend.delete_bucket(self._bucket)
        self._s3.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def listing(self, prefix: str = "") -> list[str]:
        """The keys of all objects whose key starts so, in order."""
        return sorted(key for key in list(self._backend.get_bucket(self._bucket).keys) if key.startswith(prefix))

    def size(self, key: str) -> int | None:
        """Bytes of an object, None if there is no such object."""
        found = self._found(key)
        return None if found is None else found.size

    def sha256(self, key: str) -> str:
        """Of what is really stored."""
        return hashlib.sha256(self.content(key)).hexdigest()

    def content(self, key: str) -> bytes:
        """All bytes of an object.

        Raises:
            KeyError: There is no such object.
        """
        if (found := self._found(key)) is None:
            raise KeyError(key)
        return found.value

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` (exclusive) of an object."""
        return self.content(key)[start:stop]

    def write(self, key: str, content: bytes) -> None:
        """Store an object."""
        self._backend.put_object(self._bucket, key, content)

    def delete(self, key: str) -> None:
        """Drop an object."""
        self._backend.delete_object(self._bucket, key)

    def delete_below(self, prefix: str) -> None:
        """Drop all objects whose key starts so."""
        for key in self.listing(prefix):
            self.delete(key)

    @property
    def _backend(self) -> S3Backend:
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def _found(self, key: str) -> FakeKey | None:
        return self._backend.get_object(self._bucket, key)

    def download_url(self, key: str) -> str:
        """Where a client GETs an object."""
        return self._presigned("get_object", Key=key)

    def upload_url(self, key: str) -> str:
        """Where a client PUTs a whole object."""
        return self._presigned("put_object", Key=key)

    def unfinished(self) -> list[str]:
        """Ids of uploads that were begun and not finished."""
        return list(self._backend.get_bucket(self._bucket).multiparts)

    def begin_multipart(self, key: str, size: int) -> Multipart:
        """Begin an upload in parts."""
        upload_id = self._s3.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]
        count = -(-size // self.part_size)
        urls = [
            self._presigned("upload_part", Key=key, UploadId=upload_id, PartNumber=number)
            for number in range(1, count + 1)
        ]
        return Multipart(upload_id, urls)

    def complete_multipart(self, key: str, upload_id: str, parts: list[tuple[int, str]]) -> None:
        """Put an object together from parts, each given by number and ETag; ValueError if they do not fit."""
        listed = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
        try:
            self._s3.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed}
            )
        except ClientError as error:
            raise ValueError(str(error)) from error

    def _presigned(self, operation: str, **parameters: object) -> str:
        url: str = self._s3.generate_presigned_url(operation, Params={"Bucket": self._bucket, **parameters})
        return url
