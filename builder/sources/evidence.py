"""Where the facts of a recipe were read, so that a reader can check them."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, Field

from builder.sources.table import Table

Checked = Literal["real", "two", "one", "none"]
"""How a fact was checked: seen in real files, read in two independent places, in one, in none."""
CHECKED: Final = get_args(Checked)

_REPOSITORY: Final = re.compile(r"github:[\w.-]+/[\w.-]+@[0-9a-f]{7,40}:\S+")
_PAGE: Final = re.compile(r"https?://[^\s/]+\.[^\s/]+(?:/\S*)?")
_DOI: Final = re.compile(r"doi:10\.\d{4,9}/\S+")


def _address(text: str) -> str:
    if not any(kind.fullmatch(text) for kind in (_PAGE, _REPOSITORY, _DOI)):
        raise ValueError(
            "expected the address of a page (https://...), doi:10..., or a file in a repository: "
            "github:owner/name@commit:path"
        )
    return text


Address = Annotated[str, AfterValidator(_address)]
"""A page, a DOI, or a file of a public repository at a commit."""
Addresses = Annotated[list[Address], Field(min_length=1)]


class Sureness(Table):
    """``[evidence.checked]``: how sure layout and labels are.

    ``real``: seen in real files of the source. ``two``: read in two places of different groups. ``one``: read in one
    place. ``none``: known from nowhere.

    Attributes:
        layout: How the paths in ``[files]`` were checked.
        labels: How the values and names in ``[labels]`` were checked.
    """

    layout: Checked = "none"
    labels: Checked = "none"


class Evidence(Table):
    """``[evidence]``: where the facts of a recipe stand, as addresses.

    An address is a page (``https://...``), ``doi:10...``, or a file of a public repository,
    ``github:owner/name@commit:path``.

    Attributes:
        layout: Where the names of folders and files stand.
        labels: Where the values of masks and their classes stand.
        license: Where the licence stands; ``license_evidence`` is the place that decides, others go here.
        split: Where the official split stands.
        download: Where the way to the data stands.
        checked: See `Sureness`.
    """

    layout: Addresses | None = None
    labels: Addresses | None = None
    license: Addresses | None = None
    split: Addresses | None = None
    download: Addresses | None = None
    checked: Sureness = Sureness()
