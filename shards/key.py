"""Keys of samples: the original release's naming, made safe for WebDataset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from sa_med2d_20m import MODALITIES, DatasetError

_KEY = re.compile(
    rf"(?P<modality>{'|'.join(MODALITIES)})_(?P<submodality>[A-Za-z0-9_-]+?)--(?P<source>[A-Za-z0-9_-]+?)"
    r"--(?P<case>[A-Za-z0-9_%-]+?)--(?:2d_none|(?P<axis>[xyz])_(?P<index>\d{4,}))"
)


@lru_cache(maxsize=1024)
def escape(name: str) -> str:
    """Percent-encode what may not stand in a key, so that `urllib.parse.unquote` undoes it.

    Kept are ASCII letters, digits, underscores, and hyphens that stand alone between two of those. Dots go because a
    WebDataset key ends at its first dot, double and outer hyphens because ``--`` separates the fields of a key, and
    the percent sign itself because no two names may share a key.

    >>> escape("1.3.6.1"), escape("patient001_frame01"), escape("a--b")
    ('1%2E3%2E6%2E1', 'patient001_frame01', 'a%2D%2Db')
    """
    data = name.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if _may_stand(data, at) else f"%{byte:02X}" for at, byte in enumerate(data))


def _may_stand(data: bytes, at: int) -> bool:
    if data[at] != ord("-"):
        return _is_word(data, at)
    return _is_word(data, at - 1) and _is_word(data, at + 1)


def _is_word(data: bytes, at: int) -> bool:
    if not 0 <= at < len(data):
        return False
    return data[at] == ord("_") or (data[at] < 128 and chr(data[at]).isalnum())


def unescape(escaped: str) -> str:
    """Undo `escape`."""
    return unquote(escaped, errors="surrogateescape")


@dataclass(frozen=True)
class SampleKey:
    """What a key says.

    Attributes:
        modality: One of `sa_med2d_20m.MODALITIES`.
        submodality: ``00`` where there is none.
        source: Name of the source.
        case: Case name as in the source, any text.
        axis: ``x``, ``y``, ``z``, or ``2d`` for a picture.
        index: Slice number, None for a picture.
    """

    modality: str
    submodality: str
    source: str
    case: str
    axis: str
    index: int | None

    def __str__(self) -> str:
        place = "2d_none" if self.index is None else f"{self.axis}_{self.index:04d}"
        return f"{self.modality}_{self.submodality}--{self.source}--{escape(self.case)}--{place}"

    @classmethod
    def parse(cls, key: str) -> SampleKey:
        """Read a key back.

        Raises:
            DatasetError: The text is no key.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            raise DatasetError(f"{key!r} is no key: expected modality_submodality--source--case--axis_slice")
        index = match["index"]
        return cls(
            match["modality"],
            match["submodality"],
            match["source"],
            unescape(match["case"]),
            match["axis"] or "2d",
            None if index is None else int(index),
        )
