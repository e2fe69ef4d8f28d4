"""Names of cases and patients that come with the files of a hospital, replaced by keyed hashes.

Folders of DICOM files, for one, are named after patients, dates, accession numbers and UIDs. Unless the recipe says
that its identifiers are public, none of them goes into a key, a metadata field, the plan or the quarantine: a hash
stands there, and only the local table ``build/identifiers/SOURCE.json`` tells what it stands for. Without the key
nobody can find out by trying names.

A person's name may stand wherever somebody typed: in the part of a path that is taken for a sub-modality or a class, in
the label of a segment. So what neither the recipe nor the vocabulary names is held back, and reasons quote none of it.
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
from pathlib import Path, PurePosixPath
from typing import Final

from builder.annotations.segments import BY_ENDING
from builder.cases.case import Case
from builder.cases.discovery import Discovery, HeldBack, scan
from builder.errors import CaseError, RecipeError
from builder.readers.files import carries_identifiers
from builder.sources.recipe import Recipe
from builder.sources.submodality import known_submodality, submodality_of
from builder.sources.vocabulary import vocabulary
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


def holds_identifiers(found: Discovery, recipe: Recipe, root: Path) -> bool:
    """Whether any file of a source is of a kind that usually names patients; then none of its names is trusted.

    What is not built counts too. Of a folder that cannot be looked into the pattern tells what it would hold.
    """
    cases, pattern = found.cases, recipe.files.image.text
    held = (pattern if one.entry.file.endswith("/") else one.entry.file for one in found.held_back)
    images = (image.path for case in cases for image in case.images)
    masks = (mask.path for case in cases for mask in case.masks)
    return any(
        carries_identifiers(root, path)
        for path in dict.fromkeys((*images, *found.images_without_mask, *held, *masks, *found.masks_without_image))
        if PurePosixPath(path).suffix.lower() not in BY_ENDING  # annotations of pictures
    )


def without_identifiers(found: Discovery, recipe: Recipe, root: Path, names: Pseudonyms) -> Discovery:
    """A discovery that shows hashes instead of names of cases, patients and files."""
    unnamed = {case.name: reason for case in found.cases if (reason := _unnamed_capture(case, recipe)) is not None}
    held = [
        *found.held_back,
        *(
            HeldBack(Quarantined(case.name, case.images[0].path, "match", unnamed[case.name]))
            for case in found.cases
            if case.name in unnamed
        ),
    ]
    # reasons may name any file of the source
    shown = {path: _shown_path(path, names) for path in scan(root)} if held else {}
    cases = [_hashed(case, names) for case in found.cases if case.name not in unnamed]
    return Discovery(
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        held_back=tuple(_hashed_entry(one, shown, names) for one in held),
        images_without_mask=tuple(_shown_path(path, names) for path in found.images_without_mask),
        masks_without_image=tuple(_shown_path(path, names) for path in found.masks_without_image),
        left_out=tuple(sorted(names.of(name) for name in found.left_out)),
        idle_entries=found.idle_entries,
        copies=tuple(sorted(names.of(name) for name in found.copies)),
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
    if not case.shown:
        return error
    shown = dict(case.shown)
    reason = _replaced(error.withheld or error.reason, shown)
    return CaseError(error.stage, shown.get(error.file, error.file), reason, transient=error.transient)


def _unnamed_capture(case: Case, recipe: Recipe) -> str | None:
    """Why what a path captured may not be shown: it would stand in keys, metadata and the list of classes."""
    named = (recipe.submodality, *recipe.submodalities.values(), *(recipe.files.channels or ()))
    told = {submodality_of(recipe.modality, name) for name in named}
    found = {image.submodality for image in case.images} - told
    if not all(known_submodality(recipe.modality, name) for name in found):
        return f"captured a sub-modality, {_UNNAMED.format('[submodalities]', 'submodality')}"
    labels = {mask.label for mask in case.masks if mask.label is not None} - recipe.labels.keys()
    if not all(vocabulary().find(label) for label in labels):
        return f"captured a label that is no class of the vocabulary, {_UNNAMED.format('[labels]', 'label')}"
    if case.rater is not None and recipe.raters.use == "each" and not recipe.raters.names:
        return f"captured a rater, {_UNNAMED.format('raters.names', 'rater')}"
    return None


_UNNAMED: Final = (
    "which the recipe does not name; as it may be a person's name it is not shown in a source of hashed identifiers: "
    "name it in {0}, or match it with {{*}} instead of {{{1}}}"
)


def _hashed_entry(one: HeldBack, shown: Mapping[str, str], names: Pseudonyms) -> HeldBack:
    entry = one.entry
    reason = _replaced(one.withheld or entry.reason, shown)
    return HeldBack(Quarantined(names.of(entry.case), _shown_path(entry.file, names), entry.stage, reason))


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
