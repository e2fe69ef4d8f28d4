"""RTSTRUCT onto the grid of its image, on real files and on contours with hand-counted pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from builder.annotations import rtstruct
from builder.conversion.orientation import to_lps
from builder.errors import UnreadableError
from builder.readers import nifti
from builder.readers.image import Picture, Volume
from tests.support.command import Command
from tests.support.dicom_masks import (
    PATIENT,
    SHAPE,
    UNIT,
    Bools,
    Contour,
    dice,
    drawn,
    empty,
    folder,
    oblique,
    segments_of,
    square,
    write_rtstruct,
)
from tests.support.dicom_source import build, write_ct_series
from tests.support.output import members
from tests.support.volumes import ct_like


@pytest.mark.parametrize(("modality", "name"), [("CT", "ct"), ("MR_T1", "mr"), ("PET", "pet")])
def test_rtstruct_builds_what_its_nifti_mask_says(
    sa_med2d: Command, corpus: Path, tmp_path: Path, modality: str, name: str
) -> None:
    head = f'[files]\nimage = "{{case}}/{modality}/dicom/image/"\n'
    contours = f'mask = "{{case}}/{modality}/dicom/mask/RS.dcm"\n[labels]\n"gtv_mass_*" = "gross_tumor_volume"\n[masks]\nsegments = true\n'
    ran = build(sa_med2d, tmp_path / "a", make(tmp_path / "a", corpus / "mirp-sts"), head + contours, name)
    assert ran.code == 0, ran.err
    nifti = f'mask = "{{case}}/{modality}/nifti/mask/mask.nii.gz"\n[labels]\n1 = "gross_tumor_volume"\n'
    ran = build(sa_med2d, tmp_path / "b", make(tmp_path / "b", corpus / "mirp-sts"), head + nifti, name)
    assert ran.code == 0, ran.err
    ours, theirs = dict(members(tmp_path / "a/out")), dict(members(tmp_path / "b/out"))
    assert ours
    assert ours == theirs
    text = (tmp_path / "a/out/README.md").read_text() + "".join(d.decode() for n, d in ours.items() if "json" in n)
    assert "Roe" not in text
    assert "1.3.6.1.4" not in text


def make(folder: Path, raw: Path) -> Path:
    folder.mkdir()
    return raw


@pytest.mark.parametrize(("modality", "pixels"), [("CT", 117145), ("MR_T1", 117145), ("PET", 5095)])
def test_rtstruct_is_the_mask_that_its_authors_made(corpus: Path, modality: str, pixels: int) -> None:
    case = corpus / "mirp-sts" / "STS_001" / modality
    stored = nifti.read(case / "nifti" / "mask" / "mask.nii.gz")
    assert isinstance(stored, Volume)
    expected = to_lps(stored)
    for image in (expected, folder(case / "dicom" / "image")):
        [roi] = segments_of(rtstruct, case / "dicom" / "mask" / "RS.dcm", image)
        assert roi.name == f"GTV_Mass_{modality}"
        score = dice(roi.mask, expected.array > 0)
        print(f"{modality} {roi.name}: Dice {score:.5f}")  # noqa: T201 - shown by pytest -rP
        assert score > 0.9999  # 1.0 where this was written: not one pixel differs
        assert roi.mask.sum() == pixels


def test_a_structure_set_on_the_image_of_another_patient_is_refused(corpus: Path) -> None:
    case = corpus / "mirp-sts" / "STS_001" / "CT" / "dicom"
    breast = folder(corpus / "mirp-breast-mr-seg" / "UCSF-BR-06" / "image_dce_pe1")
    with pytest.raises(UnreadableError, match="perhaps it was drawn on another image"):
        drawn(segments_of(rtstruct, case / "mask" / "RS.dcm", breast))


def masks(path: Path, image: Volume | Picture) -> dict[str, Bools]:
    return {segment.name: segment.mask for segment in segments_of(rtstruct, path, image)}


def test_nested_contours_are_holes_and_separate_ones_regions(tmp_path: Path) -> None:
    outer, hole, island = square(0.5, 6.5, 4), square(1.5, 5.5, 4), square(2.5, 4.5, 4)
    path = write_rtstruct(
        tmp_path / "rs.dcm",
        {
            "hole": [outer, hole],
            "island": [outer, hole, island],
            "two": [square(0.5, 2.5, 4), square(3.5, 5.5, 4, right=4)],
            "xor": [("CLOSEDPLANAR_XOR", outer[1]), ("CLOSEDPLANAR_XOR", hole[1])],
            "two slices": [outer, square(1.5, 5.5, 6)],
        },
    )
    found = masks(path, empty(UNIT, SHAPE))
    assert {name: int(mask.sum()) for name, mask in found.items()} == {
        "hole": 36 - 16,
        "island": 36 - 16 + 4,
        "two": 4 + 4,
        "xor": 36 - 16,
        "two slices": 36 + 16,
    }
    assert all(mask.shape == SHAPE and mask.dtype == np.bool_ for mask in found.values())
    assert found["hole"][2, 1, 1]
    assert not found["hole"][2, 3, 3]
    assert found["two"][2, 4:6, 8:10].all()  # y, x


def test_a_keyhole_contour_is_a_ring(tmp_path: Path) -> None:
    ring = [
        (0.5, 0.5),
        (6.5, 0.5),
        (6.5, 6.5),
        (0.5, 6.5),
        (0.5, 0.5),
        (2.5, 2.5),
        (2.5, 4.5),
        (4.5, 4.5),
        (4.5, 2.5),
        (2.5, 2.5),
    ]
    path = write_rtstruct(tmp_path / "rs.dcm", {"ring": [("CLOSED_PLANAR", [(x, y, 2) for x, y in ring])]})
    assert masks(path, empty(UNIT, SHAPE))["ring"].sum() == 36 - 4


def test_centres_on_the_border_belong_to_the_region_that_begins_there(tmp_path: Path) -> None:
    triangle = [(0, 0, 2), (9, 0, 2), (0, 9, 2)]
    path = write_rtstruct(
        tmp_path / "rs.dcm",
        {
            "left": [square(2, 5, 2)],
            "right": [square(2, 5, 2, right=3)],
            "triangle": [("CLOSED_PLANAR", triangle)],
            "clockwise": [("CLOSED_PLANAR", triangle[::-1])],
            "closed twice": [("CLOSED_PLANAR", [*triangle, triangle[0]])],
        },
    )
    found = masks(path, empty(UNIT, SHAPE))
    assert found["left"].sum() == found["right"].sum() == 9
    assert found["left"][1, 2:5, 2:5].all()
    assert not (found["left"] & found["right"]).any()
    assert found["triangle"].sum() == sum(range(1, 10))  # x + y < 9
    assert (found["clockwise"] == found["triangle"]).all()
    assert (found["closed twice"] == found["triangle"]).all()


@pytest.mark.parametrize("across", [0, 1, 2])
def test_contours_may_lie_on_any_plane_of_the_image(tmp_path: Path, across: int) -> None:
    corners = np.array([(1.5, 0.5), (4.5, 0.5), (4.5, 2.5), (1.5, 2.5)])
    points = np.insert(corners, across, 3.0, axis=1)  # in voxels
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [("CLOSED_PLANAR", (points * [1, 1, 2]).tolist())]})
    expected = np.zeros(SHAPE, np.bool_).transpose(2, 1, 0)
    ranges: list[Any] = [slice(2, 5), slice(1, 3)]
    ranges.insert(across, 3)
    expected[tuple(ranges)] = True
    assert (masks(path, empty(UNIT, SHAPE))["a"] == expected.transpose(2, 1, 0)).all()


def test_an_oblique_flipped_image_gets_its_contours_in_lps_axes(tmp_path: Path) -> None:
    stored = oblique((0.8, 0.6, 0, 0.6, -0.8, 0))
    inside = np.zeros(SHAPE, np.bool_)
    inside[2, 3:7, 4:9] = True
    corners = np.array([(3.5, 2.5, 2), (8.5, 2.5, 2), (8.5, 6.5, 2), (3.5, 6.5, 2)])
    path = write_rtstruct(
        tmp_path / "rs.dcm", {"a": [("CLOSED_PLANAR", (corners @ stored[:3, :3].T + stored[:3, 3]).tolist())]}
    )
    expected = to_lps(Volume(inside, stored))
    assert expected.affine is not None
    assert (masks(path, expected)["a"] == expected.array).all()


def test_what_encloses_nothing_is_empty_and_what_sticks_out_is_cut(tmp_path: Path) -> None:
    line = [(1, 1, 2), (5, 1, 2), (5, 5, 2)]
    path = write_rtstruct(
        tmp_path / "rs.dcm",
        {
            "none": None,
            "no contours": [],
            "point": [("POINT", [(1, 1, 900)])],
            "open": [("OPEN_PLANAR", line)],
            "degenerate": [("CLOSED_PLANAR", line[:2])],
            "sticks out": [square(-50, 3.5, 2)],
            "beyond": [square(-50, 50, 2)],
        },
        implicit=True,
    )
    found = masks(path, empty(UNIT, SHAPE))
    assert {name: int(mask.sum()) for name, mask in found.items()} == {
        **dict.fromkeys(("none", "no contours", "point", "open", "degenerate"), 0),
        "sticks out": 16,
        "beyond": 120,
    }


@pytest.mark.parametrize(
    ("contours", "words"),
    [
        ([square(0.5, 6.5, 20)], "no contour of ROI number 1 lies on a slice"),
        ([square(50, 60, 2)], "lies beside the image, at slice 1"),
        ([("CLOSED_PLANAR", [(1, 1, 2), (7, 1, 6), (7, 7, 6), (1, 7, 2)])], "does not lie on a slice"),
        ([square(0.5, 6.5, 1.5), square(0.5, 6.5, 2.5)], "on several planes that all lie nearest to slice 1"),
        ([("CLOSED_PLANAR", [(1, 1, float("inf")), (7, 1, 6), (7, 7, 6)])], "no list of points"),
        ([("CLOSED_PLANAR", [(1, 1, 1e308), (7, 1, 6), (7, 7, 6)])], "no list of points"),
    ],
    ids=["slice outside", "beside", "oblique", "thinner slices", "infinite", "huge"],
)
def test_contours_that_do_not_fit_the_image_are_refused(tmp_path: Path, contours: list[Contour], words: str) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", {PATIENT: contours})
    with pytest.raises(UnreadableError, match=words) as caught:
        drawn(segments_of(rtstruct, path, empty(UNIT, SHAPE)))
    assert PATIENT not in str(caught.value)
    assert "ROI number 1" in str(caught.value)


def test_contours_need_an_image_with_a_place(tmp_path: Path) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [square(1, 2, 2)]})
    images: list[tuple[str, Picture | Volume]] = [
        ("slices of the series", Picture(np.zeros((10, 12)))),
        ("where it lies", Volume(np.zeros(SHAPE), None)),
    ]
    for said, image in images:
        with pytest.raises(UnreadableError, match=said):
            segments_of(rtstruct, path, image)


def test_contours_on_planes_without_a_slice_are_said_and_not_drawn(tmp_path: Path) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [square(0.5, 6.5, z) for z in (2, 4, 20, 22, -6)], "b": []})
    whole = write_rtstruct(tmp_path / "whole.dcm", {"a": [square(0.5, 6.5, z) for z in (2, 4)]})
    found = rtstruct.read_named_masks(path).on(empty(UNIT, SHAPE))
    assert found is not None
    said = "3 of 5 planes that ROI number 1 was drawn on have no slice in the image, which has 6"
    assert (found[0].without_slice or "").startswith(said)
    assert found[1].without_slice is None
    assert np.array_equal(found[0].mask, masks(whole, empty(UNIT, SHAPE))["a"])


def test_one_slice_of_a_series_is_built_where_the_recipe_says_so(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_ct_series(raw / "p1/ct", ct_like())
    for path in (raw / "p1/ct").iterdir():  # of 24 slices, 2 mm apart from 30 mm on, one is left
        if pydicom.dcmread(path).ImagePositionPatient[2] != 50:
            path.unlink()
    square_mm = [(-5, -10), (5, -10), (5, 0), (-5, 0)]
    contours: list[Contour] = [("CLOSED_PLANAR", [(x, y, 30 + 2 * k) for x, y in square_mm]) for k in range(24)]
    write_rtstruct(raw / "p1/rs.dcm", {"Liver": contours})
    text = (
        '[files]\nimage = "{case}/ct/"\nmask = "{case}/rs.dcm"\n[labels]\nliver = "liver"\n[masks]\nsegments = true\n'
    )
    text += 'min_area = 0\n[gates]\npatient_mismatch = "off"\n'
    ran = build(sa_med2d, tmp_path, raw, text)
    assert ran.code == 1
    assert "contours_without_slice: 23 of 24 planes that ROI number 1 was drawn on have no slice" in ran.err
    ran = build(sa_med2d, tmp_path, raw, f'{text}contours_without_slice = "flag"\n')
    assert ran.code == 0, ran.err
    assert "the gate contours_without_slice found 1 and kept them" in ran.err
    (record,) = (json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json"))
    # 10 mm at 0.7 mm a column and 0.8 mm a row
    assert [mask["area"] for mask in record["masks"]] == [pytest.approx(10 / 0.7 * 10 / 0.8, abs=20)]
