"""The command ``demo``: real images that Python packages ship, built, verified and streamed."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from builder.commands.build import add_build_options, exit_code, run_build
from builder.commands.exit_codes import BUILT, FAILED
from shards.arguments import output_folder
from shards.command_line import report
from shards.console import console

EXTRA: Final = "demo"
"""The extra of ``pyproject.toml`` that the command needs."""
_ADVICE: Final = f"pip install 'sa-med2d-20m[{EXTRA}]'"

_MNI: Final = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
DEMO: Final = {
    "MNI152": ("nilearn", "datasets/data", tuple(_MNI.format(kind) for kind in ("t1", "gm", "wm"))),
    "StarDist_Nuclei": ("stardist", "data/images", ("img2d.tif", "mask2d.tif", "img3d.tif", "mask3d.tif")),
}
"""Recipe in the catalogue -> package, folder inside it, files."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    command = commands.add_parser(
        "demo",
        help="build, verify and stream a small set of real images that Python packages ship",
        description=f"Build the sources {', '.join(DEMO)} from data inside the packages of the extra 'demo', verify "
        "the result and print one streamed sample.",
    )
    command.add_argument(
        "--out",
        type=partial(output_folder, write=True),
        default=Path("demo"),
        metavar="OUT",
        help="output folder (default: demo)",
    )
    add_build_options(command)
    command.set_defaults(run=_run, extra=EXTRA, json=False)


def _run(options: argparse.Namespace) -> int:
    from builder.sources.load import load_recipe  # noqa: PLC0415 - imported when it is called, here and below
    from shards.verify import verify  # noqa: PLC0415

    recipes = [load_recipe(name) for name in DEMO]
    with demo_folder() as raw:
        summary = run_build(recipes, raw, options)
    speaker = console()
    findings = report(verify(options.out, deep=True, on_shard=lambda _: None), speaker)
    if findings or summary.quarantined:
        return FAILED if findings else exit_code(summary)
    speaker.print(f"verified {options.out}: no findings; one streamed sample:")
    sys.stdout.write(show_sample(options.out) + "\n")
    return BUILT


@contextmanager
def demo_folder() -> Iterator[Path]:
    """A raw folder with copies of the files inside the packages, for as long as the block runs.

    Raises:
        SAMed2DError: A package or a file is missing.
    """
    from sa_med2d_20m import SAMed2DError  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="sa-med2d-demo-") as name:
        for source, (package, inside, names) in DEMO.items():
            folder = _package_folder(package) / inside
            target = Path(name) / source
            target.mkdir()
            for file in names:
                if not (folder / file).is_file():
                    raise SAMed2DError(f"{package} does not ship {inside}/{file}; install another version: {_ADVICE}")
                shutil.copy2(folder / file, target / file)  # with its time: a second demo resumes the first
        yield Path(name)


def _package_folder(package: str) -> Path:
    from sa_med2d_20m import SAMed2DError  # noqa: PLC0415

    spec = find_spec(package)  # finds without importing: stardist would pull in its whole deep-learning stack
    if spec is None or not spec.submodule_search_locations:
        raise SAMed2DError(f"the demo reads images out of the package {package}, which is not installed: {_ADVICE}")
    return Path(spec.submodule_search_locations[0])


def show_sample(out: Path) -> str:
    """The first streamed sample of the demo's volume, in words."""
    from sa_med2d_20m import decode_masks, load  # noqa: PLC0415

    sample = next(iter(load(out, "mr-permissive")))
    lines = [f"{sample['key']}: {sample['width']} x {sample['height']}, {sample['plane']}, {sample['license']}"]
    for entry, mask in zip(sample["masks"], decode_masks(sample), strict=True):
        lines.append(f"  mask {entry['id']}: {entry['label']}, {int(mask.sum())} pixels, bbox {entry['bbox']}")
    return "\n".join(lines)
