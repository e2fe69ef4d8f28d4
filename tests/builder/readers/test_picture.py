"""Pictures: the pages of a TIFF as channels and as frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from builder.errors import CaseError
from builder.readers.files import read_header, read_image
from builder.readers.rules import DEFAULT_RULES, ReadRules
from tests.support.command import Command
from tests.support.output import members
from tests.support.series import decode, recipe


def test_pages_of_a_tiff_are_channels(sa_med2d: Command, tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 256, (3, 64, 80), np.uint8)
    mask = np.zeros((64, 80), np.uint8)
    mask[10:40, 20:60] = 1
    (tmp_path / "raw").mkdir()
    tifffile.imwrite(tmp_path / "raw/a_img.tif", pages, photometric="minisblack")
    tifffile.imwrite(tmp_path / "raw/a_seg.tif", mask)
    text = recipe(tmp_path, 'channels = ["dapi", "gfp", "rfp"]')
    pattern = (
        text.read_text()
        .replace("images/{case}.nii.gz", "{case}_img.tif")
        .replace("labels/{case}.nii.gz", "{case}_seg.tif")
    )
    text.write_text(pattern)
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    for page, name in zip(pages, ("dapi", "gfp", "rfp"), strict=True):
        assert np.array_equal(decode(found[f"mr_{name}--Series--a--2d_none.png"]), page)
    text.write_text(pattern.replace(', "rfp"', ""))
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert "it holds 3 images, files.channels names 2" in ran.err


def test_pages_of_a_tiff_are_frames(sa_med2d: Command, tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 256, (3, 64, 80, 3), np.uint8)
    masks = np.zeros((3, 64, 80), np.uint8)
    for number in range(3):
        masks[number, 10 : 30 + number, 20:60] = 1
    (tmp_path / "raw").mkdir()
    tifffile.imwrite(tmp_path / "raw/a_img.tif", pages, photometric="rgb")
    tifffile.imwrite(tmp_path / "raw/a_seg.tif", masks, photometric="minisblack")
    text = recipe(tmp_path, "frames = true")
    text.write_text(
        text.read_text()
        .replace("images/{case}.nii.gz", "{case}_img.tif")
        .replace("labels/{case}.nii.gz", "{case}_seg.tif")
    )
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    for number, page in enumerate(pages):
        key = f"mr_00--Series--a_frame{number:04d}--2d_none"
        assert np.array_equal(decode(found[f"{key}.png"]), page)
        assert json.loads(found[f"{key}.json"])["masks"][0]["area"] == (20 + number) * 40


STEPS = np.arange(12).reshape(3, 4)
PLAIN = b"\n".join(b" ".join(b"%d" % value for value in row) for row in STEPS)


@pytest.mark.parametrize(
    ("name", "content", "dtype"),
    [
        ("a.pgm", b"P5\n4 3\n255\n" + STEPS.astype("u1").tobytes(), "uint8"),
        ("few_values.pgm", b"P5\n# of some programme\n4 3\n11\n" + STEPS.astype("u1").tobytes(), "uint8"),
        ("deep.PGM", b"P5 4 3 4095\n" + STEPS.astype(">u2").tobytes(), "uint16"),
        ("plain.pgm", b"P2\n# 4 3\n4 3\n11\n" + PLAIN, "uint8"),
        ("deep_plain.pnm", b"P2\n4 3\n4095\n" + PLAIN + b"\n", "uint16"),
    ],
)
def test_netpbm_gives_the_values_that_are_stored(tmp_path: Path, name: str, content: bytes, dtype: str) -> None:
    """By hand, after the Netpbm manual: most significant byte first, rows from the top."""
    (tmp_path / name).write_bytes(content)
    image = read_image(tmp_path, name, DEFAULT_RULES)
    assert image.array.dtype == dtype
    assert image.array.tolist() == STEPS.tolist()
    assert read_header(tmp_path, name, DEFAULT_RULES).shape == (3, 4)


@pytest.mark.parametrize("deep", [False, True])
def test_netpbm_colours_are_red_green_blue(tmp_path: Path, deep: bool) -> None:
    kind, limit = (">u2", 1023) if deep else ("u1", 255)
    (tmp_path / "a.ppm").write_bytes(b"P6\n2 2\n%d\n" % limit + STEPS.astype(kind).tobytes())
    assert read_image(tmp_path, "a.ppm", DEFAULT_RULES).array.ravel().tolist() == list(range(12))


def test_gif_of_one_frame(tmp_path: Path) -> None:
    grey, colours = STEPS.astype(np.uint8), np.zeros((3, 4, 3), np.uint8)
    colours[1, 2], colours[2, 0] = (255, 0, 0), (0, 0, 255)
    PIL.Image.fromarray(grey).save(tmp_path / "grey.gif")
    PIL.Image.fromarray(grey > 5).save(tmp_path / "bits.gif")
    PIL.Image.fromarray(colours).save(tmp_path / "colours.gif")
    assert np.array_equal(read_image(tmp_path, "grey.gif", DEFAULT_RULES).array, grey)
    bits = read_image(tmp_path, "bits.gif", DEFAULT_RULES).array
    assert np.array_equal(bits, (grey > 5) * 255)
    assert np.array_equal(read_image(tmp_path, "colours.gif", DEFAULT_RULES).array, colours)
    assert read_header(tmp_path, "grey.gif", DEFAULT_RULES).shape == (3, 4)


def test_gif_of_several_frames_is_refused(tmp_path: Path) -> None:
    frames = [PIL.Image.fromarray(STEPS.astype(np.uint8) * number) for number in (1, 5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(CaseError, match="a GIF of several frames, expected one"):
        read_image(tmp_path, "a.gif", DEFAULT_RULES)


@pytest.mark.parametrize("name", ["a.gif", "a.pgm"])
def test_new_kinds_keep_to_the_limits_and_to_their_end(tmp_path: Path, name: str) -> None:
    PIL.Image.new("L", (300, 200)).save(tmp_path / name)
    with pytest.raises(CaseError, match=r"200 x 300 = 60,000 pixels, allowed are 100.*limits\.pixels"):
        read_image(tmp_path, name, ReadRules(pixels=100))
    content = (tmp_path / name).read_bytes()
    for cut in (1, 3, len(content) // 2):
        (tmp_path / name).write_bytes(content[:-cut])
        with pytest.raises(CaseError, match=r"read: .*(damaged|truncated)"):
            read_image(tmp_path, name, DEFAULT_RULES)


@pytest.mark.parametrize(("image", "mask", "axis"), [("left", "right", 1), ("bottom", "top", 0)])
def test_image_and_mask_side_by_side(sa_med2d: Command, tmp_path: Path, image: str, mask: str, axis: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    colours = np.zeros((64, 80, 3), np.uint8)
    colours[10:40, 20:60] = (0, 128, 0)
    (tmp_path / "raw").mkdir()
    parts = (pixels, colours) if image == "left" else (colours, pixels)
    PIL.Image.fromarray(np.concatenate(parts, axis)).save(tmp_path / "raw/a.png")
    PIL.Image.new("RGB", (63, 63)).save(tmp_path / "raw/b.png")
    text = recipe(tmp_path, f'halves = {{ image = "{image}", mask = "{mask}" }}')
    written = (
        text.read_text().replace("images/{case}.nii.gz", "{case}.png").replace("labels/{case}.nii.gz", "{case}.png")
    )
    text.write_text(written.split("[labels]")[0] + '[labels]\n"#008000" = "liver"\n')
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 3
    assert "b: b.png: read: it has 63 " in ran.err
    assert "which make no two halves" in ran.err
    found = dict(members(tmp_path / "out"))
    assert np.array_equal(decode(found["mr_00--Series--a--2d_none.png"]), pixels)
    described = json.loads(found["mr_00--Series--a--2d_none.json"])["masks"]
    assert [(one["label"], one["area"], one["bbox"]) for one in described] == [("liver", 30 * 40, [20, 10, 40, 30])]
    checked = sa_med2d("sources", "check", text, "--raw", tmp_path / "raw")
    assert "1,200" in checked.out
