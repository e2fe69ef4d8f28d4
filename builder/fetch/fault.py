"""Why something could not be fetched."""

from __future__ import annotations

from sa_med2d_20m import SAMed2DError


class FetchError(SAMed2DError):
    """A file could not be fetched; the message says which, what was expected, what came, and what to do."""


class DamagedError(FetchError):
    """What came is not whole, though nobody said before what it should be: another try may be luckier."""


class RefusedError(FetchError):
    """The host gives the file to people only, so that one must get it by hand."""
