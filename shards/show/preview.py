"""A contact sheet of a source: the quickest way to see a flipped axis or a shifted mask."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from shards.atomic import write_atomic
from shards.paths import contact_sheet
from shards.receipt import read_receipts
from shards.report.choose import Chooser
from shards.report.rows import batches
from shards.show.find import rows_of_source
from shards.show.sample import read_sample
from shards.show.sheet import png
from shards.show.shown import several

_SAMPLES: Final = 36


def write_preview(out: Path, source: str) -> Path:
    """Write the sheet of a source below its output folder; gives its path.

    Raises:
        DatasetError: The folder holds nothing of the source, or a shard not what its index says.
    """
    checksums = (receipt.sha256 for receipt in read_receipts(out).values() if receipt.id.source == source)
    path = out / contact_sheet(source, checksums)
    write_atomic(path, png(preview(out, source)))
    return path


def preview(out: Path, source: str) -> npt.NDArray[np.uint8]:
    """Samples of a source with their masks: slices of one volume in their order, and others of all its classes.

    Args:
        out: Output folder, wherever it lies.
        source: Name of the source.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    chooser, count = Chooser(_SAMPLES), 0
    for rows in batches(rows_of_source(out, source), Chooser.columns, lambda _done, _of: None):
        chooser.add(rows)
        count += rows.num_rows
    chosen = [row for entry in chooser.chosen() for row in entry.rows]
    chosen.sort(key=lambda row: (row["case"], row["submodality"], row["axis"], row["index"] or 0))
    captions = [f"{row['case']} {row['key'].rsplit('--', 1)[1]}" for row in chosen]
    samples = [read_sample(out, row) for row in chosen]
    return several(f"{source}: {len(chosen)} of {count:,}", samples, captions).page()
