"""Large files by Xet: the store on disk that `hf_xet` itself brings, which it uses where the Hub names a ``local://`` one.

The client names a file of a commit by its sha256 alone. Which Xet file that is stands in the shards that it wrote: after
48 bytes of header, for each file its hash, flags, number of segments and 8 bytes more; 48 bytes a segment, with its
length at byte 36; 48 more each if bit 31 of the flags is set; and 48 bytes that begin with the sha256 if bit 30 is. A
hash of 32 bytes of 0xff ends them.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BLOCK: Final = 48
_END: Final = b"\xff" * 32
SOON: Final = 3600
"""Seconds that a permission holds."""


@dataclass(frozen=True)
class XetFile:
    """A file of the store.

    Attributes:
        xet_hash: Its name there.
        sha256: Of its content.
        size: In bytes.
    """

    xet_hash: str
    sha256: str
    size: int


class XetStore:
    """The stores of all datasets, each in a folder of its own: only one process at a time may upload into one.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, dataset_id: str) -> str:
        """What clients are told."""
        folder = self._folder / dataset_id.replace("/", "--")
        folder.mkdir(parents=True, exist_ok=True)
        return f"local://{folder}"

    def files(self, dataset_id: str) -> dict[str, XetFile]:
        """All files of a dataset, by the sha256 that its clients have announced."""
        shards = Path(self.url(dataset_id).removeprefix("local://")).glob("xet/xorbs/shards/*.mdb")
        return {file.sha256: file for shard in sorted(shards) for file in _files(shard.read_bytes())}

    def delete(self, dataset_id: str) -> None:
        """Drop all files of a dataset."""
        shutil.rmtree(self.url(dataset_id).removeprefix("local://"))

    def content(self, dataset_id: str, sha256: str) -> bytes | None:
        """A file, None if it is not there; ValueError if it has another sha256 than its client has announced."""
        import hf_xet  # noqa: PLC0415 - not on every machine, and only a Hub with Xet needs it

        url, found = self.url(dataset_id), self.files(dataset_id).get(sha256)
        if found is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            session = hf_xet.XetSession()
            until = int(time.time()) + SOON
            with session.new_file_download_group(endpoint=url, token="t", token_expiry_unix_secs=until) as group:  # noqa: S106
                group.start_download_file(hf_xet.XetFileInfo(found.xet_hash, found.size), str(path))
            content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"Object {sha256} is not what was announced")
        return content


def _files(shard: bytes) -> Iterator[XetFile]:
    at = _BLOCK
    while at + _BLOCK <= len(shard) and shard[at : at + 32] != _END:
        flags, count = struct.unpack_from("<II", shard, at + 32)
        segments = range(at + _BLOCK, at + _BLOCK * (1 + count), _BLOCK)
        size = sum(struct.unpack_from("<I", shard, segment + 36)[0] for segment in segments)
        end = at + _BLOCK * (1 + count + (count if flags >> 31 else 0))
        if flags >> 30 & 1:
            yield XetFile(_shown(shard[at : at + 32]), _shown(shard[end : end + 32]), size)
            end += _BLOCK
        at = end


def _shown(digest: bytes) -> str:
    return "".join(f"{part:016x}" for part in struct.unpack("<4Q", digest))
