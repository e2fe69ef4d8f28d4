"""Which cases of a source a recipe takes: by name, by pattern, or by a range of numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from builder.sources.table import Table

_RANGE: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_LOOSE: Final = re.compile(r"[*?\[-]")
_NUMBER: Final = re.compile(r"[0-9]+")


def _ascending(entry: str) -> str:
    found = _RANGE.fullmatch(entry)
    if found is not None and int(found[1]) > int(found[2]):
        raise ValueError(f"{entry!r}: expected a range from the smaller number to the larger, {found[2]}-{found[1]}")
    return entry


Entry = Annotated[str, Field(min_length=1), AfterValidator(_ascending)]


class Cases(Table):
    """``[cases]``: which of the cases that are found the source has; the others are counted and left out.

    An entry is the name of a case, as ``{case}`` or ``files.case`` gives it; a pattern over names with ``*`` and ``?``;
    or a range of numbers such as ``"0001-0500"``, both ends meant, which fits a name whose last number lies in it.

    Attributes:
        only: The source has the cases that fit one of these, and no other.
        leave_out: It has none of the cases that fit one of these.
    """

    only: Annotated[list[Entry], Field(min_length=1)] | None = None
    leave_out: list[Entry] = []

    def takes(self, name: str) -> bool:
        """Whether the source has a case of this name."""
        return (self.only is None or _any_fits(self.only, name)) and not _any_fits(self.leave_out, name)

    def idle(self, names: Iterable[str]) -> list[str]:
        """The entries that fit none of the names of all cases that are found, as key and entry."""
        known = list(names)
        listed = [("only", entry) for entry in self.only or ()] + [("leave_out", entry) for entry in self.leave_out]
        return [f"cases.{key}: {entry!r}" for key, entry in listed if not any(fits(entry, name) for name in known)]


def _any_fits(entries: Iterable[str], name: str) -> bool:
    return any(fits(entry, name) for entry in entries)


def fits(entry: str, name: str) -> bool:
    """Whether an entry of ``[cases]`` means a case.

    >>> fits("0001-0500", "amos_0500"), fits("0001-0500", "amos_0501"), fits("ATM_1?4", "ATM_164")
    (True, False, True)
    """
    if entry == name:
        return True
    if not _LOOSE.search(entry):  # of the names of many cases each is looked at for each case
        return False
    found = _RANGE.fullmatch(entry)
    if found is None:
        return fnmatchcase(name, entry)
    numbers = _NUMBER.findall(name)
    return bool(numbers) and int(found[1]) <= int(numbers[-1]) <= int(found[2])
