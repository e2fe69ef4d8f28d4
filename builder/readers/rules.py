"""What a recipe says about reading: how large a file may become in memory, and which series of a folder is meant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.errors import UnreadableError


@dataclass(frozen=True)
class ReadRules:
    """What a recipe says about reading.

    Attributes:
        pixels: Most pixels (voxels of all volumes, pages or frames) that one file may have. The default holds a CT of
            512 x 512 x 8192.
        bytes: Most bytes that one file may take in memory once it is decompressed.
        series: Which series of a folder with several is meant: its number, or a pattern over its description with
            ``*`` and ``?``, in any case; None where there is one.
        geometry: Whether volumes are placed in space; else what NIfTI, NRRD and MetaImage headers say of it is not
            read, and may be nonsense.
        members: The files of the DICOM series that is meant, where they are known: then those alone are read, wherever
            they lie.
        variable: Which array of a file with several is meant: its name, with dots or slashes between the fields of
            structs; None where there is one.
        half: Which half of a picture is meant where one file holds image and mask side by side: ``left``, ``right``,
            ``top`` or ``bottom``; None for all of it.
    """

    pixels: int = 2**31
    bytes: int = 2**33
    series: int | str | None = None
    geometry: bool = True
    members: tuple[Path, ...] = ()
    variable: str | None = None
    half: str | None = None

    def check_size(self, sides: Sequence[int], bytes_per_pixel: int) -> None:
        """Refuse what would be too large, before memory is taken for it.

        Raises:
            UnreadableError: It says the size, the limit and the key of the recipe.

        >>> ReadRules(pixels=100).check_size((20, 20), 1)
        Traceback (most recent call last):
        builder.errors.UnreadableError: it is 20 x 20 = 400 pixels, allowed are 100: a damaged header, or \
raise limits.pixels in the recipe
        """
        count = math.prod(sides)
        if count > self.pixels:
            size = " x ".join(str(side) for side in sides)
            raise UnreadableError(
                f"it is {size} = {count:,} pixels, allowed are {self.pixels:,}: a damaged header, or raise "
                "limits.pixels in the recipe"
            )
        self.check_bytes(count * bytes_per_pixel)

    def check_bytes(self, count: int) -> None:
        """`check_size` by bytes; raises as it does."""
        if count > self.bytes:
            raise UnreadableError(
                f"it would take {count:,} bytes in memory, allowed are {self.bytes:,}: a damaged header or a "
                "decompression bomb, or raise limits.bytes in the recipe"
            )


DEFAULT_RULES: Final = ReadRules()
