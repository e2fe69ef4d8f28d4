"""What the Hub's viewer shows: samples with their masks drawn over them, in a config of its own.

A label map with ids from 1 is black to the eye. An indexed PNG would show colours in the viewer, but OpenCV and the
decoders that go through it read the colours instead of the ids. So label maps stay as they are, and a few samples of
each source stand in small shards beside them, drawn.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from sa_med2d_20m import PREVIEW, DatasetError, quoted_command, record_json
from shards.front_matter import PREVIEW_MEMBERS
from shards.hub.content import JudgedFile
from shards.hub.errors import PublishError
from shards.paths import INDEX, picture_file
from shards.report.choose import Chooser
from shards.report.rows import Rows, batches
from shards.show.find import Row
from shards.show.overlay import colors_of, overlay
from shards.show.picture import jpeg, picture_of, says
from shards.show.sample import Sample, read_sample

SAMPLES: Final = 16
"""Of each source."""
_SIDE: Final = 512
"""Pixels of the longer side, at most."""


def preview_path(source: str) -> str:
    """Where the preview of a source lies in a repository.

    >>> preview_path("MSD_Liver")
    'preview/MSD_Liver.tar'
    """
    return f"{PREVIEW}/{source}.tar"


def previewed_source(path: str) -> str | None:
    """The source whose preview, or whose picture for the card, lies at a path; None where none does.

    >>> previewed_source("preview/MSD_Liver.tar"), previewed_source("preview/MSD_Liver.jpg")
    ('MSD_Liver', 'MSD_Liver')
    >>> previewed_source("preview/a/b.tar")
    """
    name = PurePosixPath(path).stem
    return name if path in (preview_path(name), picture_file(name)) else None


def previews(out: Path, files: Collection[JudgedFile], license_id: str) -> dict[str, bytes]:
    """What is drawn of a source: a shard of samples for viewers, and one of them for the card.

    The shard has image and overlay as JPEG, and the metadata.

    Args:
        out: Output folder.
        files: The judged files of one source, its indexes among them.
        license_id: The licence that was judged.

    Returns:
        Path in the repository -> content, the same bytes for the same files; nothing where they hold no sample.

    Raises:
        PublishError: A sample is under another licence than was judged.
        DatasetError: A shard does not hold what its index says.
    """
    indexes = tuple(sorted(file.path for file in files if file.path.startswith(f"{INDEX}/")))
    chooser = Chooser(SAMPLES, volumes=0)
    for rows in batches(Rows(out, indexes), Chooser.columns, lambda _done, _of: None):
        chooser.add(rows)
    chosen = sorted((row for entry in chooser.chosen() for row in entry.rows), key=lambda row: str(row["key"]))
    judged = {file.path: file for file in files}
    shard, telling = io.BytesIO(), None
    with tarfile.open(fileobj=shard, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for row in chosen:
            sample = _read(out, row, judged)
            if sample.record["license"] != license_id:
                said = f"is under {sample.record['license']}, not {license_id}, as was judged"
                raise PublishError(f"{out / row['shard']}: {row['key']} {said}; run {quoted_command('verify', out)}")
            if telling is None or _says(sample) > _says(telling):
                telling = sample
            for ending, data in _members(sample):
                member = tarfile.TarInfo(f"{row['key']}.{ending}")  # of no time and no owner
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    if telling is None:
        return {}
    source = telling.record["source"]
    return {preview_path(source): shard.getvalue(), picture_file(source): picture_of(telling)}


def _says(sample: Sample) -> tuple[int, float]:
    covered = float(sample.masks.any(axis=0).mean()) if len(sample.masks) else 0.0
    return says(len(set(sample.labels)), covered)


def _read(out: Path, row: Row, judged: Mapping[str, JudgedFile]) -> Sample:
    """A sample; where it cannot be read because its shard is no longer what was judged, that is the error."""
    try:
        return read_sample(out, row)
    except DatasetError:
        with tempfile.TemporaryDirectory(prefix="sa-med2d-") as folder:
            judged[row["shard"]].copy_to(Path(folder))
        raise


def _members(sample: Sample) -> list[tuple[str, bytes]]:
    side, colors = min(_SIDE, max(sample.pixels.shape[:2])), colors_of(sample.labels)
    plain = overlay(sample.pixels, sample.masks[:0], [], colors, side)
    drawn = overlay(sample.pixels, sample.masks, sample.labels, colors, side)
    members = (jpeg(plain), jpeg(drawn), record_json(sample.record))
    return list(zip(PREVIEW_MEMBERS, members, strict=True))
