"""The classes of a source by the release's class mapping: ids are per source, names go to the vocabulary."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from builder.errors import UnreadableError
from builder.sources.classes import SourceClasses
from builder.sources.vocabulary import Vocabulary
from shards.description import SourceClass

MAPPING: Final = "class_mapping_id.json"
"""How the name of the file ends that maps source and class name to class id."""
_UNION: Final = "union_"


@dataclass(frozen=True)
class ReleaseClasses:
    """The classes of a source of the release.

    Attributes:
        classes: Ordered by class id.
        unknown: Names that the vocabulary does not know -> near names in it.
    """

    classes: tuple[SourceClass, ...]
    unknown: Mapping[str, tuple[str, ...]]

    def as_source_classes(self) -> SourceClasses:
        """As a build knows the classes of a source; numbers are by class id."""
        numbers = {known.class_id: number for number, known in enumerate(self.classes, start=1)}
        return SourceClasses(self.classes, numbers, dict(self.unknown))


def read_mapping(data: bytes) -> dict[str, dict[str, str]]:
    """Read the class mapping.

    Returns:
        Source -> class id of four digits -> class name. Of two names with one id the first stays.

    Raises:
        UnreadableError: It is none.
    """
    try:
        record: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"it is no JSON: {error}") from None
    if not isinstance(record, dict):
        raise UnreadableError("expected an object: source -> class name -> class id")
    found: dict[str, dict[str, str]] = {}
    for source, names in record.items():
        if not isinstance(names, dict):
            raise UnreadableError(f"{source!r:.80}: expected an object: class name -> class id")
        own = found.setdefault(source, {})
        for name, class_id in names.items():
            if not (isinstance(class_id, str | int) and str(class_id).isdecimal()):
                raise UnreadableError(f"{source!r:.80}: {name!r:.80}: expected a class id such as 0003")
            own.setdefault(f"{int(class_id):04d}", name)
    return found


def classes_of(
    names: Mapping[str, str], used: Collection[str], vocabulary: Vocabulary, *, unions: bool
) -> ReleaseClasses:
    """Bring the classes of a source to the vocabulary.

    A class keeps its id. A name that the vocabulary does not know keeps its spelling, with organ null and group
    ``other``; an id without a name is called ``class_0007``.

    Args:
        names: Class id -> name in the release.
        used: Class ids of the masks.
        vocabulary: The vocabulary.
        unions: Whether to record of what unions are made.
    """
    every = {**{class_id: f"class_{class_id}" for class_id in used}, **names}
    classes, unknown = [], {}
    for class_id, name in sorted(every.items()):
        parts = union_parts(name, every.values()) if unions else ()
        term = vocabulary.find(name)
        if term is None and not parts:
            unknown[name] = tuple(vocabulary.near(name))
        organ, group = (term.organ, term.group) if term else _shared_place(parts, vocabulary)
        labels = tuple(_label(part, vocabulary) for part in parts)
        label, phrase = (term.label, term.phrase) if term else (name, None)
        classes.append(SourceClass(class_id, label, organ, group, name, labels, phrase))
    return ReleaseClasses(tuple(classes), unknown)


def _label(name: str, vocabulary: Vocabulary) -> str:
    term = vocabulary.find(name)
    return term.label if term else name


def _shared_place(parts: Collection[str], vocabulary: Vocabulary) -> tuple[str | None, str]:
    """Organ and group that all parts of a union have in common."""
    terms = [vocabulary.find(part) for part in parts]
    organs = {term.organ if term else None for term in terms}
    groups = {term.group if term else "other" for term in terms}
    return organs.pop() if len(organs) == 1 else None, groups.pop() if len(groups) == 1 else "other"


def union_parts(name: str, names: Collection[str]) -> tuple[str, ...]:
    """The classes that a union is made of: those of its source whose names, one after another, are its name.

    Names hold underscores themselves, so of several ways the one with the fewest, longest names counts.

    Args:
        name: Name of a class.
        names: All names of the source.

    Returns:
        Their names in the order of the union; nothing where it is no union, or not made of names of the source.

    >>> union_parts("union_liver_liver_tumor", ["liver", "liver_tumor", "tumor", "union_liver_liver_tumor"])
    ('liver', 'liver_tumor')
    """
    if not name.startswith(_UNION):
        return ()
    atoms = sorted((one for one in set(names) if one and not one.startswith(_UNION)), key=lambda one: (-len(one), one))
    waiting: list[tuple[str, tuple[str, ...]]] = [(name.removeprefix(_UNION), ())]
    seen: set[str] = set()
    while waiting:  # breadth first: the first way that is found has the fewest names
        following = []
        for rest, parts in waiting:
            for atom, left in _heads(rest, atoms):
                if not left:
                    return (*parts, atom)
                if left not in seen:
                    seen.add(left)
                    following.append((left, (*parts, atom)))
        waiting = following
    return ()


def _heads(text: str, atoms: Collection[str]) -> Iterator[tuple[str, str]]:
    """The names that a text may begin with, and what is left behind the separator."""
    for atom in atoms:
        if text == atom:
            yield atom, ""
        elif text.startswith(atom) and text[len(atom)] in "_-+& ":
            yield atom, text[len(atom) :].lstrip("_-+& ").removeprefix("and_")
