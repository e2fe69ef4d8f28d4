"""Libraries kept from the terminal while a file is read: its damage is reported as an error of its case.

What is set belongs to the whole process, which may be somebody else's: it holds for the time of a call, and is as it
was before once the call has ended, however it ended.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_STDERR: Final = 2
_DECODERS: Final = re.compile(
    rb"""(?x) (?:
    libpng\ (?:error|warning): | Corrupt\ JPEG\ data: | Premature\ end\ of\ JPEG | Inconsistent\ progression\ sequence
    | Invalid\ SOS\ parameters | Unknown\ Adobe\ color | Warning:\ unknown\ JFIF
    | \w{0,40}(?:TIFF|Decode|Fax3|JPEGLib)\w{0,40}: | tempfile\.tif: | MetaImage: | MetaObject: | MET_\w{1,40}
    | Uncompress\ failed | \ {1,8}ideal\ = | \w{1,40}\ required\ and\ not\ defined
    ) [^\n]{0,400} \n"""
)
"""Lines of libpng, libjpeg, libtiff and MetaIO."""
_turn = threading.RLock()


@contextmanager
def quiet_logger(name: str) -> Iterator[None]:
    """Silence a logger, and those below it, as disabling it would not."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def caught_stderr() -> Iterator[list[str]]:
    """Keep what decoders in C write to the terminal, for the reason of their file.

    They write to file descriptor 2, which is that of the process. So one thread at a time catches it; another one that
    writes to it meanwhile, as progress bars do, is not lost: what is not of the form of decoders is written once the
    call has ended, unless no other thread runs that could have written it.

    Yields:
        A list that holds the lines once the block has ended.
    """
    said: list[str] = []
    with _turn:
        try:
            terminal = os.dup(_STDERR)
        except OSError:  # there is none
            yield said
            return
        alone = threading.active_count() == 1
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), _STDERR)
            try:
                yield said
            finally:
                os.dup2(terminal, _STDERR)
                os.close(terminal)
                file.seek(0)
                written = file.read()
                if written:
                    said += _lines_of_decoders(written, alone=alone)


def _lines_of_decoders(written: bytes, *, alone: bool) -> list[str]:
    """The lines of decoders in what was caught; the rest goes where it would have gone."""
    lines = written.splitlines() if alone else [found[0] for found in _DECODERS.finditer(written)]
    rest = b"" if alone else _DECODERS.sub(b"", written)
    while rest:
        rest = rest[os.write(_STDERR, rest) :]
    return [text for line in lines if (text := line.decode("utf-8", "replace").strip())]
