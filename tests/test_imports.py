"""What importing this project, and reading with it, does to the process that does so: nothing."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import pkgutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageFile
import pydicom
import pydicom.config
import pytest
import SimpleITK
import tifffile

import builder
import shards
from builder.errors import UnreadableError

LOGGERS = ("", "nibabel", "nibabel.global", "tifffile", "pydicom", "PIL")


def settings() -> dict[str, Any]:
    """What libraries and the interpreter keep for the whole process."""
    umask = os.umask(0o22)
    os.umask(umask)
    return {
        "PIL: largest picture": PIL.Image.MAX_IMAGE_PIXELS,
        "PIL: truncated files": PIL.ImageFile.LOAD_TRUNCATED_IMAGES,
        "OpenCV: log level": cv2.utils.logging.getLogLevel(),
        "OpenCV: threads": cv2.getNumThreads(),
        "OpenCV: OpenCL": cv2.ocl.useOpenCL(),
        "ITK: warnings": SimpleITK.ProcessObject.GetGlobalWarningDisplay(),
        "ITK: threads": SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads(),
        "pydicom: validation": (
            pydicom.config.settings.reading_validation_mode,
            pydicom.config.settings.writing_validation_mode,
        ),
        "NumPy: errors": np.geterr(),
        "warnings": list(warnings.filters),
        "loggers": {name: logging.getLogger(name).level for name in LOGGERS},
        "handlers": [str(handler) for handler in logging.getLogger().handlers],
        "umask": umask,
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "recursion": sys.getrecursionlimit(),
    }


def modules() -> list[str]:
    """Every module of the project but those that run when they are imported, or need an extra that is not here."""
    packages = [(package.__path__, package.__name__) for package in (builder, shards)]
    found = [one.name for path, name in packages for one in pkgutil.walk_packages(path, f"{name}.")]
    missing = [] if importlib.util.find_spec("ray") else ["builder.run.executors.ray"]
    return ["sa_med2d_20m", *(name for name in found if not name.endswith("__main__") and name not in missing)]


IN_A_FRESH_PROCESS = """
import importlib, pprint
# what other libraries do to each other is not looked at
import cv2, datasets, fsspec, nibabel, numpy, PIL.ImageFile, pyarrow, pydantic, pydicom, SimpleITK, tifffile
import huggingface_hub.hf_api, rich.console
from tests import test_imports
before = test_imports.settings()
assert "builder.readers.picture" not in __import__("sys").modules
for name in test_imports.modules():
    importlib.import_module(name)
after = test_imports.settings()
pprint.pprint({key: (before[key], after[key]) for key in before if before[key] != after[key]})
"""


def test_importing_every_module_changes_nothing() -> None:
    ran = subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "{}\n"


@pytest.mark.parametrize(
    ("module", "name"),
    [("nifti", "a.nii"), ("itk", "a.nrrd"), ("picture", "a.png"), ("picture", "a.tif"), ("dicom.reader", "a.dcm")],
)
def test_reading_leaves_everything_as_it_was(tmp_path: Path, module: str, name: str) -> None:
    reader = importlib.import_module(f"builder.readers.{module}")
    (tmp_path / name).write_bytes(b"damaged" * 100)
    before = settings()
    for read in (reader.read, reader.read_header):
        with pytest.raises(UnreadableError):
            read(tmp_path / name)
        assert settings() == before


def test_the_host_s_limit_of_pictures_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture above the limit of the host is read, as the rules of the recipe allow it, and the limit stays."""
    picture = importlib.import_module("builder.readers.picture")
    PIL.Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 50), np.uint8))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("a.png", "a.tif"):
        assert picture.read(tmp_path / name).array.shape == (40, 50)
        assert PIL.Image.MAX_IMAGE_PIXELS == 100
