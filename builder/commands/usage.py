"""What a command does that has commands of its own and was given none: it shows them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from builder.commands.exit_codes import USAGE


def help_of(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """The ``run`` of a parser whose commands run themselves."""

    def run(_: argparse.Namespace) -> int:
        parser.print_help(sys.stderr)
        return USAGE

    return run
