"""XML that anybody may have written, read element by element: no document type, so no entities."""

from __future__ import annotations

import xml.parsers.expat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol

from builder.errors import UnreadableError


class Elements(Protocol):
    """What is told of the elements of a file, in their order."""

    def start(self, tag: str, values: dict[str, str], /) -> Any:
        """An element begins, with these attributes."""
        ...

    def end(self, tag: str, /) -> Any:
        """An element ends."""
        ...


def parse(path: Path, elements: Elements, *, text: Callable[[str], Any] | None = None, writers: str) -> None:
    """Read a file.

    Args:
        path: The file.
        elements: Is told of its elements.
        text: Is told of the text between them.
        writers: Who writes such files, for the message about a document type: ``neither ASAP nor Aperio write``.

    Raises:
        UnreadableError: It is damaged, no XML, or has a document type, whose entities grow without bound or lead to
            other files.
    """

    def refuse_doctype(*_: object) -> NoReturn:
        raise UnreadableError(f"it has a document type, which {writers}; take it out")

    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = elements.start, elements.end
    if text is not None:
        parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse_doctype
    try:
        parser.Parse(path.read_bytes(), True)
    except xml.parsers.expat.ExpatError as error:
        raise UnreadableError(f"damaged, or no XML: {error}; fetch it again") from None
    except (LookupError, ValueError):
        raise UnreadableError("damaged: its encoding is unknown") from None
