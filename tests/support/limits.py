"""Limits of reading that small files keep to."""

from __future__ import annotations

from builder.readers.rules import ReadRules

RULES = ReadRules(pixels=10_000_000, bytes=20_000_000)
