"""What importing the loader costs: whoever needs its constants waits for no array, picture or Arrow library."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import sa_med2d_20m

DEFERRED_NUMPY: Any = vars(sa_med2d_20m)["np"]
HEAVY = {"numpy", "cv2", "datasets", "pyarrow", "fsspec", "huggingface_hub", "PIL", "logging", "concurrent"}
LOADER = Path(sa_med2d_20m.__file__).parent


def loaded_by(script: str) -> set[str]:
    """Top-level modules that a fresh Python holds after a script."""
    after = f"{script}\nimport json, sys; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    ran = subprocess.run([sys.executable, "-S", "-c", after], check=True, cwd=LOADER, stdout=subprocess.PIPE)
    return set(json.loads(ran.stdout))


def test_constants_and_metadata_need_nothing_heavy() -> None:
    """Site packages are not even on the path of this Python."""
    script = """
from sa_med2d_20m import LABELS, MODALITIES, SCHEMA, SPLITS, DatasetError, Dropped, Intensity, Mask, Metadata, Prompts
intensity = Intensity(0.0, 1.0, "slice", 1.0, 0.0, 0)
mask = Mask(1, 0, LABELS[0], "0001", None, "abdomen", 0, (0, 0, 1, 1), 1)
Metadata("k", "S", MODALITIES[0], "00", "MIT", "p", "c", SPLITS[0], "2d", "2d", None, 1, 1, None, None, SCHEMA,
         intensity, "f", None, None, None, None, False, Dropped(0, 0, ()), (), None, (mask,)).to_json()
"""
    assert not loaded_by(script) & HEAVY


def test_deferred_modules_are_the_modules() -> None:
    assert DEFERRED_NUMPY.uint8 is np.uint8
    again = pickle.loads(pickle.dumps(DEFERRED_NUMPY))  # noqa: S301 - what stands above
    assert again.uint8 is np.uint8
    assert "uint8" not in vars(pickle.loads(pickle.dumps(DEFERRED_NUMPY)))  # noqa: S301
