"""Pictures set out on one sheet, with a title, a caption below each, and a legend of the classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from shards.plain_text import visible
from shards.show.overlay import Color

_PAPER: Final = (24, 26, 31)
_INK: Final = (230, 237, 243)
_FAINT: Final = (154, 164, 174)
_GAP: Final = 8
_LINE: Final = 20
"""Pixels of a line of text."""
_TEXT: Final = 14
_SWATCH: Final = 12


@dataclass(frozen=True)
class Tile:
    """A picture on a sheet.

    Attributes:
        picture: (H, W, 3) uint8, RGB, no side longer than the sheet's tiles.
        caption: One line.
    """

    picture: npt.NDArray[np.uint8]
    caption: str


def sheet(
    title: str, tiles: Sequence[Tile], legend: Mapping[str, Color], side: int, columns: int
) -> npt.NDArray[np.uint8]:
    """Set out pictures in rows.

    Args:
        title: One line above; what is too long for the sheet is cut.
        tiles: In the order in which they are read.
        legend: Name and colour of each class.
        side: Longest side of a picture in pixels.
        columns: Pictures in a row, at most.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    columns = min(columns, len(tiles))
    width = max(columns * (side + _GAP) + _GAP, _NARROWEST)
    lines = _legend_lines(legend, width)
    rows = math.ceil(len(tiles) / columns)
    heights = [max(tile.picture.shape[0] for tile in tiles[at * columns : (at + 1) * columns]) for at in range(rows)]
    top = _GAP + _LINE * (1 + len(lines)) + _GAP
    page = Image.new("RGB", (width, top + sum(heights) + rows * (_LINE + _GAP)), _PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((_GAP, _GAP), _fitting(title, width - 2 * _GAP), _INK, _font())
    _draw_legend(pen, lines, legend)
    for row, height in enumerate(heights):
        for at, tile in enumerate(tiles[row * columns : (row + 1) * columns]):
            left = _GAP + at * (side + _GAP)
            page.paste(Image.fromarray(tile.picture), (left + (side - tile.picture.shape[1]) // 2, top))
            pen.text((left, top + height + 2), _fitting(tile.caption, side), _FAINT, _font())
        top += height + _LINE + _GAP
    return np.asarray(page)


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    """A picture as PNG.

    Args:
        picture: (H, W, 3) uint8, RGB.
    """
    _, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    return bytes(data)


_NARROWEST: Final = 320


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(_TEXT)


def _fitting(text: str, width: int) -> str:
    """A text without control characters, cut to a width in pixels."""
    text, font = visible(text), _font()
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _legend_lines(legend: Mapping[str, Color], width: int) -> list[list[str]]:
    """The names of classes in lines that fit."""
    lines: list[list[str]] = []
    left = width
    for name in legend:
        needed = _length(name)
        if left + needed > width - _GAP:
            lines.append([])
            left = _GAP
        lines[-1].append(name)
        left += needed
    return lines


def _length(name: str) -> int:
    return math.ceil(_font().getlength(visible(name))) + _SWATCH + 3 * _GAP


def _draw_legend(pen: ImageDraw.ImageDraw, lines: Sequence[Sequence[str]], legend: Mapping[str, Color]) -> None:
    for number, line in enumerate(lines):
        left, top = _GAP, _GAP + _LINE * (number + 1)
        for name in line:
            pen.rectangle((left, top + 3, left + _SWATCH, top + 3 + _SWATCH), fill=legend[name])
            pen.text((left + _SWATCH + _GAP, top), visible(name), _INK, _font())
            left += _length(name)
