"""Polygons in XML of ASAP and of Aperio ImageScope."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import pytest

from builder.annotations.segments import AnnotationRequest, read_named_masks
from builder.errors import CaseError
from builder.readers.image import Picture, Volume
from builder.readers.rules import ReadRules
from tests.support.command import Command
from tests.support.outlines import APERIO, ASAP, BOX, SIZE, TRIANGLE, build, built_masks, write_picture

TABLES = """
[files]
image = "images/{case}.png"
mask = "outlines/{case}.xml"
[labels]
tumor = { label = "polyp_tissue", organ = "intestine", group = "lesion" }
epithelial = { label = "polyp_tissue", organ = "intestine", group = "lesion" }
polyp = "polyp"
[masks]
segments = true
"""


def drawn(corners: list[float]) -> npt.NDArray[np.bool_]:
    """By Pillow, which fills the outline too."""
    image = PIL.Image.new("1", SIZE[::-1])
    PIL.ImageDraw.Draw(image).polygon(list(zip(corners[::2], corners[1::2], strict=True)), fill=1)
    return np.asarray(image)


def alike(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> bool:
    """But for pixels that an edge goes through."""
    return bool(2 * (one & other).sum() / (one.sum() + other.sum()) > 0.95)


def test_outlines_of_both_kinds_are_built(sa_med2d: Command, tmp_path: Path) -> None:
    (tmp_path / "raw/outlines").mkdir(parents=True)
    for case, text in (("asap", ASAP), ("aperio", APERIO)):
        write_picture(tmp_path / f"raw/images/{case}.png")
        (tmp_path / f"raw/outlines/{case}.xml").write_text(text)
    ran = build(sa_med2d, tmp_path, TABLES)
    assert ran.code == 0, ran.err
    found = {case: dict(masks) for case, masks in built_masks(tmp_path / "out").items()}
    assert sorted(found["asap"]) == sorted(found["aperio"]) == ["polyp", "polyp_tissue"]
    assert int(found["asap"]["polyp_tissue"].sum()) == 30 * 25
    assert alike(found["asap"]["polyp_tissue"], drawn(BOX))
    assert alike(found["asap"]["polyp"], drawn(TRIANGLE))
    assert int(found["aperio"]["polyp_tissue"].sum()) == 30 * 25 - 10 * 10
    assert not found["aperio"]["polyp_tissue"][10:20, 15:25].any()
    assert np.argwhere(found["aperio"]["polyp"])[[0, -1]].tolist() == [[40, 50], [49, 59]]


BOMB = '<!DOCTYPE a [<!ENTITY b "c">]><ASAP_Annotations>&b;</ASAP_Annotations>'
ENTITY = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><Annotations>&b;</Annotations>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "it has a document type"),
        (ENTITY, "it has a document type"),
        (ASAP[:300], "damaged, or no XML"),
        ("<PascalVoc/>", "its outermost element is no ASAP_Annotations"),
        (ASAP.replace("Polygon", "Dot"), "outline 1 is of type 'Dot', expected Polygon or Rectangle or Spline"),
        (APERIO.replace('Type="1"', 'Type="2"'), "outline 3 is of type '2', expected 0 or 1"),
        (ASAP.replace('X="10"', 'X="ten"'), "outline 1: a coordinate is no number"),
        (ASAP.replace('X="10"', 'X="nan"'), "outline 1: a coordinate is no number, or absurd"),
        (
            APERIO.replace('<Vertex X="10" Y="5" Z="0"/><Vertex X="40" Y="5" Z="0"/>', ""),
            "outline 1: expected a polygon",
        ),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(CaseError, match=reason):
        read_named_masks(tmp_path, "a.xml", AnnotationRequest()).on(Picture(np.zeros(SIZE, np.uint8)))


def test_limits_and_volumes(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(ASAP)
    with pytest.raises(CaseError, match=r"limits\.bytes"):
        read_named_masks(tmp_path, "a.xml", AnnotationRequest(rules=ReadRules(bytes=1000)))
    with pytest.raises(CaseError, match="the image is a volume"):
        read_named_masks(tmp_path, "a.xml", AnnotationRequest()).on(Volume(np.zeros((2, *SIZE)), None))
