"""Recipes from ``dataset.json``: Medical Segmentation Decathlon, nnU-Net version 1 and version 2.

Formats: http://medicaldecathlon.com and documentation/dataset_format.md of https://github.com/MIC-DKFZ/nnUNet.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from builder.problem import RecipeError

_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True)
class Description:
    """What a ``dataset.json`` says that a recipe needs.

    Attributes:
        title: Name or description of the dataset.
        homepage: Where it comes from.
        citation: Its reference.
        ending: Ending of the image files.
        channels: Names of the channels, in order.
        labels: Label value -> class name, without the background.
        regions: Name of a union -> label values.
        ignore: Label values to leave out.
    """

    title: str
    homepage: str
    citation: str
    ending: str
    channels: tuple[str, ...]
    labels: dict[int, str]
    regions: dict[str, tuple[int, ...]]
    ignore: tuple[int, ...]


def recipe_text(dataset_json: Path, *, name: str, license_id: str, modality: str) -> str:
    """Write the recipe of a dataset.

    Args:
        dataset_json: The file; the images lie beside it in ``imagesTr`` and ``labelsTr``.
        name: Name of the source.
        license_id: Its licence.
        modality: Its modality.

    Raises:
        RecipeError: The file cannot be read or is none of the three formats.
    """
    found = describe(dataset_json)
    lines = [
        f"name = {_quoted(name)}",
        f"title = {_quoted(found.title or name)}",
        f"homepage = {_quoted(found.homepage)}",
        f"license = {_quoted(license_id)}",
        '# license_evidence = "https://..."  # where the licence was read; nothing is published without it',
        f"citation = {_quoted(found.citation)}",
        f"modality = {_quoted(modality)}",
        *_files(found, dataset_json.parent),
        "",
        "[labels]",
        *(f"{value} = {_quoted(label)}" for value, label in sorted(found.labels.items())),
    ]
    if found.regions:
        lines += ["", "[regions]", *(f"{region} = {list(parts)}" for region, parts in found.regions.items())]
    if found.ignore:
        lines += ["", "[masks]", f"ignore = {list(found.ignore)}"]
    return "\n".join(lines) + "\n"


def describe(dataset_json: Path) -> Description:
    """Read a ``dataset.json``; raises as `recipe_text`."""
    try:
        record = json.loads(dataset_json.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError([f"{dataset_json}: cannot be read as JSON: {error}"]) from None
    channels = record.get("channel_names") or record.get("modality") if isinstance(record, dict) else None
    if not isinstance(channels, dict) or not isinstance(record.get("labels"), dict):
        raise RecipeError(
            [f"{dataset_json}: expected 'labels' and 'channel_names' (nnU-Net 2) or 'modality' (Decathlon, nnU-Net 1)"]
        )
    labels, regions, ignore = _labels(record["labels"], dataset_json)
    return Description(
        title=str(record.get("name") or record.get("description") or ""),
        homepage=str(record.get("reference") or ""),
        citation=str(record.get("citation") or record.get("reference") or ""),
        ending=str(record.get("file_ending") or ".nii.gz"),
        channels=tuple(_submodality(str(channels[key])) for key in sorted(channels, key=int)),
        labels=labels,
        regions=regions,
        ignore=ignore,
    )


def _labels(record: dict[str, Any], where: Path) -> tuple[dict[int, str], dict[str, tuple[int, ...]], tuple[int, ...]]:
    """Version 2 says name -> value or values, the others value -> name."""
    labels: dict[int, str] = {}
    regions: dict[str, tuple[int, ...]] = {}
    ignore: list[int] = []
    for key, value in record.items():
        name, values = (key, value) if not key.isdecimal() else (str(value), int(key))
        if not isinstance(values, int | list):
            raise RecipeError([f"{where}: labels: {key}: {value!r} is no label value"])
        if isinstance(values, list):
            regions[_class_name(name)] = tuple(int(part) for part in values)
        elif name.lower() == "ignore":
            ignore.append(values)
        elif values != 0:
            labels[values] = _class_name(name)
    for part in {part for parts in regions.values() for part in parts} - labels.keys() - {0}:
        labels[part] = f"label_{part}"
    return labels, regions, tuple(ignore)


def _files(found: Description, folder: Path) -> list[str]:
    """``imagesTr/CASE_0000.nii.gz`` for each channel (nnU-Net), or one file for all of them (Decathlon)."""
    images = folder / "imagesTr"
    numbered = images.is_dir() and any(path.name.endswith(f"_0000{found.ending}") for path in images.iterdir())
    several = len(found.channels) > 1
    stem = "{case}_{submodality}" if numbered and several else "{case}_0000" if numbered else "{case}"
    single = not several and _is_sequence(found.channels[0])
    lines = [f"submodality = {_quoted(found.channels[0])}"] if single else []
    lines += ["", "[files]", f'image = "imagesTr/{stem}{found.ending}"', f'mask = "labelsTr/{{case}}{found.ending}"']
    if several and not numbered:
        lines.append(f"channels = [{', '.join(map(_quoted, found.channels))}]")
    if several and numbered:
        lines += ["", "[submodalities]"]
        lines += [f"{number:04d} = {_quoted(name)}" for number, name in enumerate(found.channels)]
    return lines


def _is_sequence(channel: str) -> bool:
    """Whether a channel name says more than the modality does."""
    return channel not in ("ct", "mr", "mri", "pet", "00")


def _submodality(name: str) -> str:
    return _NOT_IN_NAME.sub("_", name).strip("_").lower() or "00"


def _class_name(name: str) -> str:
    return _NOT_IN_NAME.sub("_", name).strip("_") or "unnamed"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
