"""Which classes of its source a case has no mask file for."""

from __future__ import annotations

from builder.cases.case import Case
from builder.sources.source import Source


def not_annotated(case: Case, source: Source) -> tuple[str, ...]:
    """Find the classes that a source annotates, but not in this case.

    Where a mask file holds one class, a case without the file of a class says nothing of it: that the image shows none
    of it cannot be known. A region counts as annotated where all its parts are. Where a file may hold every class,
    all are annotated.

    Returns:
        Their labels, in the order of the classes.
    """
    recipe, numbers = source.recipe, source.classes.numbers
    if not recipe.labels_by_file or recipe.masks.segments:
        return ()
    annotated = {numbers[file.label] for file in case.masks if file.label is not None}
    if any(file.label is None for file in case.masks):  # it may hold whatever [labels] names
        annotated |= {numbers[key] for key in recipe.labels}
    for region, parts in recipe.regions.items():
        if all(numbers[str(part)] in annotated for part in parts):
            annotated.add(numbers[region])
    return tuple(known.label for number, known in enumerate(source.classes.classes, start=1) if number not in annotated)
