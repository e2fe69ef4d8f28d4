"""File patterns with captures: ``imagesTr/{case}_{submodality}.nii.gz``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from builder.errors import RecipeError

CAPTURES: Final = ("case", "patient", "submodality", "label", "rater", "split")
_FIELD = re.compile(r"\{([^{}]*)\}")
_MOST_FIELDS: Final = 32
_MOST_STEPS: Final = 100_000
"""Ways of matching one path that are tried: a second at most."""


class Pattern:
    """A path pattern below the root of a source.

    ``{case}``, ``{patient}``, ``{submodality}``, ``{label}``, ``{rater}`` and ``{split}`` capture one or more
    characters within one path component, as many as fit; a name that stands twice must match the same text. ``{*}``
    matches any text within a component. Everything else stands for itself. A pattern that ends in ``/`` matches
    folders: DICOM series.

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
        pieces = _FIELD.split(text)
        self._literals, self._names = pieces[0::2], pieces[1::2]
        if len(self._names) > _MOST_FIELDS:
            raise ValueError(f"{text[:60]!r}... has {len(self._names)} captures, expected at most {_MOST_FIELDS}")
        if not text or text.startswith("/") or "\\" in text or {"..", ""} & set(text.rstrip("/").split("/")):
            raise ValueError(f"{text!r} is no path below the source's root, with forward slashes")
        self._regex = re.compile(self._translate(), re.DOTALL)
        # where texts of one component meet, a regular expression tries every place: with two of them a path of N
        # characters takes N steps, with each further one N times as many
        self._quick = sum(max(0, len(_FIELD.findall(component)) - 1) for component in text.split("/")) < 2

    @property
    def literal(self) -> int:
        """Number of characters that stand for themselves: the larger, the closer the pattern."""
        return len(_FIELD.sub("", self.text))

    def match(self, path: str) -> dict[str, str] | None:
        """Match a path; gives what each name captures, or None where the path does not match.

        Raises:
            RecipeError: See `matches`.
        """
        if not self._quick:
            return next(self.matches(path), None)
        found = self._regex.fullmatch(path)
        return None if found is None else found.groupdict()

    def matches(self, path: str) -> Iterator[dict[str, str]]:
        """Match a path in every way in which it does, the way of `match` first.

        ``{case}_{label}.png`` matches ``p_01_liver.png`` with the case ``p_01`` and with the case ``p``; only the
        images tell which is meant. Ways that differ only in what ``{*}`` matches are one.

        Raises:
            RecipeError: There are too many ways to try.
        """
        if not (path.startswith(self._literals[0]) and path.endswith(self._literals[-1])):
            return
        ends, seen, steps = self._ends(path), set(), 0
        waiting: list[tuple[int, int, tuple[tuple[str, str], ...]]] = [(0, len(self._literals[0]), ())]
        while waiting:
            state = waiting.pop()
            if state in seen:
                continue
            seen.add(state)
            at, start, found = state
            if at == len(self._names):
                if start == len(path):
                    yield dict(found)
                continue
            further = list(self._steps(path, at, start, dict(found), ends[at]))
            waiting += further
            steps += len(further)
            if steps > _MOST_STEPS:
                raise RecipeError([self._too_many(path)])

    def _steps(
        self, path: str, at: int, start: int, found: dict[str, str], ends: list[int]
    ) -> Iterator[tuple[int, int, tuple[tuple[str, str], ...]]]:
        """Where matching may go on behind a capture, the longest text last."""
        name, slash = self._names[at], path.find("/", start)
        first, last = start + (name != "*"), len(path) if slash < 0 else slash
        further = len(self._literals[at + 1])
        if name in found:
            end = start + len(found[name])
            if path.startswith(found[name], start) and first <= end <= last and end in ends:
                yield at + 1, end + further, tuple(found.items())
            return
        for end in ends:
            if first <= end <= last:
                known = found if name == "*" else {**found, name: path[start:end]}
                yield at + 1, end + further, tuple(known.items())

    def _ends(self, path: str) -> list[list[int]]:
        """For each capture where it may end so that the rest can match, whatever texts stand twice; ascending.

        Worked out from the end of the path, so that matching never goes where it cannot end.
        """
        found: list[list[int]] = []
        starts = [at == len(path) for at in range(len(path) + 1)]  # where what follows the literal may begin
        for literal, name in zip(reversed(self._literals[1:]), reversed(self._names), strict=True):
            fits = [
                at + len(literal) <= len(path) and starts[at + len(literal)] and path.startswith(literal, at)
                for at in range(len(path) + 1)
            ]
            found.append([at for at, fit in enumerate(fits) if fit])
            starts = _starts(path, fits, shortest=int(name != "*"))
        return found[::-1]

    def _too_many(self, path: str) -> str:
        return f"{self.text!r} can match {path!r} in too many ways; put more text between its captures, or capture less"

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


def _starts(path: str, fits: list[bool], *, shortest: int) -> list[bool]:
    """Where a text without a slash, of at least ``shortest`` characters, may begin that ends where one fits."""
    starts, ahead = [False] * len(fits), False
    for at in reversed(range(len(fits))):
        if shortest == 0:
            ahead = (ahead and path[at : at + 1] != "/") or fits[at]
            starts[at] = ahead
        else:
            starts[at] = at < len(path) and path[at] != "/" and (ahead or fits[at + 1])
            ahead = starts[at]
    return starts
