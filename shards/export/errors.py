"""How an export can fail."""

from __future__ import annotations

from sa_med2d_20m import SAMed2DError


class ExportError(SAMed2DError):
    """Something cannot be exported; the message says what to do."""
