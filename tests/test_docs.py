"""The documents agree with the code that they describe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_the_reference_of_recipes_is_what_the_models_say() -> None:
    command = [sys.executable, "-m", "builder.sources.schema", "--markdown"]
    written = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", cwd=ROOT).stdout
    stale = "run: python -m builder.sources.schema --markdown > docs/recipe-reference.md"
    assert (DOCS / "recipe-reference.md").read_text(encoding="utf-8") == written, stale
