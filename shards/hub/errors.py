"""How publishing can fail."""

from __future__ import annotations

from sa_med2d_20m import SAMed2DError


class PublishError(SAMed2DError):
    """Something cannot be published, withdrawn or looked at; the message says what to do."""
