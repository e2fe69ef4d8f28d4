"""The files that pages are made of, and how a page's policy lets them run."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def part(name: str) -> str:
    """The text of a file of ``shards/report/page``."""
    return files("shards.report").joinpath("page", name).read_text(encoding="utf-8")


def policy_hash(text: str) -> str:
    """What a Content Security Policy names a style or a script by, after ``sha256-``."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
