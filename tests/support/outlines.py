"""Pictures with outlines in COCO, YOLO and XML files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from sa_med2d_20m import decode_masks
from tests.support.command import Command, Ran
from tests.support.output import members
from tests.support.sources import RECIPE

SIZE = (64, 96)
"""Height and width of the pictures."""
BOX = [10.0, 5.0, 40.0, 5.0, 40.0, 30.0, 10.0, 30.0]
TRIANGLE = [50.0, 8.5, 90.25, 20.0, 55.5, 60.0]
ASAP = """<?xml version="1.0"?>
<ASAP_Annotations>
  <Annotations>
    <Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="Tumor" Color="#F4FA58">
      <Coordinates>
        <Coordinate Order="0" X="10" Y="5"/><Coordinate Order="1" X="40" Y="5"/>
        <Coordinate Order="2" X="40" Y="30"/><Coordinate Order="3" X="10" Y="30"/>
      </Coordinates>
    </Annotation>
    <Annotation Name="polyp" Type="Spline" PartOfGroup="None" Color="#00FF00">
      <Coordinates>
        <Coordinate Order="0" X="50" Y="8,5"/><Coordinate Order="1" X="90.25" Y="20"/>
        <Coordinate Order="2" X="55.5" Y="60"/>
      </Coordinates>
    </Annotation>
  </Annotations>
  <AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#aa0000"><Attributes/></Group></AnnotationGroups>
</ASAP_Annotations>
"""
APERIO = """<Annotations MicronsPerPixel="0.252">
  <Annotation Id="1" Name="" Visible="1" LineColor="65280">
    <Attributes><Attribute Name="Epithelial" Id="0" Value=""/></Attributes>
    <Regions>
      <RegionAttributeHeaders><AttributeHeader Id="9999" Name="Region"/></RegionAttributeHeaders>
      <Region Id="1" Type="0" NegativeROA="0" Text=""><Attributes/><Vertices>
        <Vertex X="10" Y="5" Z="0"/><Vertex X="40" Y="5" Z="0"/><Vertex X="40" Y="30"/><Vertex X="10" Y="30"/>
      </Vertices></Region>
      <Region Id="2" Type="0" NegativeROA="1"><Attributes/><Vertices>
        <Vertex X="15" Y="10"/><Vertex X="25" Y="10"/><Vertex X="25" Y="20"/><Vertex X="15" Y="20"/>
      </Vertices></Region>
    </Regions>
  </Annotation>
  <Annotation Id="2" Name="others">
    <Regions>
      <Region Id="1" Type="1" Text="polyp"><Vertices>
        <Vertex X="50" Y="40"/><Vertex X="60" Y="40"/><Vertex X="60" Y="50"/><Vertex X="50" Y="50"/>
      </Vertices></Region>
    </Regions>
  </Annotation>
</Annotations>
"""
"""As the two programmes write it; of Aperio the first layer is a box with a hole."""


def write_picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path)


def coco(*annotations: tuple[str, str, Any], names: tuple[str, ...] = ("a.png", "b.png")) -> dict[str, Any]:
    """(picture, category, segmentation) each."""
    categories = sorted({category for _, category, _ in annotations})
    return {
        "images": [{"id": 7 + n, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for n, name in enumerate(names)],
        "categories": [{"id": 3 + number, "name": name} for number, name in enumerate(categories)],
        "annotations": [
            {"id": number, "image_id": 7 + names.index(name), "category_id": 3 + categories.index(category), "segmentation": drawn}
            for number, (name, category, drawn) in enumerate(annotations)
        ],
    }  # fmt: skip


def yolo_line(number: int, polygon: list[float]) -> str:
    sides = (SIZE[1], SIZE[0]) * (len(polygon) // 2)
    return " ".join([str(number), *(repr(at / side) for at, side in zip(polygon, sides, strict=True))])


HEAD = RECIPE.format(name="Outlines", license="CC0-1.0", modality="endoscopy").split("[files]")[0]
NEIGHBOUR = [40.0, 5.0, 60.0, 5.0, 60.0, 30.0, 40.0, 30.0]


def build(sa_med2d: Command, tmp_path: Path, tables: str) -> Ran:
    recipe = tmp_path / "Outlines.toml"
    recipe.write_text(HEAD + tables)
    return sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1)


def built_masks(out: Path) -> dict[str, list[tuple[str, npt.NDArray[np.bool_]]]]:
    """Case -> (label, mask) of each object."""
    found: dict[str, list[tuple[str, npt.NDArray[np.bool_]]]] = {}
    maps = {name.removesuffix(".mask.png"): data for name, data in members(out) if name.endswith(".mask.png")}
    for name, data in members(out):
        if name.endswith(".json"):
            record = json.loads(data)
            masks = decode_masks({"json": record, "mask.png": maps[name.removesuffix(".json")]})
            found[record["case"]] = [(entry["label"], mask) for entry, mask in zip(record["masks"], masks, strict=True)]
    return found
