"""The layouts ``nnunet`` and ``nnunet-3d``: raw datasets of nnU-Net v2, one for each source, modality and sub-modality.

Rules: ``documentation/dataset_format.md`` and ``ignore_label.md`` of https://github.com/MIC-DKFZ/nnUNet, and
``verify_dataset_integrity``:
``Dataset{number}_{name}/imagesTr/{case}_0000.png``, ``labelsTr/{case}.png``, and ``dataset.json`` with consecutive
labels, names of channels and the number of training cases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

import cv2
import numpy as np

from shards.export.layout import Gathered, Layout, Overview, Unit, write_json_list
from shards.export.layouts.semantic import class_map, overlaps_said
from shards.export.layouts.volume import OfVolumes, Volume, left_out_said, nifti
from shards.export.sample import Sample
from shards.png import encode_image, encode_label_map

_FIRST: Final = 501
"""Number of the first dataset; nnU-Net's own are below, and below 1000 is room."""
_COLOURED: Final = ("fundus_photography", "dermoscopy", "endoscopy", "microscopy", "histopathology")
"""Modalities whose pictures have three channels here, as all cases of a dataset must have equally many."""
_SPLITS: Final = "splits_final.json"
_IGNORED: Final = "ignore"
"""Label of what nnU-Net leaves out of its loss; its number is the highest."""


class NnUnet(Layout):
    """2D datasets: a case is a slice or a picture. Images of ``test`` go to ``imagesTs`` and ``labelsTs``.

    ``splits_final.json`` has the training and the validation cases as nnU-Net's first fold. Of a case in which nobody
    looked for one of the classes, what has no mask is ignored.
    """

    ending: ClassVar[str] = ".png"

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._numbers = {
            source: {label: number for number, label in enumerate(labels, 1)}
            for source, labels in overview.labels_of.items()
        }
        self._folders = _folders(overview)

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        classes, hidden = class_map(sample, self._numbers[sample.record["source"]], self._ground(sample.record))
        self._write(unit, sample.record, sample.key, (_picture(sample), encode_label_map(classes)), hidden)

    def _ground(self, record: Mapping[str, Any]) -> int:
        """Number of pixels without a mask."""
        numbers = self._numbers[record["source"]]
        return 0 if numbers.keys().isdisjoint(record.get("not_annotated", ())) else len(numbers) + 1

    def _write(self, unit: Unit, record: Mapping[str, Any], case: str, files: tuple[bytes, bytes], hidden: int) -> None:
        folder = self._folders[_kind_of(record)]
        part = "Ts" if record["split"] == "test" else "Tr"
        unit.file(f"{folder}/images{part}/{case}_0000{self.ending}", files[0])
        unit.file(f"{folder}/labels{part}/{case}{self.ending}", files[1])
        unit.entry(f"{folder}_{record['split']}", json.dumps(case))
        unit.count(f"{folder} {part}")
        unit.count("hidden", hidden)
        unit.note("licences", [folder, record["license"]])
        if self._ground(record):
            unit.note("ignored", folder)

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        said = []
        for (source, modality, _), folder in self._folders.items():
            training, test = (int(gathered.counted(f"{folder} {part}")) for part in ("Tr", "Ts"))
            if not training + test:
                continue
            labels = {"background": 0, **self._numbers[source]}
            if folder in gathered.notes("ignored"):
                labels[_IGNORED] = len(labels)
            about = {
                "name": folder,
                "licence": ", ".join(name for of, name in gathered.notes("licences") if of == folder),
                "channel_names": {str(at): name for at, name in enumerate(self._channels(modality))},
                "labels": labels,
                "numTraining": training,
                "file_ending": self.ending,
            }
            with gathered.open(f"{folder}/dataset.json") as file:
                file.write(json.dumps(about, indent=1).encode() + b"\n")
            said += self._fold(gathered, folder)
            if not training:
                said.append(f"{folder} has no training cases, only {test:,} of test: nnU-Net cannot plan it alone")
        return [*said, *overlaps_said(gathered.counted("hidden"))]

    def _fold(self, gathered: Gathered, folder: str) -> list[str]:
        """Write the fold, where there is something on both sides."""
        splits = {name: f"{folder}_{split}" for name, split in (("train", "train"), ("val", "validation"))}
        if any(next(gathered.lines(document), None) is None for document in splits.values()):
            return []
        with gathered.open(f"{folder}/{_SPLITS}") as file:
            before = b"[{"
            for name, document in splits.items():
                file.write(before + f'"{name}":['.encode())
                write_json_list(file, gathered.lines(document))
                before = b"],"
            file.write(b"]}]\n")
        return [
            f"{folder}/{_SPLITS}: copy it to nnUNet_preprocessed/{folder} and train fold 0, or nnU-Net deals images of "
            "one patient to training and validation"
        ]

    def _channels(self, modality: str) -> tuple[str, ...]:
        """Names of channels. "CT" would have nnU-Net take grey levels for Hounsfield units."""
        return ("R", "G", "B") if modality in _COLOURED else (f"{modality}_grey",)


class NnUnetVolumes(OfVolumes, NnUnet):
    """3D datasets: a case is a volume in the source's own values, in the axes and the geometry of its source."""

    ending: ClassVar[str] = ".nii.gz"

    def volumes(self) -> Iterable[Volume | str]:
        """See `OfVolumes`."""
        return self.slices.volumes(self._numbers, self._ground)

    def write(self, volume: Volume, unit: Unit) -> None:
        """See `OfVolumes`."""
        files = nifti(volume, volume.image), nifti(volume, volume.classes)
        self._write(unit, volume.record, volume.name, files, volume.hidden)

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        return [*super().finish(gathered), *left_out_said(gathered)]

    def _channels(self, modality: str) -> tuple[str, ...]:
        return ("CT" if modality == "ct" else modality,)


def _folders(overview: Overview) -> dict[tuple[str, str, str], str]:
    """Source, modality and sub-modality -> name of the dataset, numbered in their order."""
    return {
        kind: f"Dataset{number:03d}_{kind[0]}{'' if kind[2] == '00' else f'_{kind[2]}'}"
        for number, kind in enumerate(overview.kinds, _FIRST)
    }


def _kind_of(record: Mapping[str, Any]) -> tuple[str, str, str]:
    return record["source"], record["modality"], record["submodality"]


def _picture(sample: Sample) -> bytes:
    """The image with as many channels as all of its modality."""
    pixels, coloured = sample.pixels, sample.record["modality"] in _COLOURED
    if coloured == (pixels.ndim == 3):
        return sample.image
    if coloured:
        return encode_image(np.repeat(pixels[..., None], 3, axis=2))
    return encode_image(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), pixels.dtype))
