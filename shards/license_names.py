"""Licences by the names that the Hub takes in a card."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

OTHER: Final = "other"
"""What the Hub calls a licence that is not on its list; a name and a file go with it."""
_UNKNOWN: Final = "unknown"

_SAME: Final = frozenset(
    {
        "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0",
        "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
        "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "unlicense",
        "unknown",
    }
)  # fmt: skip
"""Those that the Hub names as SPDX does, in lower case: read at https://huggingface.co/docs/hub/repositories-licenses.
"""
_OTHERWISE: Final = {
    "gpl-2.0-only": "gpl-2.0",
    "gpl-2.0-or-later": "gpl-2.0",
    "gpl-3.0-only": "gpl-3.0",
    "gpl-3.0-or-later": "gpl-3.0",
    "odbl-1.0": "odbl",
    "odc-by-1.0": "odc-by",
    "pddl-1.0": "pddl",
}
"""Those that it names otherwise, at the same address."""


def hub_licenses(licenses: Iterable[str]) -> list[str]:
    """What stands for some licences in a card, sorted; what the Hub does not know is ``other``, the last.

    >>> hub_licenses(["CC-BY-4.0", "ODbL-1.0", "LicenseRef-Ours"]), hub_licenses([])
    (['cc-by-4.0', 'odbl', 'other'], ['unknown'])
    """
    names = {_hub_license(name.lower()) for name in licenses}
    known = sorted(names - {OTHER})
    return [*known, *sorted(names & {OTHER})] or [_UNKNOWN]


def _hub_license(name: str) -> str:
    return name if name in _SAME else _OTHERWISE.get(name, OTHER)
