"""The store of large files: an S3 in this process, which clients reach by presigned URLs."""

from __future__ import annotations

import hashlib
import threading
import uuid
from dataclasses import dataclass
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.hub.faults import Faults
from tests.hub.traffic import ObjectsApplication, RequestLog

OWN_AGENT = "hub-server"
BLOCK = 1 << 20


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
        application = ObjectsApplication(DomainDispatcherApplication(create_backend_app), OWN_AGENT, faults, log)
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
        self._s3.create_bucket(Bucket=self._bucket)

    def stop(self) -> None:
        """Drop all objects and stop serving."""
        self.delete_below("")
        for upload in self._s3.list_multipart_uploads(Bucket=self._bucket).get("Uploads", []):
            self._s3.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        self._s3.delete_bucket(Bucket=self._bucket)
        self._s3.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def size(self, key: str) -> int | None:
        """Bytes of an object, None if there is no such object."""
        try:
            return int(self._s3.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
        except ClientError as error:
            if error.response["Error"]["Code"] != "404":
                raise
            return None

    def sha256(self, key: str) -> str:
        """Of what is really stored."""
        body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"]
        digest = hashlib.sha256()
        for block in body.iter_chunks(BLOCK):
            digest.update(block)
        return digest.hexdigest()

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` (exclusive) of an object, at least one."""
        body = self._s3.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{stop - 1}")["Body"]
        content: bytes = body.read()
        return content

    def write(self, key: str, content: bytes) -> None:
        """Store an object."""
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=content)

    def delete(self, key: str) -> None:
        """Drop an object."""
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    def delete_below(self, prefix: str) -> None:
        """Drop all objects whose key starts so."""
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                self.delete(found["Key"])

    def download_url(self, key: str) -> str:
        """Where a client GETs an object."""
        return self._presigned("get_object", Key=key)

    def upload_url(self, key: str) -> str:
        """Where a client PUTs a whole object."""
        return self._presigned("put_object", Key=key)

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
