"""When those who work for an executor are not to be had."""

from __future__ import annotations


class WorkerLostError(Exception):
    """Processes or nodes die without getting anything done, or cannot be reached; the message says what to do."""
