# PYTHON_ARGCOMPLETE_OK
"""The command ``sa-med2d``: its parser, and errors in words.

Nothing is imported before it is needed: a command declares its arguments with light imports, and imports what it works
with when it is called.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from builder.commands import build, demo, fetch, import_release, sources
from builder.commands.exit_codes import FAILED, INTERRUPTED
from builder.commands.usage import help_of
from shards.arguments import missing
from shards.command_line import add_commands
from shards.console import complain, console


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 all built (or nothing found wrong), 1 failed or no case built, 2 wrong usage, 3 built with quarantined cases,
        130 interrupted.
    """
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        _complete(parser)
    _print_anything()
    if threading.current_thread() is threading.main_thread():  # elsewhere signals are not ours to handle
        signal.signal(signal.SIGTERM, _interrupt)
    options = argparse.Namespace(extra=build.EXTRA)  # until a command says its own
    try:
        parser.parse_args(_without_nul(parser, arguments), options)
        return int(options.run(options))
    except KeyboardInterrupt:
        _complain("interrupted; run the same command again to go on from the cases that are finished")
        return INTERRUPTED
    except ModuleNotFoundError as error:
        _complain(missing("this command", error, options.extra))
    except Exception as error:
        for sentence in _words(error, getattr(options, "out", None)):
            _complain(sentence)
    return FAILED


def _print_anything() -> None:
    """Have what a stream cannot encode, such as a file name that is no UTF-8, printed with backslashes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _without_nul(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> Sequence[str] | None:
    """Refuse what no file can be called, before Python does in words of its own."""
    for argument in arguments or ():
        if "\0" in argument:
            parser.error(f"{argument!r}: no name holds a NUL")
    return arguments


def _complain(text: str) -> None:
    from sa_med2d_20m import redacted  # noqa: PLC0415 - only errors need it

    text = redacted(text)
    try:
        complain(console(), text)
    except ModuleNotFoundError:  # Rich comes with the extras
        sys.stderr.write(f"error: {text}\n")


def _interrupt(*_: object) -> None:
    """A polite request to stop ends a command as Ctrl-C does."""
    raise KeyboardInterrupt


def _words(error: Exception, out: object) -> list[str]:
    """What is said of an error that is the reader's to mend; any other is raised again.

    Args:
        error: The error.
        out: Where the command worked, for errors that do not say it.
    """
    from concurrent.futures import BrokenExecutor  # noqa: PLC0415 - only errors need them

    from builder.errors import CaseError, RecipeError  # noqa: PLC0415
    from sa_med2d_20m import SAMed2DError  # noqa: PLC0415
    from shards.processes import WORKER_DIED  # noqa: PLC0415
    from shards.store import store_errors  # noqa: PLC0415

    try:
        with store_errors():
            raise error
    except RecipeError as wrong:
        return wrong.problems
    except CaseError as wrong:
        return [f"{wrong}; stopped here because of --strict"]
    except (FileExistsError, NotADirectoryError) as wrong:
        return [f"{wrong.filename or out or 'output'}: a file is where a folder is needed; choose another folder"]
    except PermissionError as wrong:
        return [
            f"{wrong.filename or out or 'output'}: {wrong.strerror or wrong}; choose another place, or see to rights"
        ]
    except OSError as wrong:
        return [f"{wrong.filename or out or 'output'}: {wrong.strerror or wrong}; run the same command again to go on"]
    except (SAMed2DError, BrokenExecutor) as wrong:
        return [WORKER_DIED if isinstance(wrong, BrokenExecutor) else str(wrong)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sa-med2d",
        description="Medical segmentation datasets to WebDataset shards that stream by modality and by licence.",
        epilog="Exit codes: 0 all built, 1 failed or no case built, 2 wrong usage, 3 built with quarantined cases, "
        "130 interrupted. "
        'Completion in bash and zsh, with the package argcomplete: eval "$(register-python-argcomplete sa-med2d)".',
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    parser.set_defaults(run=help_of(parser))
    commands = parser.add_subparsers(metavar="COMMAND")
    build.add(commands)
    demo.add(commands)
    fetch.add(commands)
    import_release.add(commands)
    sources.add(commands)
    add_commands(commands)
    return parser


class _Version(argparse.Action):
    """Print the version of the installed package, which is looked up only now."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # noqa: PLC0415

        sys.stdout.write(f"{parser.prog} {version('sa-med2d-20m')}\n")
        parser.exit()


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how a line may go on."""
    import argcomplete  # noqa: PLC0415 - who asks has it

    argcomplete.autocomplete(parser)
