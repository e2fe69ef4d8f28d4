"""The headers of all files of a source: kinds and sizes, which are damaged, which cannot belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from builder.cases.case import Case
from builder.errors import CaseError
from builder.readers.files import DICOM, FORMATS, read_header
from builder.readers.rules import ReadRules
from builder.run.spread import spread
from builder.sources.source import Source

Shape = tuple[int, ...]

_WORTH: Final = 1000
"""Files from which other processes help."""


@dataclass(frozen=True)
class Headers:
    """What the files of a source say of themselves.

    Attributes:
        shapes: Path -> shape, slowest axis first; of files whose masks are named there is none.
        faults: Path -> why its header cannot be read.
        formats: Kind of file -> number of files.
    """

    shapes: dict[str, Shape]
    faults: dict[str, CaseError]
    formats: Counter[str]

    def signature(self, case: Case) -> tuple[object, ...]:
        """What cases that are alike share: sub-modalities, kinds and sizes of their files."""
        files = [(kind_of(path), self.shapes.get(path)) for path in case.paths]
        return (tuple(image.submodality for image in case.images), tuple(files))

    def fault_of(self, case: Case, source: Source) -> CaseError | None:
        """Why a case cannot be built, as far as headers tell."""
        for path in case.paths:
            if path in self.faults:
                return self.faults[path]
        return self._other_size(case, source)

    def _other_size(self, case: Case, source: Source) -> CaseError | None:
        """A mask that has other sides than its image however the axes are turned."""
        image = self.shapes.get(case.images[0].path)
        if image is None or source.recipe.resample_masks or source.recipe.layers or case.frame is not None:
            return None
        expected = image[-3:] if case.images[0].channel is not None else image
        for mask in case.masks:
            shape = self.shapes.get(mask.path)
            if shape is not None and sorted(shape) != sorted(expected):
                reason = f"the image has {_text(expected)} pixels, the mask {_text(shape)}, by their headers"
                return CaseError("grid", mask.path, reason)
        return None


def read_headers(source: Source, cases: Iterable[Case], *, workers: int, on_file: Callable[[], None]) -> Headers:
    """Read the headers of all images and masks of some cases, each file once.

    Args:
        source: Their source.
        cases: The cases.
        workers: Number of processes.
        on_file: Called after each file.
    """
    named = source.recipe.masks.segments
    paths = dict[str, ReadRules]()
    annotations = dict[str, None]()
    for case in cases:
        masks = dict.fromkeys(mask.path for mask in case.masks)
        if named:
            annotations |= masks
        else:
            paths |= dict.fromkeys(masks, source.mask_rules())
        paths |= dict.fromkeys((image.path for image in case.images), source.read_rules)

    found: dict[str, Shape | CaseError] = {}
    answers = spread(partial(_read, source), list(paths.items()), workers=workers, worth=_WORTH)
    for path, answer in zip(paths, answers, strict=True):
        found[path] = answer
        on_file()
    return Headers(
        shapes={path: shape for path, shape in found.items() if not isinstance(shape, CaseError)},
        faults={path: error for path, error in found.items() if isinstance(error, CaseError)},
        formats=Counter(map(kind_of, [*paths, *annotations])),
    )


def _read(source: Source, file: tuple[str, ReadRules]) -> Shape | CaseError:
    path, rules = file
    try:
        return read_header(source.root, path, rules).shape
    except CaseError as error:
        return error


def kind_of(path: str) -> str:
    """Kind of a file by its name."""
    if path.endswith("/"):
        return "DICOM folder"
    endings = [ending for known in FORMATS for ending in known.endings if path.lower().endswith(ending)]
    name = path.rsplit("/", 1)[-1]
    if not endings:
        return f".{name.rsplit('.', 1)[-1].lower()}" if "." in name else f"no ending ({DICOM.endings[0]} by its mark)"
    return max(endings, key=len)


def sizes_of(shapes: Iterable[Shape]) -> Counter[str]:
    """Sides in words, fastest axis first -> number of files."""
    return Counter(map(_text, shapes))


def _text(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in reversed(shape))
