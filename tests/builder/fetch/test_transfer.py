"""Files come whole and right, or it is said why not, whatever their host does."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.file_host import FileHost

Recipe = Callable[..., Path]
MEBIBYTE = 1 << 20
CONTENT = random.Random(1).randbytes(40 * MEBIBYTE)
SMALL = CONTENT[:MEBIBYTE]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_comes_in_parts_by_several_connections(
    host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    url = host.add("/scans.bin", CONTENT, pause=0.01)
    file = recipe({"url": url, "size": len(CONTENT), "sha256": sha256(CONTENT)})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw", "--connections", 3)
    assert ran.code == 0, ran.err
    assert (tmp_path / "raw/Small/scans.bin").read_bytes() == CONTENT
    assert host.most == 3
    assert [path.name for path in (tmp_path / "raw/Small").iterdir() if ".part" in path.name] == []


@pytest.mark.parametrize("length", [True, False])
def test_a_file_comes_from_a_host_without_ranges(
    length: bool, host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    url = host.add("/scans.bin", SMALL, ranges=False, length=length)
    ran = sa_med2d("fetch", recipe({"url": url, "sha256": sha256(SMALL)}), "--raw", tmp_path / "raw")
    assert ran.code == 0, ran.err
    assert (tmp_path / "raw/Small/scans.bin").read_bytes() == SMALL


def test_an_empty_file_comes(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("fetch", recipe({"url": host.add("/none.txt", b"")}), "--raw", tmp_path / "raw")
    assert ran.code == 0, ran.err
    assert (tmp_path / "raw/Small/none.txt").read_bytes() == b""


def test_redirects_are_followed(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    host.add("/moved.bin", b"", redirect=host.add("/elsewhere/x", SMALL))
    file = recipe({"url": f"{host.url}/moved.bin", "sha256": sha256(SMALL), "folder": "images"})
    assert sa_med2d("fetch", file, "--raw", tmp_path / "raw").code == 0
    assert (tmp_path / "raw/Small/images/moved.bin").read_bytes() == SMALL


def test_what_is_here_is_not_asked_for_again(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    file = recipe({"url": host.add("/scans.bin", SMALL)})
    assert sa_med2d("fetch", file, "--raw", tmp_path / "raw").code == 0
    asked = dict(host.asked)
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert (ran.code, host.asked) == (0, asked)
    (tmp_path / "raw/Small/scans.bin").unlink()
    assert sa_med2d("fetch", file, "--raw", tmp_path / "raw").code == 0
    assert (tmp_path / "raw/Small/scans.bin").read_bytes() == SMALL


@pytest.mark.parametrize("ranges", [True, False])
def test_cut_connections_are_taken_up_again(
    ranges: bool, host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    url = host.add("/scans.bin", SMALL, ranges=ranges)
    host.files["/scans.bin"].faults = [503, "cut", "cut", 500, "cut"]
    ran = sa_med2d("fetch", recipe({"url": url, "sha256": sha256(SMALL)}), "--raw", tmp_path / "raw")
    assert ran.code == 0, ran.err
    assert (tmp_path / "raw/Small/scans.bin").read_bytes() == SMALL


def test_a_killed_fetch_goes_on(host: FileHost, recipe: Recipe, tmp_path: Path) -> None:
    url = host.add("/scans.bin", CONTENT, pause=0.03)
    file = recipe({"url": url, "sha256": sha256(CONTENT)})
    fetch = ["fetch", str(file), "--raw", str(tmp_path / "raw"), "--connections", "1"]
    command = [sys.executable, "-m", "builder", *fetch]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while host.sent.get("/scans.bin", 0) < 20 * MEBIBYTE and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    assert not (tmp_path / "raw/Small/scans.bin").exists()
    time.sleep(0.2)  # what was in the socket
    before = host.sent["/scans.bin"]
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "raw/Small/scans.bin").read_bytes() == CONTENT
    assert host.sent["/scans.bin"] - before == 24 * MEBIBYTE + 1  # without the first chunk; and one byte to begin with


def test_another_version_begins_anew(host: FileHost, recipe: Recipe, tmp_path: Path) -> None:
    url = host.add("/scans.bin", CONTENT, pause=0.03)
    command = [sys.executable, "-m", "builder", "fetch", str(recipe({"url": url})), "--raw", str(tmp_path / "raw")]
    process = subprocess.Popen([*command, "--connections", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while host.sent.get("/scans.bin", 0) < 20 * MEBIBYTE and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    other = CONTENT[::-1]
    host.add("/scans.bin", other, etag='"2"')
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "raw/Small/scans.bin").read_bytes() == other


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sha256": sha256(b"other")}, f"expected sha256 {sha256(b'other')}, got {sha256(SMALL)}"),
        ({"md5": "0" * 32}, f"expected md5 {'0' * 32}, got {hashlib.md5(SMALL, usedforsecurity=False).hexdigest()}"),
    ],
)
def test_a_wrong_checksum_is_kept_aside_and_named(
    wrong: dict[str, str], said: str, host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    good = {"url": host.add("/good.bin", SMALL[::-1])}
    file = recipe({"url": host.add("/scans.bin", SMALL), **wrong}, good)
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert said in ran.err
    assert (tmp_path / "raw/Small/scans.bin.wrong").read_bytes() == SMALL
    assert not (tmp_path / "raw/Small/scans.bin").exists()
    assert (tmp_path / "raw/Small/good.bin").read_bytes() == SMALL[::-1]


@pytest.mark.parametrize("length", [True, False])
def test_a_wrong_size_is_told(length: bool, host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    url = host.add("/scans.bin", SMALL, ranges=False, length=length)
    ran = sa_med2d("fetch", recipe({"url": url, "size": 7}), "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "expected 7 bytes, " in ran.err
    assert str(len(SMALL)) in ran.err
    assert not (tmp_path / "raw/Small/scans.bin").exists()
    assert (tmp_path / "raw/Small/scans.bin.wrong").exists() is not length  # one whose size is said is not fetched


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "the host refuses it (401)"),
        (403, "the host refuses it (403)"),
        (404, "the host no longer has it (404)"),
        (410, "the host no longer has it (410)"),
        (418, "the host answers 418"),
    ],
)
def test_a_refusal_is_told(
    status: int, said: str, host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    url = host.add("/scans.bin", SMALL, faults=[status])
    ran = sa_med2d("fetch", recipe({"url": url}), "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert said in ran.err
    assert "https://example.org" in ran.err  # the home page of the source
    assert host.asked["/scans.bin"] == 1
    assert (str(tmp_path / "raw/Small/scans.bin") in ran.err) == (status in (401, 403))  # where it goes by hand


def test_what_was_got_by_hand_is_taken(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    url = host.add("/scans.bin", SMALL, faults=[403] * 9)
    place = tmp_path / "raw/Small/scans.bin"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half of it")
    file = recipe({"url": url, "sha256": sha256(SMALL)})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "is there already and is not the file" in ran.err
    assert place.read_bytes() == b"half of it"
    place.write_bytes(SMALL)
    assert sa_med2d("fetch", file, "--raw", tmp_path / "raw").code == 0
    assert host.asked == {}


def test_a_host_that_is_busy_is_asked_again_when_it_says(
    host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    url = host.add("/scans.bin", SMALL, faults=[(429, {"Retry-After": "1"}), (503, {"Retry-After": "0"})])
    began = time.monotonic()
    assert sa_med2d("fetch", recipe({"url": url}), "--raw", tmp_path / "raw").code == 0
    assert time.monotonic() - began > 1


def test_a_host_that_asks_to_wait_for_long_is_left(
    host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    url = host.add("/scans.bin", SMALL, faults=[(429, {"Retry-After": "3600"})])
    ran = sa_med2d("fetch", recipe({"url": url}), "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "the host answers 429 and asks to wait 60 minutes" in ran.err


def test_a_host_that_stays_busy_is_left(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    url = host.add("/scans.bin", SMALL, faults=[503] * 9)
    ran = sa_med2d("fetch", recipe({"url": url}), "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "the host answers 503, 5 times in a row" in ran.err


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_page_in_place_of_a_file_is_told(
    kind: str, host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    page = b"\n<!DOCTYPE html><html><form>log in</form></html>"
    url = host.add("/scans.zip", page, headers={"Content-Type": kind})
    ran = sa_med2d("fetch", recipe({"url": url, "archive": "zip"}), "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "expected a file, got a web page" in ran.err
    assert [path for path in (tmp_path / "raw/Small").rglob("*") if path.is_file() and path.name != "lock"] == []


def test_no_message_holds_a_secret(
    host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    ran = sa_med2d("fetch", recipe({"url": f"{host.url}/x.zip?token=hf_abcdefghijklmnop"}), "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "hf_abcdefghijklmnop" not in ran.err + ran.out


def test_what_does_not_fit_is_not_begun(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    url = host.add("/scans.bin", SMALL)
    file = recipe({"url": url, "size": 10**16})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "needs 10000.0 TB, and " in ran.err
    assert host.asked == {}
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw", "--anyway")
    assert "expected 10000000000000000 bytes, the host has 1048576" in ran.err


def test_two_files_of_one_name_are_refused(host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("fetch", recipe({"url": f"{host.url}/a/x"}, {"url": f"{host.url}/b/x"}), "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "two files would be called x" in ran.err


def test_no_connection_is_told(recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("fetch", recipe({"url": "http://127.0.0.1:9/x.zip"}), "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "the host refuses the connection, 5 times in a row" in ran.err


def test_an_interrupted_fetch_ends_soon_and_goes_on(host: FileHost, recipe: Recipe, tmp_path: Path) -> None:
    url = host.add("/scans.bin", CONTENT, pause=0.05)
    file = recipe({"url": url, "sha256": sha256(CONTENT)})
    command = [sys.executable, "-m", "builder", "fetch", str(file), "--raw", str(tmp_path / "raw")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while host.sent.get("/scans.bin", 0) < 4 * MEBIBYTE and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # so that it is still at it, however long the second takes
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate()
    assert second.returncode == 1
    assert "another fetch is writing to this folder" in second.stderr
    assert process.returncode == 130, err
    assert time.monotonic() - began < 30
    assert "Traceback" not in err
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "raw/Small/scans.bin").read_bytes() == CONTENT


def test_what_has_arrived_needs_no_space_again(
    host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    """Of a file as large as the free space, with 420 MB of it here, the rest fits with the reserve of 256 MiB."""
    part = tmp_path / "raw/Small/.scans.bin.part"
    part.parent.mkdir(parents=True)
    with part.open("wb") as file:
        for _ in range(10):
            file.write(CONTENT)
        file.flush()
        os.fsync(file.fileno())
    size = shutil.disk_usage(tmp_path).free
    recipe_file = recipe({"url": host.add("/scans.bin", SMALL), "size": size})
    ran = sa_med2d("fetch", recipe_file, "--raw", tmp_path / "raw")
    assert f"expected {size} bytes, the host has {len(SMALL)}" in ran.err  # it was asked
    part.unlink()
    ran = sa_med2d("fetch", recipe({"url": f"{host.url}/scans.bin", "size": 2 * size}), "--raw", tmp_path / "raw")
    assert "make room" in ran.err
