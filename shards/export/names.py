"""Names of exported files: what data say of themselves never leads out of the folder they are written to."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any, Final

from shards.export.errors import ExportError
from shards.key import SampleKey

_LONGEST: Final = 255
"""Bytes of a name on the file systems in use."""
_FOREIGN: Final = frozenset('/\\:*?"<>|')
"""What separates folders, or no file on Windows may be called."""

_WITHOUT_SUBMODALITY: Final = ("x_ray", "fundus_photography")
"""Modalities that the release writes without ``_00``."""
_IMPORTED: Final = re.compile(r"[A-Za-z0-9_]+--(?P<source>[^/]+?)--[^/]+--(?:[xyz]_\d{4,}|2d_none)")
"""The name of an image of the release, without ending."""


def is_plain(name: str) -> bool:
    """Whether a text can be the name of a file everywhere, and of none but that.

    >>> is_plain("patient001_frame01.png"), is_plain(".."), is_plain("a/b")
    (True, False, False)
    """
    return name.strip(". ") != "" and name.isprintable() and _FOREIGN.isdisjoint(name)


def checked_path(path: str) -> str:
    """A path below the target folder, which its parts do not leave.

    Raises:
        ExportError: They do, or one cannot be a name.
    """
    for part in path.split("/"):
        if not is_plain(part):
            raise ExportError(f"{path!r:.300}: {part!r:.80} cannot be the name of a file; nothing is written there")
        if len(part.encode("utf-8", "surrogateescape")) > _LONGEST:
            raise ExportError(f"{path!r:.300}: a name of more than {_LONGEST} bytes cannot be the name of a file")
    return path


def image_name(record: dict[str, Any]) -> str:
    """What the release calls an image, without folder and ending.

    Of an image that was imported from the release it is the name that it had there; else it is the key, with the name
    of the case as it is where that can be the name of a file.

    Args:
        record: The metadata.
    """
    path = PurePosixPath(record["image_file"])
    found = _IMPORTED.fullmatch(path.stem)
    if path.parent.name == "images" and found is not None and found["source"] == record["source"]:
        return path.stem
    key = SampleKey.parse(record["key"])
    bare = key.submodality == "00" and key.modality in _WITHOUT_SUBMODALITY
    tag = key.modality if bare else f"{key.modality}_{key.submodality}"
    _, source, case, place = record["key"].split("--")
    return "--".join((tag, source, key.case if _is_written(key.case) else case, place))


def _is_written(case: str) -> bool:
    """Whether the name of a case stands in a name as it is; the others are escaped, and alone hold a percent sign."""
    return is_plain(case) and "--" not in case and "%" not in case and not case.startswith("-") and case[-1:] != "-"
