"""The figures that a dataset card shows, as files beside it."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from shards.card import CardFigure
from shards.paths import FIGURES
from shards.receipt import Receipt
from shards.report.rows import Rows


@dataclass(frozen=True)
class CardFigures:
    """Figures for a card.

    Attributes:
        listed: What the card says of them, in their order.
        files: Path -> content.
    """

    listed: tuple[CardFigure, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


def can_draw() -> bool:
    """Whether the extra that draws figures is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def card_figures(rows: Rows, receipts: Collection[Receipt]) -> CardFigures:
    """Draw the main figures of a set.

    Args:
        rows: Of all that the card is about.
        receipts: Of its shards.

    Raises:
        DatasetError: A file is no index of this version.
    """
    from shards.report.figures import MAIN  # noqa: PLC0415 - only who draws needs them
    from shards.report.summary import summarize  # noqa: PLC0415

    drawn = list(summarize(rows, receipts).plots(MAIN))
    listed = tuple(CardFigure(f"{FIGURES}/{one.name}.png", one.title, one.alt) for one in drawn)
    files = {f"{FIGURES}/{one.name}.{kind}": getattr(one, kind) for one in drawn for kind in ("png", "svg")}
    return CardFigures(listed, files)
