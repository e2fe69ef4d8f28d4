"""Folders of pictures, one for each slice, as masks beside a DICOM series and as volumes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pydicom
import pytest

from builder.errors import CaseError
from builder.readers.files import read_header, read_image
from builder.readers.image import Volume
from builder.readers.rules import DEFAULT_RULES, ReadRules
from tests.support.command import Command
from tests.support.dicom_source import CASE, build, write_case, write_ct_series
from tests.support.output import members
from tests.support.volumes import ct_like


def write_stack(folder: Path, planes: npt.NDArray[np.uint8], names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name, plane in zip(names, planes, strict=True):
        PIL.Image.fromarray(plane).save(folder / f"{name}.png")


MASK = (ct_like() > 0).astype(np.uint8)
STACKED = CASE.replace('"{case}/seg.nrrd"', '"{case}/Ground/"')


def pictures(out: Path) -> dict[str, bytes]:
    return {name: data for name, data in members(out) if name.endswith(".png")}


@pytest.fixture
def reference(sa_med2d: Command, tmp_path: Path) -> dict[str, bytes]:
    """The same series with its mask as a NRRD file that says where it lies."""
    (tmp_path / "reference").mkdir()
    write_case(tmp_path / "reference/raw")
    ran = build(sa_med2d, tmp_path / "reference", tmp_path / "reference/raw", CASE)
    assert ran.code == 0, ran.err
    return pictures(tmp_path / "reference/out")


def test_pictures_in_the_order_of_the_names_of_a_series(
    sa_med2d: Command, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    """Names of the series run neither up nor down, with 9 before 10; each picture is called as its slice."""
    write_ct_series(tmp_path / "raw/p1/ct", ct_like())
    files = list((tmp_path / "raw/p1/ct").iterdir())
    heights = {file.name: float(pydicom.dcmread(file).ImagePositionPatient[2]) for file in files}
    slices = {name: int((height - 30) / 2) for name, height in heights.items()}
    write_stack(tmp_path / "raw/p1/Ground", MASK[list(slices.values())], list(slices))
    text = f'{STACKED}[masks]\npair = "names"\n'
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", text)
    assert ran.code == 0, ran.err
    assert pictures(tmp_path / "out") == reference
    checked = sa_med2d("sources", "check", tmp_path / "Dicom.toml", "--raw", tmp_path / "raw")
    assert checked.code == 0, checked.out + checked.err
    next((tmp_path / "raw/p1/Ground").iterdir()).unlink()
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", text)
    assert f"the mask has {len(MASK) - 1} slices, the series {len(MASK)} files" in ran.err


@pytest.mark.parametrize(("pair", "step"), [("index", 1), ("reversed", -1)])
def test_pictures_in_the_order_of_slices(
    sa_med2d: Command, tmp_path: Path, reference: dict[str, bytes], pair: str, step: int
) -> None:
    """Slices are stored from the feet up, as their positions say."""
    write_ct_series(tmp_path / "raw/p1/ct", ct_like())
    write_stack(tmp_path / "raw/p1/Ground", MASK[::step], [f"s{number}" for number in range(len(MASK))])
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", f'{STACKED}[masks]\npair = "{pair}"\n')
    assert ran.code == 0, ran.err
    assert pictures(tmp_path / "out") == reference


def test_a_stack_lies_nowhere(sa_med2d: Command, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "raw/p1/ct", ct_like())
    write_stack(tmp_path / "raw/p1/Ground", MASK, [f"{number:03d}" for number in range(len(MASK))])
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", STACKED)
    assert ran.code == 1
    assert "only the image says where it lies in space" in ran.err


def test_names_need_a_series(sa_med2d: Command, tmp_path: Path) -> None:
    ran = build(sa_med2d, tmp_path, tmp_path, STACKED.replace("{case}/ct/", "{case}.nii") + '[masks]\npair = "names"\n')
    assert 'pair = "names" needs images that are DICOM series' in ran.err


def test_numbers_in_names_count(tmp_path: Path) -> None:
    planes = np.arange(12 * 3 * 4, dtype=np.uint8).reshape(12, 3, 4)
    write_stack(tmp_path / "a", planes, [f"slice{number}" for number in range(12)])
    (tmp_path / "a/.DS_Store").write_text("of a Mac")
    image = read_image(tmp_path, "a", DEFAULT_RULES)
    assert isinstance(image, Volume)
    assert image.affine is None
    assert np.array_equal(image.array, planes)
    assert read_header(tmp_path, "a", DEFAULT_RULES).shape == (12, 3, 4)


def test_what_makes_no_stack(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", np.zeros((3, 4, 5), np.uint8), ["a", "b", "c"])
    with pytest.raises(CaseError, match=r"3 x 4 x 5 = 60 pixels, allowed are 50.*limits\.pixels"):
        read_image(tmp_path, "a", ReadRules(pixels=50))
    PIL.Image.new("L", (5, 3)).save(tmp_path / "a/c.png")
    with pytest.raises(
        CaseError, match="picture 3 of 3 in the order of names is uint8 of 3 x 5, the first uint8 of 4 x 5"
    ):
        read_image(tmp_path, "a", DEFAULT_RULES)
    (tmp_path / "a/c.png").write_bytes((tmp_path / "a/c.png").read_bytes()[:-9])
    with pytest.raises(CaseError, match="picture 3 of 3 in the order of names: truncated"):
        read_image(tmp_path, "a", DEFAULT_RULES)


def test_links_out_of_a_stack_are_not_followed(tmp_path: Path) -> None:
    write_stack(tmp_path / "raw/a", np.zeros((2, 4, 5), np.uint8), ["a", "b"])
    (tmp_path / "raw/a/b.png").rename(tmp_path / "secret.png")
    (tmp_path / "raw/a/b.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(CaseError, match="outside of the source's folder"):
        read_image(tmp_path / "raw", "a", DEFAULT_RULES)
