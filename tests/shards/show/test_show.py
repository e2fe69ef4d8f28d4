"""``show``: a sample, or the slices of a case, as a picture; masks lie where the label map has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from builder.command_line import main
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.object_store import Store
from tests.support.output import members
from tests.support.terminal import on_a_terminal

ORANGE, BLUE = (230, 159, 0), (86, 180, 233)
"""The first two colours of Okabe and Ito's palette."""

RECIPE = """
name = "{name}"
title = "Boxes"
homepage = "https://example.org"
license = "CC-BY-4.0"
license_evidence = "https://example.org/license"
access = "open"
citation = "Nobody. Boxes (2026)."
modality = "ct"
axes = ["x"]
[files]
image = "{{case}}.nii.gz"
mask = "{{case}}-mask.nii.gz"
[labels]
1 = "liver"
2 = "spleen"
"""


def write_boxes(raw: Path, name: str) -> Path:
    """A volume of 12 slices of 60 x 80 pixels: the liver upper left, wide; the spleen lower right, high."""
    values = np.random.default_rng(1).integers(-50, 150, (12, 60, 80)).astype(np.int16)
    labels = np.zeros(values.shape, np.uint8)
    labels[:, 6:15, 10:34] = 1
    labels[:, 30:54, 60:70] = 2
    write_nifti(raw / name / "one.nii.gz", values)
    write_nifti(raw / name / "one-mask.nii.gz", labels)
    recipe = raw / f"{name}.toml"
    recipe.write_text(RECIPE.format(name=name))
    return recipe


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources that have a case of the same name."""
    folder = tmp_path_factory.mktemp("boxes")
    recipes = [write_boxes(folder / "raw", name) for name in ("Boxes", "Crates")]
    arguments = ("build", *recipes, "--raw", folder / "raw", "--out", folder / "out", "--workers", 1)
    assert main([str(argument) for argument in (*arguments, "--preview")]) == 0
    return folder / "out"


def read(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3), RGB."""
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return np.asarray(pixels[..., ::-1], dtype=np.uint8)


def extent(picture: npt.NDArray[np.uint8], color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the lines of a colour, below the legend."""
    rows, columns = np.nonzero((picture == color).all(axis=2))
    keep = rows > 60
    rows, columns = rows[keep], columns[keep]
    return int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def record_of(out: Path, key: str) -> dict[str, Any]:
    return next(dict(json.loads(data)) for name, data in members(out) if name == f"{key}.json")


KEY = "ct_00--Boxes--one--x_0005"


def test_masks_lie_where_the_metadata_has_them(sa_med2d: Command, built: Path, tmp_path: Path) -> None:
    ran = sa_med2d("show", built, KEY, "--to", tmp_path / "one.png")
    assert (ran.code, ran.out.strip()) == (0, str(tmp_path / "one.png"))
    picture, record = read(tmp_path / "one.png"), record_of(built, KEY)
    boxes = {mask["label"]: mask["bbox"] for mask in record["masks"]}
    scale = 768 / max(record["height"], record["width"])
    top, left, height, width = extent(picture, ORANGE)
    other_top, other_left, other_height, other_width = extent(picture, BLUE)
    liver, spleen = boxes["liver"], boxes["spleen"]
    for got, expected in (
        (width, liver[2] * scale),
        (height, liver[3] * scale),
        (other_width, spleen[2] * scale),
        (other_height, spleen[3] * scale),
        (other_left - left, (spleen[0] - liver[0]) * scale),
        (other_top - top, (spleen[1] - liver[1]) * scale),
    ):
        assert got == pytest.approx(expected, abs=scale / 2)


def test_pixels_without_a_mask_are_those_of_the_image(sa_med2d: Command, built: Path, tmp_path: Path) -> None:
    sa_med2d("show", built, KEY, "--to", tmp_path / "one.png")
    picture = read(tmp_path / "one.png")
    image = cv2.imdecode(
        np.frombuffer(next(data for name, data in members(built) if name == f"{KEY}.png"), np.uint8),
        cv2.IMREAD_GRAYSCALE,
    )
    assert image is not None
    whole = cv2.resize(image, (picture.shape[1] - 16, 768 * image.shape[0] // max(image.shape)))
    top = extent(picture, ORANGE)[0]
    corner = whole[-100:, :60]  # lower left: no mask
    below = picture[top:, 8 : 8 + corner.shape[1], 0]
    places = cv2.matchTemplate(below, corner, cv2.TM_SQDIFF)
    assert places.min() == 0


def test_the_slices_of_a_case(sa_med2d: Command, built: Path, tmp_path: Path) -> None:
    few, all_of_them = tmp_path / "few.png", tmp_path / "all.png"
    options = ("--case", "one", "--source", "Boxes")
    assert sa_med2d("show", built, *options, "--slices", 3, "--to", few).code == 0
    assert sa_med2d("show", built, *options, "--to", all_of_them).code == 0
    heights = [read(path).shape[0] for path in (few, all_of_them)]
    widths = [read(path).shape[1] for path in (few, all_of_them)]
    assert heights[0] < heights[1]  # a row of three, and two rows of six
    assert widths[0] < widths[1]


def test_the_same_each_time(sa_med2d: Command, built: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert (
            sa_med2d("show", built, "--case", "one", "--source", "Crates", "--to", tmp_path / f"{name}.png").code == 0
        )
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "expected either KEY or --case CASE"),
        ((KEY, "--case", "one"), 2, "expected either KEY or --case CASE"),
        ((KEY, "--slices", 3), 2, "--slices go with --case CASE"),
        ((KEY, "--terminal"), 2, "leave it out to write a PNG"),
        (("one",), 1, "is no key: expected modality_submodality--source--case--axis_slice"),
        (("ct_00--Boxes--one--x_0055",), 1, f"did you mean {KEY}"),
        (("ct_00--Bokses--one--x_0005",), 1, "holds no source 'Bokses'; did you mean Boxes?"),
        (("--case", "onne"), 1, "holds no case 'onne'; did you mean one?"),
        (("--case", "one"), 1, "stands in several sources; add --source with one of Boxes, Crates"),
        (("--case", "one", "--source", "Boxes", "--plane", "sagittal"), 1, "has no plane 'sagittal'; it has axial"),
    ],
)
def test_what_is_not_there_is_named(
    sa_med2d: Command,
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Any,
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = sa_med2d("show", built, *arguments)
    assert (ran.code, said in ran.err.replace("\n", " ")) == (code, True), ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_shard_is_named(sa_med2d: Command, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path in built.rglob("*"):
        if path.is_file():
            (out / path.relative_to(built)).parent.mkdir(parents=True, exist_ok=True)
            (out / path.relative_to(built)).write_bytes(path.read_bytes())
    shard = next((out / "data").rglob("Boxes/*.tar"))
    shard.write_bytes(b"\0" * shard.stat().st_size)
    ran = sa_med2d("show", out, KEY, "--to", tmp_path / "one.png")
    assert ran.code == 1
    assert f"'sa-med2d verify {out}' says why" in ran.err.replace("\n", " ")
    assert not (tmp_path / "one.png").exists()


def test_in_a_terminal(built: Path, tmp_path: Path) -> None:
    code, shown = on_a_terminal(tmp_path, "show", built, KEY, "--terminal")
    assert code == 0
    lines = shown.splitlines()
    assert 0 < len(lines) <= 24
    assert max(line.count("▀") for line in lines) <= 80
    assert "\x1b[38;2;230;159;0m■\x1b[0m liver" in shown
    assert "\x1b[38;2;86;180;233m■\x1b[0m spleen" in shown
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_a_store(sa_med2d: Command, built: Path, tmp_path: Path, store: Store) -> None:
    for path in built.rglob("*"):
        if path.suffix in (".parquet", ".tar"):
            store.put(path.relative_to(built).as_posix(), path.read_bytes())
    for place, name in ((store.url, "there"), (built, "here")):
        assert sa_med2d("show", place, KEY, "--to", tmp_path / f"{name}.png").code == 0
    assert (tmp_path / "there.png").read_bytes() == (tmp_path / "here.png").read_bytes()


def test_a_build_draws_previews_which_go_with_their_source(sa_med2d: Command, built: Path, tmp_path: Path) -> None:
    held = sorted((built / "build/previews").iterdir())
    assert [path.name.split(".")[::2] for path in held] == [["Boxes", "png"], ["Crates", "png"]]
    picture = read(held[0])
    top, left, *_ = extent(picture, ORANGE)
    other_top, other_left, *_ = extent(picture, BLUE)
    assert top < other_top
    assert left < other_left
    recipe = write_boxes(tmp_path / "raw", "Gone")
    command = ("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1)
    ran = sa_med2d(*command, "--preview")
    (sheet,) = (tmp_path / "out/build/previews").iterdir()
    assert f"preview: {sheet}" in ran.out
    drawn = sheet.read_bytes()
    assert sa_med2d(*command).code == 0  # of what it shows nothing has changed
    assert (tmp_path / "out/README.md").read_text().count(f"(build/previews/{sheet.name})") == 1
    for path in (tmp_path / "raw/Gone").iterdir():
        path.rename(path.with_name(path.name.replace("one", "two")))
    assert sa_med2d(*command).code == 0
    assert not sheet.exists()  # it shows a case that is no longer there
    assert sheet.name not in (tmp_path / "out/README.md").read_text()
    sa_med2d(*command, "--preview")
    (sheet,) = (tmp_path / "out/build/previews").glob("*.png")
    assert sheet.read_bytes() != drawn
    assert sa_med2d("remove", "Gone", tmp_path / "out").code == 0
    assert not (tmp_path / "out/build/previews").exists()
