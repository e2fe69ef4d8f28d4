"""Slices of one image along one axis, which layouts of volumes and videos take together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sa_med2d_20m import DatasetError, linked_objects
from shards.export.sample import Sample


@dataclass(frozen=True)
class Stack:
    """Slices in order.

    Attributes:
        name: Their keys without the slice number.
        samples: The slices, by their number; some of the volume may be missing.
    """

    name: str
    samples: Sequence[Sample]

    @property
    def first(self) -> Sample:
        """The first slice that there is."""
        return self.samples[0]

    @cached_property
    def objects(self) -> list[list[int]]:
        """For each slice the number of the object that each of its masks is a part of, from 1, stable along the axis.

        Two masks of one class in neighbouring slices belong together where they overlap, see
        `sa_med2d_20m.linked_objects`.
        """
        return linked_objects((sample.label_map, sample.record) for sample in self.samples)


class Stacking:
    """Collects samples, as they come, until all slices of an image along an axis are there."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        self._name = ""
        self._before: set[str] = set()

    def add(self, sample: Sample) -> Stack | None:
        """Take a slice; the slices before it, when it is the first of another stack.

        Raises:
            DatasetError: The slices before it do not fit together, its stack was ended before, or its number is not
                that of its key.
        """
        name, _, number = sample.key.rpartition("_")
        if sample.record["index"] != int(number):
            raise DatasetError(
                f"{sample.key}: its index is {sample.record['index']!r:.80}; 'sa-med2d verify' finds all such samples"
            )
        done = None if name == self._name else self.end()
        if name in self._before:
            raise DatasetError(f"{sample.key}: its slices do not lie together in the shard, so they are no volume")
        self._name = name
        self._samples.append(sample)
        return done

    def end(self) -> Stack | None:
        """The slices since the last stack, or None where there are none.

        Raises:
            DatasetError: They do not fit together.
        """
        if not self._samples:
            return None
        samples, name = sorted(self._samples, key=lambda sample: int(sample.record["index"])), self._name
        self._samples = []
        self._before.add(name)
        _refuse_what_does_not_fit(samples)
        return Stack(name, samples)


def is_slice(key: str) -> bool:
    """Whether a key is that of a slice of a volume, not of a picture."""
    return not key.endswith("_none")


def _refuse_what_does_not_fit(samples: Sequence[Sample]) -> None:
    numbers = [sample.record["index"] for sample in samples]
    sizes = {tuple(sample.record.get(name) for name in ("height", "width", "slices")) for sample in samples}
    slices = samples[0].record.get("slices") or numbers[-1] + 1
    if len(sizes) > 1 or len(set(numbers)) < len(numbers) or not 0 <= numbers[0] <= numbers[-1] < slices:
        raise DatasetError(f"{samples[0].key}: expected slices of one volume, of one size and each once")
