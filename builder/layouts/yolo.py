"""YOLO segmentation datasets: ``data.yaml`` with the names of classes, folders ``images`` and ``labels``."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Final

from builder.cases.discovery import scan
from builder.cases.split import official_split
from builder.errors import RecipeError
from builder.layouts.record import read_yaml
from builder.layouts.sketch import Sketch, class_name

_ENDINGS: Final = (".yaml", ".yml")
_PICTURES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def description_of(path: Path) -> Path | None:
    """See `builder.layouts.Layout`."""
    if path.is_dir():
        return next((file for ending in _ENDINGS for file in sorted(path.glob(f"*{ending}"))), None)
    return path if path.suffix.lower() in _ENDINGS else None


def sketch(description: Path, _modality: str) -> Sketch:
    """See `builder.layouts.Layout`."""
    root, names = description.parent, _names(description)
    paths = [PurePosixPath(path) for path in scan(root)]
    pictures = {_stem(path, "images"): path for path in paths if path.suffix.lower() in _PICTURES}
    labelled = [path for path in paths if path.suffix == ".txt" and _stem(path, "labels") in pictures]
    if not labelled:
        raise RecipeError([f"{root}: expected labels/.../NAME.txt for pictures images/.../NAME.png (or .jpg ...)"])
    picture = pictures[_stem(labelled[0], "labels")]
    return Sketch(
        image=_pattern(picture),
        mask=_pattern(labelled[0]),
        labels={str(number): class_name(name) for number, name in names.items()},
        tables={"masks": {"segments": True}},
        notes=("touching objects of one class are joined; masks.instances = true keeps each polygon apart",),
    )


def _names(description: Path) -> dict[int, str]:
    record: Any = read_yaml(description)
    names = record.get("names") if isinstance(record, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    # a name that is a list may hold itself a million times
    if not isinstance(names, dict) or not names or not all(map(_is_class, names.items())):
        raise RecipeError([f"{description}: expected 'names', a list of class names or a table from number to name"])
    return {number: str(name) for number, name in names.items()}


def _is_class(entry: tuple[Any, Any]) -> bool:
    number, name = entry
    return isinstance(number, int) and isinstance(name, str | int | float)


def _stem(path: PurePosixPath, folder: str) -> tuple[str, ...] | None:
    """What a picture and its labels share: the path without ``images`` or ``labels``, and without its ending."""
    parts = path.with_suffix("").parts
    if folder not in parts:
        return None
    at = parts.index(folder)
    return parts[:at] + parts[at + 1 :]


def _pattern(path: PurePosixPath) -> str:
    """``images/val/a.png`` -> ``images/{split}/{case}.png``."""
    folders = ["{split}" if official_split(part, "", {}) else part for part in path.parts[:-1]]
    return "/".join([*folders, f"{{case}}{path.suffix}"])
