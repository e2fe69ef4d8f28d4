"""Commands whose arguments take time to declare, because what they choose from must be imported."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from builder.commands.exit_codes import FAILED
from shards.arguments import missing


class LateParser(argparse.ArgumentParser):
    """A parser that may declare its arguments when its command is chosen."""

    _declare: Callable[[argparse.ArgumentParser], None] | None = None

    def declare_late(self, declare: Callable[[argparse.ArgumentParser], None]) -> None:
        """Have arguments declared when this parser is used.

        Args:
            declare: Declares them.
        """
        self._declare = declare
        if self.prog.rpartition(" ")[2] in os.environ.get("COMP_LINE", "").split():
            self._declare_now()  # argcomplete looks for arguments before it parses

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See `argparse.ArgumentParser`."""
        self._declare_now()
        return super().parse_known_args(args, namespace)

    def _declare_now(self) -> None:
        declare, self._declare = self._declare, None
        if declare is None:
            return
        try:
            declare(self)
        except ModuleNotFoundError as error:
            sys.stderr.write(f"error: {missing('this command', error, self.get_default('extra'))}\n")
            self.exit(FAILED)
