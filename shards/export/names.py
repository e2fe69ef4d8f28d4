"""Names of exported files: what data say of themselves never leads out of the folder they are written to."""

from __future__ import annotations

from typing import Final

from shards.export.errors import ExportError

_LONGEST: Final = 255
"""Bytes of a name on the file systems in use."""
_FOREIGN: Final = frozenset('/\\:*?"<>|')
"""What separates folders, or no file on Windows may be called."""


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
