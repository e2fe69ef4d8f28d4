"""A picture drawn in a terminal, as well as the terminal can."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator, Mapping
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from shards.plain_text import visible
from shards.show.overlay import Color
from shards.show.sheet import png

_CHUNK: Final = 4096
"""Characters of one command to kitty, by its protocol."""
_HALF: Final = "▀"
"""Two pixels, one above the other: the upper in the colour of the text, the lower in that of the background."""


def drawn(picture: npt.NDArray[np.uint8], legend: Mapping[str, Color], environment: Mapping[str, str]) -> Iterator[str]:
    """What is written to a terminal so that it shows a picture, and its legend as text.

    kitty and Ghostty have a protocol of kitty's, iTerm2 and WezTerm one of iTerm2's. Others get half blocks in 24 bit
    colour.

    Args:
        picture: (H, W, 3) uint8, RGB.
        legend: Name and colour of each class.
        environment: Variables by which a terminal says what it is.
    """
    program = environment.get("TERM_PROGRAM", "")
    if "KITTY_WINDOW_ID" in environment or program == "ghostty":
        yield from _kitty(png(picture))
    elif program in ("iTerm.app", "WezTerm"):
        data = base64.b64encode(png(picture)).decode()
        yield f"\x1b]1337;File=inline=1:{data}\x07\n"
    else:
        columns, lines = shutil.get_terminal_size()
        yield from _half_blocks(picture, columns, max(lines - 2 - len(legend), lines // 2))
    for name, (red, green, blue) in legend.items():
        yield f"\x1b[38;2;{red};{green};{blue}m■\x1b[0m {visible(name)}\n"


def _kitty(data: bytes) -> Iterator[str]:
    text = base64.b64encode(data).decode()
    chunks = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]
    for number, chunk in enumerate(chunks):
        first = "a=T,f=100," if number == 0 else ""
        yield f"\x1b_G{first}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"
    yield "\n"


def _half_blocks(picture: npt.NDArray[np.uint8], columns: int, lines: int) -> Iterator[str]:
    scale = min(columns / picture.shape[1], 2 * lines / picture.shape[0], 1)
    height, width = (max(1, round(length * scale)) for length in picture.shape[:2])
    height += height % 2
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    for upper, lower in zip(small[::2].tolist(), small[1::2].tolist(), strict=True):
        cells = (
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m{_HALF}"
            for a, b in zip(upper, lower, strict=True)
        )
        yield "".join(cells) + "\x1b[0m\n"
