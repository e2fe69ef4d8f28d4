"""Names of cases and patients that come with the files of a hospital, replaced by keyed hashes.

Folders of DICOM files, for one, are named after patients, dates, accession numbers and UIDs. Unless the recipe says
that its identifiers are public, none of them goes into a key, a metadata field, the plan or the quarantine: a hash
stands there, and only the local table ``build/identifiers/SOURCE.json`` tells what it stands for. Without the key
nobody can find out by trying names.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from builder.cases.case import Case
from builder.cases.discovery import Discovery, scan
from builder.errors import CaseError, RecipeError
from builder.readers.files import carries_identifiers
from shards.atomic import write_atomic
from shards.paths import BUILD
from shards.receipt import Quarantined
from shards.store import is_here

KEY_VARIABLE: Final = "SA_MED2D_IDENTIFIER_KEY"
"""Environment variable with the key; where several folders are built that shall agree in their hashes."""
_KEY_FILE: Final = f"{BUILD}/identifier.key"
_SHORTEST_KEY: Final = 16
_DIGITS: Final = 16
"""Hexadecimal digits of a hash: 64 bits, so that among a million names two agree with a chance of 3 in 100 million."""
_HASHES: Final = re.compile(rf"\b[0-9a-f]{{{_DIGITS}}}(?:/[0-9a-f]{{{_DIGITS}}})*/?")
"""A hash, or a path of hashes."""


def identifier_key(out: Path) -> bytes:
    """The key: from the environment, else of the output folder, made there once.

    Raises:
        RecipeError: The key in the environment is too short to keep a secret, or there is none for a folder in an
            object store, which may be read by others.
    """
    given = os.environ.get(KEY_VARIABLE)
    if given is not None:
        if len(given) < _SHORTEST_KEY:
            raise RecipeError([f"{KEY_VARIABLE}: expected at least {_SHORTEST_KEY} characters"])
        return given.encode()
    if not is_here(out):
        raise RecipeError([f"{KEY_VARIABLE}: set it, as hashed identifiers need a key, and none is kept in {out}"])
    path = out / _KEY_FILE
    if not path.exists():
        write_atomic(path, secrets.token_hex().encode() + b"\n", private=True)
    return path.read_bytes().strip()


class Pseudonyms:
    """The hashes of one source.

    Args:
        key: The key.
        source: Name of the source: the same patient has another hash in another source.
    """

    def __init__(self, key: bytes, source: str) -> None:
        self._key, self._source = key, source
        self.table: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The hash that stands for a name."""
        text = f"{self._source}\0{name}".encode("utf-8", "surrogateescape")
        hashed = hmac.new(self._key, text, hashlib.sha256).hexdigest()[:_DIGITS]
        if self.table.setdefault(hashed, name) != name:
            raise RecipeError([f"{self._source}: two identifiers have one hash; choose another key in {KEY_VARIABLE}"])
        return hashed


def holds_identifiers(found: Discovery, root: Path) -> bool:
    """Whether any image of a source is of a kind that usually names patients; then none of its names is trusted."""
    images = [case.images[0].path for case in found.cases]
    return any(carries_identifiers(root, path) for path in (*images, *found.images_without_mask))


def without_identifiers(found: Discovery, root: Path, names: Pseudonyms) -> Discovery:
    """A discovery that shows hashes instead of names of cases, patients and files."""
    # reasons may name any file of the source
    shown = {path: _shown_path(path, names) for path in scan(root)} if found.quarantined else {}
    cases = [_hashed(case, names) for case in found.cases]
    return Discovery(
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        quarantined=tuple(
            Quarantined(names.of(one.case), _shown_path(one.file, names), one.stage, _replaced(one.reason, shown))
            for one in found.quarantined
        ),
        images_without_mask=tuple(_shown_path(path, names) for path in found.images_without_mask),
        masks_without_image=tuple(_shown_path(path, names) for path in found.masks_without_image),
    )


def write_table(out: Path, source: str, table: Mapping[str, str]) -> None:
    """Keep what each hash stands for, for the eyes of whoever builds alone; never in an object store."""
    if not is_here(out):
        return
    text = json.dumps(dict(sorted(table.items())), indent=1, ensure_ascii=False)
    data = text.encode("utf-8", "surrogateescape") + b"\n"
    write_atomic(out / BUILD / "identifiers" / f"{source}.json", data, private=True)


def with_own_names(text: str, table: Mapping[str, str]) -> str:
    """A text for the eyes of whoever builds: where hashes stand, names and paths of the source.

    Args:
        text: Any text that names cases or files.
        table: Hash -> what it stands for.
    """

    def named(found: re.Match[str]) -> str:
        path = found[0].rstrip("/")
        own = table.get(path.rsplit("/", 1)[-1])  # the hash of a path's end stands for the whole path
        return found[0] if own is None else own + found[0][len(path) :]

    return _HASHES.sub(named, text) if table else text


def shown_error(case: Case, error: CaseError) -> CaseError:
    """An error of a case as it may be shown."""
    shown = dict(case.shown)
    return CaseError(
        error.stage, shown.get(error.file, error.file), _replaced(error.reason, shown), transient=error.transient
    )


def _shown_path(path: str, names: Pseudonyms) -> str:
    """A path whose every part is a hash, so that files of one folder can still be seen to be so."""
    parts = path.rstrip("/").split("/")
    hashed = "/".join(names.of("/".join(parts[: at + 1])) for at in range(len(parts)))
    return hashed + ("/" if path.endswith("/") else "")


def _hashed(case: Case, names: Pseudonyms) -> Case:
    shown = {path: _shown_path(path, names) for path in case.paths}
    images = tuple(replace(image, shown=shown[image.path]) for image in case.images)
    name, patient = names.of(case.name), names.of(case.patient)
    return replace(case, name=name, patient=patient, images=images, shown=tuple(shown.items()))


def _replaced(text: str, shown: Mapping[str, str]) -> str:
    for path in sorted(shown, key=len, reverse=True):
        text = text.replace(path, shown[path])
    return text
