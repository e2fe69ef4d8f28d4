"""The images of a built set: a folder, a store, or a repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sa_med2d_20m import DATA, INDEX, DatasetError, decode_png, quoted_command
from shards.duplicates.images import COLUMNS, Images, exact_words, hash_words
from shards.duplicates.kept import fingerprints
from shards.paths import ShardId, stems
from shards.report.rows import mending
from shards.store import copied, part_of_shard

_PLACE: Final = ("shard", "image_offset", "image_size")
ROW_COLUMNS: Final = (*COLUMNS, "axis", "index", *_PLACE)
"""Columns of the index that `of_tables` needs."""
_VOLUME: Final = r"--([xyz])_\d+$"
"""The end of the key of a slice; what stands before the number is the name of its volume and axis."""


def is_built(out: Path) -> bool:
    """Whether a place holds shards with an index."""
    return bool(stems(out, INDEX, ".parquet")) and bool(stems(out, DATA, ".tar"))


def built_images(out: Path, *, workers: int, on_shard: Callable[[int, int], None]) -> Images:
    """Gather the images of a built set; fingerprints that are missing are made, see `shards.duplicates.kept`.

    Args:
        out: Output folder, store or repository.
        workers: Processes.
        on_shard: Told how many shards, of how many, are done.

    Raises:
        DatasetError: It holds no shard, or an index and its shard are not of one piece.
    """
    shards = [ShardId.parse(stem) for stem in stems(out, INDEX, ".parquet")]
    if not shards:
        raise DatasetError(f"{out}: holds no index; expected a folder that 'sa-med2d build' wrote, or a repository")
    rows, prints = [], []
    for shard, table in fingerprints(out, shards, workers=workers, on_shard=on_shard):
        own = _index(out, shard)
        if not own["key"].combine_chunks().equals(table["key"].combine_chunks()):
            raise DatasetError(
                f"{out / shard.index}: has other keys than its shard; {quoted_command('index', out)} mends it"
            )
        rows.append(own)
        prints.append(table.drop_columns("key"))
    return of_tables(pa.concat_tables(rows).unify_dictionaries(), pa.concat_tables(prints), out)


def of_tables(rows: pa.Table, prints: pa.Table, out: Path) -> Images:
    """Images of rows of the index and of `shards.duplicates.kept.SCHEMA`, one to one.

    Args:
        rows: With `COLUMNS`, ``axis``, ``index`` and where the image lies.
        prints: Their fingerprints.
        out: Where their shards lie.
    """
    # of a slice "ct_00--LiTS--1--x_0012" the volume is "ct_00--LiTS--1--x"
    names = pc.replace_substring_regex(rows["key"], _VOLUME, r"--\1").combine_chunks().dictionary_encode()
    is_slice = pc.is_valid(rows["index"]).to_numpy()
    volume = np.where(is_slice, names.indices.to_numpy(), -1).astype(np.int32)
    cases = pc.binary_join_element_wise(
        rows["source"].cast(pa.string()), rows["case"].cast(pa.string()), "\0"
    ).combine_chunks()
    shards, offsets, sizes = (rows[name].combine_chunks() for name in _PLACE)

    def read(number: int) -> npt.NDArray[Any]:
        path = out / shards[number].as_py()
        try:
            return decode_png(part_of_shard(path, offsets[number].as_py(), sizes[number].as_py()))
        except DatasetError as error:
            where, verify = f"{path}: {rows['key'][number].as_py()}", quoted_command("verify", out)
            raise DatasetError(f"{where}: {error}; {verify} names all") from None

    return Images(
        about=rows.select(COLUMNS),
        exact=exact_words(prints["exact"]),
        hashes=hash_words(prints["hashes"]),
        case=cases.dictionary_encode().indices.to_numpy().astype(np.int32),
        volume=volume,
        position=pc.fill_null(rows["index"], 0).to_numpy().astype(np.int32),
        volumes=names.dictionary.to_pylist(),
        read=read,
    )


def _index(out: Path, shard: ShardId) -> pa.Table:
    columns = list(ROW_COLUMNS)
    with copied(out, [shard.index]) as near:
        try:
            table = pq.read_table(
                near / shard.index,
                columns=columns,
                read_dictionary=["source", "patient", "case", "split", "shard"],
                partitioning=None,
            )
        except (pa.ArrowException, OSError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise DatasetError(
                f"{out / shard.index}: is no index that can be read ({reason}); {mending(out)}"
            ) from None
    return table.select(columns)
