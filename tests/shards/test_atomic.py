"""Files that are whole or not there, with the rights that any file of this process gets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.atomic import open_atomic, write_atomic


def write_under(umask: int, path: Path, *, private: bool = False) -> int:
    """Rights of a file that a process with this umask writes."""
    code = f"import os, pathlib; os.umask({umask}); from shards.atomic import write_atomic; "
    code += f"write_atomic(pathlib.Path({str(path)!r}), b'x', private={private})"
    subprocess.run([sys.executable, "-c", code], check=True)
    return path.stat().st_mode & 0o777


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(
    ("umask", "private", "rights"),
    [(0o022, False, 0o644), (0o027, False, 0o640), (0o002, False, 0o664), (0o002, True, 0o600)],
)
def test_rights(tmp_path: Path, umask: int, private: bool, rights: int) -> None:
    assert write_under(umask, tmp_path / "file", private=private) == rights


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_other_threads_keep_their_umask(tmp_path: Path) -> None:
    """The umask belongs to the process: whoever sets it, for however short a time, sets it for every thread."""
    code = f"""
import os, pathlib, sys, threading
from shards.atomic import write_atomic
os.umask(0o077)
sys.setswitchinterval(1e-6)
folder = pathlib.Path({str(tmp_path)!r})
done = threading.Event()
def write():
    while not done.is_set():
        write_atomic(folder / "file", b"x")
writers = [threading.Thread(target=write) for _ in range(3)]
for thread in writers:
    thread.start()
seen = set()
for number in range(10_000):
    handle = os.open(folder / "other", os.O_CREAT | os.O_WRONLY, 0o666)
    seen.add(os.fstat(handle).st_mode & 0o777)
    os.close(handle)
    os.unlink(folder / "other")
done.set()
print(*sorted(map(oct, seen)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0o600"]


def fail_half_way(path: Path) -> None:
    with open_atomic(path) as file:
        file.write(b"half")
        raise RuntimeError


def test_nothing_is_there_before_the_end_nor_after_a_fault(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"old")
    with open_atomic(tmp_path / "file") as file:
        file.write(b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / "file").read_bytes() == b"new"
    with pytest.raises(RuntimeError):
        fail_half_way(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"
