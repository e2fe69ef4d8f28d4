"""Libraries kept from the terminal while a file is read: its damage is reported as an error of its case.

What is set belongs to the whole process, which may be somebody else's: it holds for the time of a call, and is as it
was before once the call has ended, however it ended.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


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
