"""The layout ``sam2``: the slices of a volume as the frames of a video, for the training code of SAM 2.

Rules: https://github.com/facebookresearch/sam2, ``training/dataset/vos_raw_dataset.py`` (``PNGRawDataset`` with
``is_palette: false``), ``vos_segment_loader.py`` (``MultiplePNGSegmentLoader``) and ``tools/vos_inference.py`` (with
``--per_obj_png_file``), which are those of the validation and test sets of SA-V: frames are ``.jpg`` whose names are
numbers, each object has a folder whose name is its number, a frame in which it is not seen has no file there, and a
list names the videos. Objects may overlap.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from shards.console import plural
from shards.export.layout import Gathered, Layout, Overview, Unit
from shards.export.pictures import eight_bit, mask_png
from shards.export.sample import Sample
from shards.export.stacks import Stack, Stacking, is_slice
from shards.export.table import row

_QUALITY: Final = 95
"""Of JPEG files, from 0 to 100: ``PNGRawDataset`` looks for no other files, and they lose a little."""
_SAMPLED: Final = 8
"""Frames that the training configurations of SAM 2 take from a video, which must have as many."""
_TABLE: Final = "objects.csv"
COLUMNS: Final = (
    "split", "video", "object", "label", "class_id", "organ", "group", "frames", "first_frame", "last_frame", "pixels",
    "source", "license", "patient", "case", "plane",
)  # fmt: skip
"""Of the table: a row for each object of each video."""


class Sam2(Layout):
    """``{split}/JPEGImages/{video}/{slice}.jpg``, ``{split}/Annotations/{video}/{object}/{slice}.png``, and lists.

    ``{split}.txt`` names the videos. A video is an image along one axis, frames have the numbers of their slices.
    Objects have the numbers of `Stack.objects`; ``objects.csv`` says what each is.
    """

    whole_cases = True

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._stacking = Stacking()

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        if is_slice(sample.key):
            self._write(self._stacking.add(sample), unit)
        else:
            unit.count("pictures")

    def end(self, unit: Unit) -> None:
        """See `Layout`."""
        self._write(self._stacking.end(), unit)

    def _write(self, stack: Stack | None, unit: Unit) -> None:
        if stack is None:
            return
        if not any(sample.record["masks"] for sample in stack.samples):
            unit.count("without_object")
            return
        split, video = stack.first.split, stack.name
        found: dict[int, list[tuple[int, int]]] = {}
        about: dict[int, list[object]] = {}
        for sample, numbers in zip(stack.samples, stack.objects, strict=True):
            frame = sample.record["index"]
            unit.file(f"{split}/JPEGImages/{video}/{frame:05d}.jpg", _jpeg(sample))
            drawn: dict[int, npt.NDArray[np.bool_]] = {}
            for number, (entry, mask) in zip(numbers, sample.masks(), strict=True):
                drawn[number] = drawn[number] | mask if number in drawn else mask
                about.setdefault(number, [entry[name] for name in ("label", "class_id", "organ", "group")])
            for number, mask in drawn.items():
                unit.file(f"{split}/Annotations/{video}/{number:03d}/{frame:05d}.png", mask_png(mask))
                found.setdefault(number, []).append((frame, int(np.count_nonzero(mask))))
        shared = [stack.first.record[name] for name in ("source", "license", "patient", "case", "plane")]
        for number, seen in sorted(found.items()):
            frames = [len(seen), seen[0][0], seen[-1][0], sum(pixels for _, pixels in seen)]
            unit.entry("objects", row([split, video, number, *about[number], *frames, *shared]))
        unit.entry(f"videos_{split}", video)
        unit.note("splits", split)
        unit.count("short", len(stack.samples) < _SAMPLED)

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        for split in gathered.notes("splits"):
            with gathered.open(f"{split}.txt") as file:
                file.writelines(line + b"\n" for line in gathered.lines(f"videos_{split}"))
        with gathered.open(_TABLE) as file:
            file.write(row(COLUMNS).encode() + b"\n")
            file.writelines(line + b"\n" for line in gathered.lines("objects"))
        asked = f"fewer than {_SAMPLED} frames, which the training configurations of SAM 2 ask for"
        said = {
            "pictures": ("left out", "image", "as a video has slices of a volume"),
            "without_object": ("left out", "video", "in which no object is seen: SAM 2 would stop there"),
            "short": ("short", "video", asked),
        }
        return [
            f"{what}: {plural(int(gathered.counted(name)), noun)}, {why}"
            for name, (what, noun, why) in said.items()
            if gathered.counted(name)
        ]


def _jpeg(sample: Sample) -> bytes:
    """The image as a JPEG file of 8 bit, grey or in colour."""
    pixels = eight_bit(sample.pixels)
    written, data = cv2.imencode(
        ".jpg", pixels[..., ::-1] if pixels.ndim == 3 else pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    if not written:
        raise ValueError(f"{sample.key}: OpenCV wrote no JPEG file of {pixels.shape}")
    return data.tobytes()
