"""``dataset.json``: Medical Segmentation Decathlon, nnU-Net version 1 and version 2.

Formats: http://medicaldecathlon.com and documentation/dataset_format.md of https://github.com/MIC-DKFZ/nnUNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import RecipeError
from builder.layouts.record import read_json
from builder.layouts.sketch import Sketch, class_name, submodality_name


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


def description_of(path: Path) -> Path | None:
    """See `builder.layouts.Layout`; a file may have any name."""
    found = path / "dataset.json" if path.is_dir() else path
    return found if found.is_file() and found.suffix.lower() == ".json" else None


def sketch(description: Path, _modality: str) -> Sketch:
    """See `builder.layouts.Layout`; the images lie beside the file in ``imagesTr`` and ``labelsTr``."""
    found = describe(description)
    images = description.parent / "imagesTr"
    numbered = images.is_dir() and any(path.name.endswith(f"_0000{found.ending}") for path in images.iterdir())
    several = len(found.channels) > 1
    # CASE_0000.nii.gz for each channel (nnU-Net), or one file for all of them (Decathlon)
    stem = "{case}_{submodality}" if numbered and several else "{case}_0000" if numbered else "{case}"
    tables: dict[str, dict[str, Any]] = {}
    if several and numbered:
        tables["submodalities"] = {f"{number:04d}": name for number, name in enumerate(found.channels)}
    if found.regions:
        tables["regions"] = {region: list(parts) for region, parts in found.regions.items()}
    if found.ignore:
        tables["masks"] = {"ignore": list(found.ignore)}
    return Sketch(
        image=f"imagesTr/{stem}{found.ending}",
        mask=f"labelsTr/{{case}}{found.ending}",
        labels={str(value): label for value, label in sorted(found.labels.items())},
        title=found.title,
        homepage=found.homepage,
        citation=found.citation,
        submodality=found.channels[0] if not several and _is_sequence(found.channels[0]) else "00",
        files={"channels": list(found.channels)} if several and not numbered else {},
        tables=tables,
    )


def describe(dataset_json: Path) -> Description:
    """Read a ``dataset.json``.

    Raises:
        RecipeError: It cannot be read or is none of the three formats.
    """
    record = read_json(dataset_json)
    channels = record.get("channel_names") or record.get("modality") if isinstance(record, dict) else None
    if not isinstance(channels, dict) or not isinstance(record.get("labels"), dict):
        raise RecipeError(
            [f"{dataset_json}: expected 'labels' and 'channel_names' (nnU-Net 2) or 'modality' (Decathlon, nnU-Net 1)"]
        )
    if not all(key.isdecimal() for key in channels):
        raise RecipeError([f"{dataset_json}: channels are {', '.join(channels)}; expected their numbers from 0"])
    labels, regions, ignore = _labels(record["labels"], dataset_json)
    return Description(
        title=str(record.get("name") or record.get("description") or ""),
        homepage=str(record.get("reference") or ""),
        citation=str(record.get("citation") or record.get("reference") or ""),
        ending=str(record.get("file_ending") or ".nii.gz"),
        channels=tuple(submodality_name(str(channels[key])) for key in sorted(channels, key=int)),
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
        whole = values if isinstance(values, list) else [values]
        if not all(isinstance(part, int) for part in whole):
            raise RecipeError([f"{where}: labels: {key}: {value!r} is no label value"])
        if isinstance(values, list):
            regions[class_name(name)] = tuple(values)
        elif name.lower() == "ignore":
            ignore.append(values)
        elif values != 0:
            labels[values] = class_name(name)
    for part in {part for parts in regions.values() for part in parts} - labels.keys() - {0}:
        labels[part] = f"label_{part}"
    return labels, regions, tuple(ignore)


def _is_sequence(channel: str) -> bool:
    """Whether a channel name says more than the modality does."""
    return channel not in ("ct", "mr", "mri", "pet", "00")
