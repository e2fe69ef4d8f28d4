"""Exit codes of ``sa-med2d``."""

from __future__ import annotations

from typing import Final

BUILT, FAILED, USAGE, QUARANTINED = range(4)
"""All built, or nothing found wrong; failed; wrong usage; built with quarantined cases."""

INTERRUPTED: Final = 130
"""Stopped by a person or by the system: 128 and the number of SIGINT, as shells count."""
