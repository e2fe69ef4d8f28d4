"""Which classes of its source a case has no mask file for."""

from __future__ import annotations

from collections.abc import Iterable, Set

from builder.cases.case import Case, MaskFile
from builder.sources.source import Source


def not_annotated(case: Case, source: Source, left_out: Set[str] = frozenset()) -> tuple[str, ...]:
    """Find the classes that a source annotates, but not in this case.

    Where a mask file holds one class, a case without the file of a class says nothing of it: that the image shows none
    of it cannot be known. A region counts as annotated where all its parts are. Where a file may hold every class,
    all are annotated. Of a file that is left out it is not known what it shows, so no class that it may hold is.

    Args:
        case: The case.
        source: Its source.
        left_out: Paths of mask files that are left out.

    Returns:
        Their labels, in the order of the classes.
    """
    recipe, numbers = source.recipe, source.classes.numbers
    by_file = recipe.labels_by_file and not recipe.masks.segments
    if not by_file and not left_out:
        return ()
    annotated = _classes_of((file for file in case.masks if file.path not in left_out), source)
    annotated -= _classes_of((file for file in case.masks if file.path in left_out), source)
    for region, parts in recipe.regions.items():
        if all(numbers[str(part)] in annotated for part in parts):
            annotated.add(numbers[region])
    return tuple(known.label for number, known in enumerate(source.classes.classes, start=1) if number not in annotated)


def _classes_of(files: Iterable[MaskFile], source: Source) -> set[int]:
    """The classes that mask files may hold: that of ``{label}``, else whatever ``[labels]`` names."""
    recipe, numbers = source.recipe, source.classes.numbers
    named = {numbers[key] for key in recipe.labels}
    found: set[int] = set()
    for file in files:
        found |= named if file.label is None or recipe.masks.segments else {numbers[file.label]}
    return found
