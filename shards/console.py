"""How commands speak: progress and complaints on standard error, tables of results on standard output.

Rich is imported when a command first speaks, so that ``--help`` does not wait for it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

LOG_WIDTH: Final = 160
"""Columns of what goes to a file or a pipe, which have no width of their own."""


def console() -> Console:
    """The console for everything that is no result: standard error."""
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(stderr=True, soft_wrap=True, width=None if sys.stderr.isatty() else LOG_WIDTH)


def results() -> Console:
    """The console for tables that are a command's result: standard output."""
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(width=None if sys.stdout.isatty() else LOG_WIDTH)


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
