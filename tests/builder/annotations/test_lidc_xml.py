"""Nodules in the XML of LIDC-IDRI: what is drawn of an outline, and what each of its readers drew."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from builder.annotations.segments import AnnotationRequest, read_named_masks
from builder.errors import CaseError
from builder.readers.image import Picture, Volume
from tests.support.command import Command
from tests.support.dicom_source import write_ct_series
from tests.support.output import members

Points = list[tuple[int, int]]
"""Columns and rows of an outline."""
SHAPE = (4, 30, 40)
VOLUME = Volume(np.zeros(SHAPE, np.int16), np.array([[0.7, 0, 0, -9], [0, 0.7, 0, -8], [0, 0, 2.5, -100], [0, 0, 0, 1.0]]),
                stored_axes="LPS")  # fmt: skip


def ring(top: int, left: int, bottom: int, right: int) -> Points:
    """The pixels around a rectangle, in order: the rectangle's own first and last rows and columns lie within."""
    above = [(column, top - 1) for column in range(left - 1, right + 2)]
    beside = [(right + 1, row) for row in range(top, bottom + 1)]
    below = [(column, bottom + 1) for column in range(right + 1, left - 2, -1)]
    return [*above, *beside, *below, *((left - 1, row) for row in range(bottom, top - 1, -1))]


def roi(z: float, points: Points, *, inside: bool = True) -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    said = str(inside).upper()
    return f"<roi><imageZposition>{z}</imageZposition><imageSOP_UID>1.2</imageSOP_UID><inclusion>{said}</inclusion>{edges}</roi>"


def xml(sessions: Iterable[Iterable[Iterable[str]]]) -> str:
    """A file; of each session its nodules, of each nodule its outlines."""
    held = "".join(
        "<readingSession><servicingRadiologistID>anon</servicingRadiologistID>"
        + "".join(
            f"<unblindedReadNodule><noduleID>{number}</noduleID>{''.join(outlines)}</unblindedReadNodule>"
            for number, outlines in enumerate(nodules)
        )
        + "<nonNodule><imageZposition>-95</imageZposition><locus><xCoord>3</xCoord><yCoord>4</yCoord></locus></nonNodule>"
        "</readingSession>"
        for nodules in sessions
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><LidcReadMessage xmlns="http://www.nih.gov">{held}</LidcReadMessage>'


def drawn(root: Path, text: str, rater: int | None = None) -> list[npt.NDArray[np.bool_]]:
    (root / "069.xml").write_text(text)
    found = read_named_masks(root, "069.xml", AnnotationRequest(rater=rater)).on(VOLUME)
    assert found is not None
    assert {segment.name for segment in found} <= {"nodule"}
    return [segment.mask for segment in found]


def test_an_outline_is_the_first_ring_outside_of_its_nodule(tmp_path: Path) -> None:
    (mask,) = drawn(tmp_path, xml([[[roi(-95, ring(5, 6, 11, 14))]]]))
    expected = np.zeros(SHAPE, bool)
    expected[2, 5:12, 6:15] = True
    np.testing.assert_array_equal(mask, expected)


def test_what_is_cut_out_goes_with_its_outline(tmp_path: Path) -> None:
    outer, hole = roi(-97.5, ring(5, 6, 20, 25)), roi(-97.5, ring(9, 10, 12, 14), inside=False)
    for order in ([outer, hole], [hole, outer]):
        (mask,) = drawn(tmp_path, xml([[order]]))
        expected = np.zeros(SHAPE, bool)
        expected[1, 5:21, 6:26] = True
        expected[1, 8:14, 9:16] = False
        np.testing.assert_array_equal(mask, expected)


def test_a_diamond_has_what_lies_between_its_edges(tmp_path: Path) -> None:
    corners = [(20, 10), (25, 15), (20, 20), (15, 15)]
    steps = [
        (x0 + np.sign(x1 - x0) * step, y0 + np.sign(y1 - y0) * step)
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True)
        for step in range(5)
    ]
    (mask,) = drawn(tmp_path, xml([[[roi(-100, steps)]]]))
    rows, columns = np.indices(SHAPE[1:])
    np.testing.assert_array_equal(mask[0], np.abs(rows - 15) + np.abs(columns - 20) < 5)
    assert not mask[1:].any()


def test_nodules_of_one_reader_and_those_without_area(tmp_path: Path) -> None:
    first, second = [roi(-100, ring(3, 3, 8, 8))], [roi(-100, ring(12, 20, 14, 25))]
    text = xml([[first, [roi(-100, [(9, 9)])]], [first, second], []])
    assert len(drawn(tmp_path, text)) == 3
    assert [int(mask.sum()) for mask in drawn(tmp_path, text, 1)] == [36, 18]
    assert drawn(tmp_path, text, 2) == []
    assert drawn(tmp_path, text, 3) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (xml([[[roi(-95, ring(5, 6, 11, 14))]]])[:-40], "damaged, or no XML"),
        (xml([[[roi(-95, [(1, 2), (3, 4), (5, 6)]).replace("<yCoord>4</yCoord>", "")]]]), "has one coordinate"),
        (xml([[[roi(-95, [(1, 2)]).replace("<xCoord>1", "<xCoord>one")]]]), "damaged: xCoord is no number"),
        (xml([]).replace("<LidcReadMessage", "<!DOCTYPE a><LidcReadMessage"), "it has a document type"),
    ],
)
def test_damage_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CaseError, match=said):
        drawn(tmp_path, text)


def test_images_that_it_cannot_lie_on(tmp_path: Path) -> None:
    (tmp_path / "069.xml").write_text(xml([[[roi(-95, ring(5, 6, 11, 14))]]]))
    named = read_named_masks(tmp_path, "069.xml", AnnotationRequest())
    with pytest.raises(CaseError, match="the image is no volume with a place"):
        named.on(Picture(np.zeros((9, 9), np.uint8)))
    with pytest.raises(CaseError, match="its image is stored in RAS"):
        named.on(Volume(VOLUME.array, VOLUME.affine, stored_axes="RAS"))
    found = named.on(Volume(VOLUME.array[:2], VOLUME.affine, stored_axes="LPS"))
    assert found is not None
    assert len(found) == 1
    assert found[0].without_slice is not None
    assert "1 of 1 outlines of a nodule have no slice in the image" in found[0].without_slice


RECIPE = """
name = "Nodules"
title = "Nodules that four readers drew"
license = "MIT"
modality = "ct"

[files]
image = "{patient}/{case}/"
mask = "{patient}/{case}/{*}.xml"

[labels]
nodule = "lung_nodule"

[masks]
segments = true
min_area = 0

[raters]
use = "%s"
names = ["1", "2", "3", "4"]
"""


@pytest.mark.parametrize(("use", "areas"), [("majority", {36}), ("union", {36, 18}), ("2", {36, 18})])
def test_readers_of_a_series(sa_med2d: Command, tmp_path: Path, use: str, areas: set[int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 900, (24, 30, 30)).astype(np.int16)
    write_ct_series(tmp_path / "raw/p/s", pixels)
    z = 30 + 2 * 5  # of the sixth slice
    both, one = [roi(z, ring(3, 3, 8, 8))], [roi(z, ring(12, 14, 14, 19))]
    (tmp_path / "raw/p/s/069.xml").write_text(xml([[both], [both, one], []]))
    (tmp_path / "Nodules.toml").write_text(RECIPE % use)
    ran = sa_med2d("build", tmp_path / "Nodules.toml", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    records = [json.loads(data) for name, data in members(tmp_path / "out") if name.endswith(".json")]
    axial = [record for record in records if record["axis"] == "x"]
    assert {record["index"] for record in axial} == {5}
    assert {mask["area"] for record in axial for mask in record["masks"]} == areas
    assert {record["rater"] for record in records} == {use if use == "2" else f"{use} of 3"}
