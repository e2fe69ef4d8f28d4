"""Exit codes of ``sa-med2d``."""

from __future__ import annotations

from typing import Final

BUILT, FAILED, USAGE, QUARANTINED = range(4)
"""All built, or nothing found wrong; failed, or no case built, or no sample left of any; wrong usage; built with
quarantined cases."""

INTERRUPTED: Final = 130
"""Stopped by a person or by the system: 128 and the number of SIGINT, as shells count."""


def code_of(quarantined: int, built: int) -> int:
    """The exit code of cases: how many are in quarantine, and how many are not."""
    if not quarantined:
        return BUILT
    return QUARANTINED if built else FAILED
