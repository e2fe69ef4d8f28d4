"""An index that is not byte for byte what this version writes: read in a process of its own.

Another release of pyarrow writes the same rows as other bytes. But a small Parquet file may unfold to any size,
whatever its footer says, and pyarrow ends the process on some damaged ones. So it is read where neither hurts: in a
process whose memory is limited, and whose end is only an answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

MEMORY: Final = 3 << 30
"""Bytes of address space that the process may take beyond what it starts with."""
LONGEST: Final = 300.0
"""Seconds that it may take."""
_ROWS_AT_ONCE: Final = 256
"""Few, because the masks of an image may be many."""
_SAME, _OTHER, _UNREADABLE = 0, 10, 11
"""Exit codes."""


def difference(own: bytes, foreign: bytes) -> str | None:
    """What an index holds that it should not, in words; None where it holds the same.

    Args:
        own: The index as this version writes it, a Parquet file.
        foreign: The index in question.
    """
    with tempfile.TemporaryDirectory(prefix="sa-med2d-") as folder:
        paths = Path(folder, "own.parquet"), Path(folder, "foreign.parquet")
        for path, data in zip(paths, (own, foreign), strict=True):
            path.write_bytes(data)
        try:
            ran = subprocess.run(  # noqa: S603 - this module itself
                [sys.executable, "-m", __name__, *map(str, paths)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LONGEST,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"is not read after {LONGEST:.0f} s; it is damaged, or made to take time"
    said = ran.stdout.decode("utf-8", "replace")[:400]
    if ran.returncode == _SAME:
        return None
    if ran.returncode == _OTHER:
        return said
    if ran.returncode == _UNREADABLE:
        return f"is no readable Parquet file ({said})"
    return f"is no readable Parquet file: it takes more than {MEMORY >> 30} GiB of memory, or crashes its reader"


def main() -> int:
    """Compare the two files that the command line names; see `difference`."""
    own, foreign = sys.argv[1:]
    _limit_memory()
    try:
        said = _compare(pq.ParquetFile(own), pq.ParquetFile(foreign))
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        sys.stdout.write((str(error).strip() or type(error).__name__).splitlines()[0])
        return _UNREADABLE
    sys.stdout.write(said)
    return _OTHER if said else _SAME


def _compare(own: Any, foreign: Any) -> str:
    if not foreign.schema_arrow.equals(own.schema_arrow):
        return "has columns that are not those of this version"
    if foreign.metadata.num_rows != own.metadata.num_rows:
        return f"differs from its shard: {foreign.metadata.num_rows:,} rows, {own.metadata.num_rows:,} samples"
    table, done = own.read(), 0
    for batch in foreign.iter_batches(_ROWS_AT_ONCE):
        batch.validate(full=True)
        if batch.to_pylist() != table.slice(done, batch.num_rows).to_pylist():
            return f"differs from its shard in rows {done:,} to {done + batch.num_rows - 1:,}"
        done += batch.num_rows
    return "" if done == table.num_rows else f"differs from its shard: {done:,} rows of {table.num_rows:,}"


def _limit_memory() -> None:
    try:
        import resource  # noqa: PLC0415 - Unix alone has it
    except ImportError:
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limit = MEMORY + pages * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    sys.exit(main())
