"""The layouts ``nnunet`` and ``nnunet-3d``: datasets of nnU-Net v2, of 2D slices and of volumes.

Rules: https://github.com/MIC-DKFZ/nnUNet, ``documentation/dataset_format.md`` (and ``ignore_label.md``),
``nnunetv2/experiment_planning/verify_dataset_integrity.py`` and ``imageio``: a dataset is a folder
``Dataset{number}_{name}`` with ``imagesTr``, ``labelsTr``, ``imagesTs`` and ``dataset.json``; images end in ``_0000``;
labels are whole numbers without gaps; all images of a dataset have the same channels; a channel that is called "CT" is
scaled by its values in HU.
"""

from __future__ import annotations

import json
from typing import Final

import numpy as np

from sa_med2d_20m import MODALITIES
from shards.export.class_map import class_map, overlap_remark
from shards.export.layout import Gathered, Layout, Overview, Unit, as_json
from shards.export.layouts.numbers import category_numbers
from shards.export.sample import Sample
from shards.export.stacks import Stack, is_slice
from shards.export.volume import WholeVolumes, image_name, left_out, source_values, volume_file
from shards.png import encode_image

_GREY, _COLOUR = "grey", "colour"
_CHANNELS: Final = {_COLOUR: {"0": "R", "1": "G", "2": "B"}}
_CT_IN_HU: Final = "CT"
"""Name of a channel which nnU-Net clips and scales by all its values together."""
_IGNORED: Final = "ignore"
"""Name of the label that nnU-Net leaves out of its loss; it has the highest number."""


class NnUnet(Layout):
    """Slices and pictures: ``Dataset{number}_{source}_{modality}/imagesTr/{key}_0000.png``, ``labelsTr/{key}.png``.

    A dataset is of one source and modality, and of grey pictures or coloured ones. Train and validation go to
    ``imagesTr``, with a fold of their own in ``splits_final.json``; test goes to ``imagesTs`` and ``labelsTs``.
    """

    ending = ".png"

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._datasets = _Datasets(overview, self.ending)

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        dataset = self._datasets.name(sample, _COLOUR if sample.pixels.ndim == 3 else _GREY)
        labels = class_map(sample, self._datasets.numbers(sample), unit, self._datasets.ground(sample, unit, dataset))
        self._datasets.put(unit, dataset, sample, sample.key, (sample.image, encode_image(labels)))

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        return self._datasets.finish(gathered)


class NnUnetVolumes(Layout):
    """Volumes: ``Dataset{number}_{source}_{modality}/imagesTr/{image}_0000.nii.gz``, and so on.

    They have the values and the geometry of the source. An image is taken along the first axis of which all its slices
    are there; what has no such axis is counted.
    """

    whole_cases = True
    ending = ".nii.gz"

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._datasets = _Datasets(overview, self.ending)
        self._volumes = WholeVolumes()

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        if is_slice(sample.key):
            self._write(self._volumes.stacking.add(sample), unit)
        else:
            unit.count("pictures")

    def end(self, unit: Unit) -> None:
        """See `Layout`."""
        self._write(self._volumes.stacking.end(), unit)
        unit.count("incomplete", self._volumes.missed)

    def _write(self, stack: Stack | None, unit: Unit) -> None:
        if stack is None or not self._volumes.take(stack):
            return
        first = stack.first
        dataset = self._datasets.name(first, _GREY)
        numbers = self._datasets.numbers(first)
        ground = self._datasets.ground(first, unit, dataset)
        labels = np.stack([class_map(sample, numbers, unit, ground) for sample in stack.samples])
        pair = (volume_file(source_values(stack), stack), volume_file(labels, stack))
        self._datasets.put(unit, dataset, first, image_name(stack), pair)

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        return [*self._datasets.finish(gathered), *left_out(gathered)]


class _Datasets:
    """The datasets of an export: their names, labels and documents."""

    def __init__(self, overview: Overview, ending: str) -> None:
        self._ending = ending
        self._labels = {
            source: sorted(labels, key=category_numbers(labels).__getitem__)
            for source, labels in overview.labels_of.items()
        }
        self._overview = overview

    def name(self, sample: Sample, kind: str) -> str:
        """``Dataset{number}_{source}_{modality}``; numbers have gaps, one for each kind that a source may have."""
        source, modality = sample.record["source"], sample.record["modality"]
        place = list(self._labels).index(source) * len(MODALITIES) + MODALITIES.index(modality)
        return f"Dataset{1 + 2 * place + (kind == _COLOUR):03d}_{source}_{modality}"

    def numbers(self, sample: Sample) -> dict[str, int]:
        """Class name -> number in label maps, from 1 on without gaps."""
        return {label: number for number, label in enumerate(self._labels[sample.record["source"]], 1)}

    def ground(self, sample: Sample, unit: Unit, dataset: str) -> int:
        """Number of pixels without a mask: what nnU-Net ignores where nobody looked for one of the classes."""
        numbers = self.numbers(sample)
        if numbers.keys().isdisjoint(sample.record.get("not_annotated", ())):
            return 0
        unit.note("ignored", dataset)
        return len(numbers) + 1

    def put(self, unit: Unit, dataset: str, sample: Sample, name: str, pair: tuple[bytes, bytes]) -> None:
        """Write image and label map of a case, and remember what `finish` must know."""
        kind = "Ts" if sample.split == "test" else "Tr"
        for folder, data, part in zip(("images", "labels"), pair, ("_0000", ""), strict=True):
            unit.file(f"{dataset}/{folder}{kind}/{name}{part}{self._ending}", data)
        record = sample.record
        unit.count(f"{dataset} {kind}")
        unit.note("datasets", [dataset, record["source"], record["modality"], record["license"]])
        unit.note("submodalities", [dataset, record["submodality"]])
        if kind == "Tr":
            unit.entry(f"{dataset.partition('_')[0].lower()}_{sample.split}", name)

    def finish(self, gathered: Gathered) -> list[str]:
        """Write the documents of every dataset."""
        remarks = overlap_remark(gathered.counted("hidden"), gathered.counted("overlapped"))
        ignored = gathered.notes("ignored")
        licenses: dict[tuple[str, str, str], list[str]] = {}
        for dataset, source, modality, license_id in gathered.notes("datasets"):
            licenses.setdefault((dataset, source, modality), []).append(license_id)
        for (dataset, source, modality), names in licenses.items():
            training = int(gathered.counted(f"{dataset} Tr"))
            labels = {"background": 0} | {label: at for at, label in enumerate(self._labels[source], 1)}
            if dataset in ignored:
                labels[_IGNORED] = len(labels)
            about = self._overview.sources.get(source)
            document = {
                "channel_names": self._channels(dataset, modality),
                "labels": labels,
                "numTraining": training,
                "file_ending": self._ending,
                "name": source,
                "licence": ", ".join(names),
                **({"description": about.title, "reference": about.homepage} if about else {}),
            }
            with gathered.open(f"{dataset}/dataset.json") as file:
                file.write(json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
            remarks += self._fold(gathered, dataset)
            if not training:
                remarks.append(f"{dataset}: has images of the test split alone, so nnU-Net cannot train on it")
        return [*remarks, *_several(gathered)]

    def _channels(self, dataset: str, modality: str) -> dict[str, str]:
        number = int(dataset.partition("_")[0].removeprefix("Dataset"))
        if number % 2 == 0:
            return _CHANNELS[_COLOUR]
        if modality == "ct":  # nnU-Net takes this name in any spelling for values in HU, which slices do not have
            return {"0": _CT_IN_HU if self._ending == NnUnetVolumes.ending else "ct_slice"}
        return {"0": modality}

    def _fold(self, gathered: Gathered, dataset: str) -> list[str]:
        """Write the one fold in which nnU-Net validates on our validation split.

        Without it, it deals slices of a patient to both sides.
        """
        number = dataset.partition("_")[0].lower()
        names = {
            split: [line.decode() for line in gathered.lines(f"{number}_{split}")] for split in ("train", "validation")
        }
        if not all(names.values()):
            return []
        with gathered.open(f"{dataset}/splits_final.json") as file:
            fold = [{"train": sorted(names["train"]), "val": sorted(names["validation"])}]
            file.write(as_json(fold).encode() + b"\n")
        return [
            f"{dataset}/splits_final.json: copy it to nnUNet_preprocessed/{dataset} and train fold 0, or nnU-Net deals "
            "images of one patient to training and validation"
        ]


def _several(gathered: Gathered) -> list[str]:
    """Datasets whose cases have images of several sub-modalities, which nnU-Net might rather take as channels."""
    held: dict[str, list[str]] = {}
    for dataset, submodality in gathered.notes("submodalities"):
        held.setdefault(dataset, []).append(submodality)
    return [
        f"{dataset}: images of {', '.join(names)} are cases of their own; choose one with --submodality"
        for dataset, names in held.items()
        if len(names) > 1
    ]
