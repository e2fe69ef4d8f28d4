"""A build that is run again converts what is new, and nothing else.

Source files whose size and time are the same are not read again. So where a test has put rubbish in their place without
changing either, a case that is still whole was not converted.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.build_process import command
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import members, tree
from tests.support.sources import write_source
from tests.support.volumes import ct_like, organ_map

CASES = 8


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_source(tmp_path / "raw", cases=CASES)
    return tmp_path / "raw"


def recipe(raw: Path) -> Path:
    return raw / "Small.toml"


def add_case(raw: Path, name: str, seed: int = 99) -> None:
    write_nifti(raw / "Small" / "images" / f"{name}.nii.gz", ct_like(seed))
    write_nifti(raw / "Small" / "labels" / f"{name}.nii.gz", organ_map())


def spoil(raw: Path, *, but: tuple[str, ...] = ()) -> None:
    """Put rubbish into the files of all cases but some; size, time and header stay."""
    for path in (raw / "Small").rglob("*.nii.gz"):
        if path.name.split(".")[0] not in but:
            state = path.stat()
            path.write_bytes(path.read_bytes()[: state.st_size // 2].ljust(state.st_size, b"\0"))
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def fresh(raw: Path, folder: Path, sa_med2d: Command, *options: object) -> dict[str, bytes]:
    """What a build from nothing gives."""
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", folder, *options).code == 0
    return tree(folder, "data", "index", "build/receipts")


SMALL_SHARDS = ("--shard-size", "400KB", "--workers", 1)
"""Two or three cases a shard, so that a case more moves others to further shards."""


@pytest.mark.parametrize("workers", [1, 2])
def test_an_added_case_is_converted_alone(tmp_path: Path, raw: Path, sa_med2d: Command, workers: int) -> None:
    out = tmp_path / "out"
    options = ("--shard-size", "400KB", "--workers", workers)
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out, *options).code == 0
    add_case(raw, "case00a")
    expected = fresh(raw, tmp_path / "fresh", sa_med2d, *options)
    spoil(raw, but=("case00a",))
    again = sa_med2d("build", recipe(raw), "--raw", raw, "--out", out, *options)
    assert again.code == 0, again.err
    assert tree(out, "data", "index", "build/receipts") == expected
    assert not (out / "build" / "previous").exists()
    assert not (out / "build" / "pieces").exists()


def test_a_changed_case_is_converted_alone(tmp_path: Path, raw: Path, sa_med2d: Command) -> None:
    out = tmp_path / "out"
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out, *SMALL_SHARDS).code == 0
    add_case(raw, "case03", seed=77)
    expected = fresh(raw, tmp_path / "fresh", sa_med2d, *SMALL_SHARDS)
    spoil(raw, but=("case03",))
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out, *SMALL_SHARDS).code == 0
    assert tree(out, "data", "index", "build/receipts") == expected


def test_a_removed_case_costs_no_conversion(tmp_path: Path, raw: Path, sa_med2d: Command) -> None:
    out = tmp_path / "out"
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out, *SMALL_SHARDS).code == 0
    for path in (raw / "Small").rglob("case01.nii.gz"):
        path.unlink()
    expected = fresh(raw, tmp_path / "fresh", sa_med2d, *SMALL_SHARDS)
    spoil(raw)
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out, *SMALL_SHARDS).code == 0
    assert tree(out, "data", "index", "build/receipts") == expected


def test_another_shard_size_costs_no_conversion(tmp_path: Path, raw: Path, sa_med2d: Command) -> None:
    out = tmp_path / "out"
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out, *SMALL_SHARDS).code == 0
    expected = fresh(raw, tmp_path / "fresh", sa_med2d)
    spoil(raw)
    again = sa_med2d("build", recipe(raw), "--raw", raw, "--out", out)
    assert again.code == 0
    assert "1 of 2 shards are finished already and kept" in again.err
    assert "6 cases of other shards are converted already and kept" in again.err
    assert tree(out, "data", "index", "build/receipts") == expected


def test_a_copied_raw_folder_resumes(tmp_path: Path, raw: Path, sa_med2d: Command) -> None:
    out = tmp_path / "out"
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out).code == 0
    before = {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*.tar")}
    shutil.copytree(raw, tmp_path / "copy", copy_function=shutil.copyfile)
    again = sa_med2d("build", recipe(raw), "--raw", tmp_path / "copy", "--out", out)
    assert "are finished already and kept" in again.err
    assert {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*.tar")} == before


def test_the_same_time_and_size_with_other_bytes_is_what_times_hide(
    tmp_path: Path, raw: Path, sa_med2d: Command
) -> None:
    """What `spoil` relies on; a build elsewhere, which knows no times, sees the rubbish."""
    out = tmp_path / "out"
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out).code == 0
    spoil(raw)
    assert "are finished already and kept" in sa_med2d("build", recipe(raw), "--raw", raw, "--out", out).err
    sa_med2d("build", recipe(raw), "--raw", raw, "--out", tmp_path / "other")
    assert tree(tmp_path / "other", "data") != tree(out, "data")


def test_words_about_a_source_cost_no_conversion(tmp_path: Path, raw: Path, sa_med2d: Command) -> None:
    out = tmp_path / "out"
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out).code == 0
    shards = tree(out, "data")
    text = recipe(raw).read_text().replace("A source that a test wrote", "A better title").replace("Nobody", "Somebody")
    recipe(raw).write_text(text)
    again = sa_med2d("build", recipe(raw), "--raw", raw, "--out", out)
    assert "are finished already and kept" in again.err
    assert tree(out, "data") == shards
    assert "A better title" in (out / "SOURCES.md").read_text()
    assert "Somebody, 2026" in (out / "SOURCES.md").read_text()


def test_a_changed_licence_rewrites_metadata_alone(tmp_path: Path, raw: Path, sa_med2d: Command) -> None:
    out = tmp_path / "out"
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out, *SMALL_SHARDS).code == 0
    recipe(raw).write_text(recipe(raw).read_text().replace("CC-BY-4.0", "CC-BY-SA-4.0"))
    expected = fresh(raw, tmp_path / "fresh", sa_med2d, *SMALL_SHARDS)
    spoil(raw)
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out, *SMALL_SHARDS).code == 0
    assert tree(out, "data", "index", "build/receipts") == expected
    assert not list((out / "data" / "ct").glob("cc-by-4.0/*"))
    assert b'"license":"CC-BY-4.0"' not in b"".join(data for _, data in members(out))


def test_a_key_that_shapes_pixels_converts_all(tmp_path: Path, raw: Path, sa_med2d: Command) -> None:
    out = tmp_path / "out"
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out).code == 0
    before = tree(out, "data")
    recipe(raw).write_text('axes = ["x"]\n' + recipe(raw).read_text())
    expected = fresh(raw, tmp_path / "fresh", sa_med2d)
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out).code == 0
    assert tree(out, "data", "index", "build/receipts") == expected
    spoil(raw)
    recipe(raw).write_text(recipe(raw).read_text().replace('["x"]', '["x", "y", "z"]'))
    sa_med2d("build", recipe(raw), "--raw", raw, "--out", out)
    assert tree(out, "data") != before


def test_damage_in_a_shard_is_not_copied_into_another(tmp_path: Path, raw: Path, sa_med2d: Command) -> None:
    out = tmp_path / "out"
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out).code == 0
    for tar in (out / "data").rglob("train-*.tar"):
        data = bytearray(tar.read_bytes())
        data[len(data) // 2] ^= 1
        tar.write_bytes(data)
    expected = fresh(raw, tmp_path / "fresh", sa_med2d, *SMALL_SHARDS)
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out, *SMALL_SHARDS).code == 0
    assert tree(out, "data", "index", "build/receipts") == expected


def test_a_file_that_was_away_for_a_while_is_tried_again(tmp_path: Path, raw: Path, sa_med2d: Command) -> None:
    out, away = tmp_path / "out", raw / "Small" / "labels" / "case02.nii.gz"
    expected = fresh(raw, tmp_path / "fresh", sa_med2d)
    away.rename(tmp_path / "away")
    away.symlink_to(tmp_path / "nowhere")
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out).code == 3
    away.unlink()
    (tmp_path / "away").rename(away)
    assert sa_med2d("build", recipe(raw), "--raw", raw, "--out", out).code == 0
    assert tree(out, "data", "index", "build/receipts") == expected


def test_a_killed_build_resumes_at_the_case(tmp_path: Path, sa_med2d: Command) -> None:
    """Killed while it is at the last case of its one shard; what was finished is not converted again."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_source(raw, cases=3)
    big = np.tile(ct_like(5), (8, 8, 8))
    write_nifti(raw / "Small" / "images" / "case99.nii.gz", big)
    write_nifti(raw / "Small" / "labels" / "case99.nii.gz", np.tile(organ_map(), (8, 8, 8)))
    recipe(raw).write_text(recipe(raw).read_text() + '\n[splits]\ntrain = ["*"]\n')
    expected = fresh(raw, tmp_path / "fresh", sa_med2d)
    process = subprocess.Popen(
        command(recipe(raw), out, "--workers", 1, "--shard-size", "1GiB"), stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while sum(len(path.read_bytes()) > 1000 for path in (out / "build").rglob("*.pieces")) < 1:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.3)  # by then the small cases are written, and the large one takes seconds
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((out / "data").rglob("*.tar"))
    for path in (raw / "Small").rglob("case99.nii.gz"):
        path.touch()
    again = sa_med2d("build", recipe(raw), "--raw", raw, "--out", out)
    assert again.code == 0
    assert "3 cases of other shards are converted already and kept" in again.err
    assert tree(out, "data", "index", "build/receipts") == expected


def test_what_is_no_log_and_no_receipt_below_build_is_passed_over(tmp_path: Path, raw: Path, sa_med2d: Command) -> None:
    """As a person, a copy or another version of this project may leave it."""
    out = tmp_path / "out"
    expected = fresh(raw, out, sa_med2d)
    record = b'{"license": "MIT", "piece": {"quarantined": null, "case": "a"}}'
    head = struct.pack(">8sIQQI", b"SAMED2D1", len(record), 0, 0, zlib.crc32(record))
    strays = {
        "build/pieces/note.txt": b"hello",
        "build/pieces/ct/cc-by-4.0/Small/train-00000/old.pieces": head + record,
        "build/previous/x/ct/cc-by-4.0/Small/train-00000.json": b"{}",
        "build/previous/x/ct/cc-by-4.0/Small/train-00000.tar": b"",
        "build/previous/x/ct/cc-by-4.0/Small/train-00000.parquet": b"",
    }
    for path, data in strays.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(data)
    again = sa_med2d("build", recipe(raw), "--raw", raw, "--out", out)
    assert again.code == 0, again.err
    assert tree(out, "data", "index", "build/receipts") == expected
    assert [path for path in strays if (out / path).exists()] == ["build/pieces/note.txt"]


STEP = st.tuples(st.sampled_from(["add", "change", "remove", "size"]), st.integers(0, 5))


@settings(max_examples=8, deadline=None)
@given(steps=st.lists(STEP, min_size=1, max_size=3))
def test_whatever_changed_the_bytes_are_those_of_a_fresh_build(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    from builder.command_line import main  # noqa: PLC0415 - hypothesis takes no function fixtures

    folder = tmp_path_factory.mktemp("steps")
    raw, out, size = folder / "raw", folder / "out", "400KB"
    write_source(raw, cases=4)
    arguments = ["build", str(recipe(raw)), "--raw", str(raw), "--workers", "1"]
    assert main([*arguments, "--out", str(out), "--shard-size", size]) == 0
    for act, number in steps:
        if act == "size":
            size = "200KB" if size == "400KB" else "400KB"
        elif act == "remove" and len(list((raw / "Small" / "images").iterdir())) > 2:
            for path in (raw / "Small").rglob(f"case{number:02d}.nii.gz"):
                path.unlink()
        else:
            add_case(raw, f"case{number:02d}", seed=number + (10 if act == "change" else 0))
        assert main([*arguments, "--out", str(out), "--shard-size", size]) == 0
    assert main([*arguments, "--out", str(folder / "fresh"), "--shard-size", size]) == 0
    assert tree(out, "data", "index", "build/receipts") == tree(folder / "fresh", "data", "index", "build/receipts")
