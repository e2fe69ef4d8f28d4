"""When those who work for an executor are not to be had."""

from __future__ import annotations

from sa_med2d_20m import SAMed2DError


class WorkerLostError(SAMed2DError):
    """Processes or nodes die without getting anything done, or cannot be reached; the message says what to do."""
