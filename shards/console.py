"""How commands speak: progress and complaints on standard error, tables of results on standard output.

Rich is imported when a command first speaks, so that ``--help`` does not wait for it.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

from shards.plain_text import CONTROL, visible

LOG_WIDTH: Final = 160
"""Columns of what goes to a file or a pipe, which have no width of their own."""

PERIOD: Final = 30.0
"""Seconds between lines of progress where there is no terminal."""


def console() -> Console:
    """The console for everything that is no result: standard error."""
    return _console(stderr=True, soft_wrap=True, width=None if sys.stderr.isatty() else LOG_WIDTH)


def results(*, quiet: bool = False) -> Console:
    """The console for a command's result: standard output.

    Args:
        quiet: Nothing is printed, because the result is printed as JSON.
    """
    return _console(quiet=quiet, width=None if sys.stdout.isatty() else LOG_WIDTH)


def _console(**options: Any) -> Console:
    """A console that shows control characters in texts, and does not obey them: names may be somebody else's."""
    from rich.console import Console  # noqa: PLC0415 - see above

    class PlainConsole(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(visible(text), **how)

    return PlainConsole(**options)


def complain(console: Console, text: str) -> None:
    """Print an error as it is: brackets in it are no markup."""
    console.print("error: ", style="bold red", end="")
    console.print(text, markup=False, highlight=False)


def plural(count: int, noun: str) -> str:
    """A number of things in words.

    >>> plural(1, "case"), plural(1200, "case")
    ('1 case', '1,200 cases')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def in_bytes(size: int) -> str:
    """A number of bytes in words.

    >>> in_bytes(999), in_bytes(27_300_000_000)
    ('999 bytes', '27.3 GB')
    """
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def printable(text: str) -> str:
    r"""A line as a terminal may get it: what a file name holds beside letters is escaped.

    >>> printable("a\x1b[31m.png")
    'a\\x1b[31m.png'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text
    )


def print_table(console: Console, table: Table) -> None:
    """Print a table; where it is too narrow for a name in one piece, a line or more for each row instead."""
    table.columns[0].no_wrap = True  # names that one must type are never cut
    if table.__rich_measure__(console, console.options).minimum <= console.width:
        console.print(table)
        return
    first, *others = table.columns
    for name, *cells in zip(*(column.cells for column in table.columns), strict=True):
        facts = ", ".join(f"{column.header} {cell}" for column, cell in zip(others, cells, strict=True) if cell)
        console.print(f"[bold]{first.header} {name}[/]: {facts}", highlight=False, soft_wrap=True)


def print_json(record: Any) -> None:
    """Print the result of a command as one JSON document on standard output."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    # halves of characters, as names of files may hold, as JSON escapes them
    text = text.encode("utf-8", "backslashreplace").decode()
    sys.stdout.write("\n".join(CONTROL.sub(_spelled, line) for line in text.split("\n")) + "\n")


def _spelled(found: re.Match[str]) -> str:
    """A character of a text as JSON spells it."""
    return json.dumps(found[0])[1:-1] if ord(found[0]) > 0x9F else f"\\u{ord(found[0]):04x}"


@contextmanager
def working(console: Console, text: Callable[[], str]) -> Iterator[None]:
    """Say how far a command is while a block runs: a line that changes on a terminal, elsewhere one a `PERIOD`.

    Args:
        console: Where it is said.
        text: Gives what is said.
    """
    if console.is_terminal:
        from rich.status import Status  # noqa: PLC0415 - see above

        status = Status("", console=console)
        with status, _again(0.25, lambda: status.update(text().replace("[", "\\["))):
            yield
        return
    with _again(PERIOD, lambda: console.print(text(), markup=False, highlight=False)):
        yield


@contextmanager
def counting(console: Console, text: str) -> Iterator[Callable[[int, int], None]]:
    """`working` for what is counted: gives a function that is told how many, of how many, are done.

    Args:
        console: Where it is said.
        text: What is counted.
    """
    done = [0, 0]

    def count(now: int, of: int) -> None:
        done[:] = now, of

    with working(console, lambda: f"{text}: {done[0]:,} of {done[1]:,}" if done[1] else text):
        yield count


@contextmanager
def _again(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Do something again and again in a thread while a block runs."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(seconds):
            act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
