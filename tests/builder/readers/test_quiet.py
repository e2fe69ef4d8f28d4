"""What decoders in C write to the terminal becomes the reason of their file, and nothing of others is lost."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from builder.errors import CaseError
from builder.readers.files import read_image
from builder.readers.rules import DEFAULT_RULES
from tests.support.sources import RECIPE

PICTURE = np.random.default_rng(0).integers(0, 255, (64, 80), np.uint8)
META = "NDims = 3\nDimSize = 4 4 4\n{}ElementDataFile = LOCAL\n"


def cut_jpeg() -> bytes:
    """Half of the pixels, and the mark of the end."""
    content = cv2.imencode(".jpg", PICTURE)[1].tobytes()
    return content[: len(content) // 2].rstrip(b"\xff") + b"\xff\xd9"


def padded_jpeg() -> bytes:
    """All pixels, and some bytes before the mark of the end."""
    return cv2.imencode(".jpg", PICTURE)[1].tobytes()[:-2] + b"\0\0\0\0\xff\xd9"


def png_of(lines: bytes) -> bytes:
    """8 x 8 pixels of grey, with right check sums."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(lines), b"IEND")
    whole = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def holed_tiff() -> bytes:
    """LZW with zeros in its middle."""
    content = cv2.imencode(".tif", PICTURE, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    return content[:1000] + bytes(400) + content[1400:]


DAMAGED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "libjpeg": ("a.jpg", cut_jpeg, "Corrupt JPEG data: premature end of data segment"),
    "libpng": ("a.png", lambda: png_of(8 * (b"\x09" + bytes(8))), "bad adaptive filter value"),
    "libtiff": ("a.tif", holed_tiff, "LZWDecode: Not enough data at scanline 0"),
    "MetaIO header": ("a.mha", lambda: META.format("").encode() + bytes(64), "ElementType required and not defined"),
    "MetaIO pixels": (
        "a.mha",
        lambda: META.format("ElementType = MET_UCHAR\n").encode() + bytes(9),
        "data not read completely",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_decoders_write_is_the_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    name, content, said = DAMAGED[kind]
    (tmp_path / name).write_bytes(content())
    with pytest.raises(CaseError, match=said):
        read_image(tmp_path, name, DEFAULT_RULES)
    assert capfd.readouterr().err == ""


def test_a_build_says_of_each_what_its_decoder_said(tmp_path: Path) -> None:
    """In worker processes too: the terminal has the reasons of cases, each once, and nothing that a decoder wrote."""
    (tmp_path / "raw").mkdir()
    for number, (name, content, _) in enumerate(DAMAGED.values()):
        (tmp_path / f"raw/case{number}{Path(name).suffix}").write_bytes(content())
        (tmp_path / f"raw/case{number}_mask.png").write_bytes(
            cv2.imencode(".png", (PICTURE > 9).astype(np.uint8))[1].tobytes()
        )
    head = RECIPE.format(name="Small", license="CC-BY-4.0", modality="ct").split("[files]")[0]
    files = '[files]\nimage = "{case}.{*}"\nmask = "{case}_mask.png"\n[labels]\n1 = "liver"\n'
    (tmp_path / "Small.toml").write_text(head + files)
    command = ["build", tmp_path / "Small.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 2]
    ran = subprocess.run(
        [sys.executable, "-m", "builder", *map(str, command)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    for name, _, said in DAMAGED.values():
        [line] = [line for line in ran.stderr.splitlines() if said in line]
        assert re.match(rf" +case\d: case\d{Path(name).suffix}: read: ", line)
    stray = [line for line in ran.stderr.splitlines() if not re.match(r" +case\d: |Small: |\d+ of \d+ |$", line)]
    assert stray == []


def test_bytes_that_cost_no_pixel_are_borne_with(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(padded_jpeg())
    (tmp_path / "b.jpg").write_bytes(cv2.imencode(".jpg", PICTURE)[1].tobytes())
    padded, sound = (read_image(tmp_path, name, DEFAULT_RULES).array for name in ("a.jpg", "b.jpg"))
    assert (padded == sound).all()
    assert capfd.readouterr().err == ""


def test_what_other_threads_write_meanwhile_is_not_lost(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(cut_jpeg())
    end, written = threading.Event(), 0

    def progress() -> None:
        nonlocal written
        while not end.is_set():
            os.write(2, b"\r40 of 100\x1b[K")
            written += 1
            end.wait(0.001)

    thread = threading.Thread(target=progress)
    thread.start()
    try:
        for _ in range(200):
            with pytest.raises(CaseError, match="premature end of data segment"):
                read_image(tmp_path, "a.jpg", DEFAULT_RULES)
    finally:
        end.set()
        thread.join()
    err = capfd.readouterr().err
    assert err == "\r40 of 100\x1b[K" * written


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_the_terminal_is_back_after_every_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(cut_jpeg())
    before = open_files()
    for _ in range(20):
        with pytest.raises(CaseError):
            read_image(tmp_path, "a.jpg", DEFAULT_RULES)
    os.write(2, b"here")
    assert capfd.readouterr().err == "here"
    assert open_files() == before
