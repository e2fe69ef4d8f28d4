"""Processes that are forked from one which has imported what they need: a second or two less for each of them.

What is forked is a Python process like any other: it has its own environment, files and exit code, and can be killed.
What libraries read from the environment when they are imported stays as it was then.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, Self

COMMANDS = (
    "PIL.ImageOps",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "aiohttp",
    "builder.command_line",
    "datasets",
    "huggingface_hub.hf_api",
    "huggingface_hub.hf_file_system",
    "huggingface_hub.repocard",
    "pyarrow.parquet",
    "rich.console",
    "rich.table",
    "scipy.io",
    "shards.hub.publish",
)
"""Modules that commands of the publisher and users of the loader import."""


class WarmProcess:
    """Starts processes that have imported some modules already.

    Args:
        environment: All environment variables at the time of the imports.
        modules: What is imported.
    """

    def __init__(self, environment: Mapping[str, str], modules: Iterable[str] = COMMANDS) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *modules],
                env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                cwd=Path(__file__).parents[2],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def start(
        self, arguments: Iterable[str], environment: Mapping[str, str], cwd: Path, stdin: int = subprocess.DEVNULL
    ) -> Forked:
        """As ``python ARGUMENTS``, which begin with ``-m MODULE`` or ``-c CODE``."""
        told = {"arguments": list(arguments), "environment": dict(environment), "cwd": str(cwd)}
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - `Forked` closes them
        status, theirs = os.pipe()
        given = os.open(os.devnull, os.O_RDONLY) if stdin == subprocess.DEVNULL else os.dup(stdin)
        text = json.dumps(told).encode()
        socket.send_fds(self._socket, [len(text).to_bytes(8, "big")], [given, out.fileno(), err.fileno(), theirs])
        self._socket.sendall(text)
        os.close(given)
        os.close(theirs)
        return Forked(status, out, err)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.wait()


class Forked:
    """A process that was started; what `subprocess.Popen` offers of use in tests.

    Attributes:
        returncode: As `subprocess.Popen` has it.
    """

    def __init__(self, status: int, out: IO[bytes], err: IO[bytes]) -> None:
        self._status, self._out, self._err = status, out, err
        self.returncode: int | None = None
        self.pid = self._told(None)

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has written, when it has ended."""
        self.returncode = self._told(timeout)
        os.close(self._status)
        said = []
        for file in (self._out, self._err):
            file.seek(0)
            said.append(file.read().decode())
            file.close()
        return said[0], said[1]

    def _told(self, timeout: float | None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        held = b""
        while len(held) < 8:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([self._status], [], [], left)[0]:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired("a forked process", timeout or 0)
            data = os.read(self._status, 8 - len(held))
            if not data:
                raise ChildProcessError("the process that others are forked from has ended")
            held += data
        return int.from_bytes(held, "big", signed=True)


def _serve(asked: socket.socket) -> dict[str, Any] | None:
    """Fork a process whenever one is asked for.

    Returns:
        In a process that was forked, with its files and environment in place: what it was asked. In this one, when
        nobody asks any more: None.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for watchers
    while True:
        head, files, _, _ = socket.recv_fds(asked, 8, 4)
        if not head:
            return None
        text = b""
        while len(text) < int.from_bytes(head, "big"):
            text += asked.recv(1 << 20)
        if os.fork() == 0:
            asked.close()
            told: dict[str, Any] = json.loads(text)
            _watched(files.pop())
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            os.environ.clear()
            os.environ.update(told["environment"])
            os.chdir(told["cwd"])
            return told
        for file in files:
            os.close(file)


def _watched(status: int) -> None:
    """Go on in a process whose number and then exit code are written to a pipe."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child:
        os.write(status, child.to_bytes(8, "big", signed=True))
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(status, ended.to_bytes(8, "big", signed=True))
        os._exit(0)
    os.close(status)


def _run(kind: str, what: str, *arguments: str) -> None:
    if kind == "-m":
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *arguments]
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as python -c does


def _exit_code(arguments: list[str]) -> int:
    try:
        _run(*arguments)
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        sys.stderr.write(f"{stop.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """End as Python does, but for the destructors of libraries: their threads are not there after a fork."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        for module in sys.argv[2:]:
            importlib.import_module(module)
        wanted = _serve(connection)
    if wanted is not None:
        _end(_exit_code(wanted["arguments"]))
