"""What decides, beside recipe and files, which bytes a case becomes."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

CONVERSION: Final = 3
"""Number of the conversion code: raised with every change after which some case gives other bytes than before."""
_DISTRIBUTIONS: Final = (
    "connected-components-3d",
    "h5py",
    "isal",
    "nibabel",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pycocotools",
    "pydicom",
    "pyjpegls",
    "pylibjpeg",
    "pylibjpeg-openjpeg",
    "python-gdcm",
    "scipy",
    "simpleitk",
    "tifffile",
)
"""What decodes files and encodes pictures. PyArrow writes the index alone, which is made from the shard."""


@cache
def versions() -> dict[str, str]:
    """Version of each distribution that shapes the bytes of a case, and the number of the conversion code."""
    return {"conversion": str(CONVERSION)} | {name: _version(name) for name in _DISTRIBUTIONS}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # OpenCV is also distributed under other names, and some decoders are not everywhere
        return "none"
