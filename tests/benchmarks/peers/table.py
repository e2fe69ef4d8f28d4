"""Which formats there are."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, Protocol, cast

from tests.benchmarks.peers.row import Row


class Format(Protocol):
    """What a module of a format offers."""

    def write(self, built: Path, to: Path) -> None:
        """Write the samples of a folder that was built to an empty one."""

    def rows(self, folder: Path) -> Iterable[Row]:
        """Open what was written for one process: an epoch whenever it is iterated."""

    def workers(self, folder: Path) -> Iterable[int]:
        """Open it for two workers: how many rows each batch had."""


@dataclass(frozen=True)
class Peer:
    """A format and what reads it.

    Attributes:
        name: Of its row in tables.
        holds: Pictures as they are in shards, or decoded.
        module: In this package, a `Format`; not imported before it is asked for, as it needs what may not be there.
        needs: Distribution whose version tables name.
        reads: Name of the peer whose files it reads; None for its own.
    """

    name: str
    holds: Literal["PNG", "pixels"]
    module: str
    needs: str = "sa-med2d-20m"
    reads: str | None = None

    def imported(self) -> Format:
        """Its module."""
        return cast("Format", importlib.import_module(f"{__package__}.{self.module}"))

    def missing(self) -> str | None:
        """Why it cannot be measured here."""
        try:
            version(self.needs)
            self.imported()
        except (ImportError, PackageNotFoundError) as error:
            return f"{self.needs} cannot be imported: {error}"
        return None


PEERS = {
    peer.name: peer
    for peer in (
        Peer("this loader, cache", "pixels", "loader_cache"),
        Peer("FFCV", "pixels", "ffcv_file", "ffcv"),
        Peer("this loader, shards", "PNG", "loader_shards"),
        Peer("MosaicML streaming, OpenCV", "PNG", "mosaic_shards", "mosaicml-streaming"),
        Peer("litData, OpenCV", "PNG", "litdata_chunks", "litdata"),
        Peer("Lance, OpenCV", "PNG", "lance_table", "pylance"),
        Peer("webdataset, OpenCV", "PNG", "webdataset_shards", "webdataset"),
        Peer("datasets, Arrow, OpenCV", "PNG", "stock_arrow_opencv", "datasets", reads="datasets, Arrow, Pillow"),
        Peer("datasets, Arrow, Pillow", "PNG", "stock_arrow", "datasets"),
        Peer("datasets, streaming, Pillow", "PNG", "stock_stream", "datasets", reads="this loader, shards"),
    )
}
