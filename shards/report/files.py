"""A report as files: statistics as JSON, what they were made of as Parquet, figures as SVG and PNG."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from shards.atomic import write_atomic
from shards.paths import FIGURES
from shards.report.collect import Counted
from shards.report.figures import Plot
from shards.store import listing

STATISTICS: Final = "statistics.json"


def write_report(folder: Path, statistics: Mapping[str, Any], counted: Counted, plots: Iterable[Plot]) -> list[str]:
    """Write the files of a report, and delete figures of an earlier one that there are no longer.

    Args:
        folder: Where they go.
        statistics: See `shards.report.statistics`.
        counted: What they were made of.
        plots: The figures, which may be drawn while they are written.

    Returns:
        Paths of the files, below the folder.
    """
    files = {STATISTICS: json.dumps(statistics, indent=1, ensure_ascii=False).encode() + b"\n"}
    for field in dataclasses.fields(counted):
        files[f"{field.name}.parquet"] = _parquet(getattr(counted, field.name))
    for path, data in files.items():
        write_atomic(folder / path, data)
    written = [*files]
    for plot in plots:
        for kind in ("svg", "png"):
            path = f"{FIGURES}/{plot.name}.{kind}"
            write_atomic(folder / path, getattr(plot, kind))
            written.append(path)
    for name in listing(folder, FIGURES):
        if f"{FIGURES}/{name}" not in written and name.endswith((".svg", ".png")):
            (folder / FIGURES / name).unlink(missing_ok=True)
    return written


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
