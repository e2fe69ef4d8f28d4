"""What a wheel holds beside the packages: the types of `sa_med2d_20m`.

Type checkers read the types of an installed package that has a ``py.typed``, which a single module cannot have, or of a
package of stubs (PEP 561). So the module goes in a second time, as its own stub.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """Adds the stub to wheels that are built; an editable installation shows the source itself."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See `BuildHookInterface`."""
        self._folder = tempfile.mkdtemp()
        if version != "editable":
            stub = shutil.copy(Path(self.root) / "sa_med2d_20m.py", self._folder)
            build_data["force_include"][stub] = "sa_med2d_20m-stubs/__init__.pyi"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """See `BuildHookInterface`."""
        shutil.rmtree(self._folder)
