"""The demo: real images that Python packages ship, laid out as a raw folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sa_med2d_20m import decode_masks, load

_MNI: Final = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
DEMO: Final = {
    "MNI152": ("nilearn", "datasets/data", tuple(_MNI.format(kind) for kind in ("t1", "gm", "wm"))),
    "StarDist_Nuclei": ("stardist", "data/images", ("img2d.tif", "mask2d.tif", "img3d.tif", "mask3d.tif")),
}
"""Recipe in the catalogue -> package, folder inside it, files."""


class DemoError(Exception):
    """The packages of the extra ``demo`` are not there."""


@contextmanager
def demo_folder() -> Iterator[Path]:
    """A raw folder with copies of the files inside the packages, for as long as the block runs.

    Raises:
        DemoError: A package or a file is missing.
    """
    with tempfile.TemporaryDirectory(prefix="sa-med2d-demo-") as name:
        for source, (package, inside, names) in DEMO.items():
            folder = _package_folder(package) / inside
            target = Path(name) / source
            target.mkdir()
            for file in names:
                if not (folder / file).is_file():
                    raise DemoError(f"{package} does not ship {inside}/{file}; install another version: {_ADVICE}")
                shutil.copy2(folder / file, target / file)  # with its time: a second demo resumes the first
        yield Path(name)


_ADVICE: Final = "pip install 'sa-med2d-20m[demo]'"


def _package_folder(package: str) -> Path:
    spec = find_spec(package)  # finds without importing: stardist would pull in its whole deep-learning stack
    if spec is None or not spec.submodule_search_locations:
        raise DemoError(f"the demo reads images out of the package {package}, which is not installed: {_ADVICE}")
    return Path(spec.submodule_search_locations[0])


def show_sample(out: Path) -> str:
    """The first streamed sample of the demo's volume, in words."""
    sample = next(iter(load(out, "mr-permissive")))
    lines = [f"{sample['key']}: {sample['width']} x {sample['height']}, {sample['plane']}, {sample['license']}"]
    for entry, mask in zip(sample["masks"], decode_masks(sample), strict=True):
        lines.append(f"  mask {entry['id']}: {entry['label']}, {int(mask.sum())} pixels, bbox {entry['bbox']}")
    return "\n".join(lines)
