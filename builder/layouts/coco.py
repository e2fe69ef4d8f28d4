"""COCO annotations: a JSON file that names pictures, categories and the outlines of objects."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from builder.annotations.coco import categories, picture_paths
from builder.cases.discovery import scan
from builder.errors import RecipeError, UnreadableError
from builder.layouts.record import read_json
from builder.layouts.sketch import Sketch, class_name

_LISTS = {"images", "annotations", "categories"}


def description_of(path: Path) -> Path | None:
    """See `builder.layouts.Layout`; in a folder, the first such file in it or in its folder ``annotations``."""
    if path.is_file():
        return path if path.suffix.lower() == ".json" and _is_coco(path) else None
    found = sorted([*path.glob("*.json"), *path.glob("annotations/*.json")])
    return next((file for file in found if _is_coco(file)), None)


def _is_coco(path: Path) -> bool:
    try:
        record = read_json(path)
    except RecipeError:
        return False
    return isinstance(record, dict) and record.keys() >= _LISTS


def sketch(description: Path, _modality: str) -> Sketch:
    """See `builder.layouts.Layout`. The pictures lie beside the file, or beside its folder ``annotations``."""
    root = description.parent.parent if description.parent.name == "annotations" else description.parent
    try:
        names, wanted = categories(description), {PurePosixPath(path).name for path in picture_paths(description)}
    except UnreadableError as error:
        raise RecipeError([f"{description}: {error}"]) from None
    found = [PurePosixPath(path) for path in scan(root) if PurePosixPath(path).name in wanted]
    if not found:
        raise RecipeError([f"{root}: holds none of the {len(wanted)} pictures that {description.name} is about"])
    (folder, ending), _ = Counter((path.parent, path.suffix) for path in found).most_common(1)[0]
    return Sketch(
        image=(folder / f"{{case}}{ending}").as_posix(),
        mask=description.relative_to(root).as_posix(),
        labels={name: class_name(name) for name in names},
        tables={"masks": {"segments": True}},
        notes=(
            "touching objects of one category are joined; masks.instances = true keeps each annotation apart",
            f"below the folder {root.name}: {len(found)} of {len(wanted)} pictures were found",
        ),
    )
