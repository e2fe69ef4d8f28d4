"""NRRD and MetaImage: series, and headers that ask for what they must not."""

from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813

from builder.errors import CaseError
from builder.readers.files import read_header, read_image
from builder.readers.rules import DEFAULT_RULES
from tests.support.command import Command
from tests.support.output import members
from tests.support.series import VOLUMES, as_single, recipe
from tests.support.volumes import organ_map


@pytest.mark.parametrize("kind", ["4D", "vectors"])
def test_series_in_nrrd(sa_med2d: Command, tmp_path: Path, kind: str) -> None:
    (tmp_path / "raw").mkdir()
    images = [sitk.GetImageFromArray(volume) for volume in VOLUMES]
    for image in images:
        image.SetSpacing((0.8, 0.8, 1.5))
    whole = sitk.JoinSeries(images) if kind == "4D" else sitk.Compose(images)
    sitk.WriteImage(whole, tmp_path / "raw/a_img.nrrd")
    mask = sitk.GetImageFromArray(organ_map())
    mask.CopyInformation(images[0])
    sitk.WriteImage(mask, tmp_path / "raw/a_seg.nrrd")
    text = recipe(tmp_path, 'channels = ["t1", "t2", "pd"]')
    text.write_text(
        text.read_text()
        .replace("images/{case}.nii.gz", "{case}_img.nrrd")
        .replace("labels/{case}.nii.gz", "{case}_seg.nrrd")
    )
    ran = sa_med2d("build", text, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = dict(members(tmp_path / "out"))
    for number, name in enumerate(["t1", "t2", "pd"]):
        own = [data for key, data in found.items() if key.startswith(f"mr_{name}--") and key.endswith("png")]
        assert own == as_single(sa_med2d, tmp_path / name, VOLUMES[number])


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.mhd", "ObjectType = Image\nNDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = {}\n"),
        (
            "a.mhd",
            "ObjectType = Image\nNDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = LIST\n{}\n",
        ),
        ("a.nhdr", "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 4 4\nencoding: raw\ndata file: {}\n\n"),
    ],
)
def test_headers_may_not_name_pixels_elsewhere(tmp_path: Path, name: str, header: str) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(range(16)))
    (tmp_path / "source").mkdir()
    for named in ("../secret.raw", str(tmp_path / "secret.raw")):
        (tmp_path / "source" / name).write_text(header.format(named))
        with pytest.raises(CaseError, match="a file outside of the source's folder"):
            read_image(tmp_path / "source", name, DEFAULT_RULES)


def test_too_many_dimensions_do_not_end_the_process(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text("ObjectType = Image\nNDims = 65536\nDimSize = 4 4\nElementDataFile = a.raw\n")
    with pytest.raises(CaseError, match="expected one number of dimensions, got 65536"):
        read_header(tmp_path, "a.mhd", DEFAULT_RULES)


@pytest.mark.parametrize(
    "size", ["16 16 0", "0 16 16", "16 -1 16", "16 16", "16 16 16 16", "16 16 99999999999", "a b c"]
)
def test_sizes_that_no_volume_has_are_refused(tmp_path: Path, size: str) -> None:
    head = f"NDims = 3\nDimSize = {size}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(head.encode() + bytes(4096))
    for read in (read_header, read_image):
        with pytest.raises(CaseError, match=f"expected DimSize with 3 numbers above 0, got {size}"):
            read(tmp_path, "a.mha", DEFAULT_RULES)
