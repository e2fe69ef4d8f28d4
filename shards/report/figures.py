"""The figures of a report, each from the statistics of a set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sa_med2d_20m import SPLITS
from shards.console import plural
from shards.report.collect import Counted
from shards.report.drawing import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    PAPER,
    SERIES,
    count_in_words,
    drawn,
    plain_axis,
)
from shards.report.quantities import QUANTITIES
from shards.report.statistics import FEW, MANY, NO_ORGAN, Counts, counts_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """A figure, drawn.

    Attributes:
        name: Its file name without suffix.
        title: What it shows.
        alt: What is to be seen on it, for who does not see it.
        svg: As SVG.
        png: As PNG.
    """

    name: str
    title: str
    alt: str
    svg: bytes
    png: bytes


@dataclass(frozen=True)
class _Sketch:
    """A figure that is still to be drawn, in inches of height."""

    name: str
    title: str
    alt: str
    height: float
    draw: Callable[[Figure], None]


_Style = dict[str, Any]
"""Options of a text."""
MAIN: Final = ("modalities", "organs", "classes", "longer_side", "mask_share")
"""Those that a dataset card shows: the figures of the paper."""
_MOST_BARS: Final = 40
_MOST_NAMES: Final = 36
"""Names of classes that are listed below the curve of their masks, in each of its two bands."""
_BAR: Final = 0.22
"""Inches of height of a bar."""
_HEAD, _LINE = 13.0, 10.2
"""Points of height of a heading and of a line of these names."""
_HATCHES: Final = ("", "////", "....", "xxxx", "----")
"""Of bars that lie upon each other, so that they are not told apart by colour alone; with seven colours 35 looks."""
_GROUPS: Final = ("head_and_neck", "thorax", "abdomen", "pelvis", "lesion", "other")


def plots(statistics: Mapping[str, Any], counted: Counted, only: Sequence[str] | None = None) -> Iterator[Plot]:
    """Draw the figures of which there is something to show.

    Args:
        statistics: See `shards.report.statistics`.
        counted: What they were made of.
        only: Names of those that are wanted; all by default.
    """
    for sketch in _sketches(statistics, counted):
        if only is None or sketch.name in only:
            files = drawn(sketch.height, sketch.draw, sketch.title, sketch.alt)
            yield Plot(sketch.name, sketch.title, sketch.alt, files.svg, files.png)


def _sketches(statistics: Mapping[str, Any], counted: Counted) -> Iterator[_Sketch]:
    if not statistics["total"]["images"]:
        return
    images_by, masks_by = statistics["images_by"], statistics["masks_by"]
    yield _modalities(images_by["modality"])
    total = statistics["total"]
    if total["masks"]:
        yield _organs(statistics["classes"], masks_by["organ"])
        yield _classes(statistics["classes"], statistics["tail"])
        yield _bars("groups", "Masks by group", masks_by["group"], _named("group"), count="masks", total=total)
    for name, title, key in (
        ("submodalities", "Images by sub-modality", "submodality"),
        ("sources", "Images by source", "source"),
        ("licenses", "Images by licence", "license"),
        ("tiers", "Images by tier of licences: each tier holds the narrower ones", "tier"),
    ):
        yield _bars(name, title, images_by[key], _named(key), count="images", total=total)
    yield _splits(images_by["split"], statistics["people"]["split"])
    for name in QUANTITIES:
        if statistics["quantities"][name]["all"] is not None:
            yield _distribution(name, statistics["quantities"][name], counts_of(name, counted.values))
    if statistics["dropped"] is not None and _lost(statistics["dropped"]):
        yield _dropped(_lost(statistics["dropped"]))
    if statistics["dropped"] is not None and statistics["dropped"]["class"]:
        yield _lost_classes(statistics["dropped"]["class"])


def _named(key: str) -> Callable[[Mapping[str, Any]], str]:
    """What a bar is called: sub-modalities with their modality, which several may share."""
    if key == "submodality":
        return lambda row: row["modality"] if row[key] == "00" else f"{row['modality']} {row[key]}"
    return lambda row: str(row[key])


# --- bars -------------------------------------------------------------------------------------------------------------


def _named_bars(axes: Axes, names: Sequence[str], step: float = 1.0) -> Any:
    """Prepare horizontal bars from top to bottom; gives their places."""
    places = np.arange(len(names)) * step
    axes.set_yticks(places, names)
    axes.set_ylim(places[-1] + step / 2, -step / 2)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)
    return places


def _counts_axis(axes: Axes, largest: float) -> None:
    """A logarithmic axis of counts, from 1, with room for the numbers beside bars."""
    axes.set_xscale("log")
    axes.set_xlim(0.8, max(largest, 10) ** 1.12 * 1.6)
    plain_axis(axes.xaxis)


def _write_counts(axes: Axes, places: Any, counts: Sequence[float]) -> None:
    for place, count in zip(places, counts, strict=True):
        axes.annotate(
            count_in_words(count),
            (max(count, 0.8), place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=INK,
        )


def _modalities(rows: Sequence[Mapping[str, Any]]) -> _Sketch:
    title = "Images and masks by modality"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = _named_bars(axes, [row["modality"] for row in rows])
        for name, color, shift in (("images", BLUE, -0.2), ("masks", ORANGE, 0.2)):
            counts = [row[name] for row in rows]
            axes.barh(places + shift, counts, height=0.38, color=color, label=name)
            _write_counts(axes, places + shift, counts)
        _counts_axis(axes, max(max(row["images"], row["masks"]) for row in rows))
        axes.set_title(title)
        figure.legend(loc="outside lower left", ncols=2)

    counts = ((row["modality"], plural(row["images"], "image"), plural(row["masks"], "mask")) for row in rows)
    said = "; ".join(f"{modality} {images}, {masks}" for modality, images, masks in counts)
    return _Sketch("modalities", title, f"{said}.", 1.3 + 2 * _BAR * len(rows), draw)


def _bars(
    name: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    label: Callable[[Mapping[str, Any]], str],
    *,
    count: str,
    total: Mapping[str, int],
) -> _Sketch:
    """A bar for each row, in their order."""
    shown = rows[:_MOST_BARS]
    names, counts = [label(row) for row in shown], [row[count] for row in shown]
    more = f", the largest {len(shown)} of {len(rows)}" if len(rows) > len(shown) else ""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = _named_bars(axes, names)
        axes.barh(places, counts, height=0.72, color=BLUE)
        _write_counts(axes, places, counts)
        _counts_axis(axes, max(counts))
        axes.set_title(title + more)
        axes.set_xlabel(f"{count}, of {total[count]:,} in all")

    said = "; ".join(f"{one} {number:,}" for one, number in zip(names[:8], counts[:8], strict=True))
    return _Sketch(name, title, f"{title}{more}: {said}.", 1.1 + _BAR * len(shown), draw)


def _organs(classes: Sequence[Mapping[str, Any]], organs: Sequence[Mapping[str, Any]]) -> _Sketch:
    """Masks of each organ, in blocks of the group that most of its masks are of."""
    title = "Masks by organ"
    groups: dict[str, dict[str, int]] = {}
    for row in classes:
        own = groups.setdefault(row["organ"] or NO_ORGAN, {})
        own[row["group"]] = own.get(row["group"], 0) + row["masks"]
    group_of = {organ: max(sorted(own), key=own.__getitem__) for organ, own in groups.items()}
    group_of[NO_ORGAN] = NO_ORGAN
    order = [*_GROUPS, NO_ORGAN]
    rows = sorted(organs, key=lambda row: (order.index(group_of[row["organ"]]), -row["masks"], row["organ"]))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = _named_bars(axes, ["no organ" if row["organ"] == NO_ORGAN else row["organ"] for row in rows])
        largest = max(row["masks"] for row in rows)
        axes.set_title(title)
        _counts_axis(axes, largest)
        for group in dict.fromkeys(group_of[row["organ"]] for row in rows):
            own = [number for number, row in enumerate(rows) if group_of[row["organ"]] == group]
            color = GREY if group == NO_ORGAN else SERIES[_GROUPS.index(group)]
            counts = [rows[number]["masks"] for number in own]
            axes.barh(places[own], counts, height=0.72, color=color)
            _write_counts(axes, places[own], counts)
            if group != NO_ORGAN:  # the name of the group stands beside its bars: colour is not all that tells it
                middle = (places[own[0]] + places[own[-1]]) / 2
                words = "other groups" if group == "other" else group.replace("_", " ")
                text: _Style = {"transform": axes.get_yaxis_transform(), "va": "center", "fontweight": "bold"}
                axes.text(1.02, middle, words, color=INK, clip_on=False, **text)
                span = [places[own[0]] - 0.4, places[own[-1]] + 0.4]
                transform = axes.get_yaxis_transform()
                axes.plot([1.005, 1.005], span, color=color, linewidth=3, transform=transform, clip_on=False)

    said = "; ".join(f"{row['organ']} {row['masks']:,}" for row in organs[:8])
    return _Sketch("organs", title, f"{title}, the largest: {said}.", 1.1 + _BAR * len(rows), draw)


def _splits(images: Sequence[Mapping[str, Any]], people: Sequence[Mapping[str, Any]]) -> _Sketch:
    title = "Splits"
    counts = {
        "images": {row["split"]: row["images"] for row in images},
        "masks": {row["split"]: row["masks"] for row in images},
        **{name: {row["split"]: row[name] for row in people} for name in ("patients", "cases", "volumes")},
    }
    rows = {name: own for name, own in counts.items() if sum(own.values())}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = _named_bars(axes, [f"{name} ({count_in_words(sum(own.values()))})" for name, own in rows.items()])
        start = np.zeros(len(rows))
        for split, color in zip(SPLITS, (BLUE, ORANGE, GREY), strict=True):
            shares = np.array([100 * own.get(split, 0) / sum(own.values()) for own in rows.values()])
            axes.barh(places, shares, left=start, height=0.66, color=color, label=split)
            for place, left, share, own in zip(places, start, shares, rows.values(), strict=True):
                if share > 6:
                    text = f"{share:.0f} %, {count_in_words(own.get(split, 0))}" if share > 10 else f"{share:.0f} %"
                    color_of_text = PAPER if split == "train" else "#111111"
                    middle = left + share / 2
                    axes.text(middle, place, text, ha="center", va="center", fontsize=8, color=color_of_text)
            start = start + shares
        axes.set_xlim(0, 100)
        axes.set_xlabel("%, from left to right: train, validation, test")
        axes.set_title(title)
        figure.legend(loc="outside lower left", ncols=3)

    said = "; ".join(
        f"{name}: {', '.join(f'{split} {own.get(split, 0):,}' for split in SPLITS)}" for name, own in rows.items()
    )
    return _Sketch("splits", title, f"{said}.", 1.5 + 0.36 * len(rows), draw)


# --- the long tail ----------------------------------------------------------------------------------------------------


def _classes(classes: Sequence[Mapping[str, Any]], tail: Mapping[str, Sequence[str]]) -> _Sketch:
    """Masks of each class from the commonest to the rarest; the names of two bands below."""
    title = "Masks of each class, from the commonest to the rarest"
    counts = np.array([row["masks"] for row in classes])
    rare, many = list(reversed(tail["below_1000"])), list(tail["from_100k_to_1m"])
    heads = [
        (f"{len(rare)} of {len(classes)} classes have fewer than 1,000 masks, the rarest first", rare),
        (f"{len(many)} have 100,000 to 1,000,000", many),
    ]
    blocks = [(head, _in_columns(names)) for head, names in heads]
    points = sum(_HEAD + _LINE * len(text.splitlines()) + _HEAD for _, text in blocks)

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, height_ratios=[3.0, points / 72])
        places = np.arange(1, len(counts) + 1)
        above.plot(places, counts, color=BLUE, linewidth=1.6, marker="o", markersize=2.5 if len(counts) < 120 else 0)
        above.set_yscale("log")
        above.set_ylim(0.8, max(counts[0] * 2, 2_000))
        above.set_xlim(0, len(counts) + 1)
        plain_axis(above.yaxis)
        above.grid(axis="y", linewidth=0.6)
        for low, high, color, words in (
            (0.8, FEW, ORANGE, "fewer than 1,000 masks"),
            (MANY[0], MANY[-1], BLUE, "100,000 to 1,000,000"),
        ):
            top = min(high, above.get_ylim()[1])
            if low < top:
                above.axhspan(low, top, color=color, alpha=0.13)
                # where the curve is not: it falls from left to right
                style: _Style = {"va": "bottom"} if high == FEW else {"ha": "right", "va": "top"}
                corner = (1.0, low * 1.2) if high == FEW else (float(len(counts)), top * 0.85)
                above.text(*corner, words, fontsize=8, color=FAINT, **style)
        above.set_ylabel("masks")
        above.set_xlabel("rank of the class")
        above.set_title(title)
        below.axis("off")
        down = 0.0
        for head, text in blocks:
            place: _Style = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
            below.annotate(head, (0, 1), xytext=(0, -down), fontsize=8.5, fontweight="bold", color=INK, **place)
            mono: _Style = {"family": "DejaVu Sans Mono", "fontsize": 6.6, "linespacing": 1.45, "color": FAINT}
            below.annotate(text, (0, 1), xytext=(0, -down - _HEAD), **place, **mono)
            down += 2 * _HEAD + _LINE * len(text.splitlines())

    first = "; ".join(f"{row['label']} {row['masks']:,}" for row in classes[:5])
    alt = f"{heads[0][0]}; {heads[1][0]}. The commonest: {first}."
    return _Sketch("classes", title, alt, 3.6 + points / 72, draw)


def _in_columns(names: Sequence[str], columns: int = 3, width: int = 41) -> str:
    """Names in columns of letters of one width; how many more there are stands last."""
    shown = [name if len(name) < width else f"{name[: width - 2]}…" for name in names[:_MOST_NAMES]]
    if not shown:
        return "none"
    rows = -(-len(shown) // columns)
    lines = ["".join(f"{name:<{width}}" for name in shown[start::rows]).rstrip() for start in range(rows)]
    more = len(names) - len(shown)
    return "\n".join([*lines, *([f"and {more:,} more: statistics.json has them all"] if more else [])])


# --- distributions ----------------------------------------------------------------------------------------------------


def _distribution(name: str, spread: Mapping[str, Any], found: Mapping[str, Counts]) -> _Sketch:
    """A histogram over all modalities, and below it how far each of them reaches."""
    title = spread["title"]
    modalities = sorted(found, key=lambda one: (-int(found[one][1].sum()), one))
    whole = spread["all"]
    linear, integral = name == "aspect", QUANTITIES[name].integral

    def draw(figure: Figure) -> None:
        height = 0.4 + _BAR * 1.2 * len(modalities)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.0, height])
        edges, bars = _histogram(found, linear=linear, integral=integral)
        above.stairs(bars, edges, fill=True, color=BLUE)
        above.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        above.set_ylabel(f"share of {spread['of']}")
        above.set_title(title)
        above.grid(axis="y", linewidth=0.6)
        above.set_axisbelow(True)
        if not linear:
            above.set_xscale("log")
        above.set_xlim(edges[0], edges[-1])
        if not linear:
            plain_axis(above.xaxis, whole=integral)
        places = _named_bars(below, modalities)
        for place, modality in zip(places, modalities, strict=True):
            own = spread["modalities"][modality]
            below.plot([own["p01"], own["p99"]], [place, place], color=GREY, linewidth=1.4, solid_capstyle="butt")
            below.plot([own["p25"], own["p75"]], [place, place], color=BLUE, linewidth=6, solid_capstyle="butt")
            below.plot(
                [own["p50"]], [place], marker="D", markersize=5, color=ORANGE, markeredgecolor=INK, markeredgewidth=0.7
            )
        unit = f"{spread['unit']}; " if spread["unit"] else ""
        below.set_xlabel(f"{unit}diamond: median, bar: middle half, line: 1 to 99 % of the {spread['of']}")

    unit = f" {spread['unit']}" if spread["unit"] else ""
    middle = f"half of the {spread['of']} between {whole['p25']:g} and {whole['p75']:g}"
    alt = f"{title}: median {whole['p50']:g}{unit}, {middle}."
    return _Sketch(name, title, alt, 3.3 + _BAR * 1.2 * len(modalities), draw)


def _histogram(found: Mapping[str, Counts], *, linear: bool, integral: bool) -> tuple[Any, Any]:
    """Edges, and the share of all values between them in per cent; zeros stand at the left end of a log axis."""
    values = np.concatenate([values for values, _ in found.values()])
    counts = np.concatenate([counts for _, counts in found.values()]).astype(float)
    positive = values[values > 0]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    if linear:
        edges = np.linspace(low - 0.02, max(high, low + 0.5) + 0.02, 49)
    else:
        edges = np.geomspace(low / 1.15, max(high * 1.15, low * 2), 49)
    if integral:  # as many whole numbers between two edges as it seems
        edges = np.unique(np.maximum(np.floor(edges), 0) + 0.5)
    heights, edges = np.histogram(np.maximum(values, edges[0]), edges, weights=counts)
    return edges, 100 * heights / counts.sum()


# --- what was left out ------------------------------------------------------------------------------------------------


def _lost(dropped: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Source -> reason -> share of its mask pixels that were left out, where there is any; the most first."""
    found: dict[str, dict[str, float]] = {}
    for row in dropped["source_and_reason"]:
        if row["share"]:
            found.setdefault(row["source"], {})[row["reason"]] = row["share"]
    return dict(sorted(found.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:_MOST_BARS])


def _per_cent(share: float) -> str:
    """A share as it stands beside a bar.

    >>> _per_cent(99.97), _per_cent(14.2), _per_cent(0.0263)
    ('100 %', '14 %', '0.026 %')
    """
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"


def _dropped(lost: Mapping[str, Mapping[str, float]]) -> _Sketch:
    title = "Mask pixels that rules and gates left out"
    reasons = sorted({reason for own in lost.values() for reason in own})

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = _named_bars(axes, list(lost))
        start = np.zeros(len(lost))
        for number, reason in enumerate(reasons):
            shares = np.array([100 * own.get(reason, 0.0) for own in lost.values()])
            look: _Style = {"color": SERIES[number % len(SERIES)], "hatch": _HATCHES[number % len(_HATCHES)]}
            axes.barh(places, shares, left=start, height=0.72, label=reason, edgecolor=PAPER, **look)
            start = start + shares
        for place, share in zip(places, start, strict=True):
            text: _Style = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 7.5}
            axes.annotate(_per_cent(share), (share, place), **text)
        axes.set_xlim(0, start.max() * 1.15)
        axes.set_xlabel("% of the source's mask pixels")
        axes.set_title(title)
        figure.legend(loc="outside lower left", ncols=4)

    said = "; ".join(f"{source} {_per_cent(100 * sum(own.values()))}" for source, own in list(lost.items())[:6])
    return _Sketch("dropped", title, f"{title}, by source: {said}.", 1.4 + _BAR * len(lost), draw)


def _lost_classes(classes: Sequence[Mapping[str, Any]]) -> _Sketch:
    """The classes that rules and gates took most from, by the share of their mask pixels."""
    title = "Classes: mask pixels left out"  # short, as names of classes may be long
    shown = classes[:_MOST_BARS]
    more = f"; the largest {len(shown)} of {len(classes)}" if len(classes) > len(shown) else ""
    shares = [100 * row["share"] for row in shown]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = _named_bars(axes, [row["label"] for row in shown])
        axes.barh(places, shares, height=0.72, color=BLUE)
        for place, share in zip(places, shares, strict=True):
            text: _Style = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 7.5}
            axes.annotate(_per_cent(share), (share, place), **text)
        axes.set_xlim(0, max(shares) * 1.15)
        axes.set_xlabel(f"% of the mask pixels of the class, left out by rules and gates{more}")
        axes.set_title(title)

    said = "; ".join(f"{row['label']} {_per_cent(100 * row['share'])}" for row in shown[:8])
    return _Sketch("dropped_classes", title, f"{title}{more}: {said}.", 1.1 + _BAR * len(shown), draw)
