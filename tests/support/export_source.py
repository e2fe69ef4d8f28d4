"""Sources whose masks are hard to export: overlaps, holes in holes, several parts, 16 bit, colour, odd names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt, ornt_transform

from builder.command_line import main
from tests.support.nifti import read_nifti, write_nifti
from tests.support.sources import write_source
from tests.support.volumes import ct_like, organ_map

_SPLITS = '[splits]\ntrain = ["*0"]\nvalidation = ["*1"]\ntest = ["*2"]\n'
_HEAD = """\
name = "{name}"
title = "{name} that a test <drew>"
homepage = "https://example.org/{name}"
license = "{license}"
license_evidence = "https://example.org/license"
citation = "Nobody et al., {name}, 2026"
modality = "{modality}"
{more}
"""


def rings(seed: int, shape: tuple[int, int] = (60, 90)) -> dict[str, npt.NDArray[np.uint8]]:
    """Two classes that overlap: a disc with holes in it, one of which holds an island, and a square with a diagonal."""
    rng = np.random.default_rng(seed)
    disc = np.zeros(shape, np.uint8)
    cv2.circle(disc, (40, 30), 25, 255, -1)
    for x, y, radius in ((30, 28, 6), (50, 35, 7), (40, 12, 3)):
        cv2.circle(disc, (x, y), radius, 0, -1)
    cv2.circle(disc, (50, 35), 3, 255, -1)
    disc[rng.integers(20, 45, 12), rng.integers(25, 60, 12)] = 0
    square = np.zeros(shape, np.uint8)
    square[5:30, 50:85] = 255
    square[np.arange(30, 50), np.arange(60, 80)] = 255
    return {"disc": disc, "square": square}


def write_sources(raw: Path) -> list[Path]:
    """Write them below a folder; returns their recipes."""
    small = write_source(raw, "Small", cases=3, license_id="CC-BY-SA-4.0")
    small.write_text(f'axes = ["x", "y"]\n{small.read_text()}{_SPLITS}')
    for number in range(2):
        write_turned(raw / f"Deep/images/case{number}.nii.gz", ct_like(number))
        write_turned(raw / f"Deep/labels/case{number}.nii.gz", organ_map())
    write_recipe(raw, "Deep", "mr", "CC-BY-NC-4.0", 'axes = ["x"]\nsubmodality = "t1"\nkeep_empty = true', """
[files]
image = "images/{case}.nii.gz"
mask = "labels/{case}.nii.gz"
[labels]
1 = "brain_tumor"
2 = "kidney_left"
[intensity]
mode = "lossless"
""")  # fmt: skip
    write_rings(raw, ("a.0", "b--1", "c_2"), min_area=1)
    cells = np.zeros((64, 48), np.uint8)
    cells[4:12, 4:12], cells[40:50, 30:44] = 1, 1  # one object in two parts
    cells[20:30, 10:20], cells[24:26, 14:16] = 2, 0
    cells[0, 47] = 3  # a pixel in the corner
    cells[60, 5:9] = 4  # a line
    write_png(raw / "Cells/images/cell0.png", np.random.default_rng(0).integers(0, 255, (64, 48), np.uint8))
    write_png(raw / "Cells/masks/cell0.png", cells)
    write_recipe(raw, "Cells", "microscopy", "MIT", "", """
[files]
image = "images/{case}.png"
mask = "masks/{case}.png"
[labels]
"*" = "cell"
[masks]
instances = true
min_area = 0
""")  # fmt: skip
    return [small, *(raw / f"{name}.toml" for name in ("Deep", "Rings", "Cells"))]


def write_rings(raw: Path, names: Iterable[str], *, min_area: int) -> None:
    """Write pictures in colour with `rings`, a mask file for each class, and their recipe."""
    for number, name in enumerate(names):
        picture = np.random.default_rng(number).integers(0, 255, (60, 90, 3), np.uint8)
        write_png(raw / f"Rings/images/{name}.png", picture)
        for label, mask in rings(number).items():
            write_png(raw / f"Rings/masks/{name}/{label}.png", mask)
    write_recipe(raw, "Rings", "fundus_photography", "CC0-1.0", "", f"""
[files]
image = "images/{{case}}.png"
mask = "masks/{{case}}/{{label}}.png"
[labels]
disc = "optic_disc"
square = "retinal_vessel"
[masks]
min_area = {min_area}
""")  # fmt: skip


def write_eyes(
    raw: Path, modality: str, split: str, masks: Mapping[str, Mapping[str, npt.NDArray[np.uint8] | None]]
) -> Path:
    """Write grey pictures with a mask file for each class, of which damaged ones are dropped; returns their recipe.

    Args:
        raw: Where they are written.
        modality: Of the source.
        split: Which all are in.
        masks: Case -> ``disc`` and ``vessel``, (H, W); None for a damaged file.
    """
    for number, (case, held) in enumerate(masks.items()):
        (shape,) = {mask.shape for mask in held.values() if mask is not None}
        write_png(raw / f"Eyes/images/{case}.png", np.random.default_rng(number).integers(0, 255, shape, np.uint8))
        for label, mask in held.items():
            path = raw / f"Eyes/masks/{label}/{case}.png"
            write_png(path, np.zeros(shape, np.uint8) if mask is None else mask)
            if mask is None:
                path.write_bytes(b"no picture")
    write_recipe(raw, "Eyes", modality, "MIT", "", """
[files]
image = "images/{case}.png"
mask = "masks/{label}/{case}.png"
[labels]
disc = "optic_disc"
vessel = "retinal_vessel"
[gates]
bad_mask = "drop"
""", f'[splits]\n{split} = ["*"]\n')  # fmt: skip
    return raw / "Eyes.toml"


def write_turned(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a (Z, Y, X) volume as a scanner might: its axes run to posterior, superior and right."""
    write_nifti(path, array)
    picture = read_nifti(path)
    turn = ornt_transform(nibabel.io_orientation(picture.affine), axcodes2ornt(("P", "S", "R")))
    nibabel.save(picture.as_reoriented(turn), path)


def write_recipe(
    raw: Path, name: str, modality: str, license_id: str, more: str, tables: str, splits: str = _SPLITS
) -> None:
    head = _HEAD.format(name=name, modality=modality, license=license_id, more=more)
    (raw / f"{name}.toml").write_text(head + tables + splits)


def write_png(path: Path, pixels: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def read_png(path: Path | str, how: int = cv2.IMREAD_UNCHANGED) -> npt.NDArray[Any]:
    """A picture as OpenCV reads it; colour as RGB where it is read unchanged."""
    pixels: Any = cv2.imread(str(path), how)
    assert pixels is not None, path
    turned: npt.NDArray[Any] = pixels[..., ::-1] if pixels.ndim == 3 and how == cv2.IMREAD_UNCHANGED else pixels
    return turned


def build(raw: Path, out: Path, recipes: Sequence[Path], *further: object) -> Path:
    """Build sources in this process."""
    arguments = ["build", *recipes, "--raw", raw, "--out", out, "--workers", 1, "--shard-size", "100KB", *further]
    assert main([str(argument) for argument in arguments]) == 0
    return out


def masks_by_place(rows: Mapping[str, Any]) -> dict[tuple[str, int], npt.NDArray[np.bool_]]:
    """Label and instance of each mask of a row of the loader -> the mask."""
    from sa_med2d_20m import decode_masks  # noqa: PLC0415

    return {
        (entry["label"], entry["instance"]): mask for entry, mask in zip(rows["masks"], decode_masks(rows), strict=True)
    }
