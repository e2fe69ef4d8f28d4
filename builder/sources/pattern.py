"""File patterns with captures: ``imagesTr/{case}_{submodality}.nii.gz``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

CAPTURES: Final = ("case", "patient", "submodality", "label", "split")
_FIELD = re.compile(r"\{([^{}]*)\}")


def _spread(
    literals: Sequence[str], names: Sequence[str], text: str, found: dict[str, str]
) -> Iterator[dict[str, str]]:
    if not text.startswith(literals[0]):
        return
    rest = text[len(literals[0]) :]
    if not names:
        if not rest:
            yield found
        return
    name, component = names[0], rest.split("/", 1)[0]
    for size in range(len(component), -1 if name == "*" else 0, -1):
        taken = component[:size]
        if name == "*" or found.get(name, taken) == taken:
            further = found if name == "*" else {**found, name: taken}
            yield from _spread(literals[1:], names[1:], rest[size:], further)


class Pattern:
    """A path pattern below the root of a source.

    ``{case}``, ``{patient}``, ``{submodality}``, ``{label}`` and ``{split}`` capture one or more characters within one
    path component, as many as fit; a name that stands twice must match the same text. ``{*}`` matches any text within
    a component. Everything else stands for itself. A pattern that ends in ``/`` matches folders: DICOM series.

    Args:
        text: The pattern.

    Raises:
        ValueError: It is no pattern; the message says why.

    >>> Pattern("img/{case}_{submodality}.nii.gz").match("img/p_01_t1.nii.gz")
    {'case': 'p_01', 'submodality': 't1'}
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.captures: tuple[str, ...] = ()
        if not text or text.startswith("/") or "\\" in text or {"..", ""} & set(text.rstrip("/").split("/")):
            raise ValueError(f"{text!r} is no path below the source's root, with forward slashes")
        self._regex = re.compile(self._translate(), re.DOTALL)

    @property
    def literal(self) -> int:
        """Number of characters that stand for themselves: the larger, the closer the pattern."""
        return len(_FIELD.sub("", self.text))

    def match(self, path: str) -> dict[str, str] | None:
        """Match a path; gives what each name captures, or None where the path does not match."""
        found = self._regex.fullmatch(path)
        return None if found is None else found.groupdict()

    def matches(self, path: str) -> Iterator[dict[str, str]]:
        """Match a path in every way in which it does, the way of `match` first.

        ``{case}_{label}.png`` matches ``p_01_liver.png`` with the case ``p_01`` and with the case ``p``; only the
        images tell which is meant.
        """
        pieces = _FIELD.split(self.text)
        yield from _spread(pieces[0::2], pieces[1::2], path, {})

    def _translate(self) -> str:
        parts, end = [], 0
        for field in _FIELD.finditer(self.text):
            parts += [self._literal(self.text[end : field.start()]), self._field(field[1])]
            end = field.end()
        return "".join([*parts, self._literal(self.text[end:])])

    def _literal(self, text: str) -> str:
        if "{" in text or "}" in text:
            raise ValueError(f"{self.text!r} has a brace without its partner")
        return re.escape(text)

    def _field(self, name: str) -> str:
        if name == "*":
            return "[^/]*"
        if name not in CAPTURES:
            allowed = ", ".join(f"{{{capture}}}" for capture in (*CAPTURES, "*"))
            raise ValueError(f"{self.text!r}: {{{name}}} is no capture; allowed are {allowed}")
        if name in self.captures:
            return f"(?P={name})"
        self.captures = (*self.captures, name)
        return f"(?P<{name}>[^/]+)"
