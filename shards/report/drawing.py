"""How figures look, on paper and on a screen, light and dark; and their bytes as SVG and PNG.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with any common kind of colour
blindness tell apart; the two that are used together most often also differ in grey. An SVG has each colour twice:
plainly, for print and for programs that know no style sheets, and as a variable, which a browser in dark mode sets to
the other. A PNG is dark on white.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, INK, FAINT, RULE = "#fefefe", "#1b1f24", "#59636e", "#d8dee4"
BLUE, ORANGE, GREEN, RED, SKY, PINK, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#56b4e9",
    "#cc79a7",
    "#8a939c",
)
SERIES: Final = (BLUE, ORANGE, GREEN, RED, PINK, SKY, GREY)
_IN_THE_DARK: Final = {
    PAPER: "#0d1117",
    INK: "#e6edf3",
    FAINT: "#9aa4ae",
    RULE: "#30363d",
    BLUE: "#3d9be0",
    ORANGE: "#f0b132",
    GREEN: "#2bbd93",
    RED: "#f07b3f",
    SKY: "#8fd0f7",
    PINK: "#e39bc4",
    GREY: "#a3acb5",
}
_DOTS: Final = 144
"""Dots of a PNG per inch: sharp on a screen of two pixels to a point, and on paper at half its width."""
WIDTH: Final = 8.0
"""Inches, of every figure."""
_STYLE: Final[dict[Any, Any]] = {
    "axes.edgecolor": FAINT,
    "axes.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],  # matplotlib brings it, so that figures are the same everywhere
    "font.size": 9,
    "grid.color": RULE,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "patch.linewidth": 0,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "path",
    "svg.hashsalt": "sa-med2d",
    "text.color": INK,
    "text.parse_math": False,  # names of sources may hold what formulas begin with
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
}


def drawn(height: float, draw: Callable[[Figure], None], title: str, alt: str) -> Drawn:
    """Draw a figure; the same figure gives the same bytes with the same release of matplotlib.

    Args:
        height: Inches.
        draw: Draws on it.
        title: Its title, for readers of the screen too.
        alt: What is to be seen on it, in a sentence or two.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - only a report needs it
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with _style():
        figure = Figure(figsize=(WIDTH, height), dpi=_DOTS, layout="constrained")
        draw(figure)
        png, svg = io.BytesIO(), io.BytesIO()
        # not by `savefig`, which draws everything twice
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
        figure.set_layout_engine("none")  # it is laid out already
        figure.dpi = 72  # an SVG counts in points
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
    return Drawn(_adaptive(svg.getvalue().decode(), title, alt).encode(), png.getvalue())


@dataclass(frozen=True)
class Drawn:
    """A figure as files."""

    svg: bytes
    png: bytes


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl  # noqa: PLC0415

    with mpl.rc_context():
        mpl.rcdefaults()  # not what the user has set for figures of their own
        mpl.rcParams.update(_STYLE)
        yield


def _adaptive(svg: str, title: str, alt: str) -> str:
    """An SVG with a title, a description, and colours that follow the reader's."""
    light = "".join(f"--{color[1:]}:{color};" for color in _IN_THE_DARK)
    dark = "".join(f"--{color[1:]}:{other};" for color, other in _IN_THE_DARK.items())
    style = f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    about = f"<title>{escape(title)}</title><desc>{escape(alt)}</desc>"
    svg = re.sub(r"(fill|stroke): (#[0-9a-f]{6})", _either, svg)
    svg = re.sub(r"\n? *<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r"(<svg\b)([^>]*>)", lambda found: f'{found[1]} role="img"{found[2]}{about}{style}', svg, count=1)


def _either(found: re.Match[str]) -> str:
    name, color = found[1], found[2]
    return f"{name}: {color}; {name}: var(--{color[1:]})" if color in _IN_THE_DARK else found[0]


def count_in_words(value: float) -> str:
    """A count that fits beside a bar.

    >>> count_in_words(950), count_in_words(12_400), count_in_words(2_345_000), count_in_words(99_960)
    ('950', '12.4k', '2.35M', '100k')
    """
    for size, unit in ((10**6, "M"), (10**3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}"


def plain_axis(axis: Any, *, whole: bool = False) -> None:
    """Ticks of a logarithmic axis, whose limits are set, as people say them; a short one has several to a power.

    Args:
        axis: Of matplotlib.
        whole: Whether it is of whole numbers, so that half a one is no tick.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: PLC0415

    low, high = axis.get_view_interval()
    if high < low * 300:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: "" if whole and value < 1 else _tick(value)))
    axis.set_minor_locator(NullLocator())


def _tick(value: float) -> str:
    return count_in_words(value) if value >= 1 and value == round(value) else f"{value:.6g}"
