"""What was withdrawn from a repository, remembered there: so that the next publish does not bring it back unasked."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from sa_med2d_20m import DatasetError
from shards.foreign_json import json_in
from shards.hub.errors import PublishError

if TYPE_CHECKING:
    from shards.hub.repository import RemoteFile, Repository

WITHDRAWN: Final = "withdrawn.json"
"""Path in a repository."""
_LARGEST: Final = 1 << 20
"""Bytes of the file, which may be anybody's."""


def withdrawn_from(repository: Repository, revision: str, files: Mapping[str, RemoteFile]) -> frozenset[str]:
    """Names of the sources that were withdrawn from a branch.

    Raises:
        PublishError: The file that says so cannot be read.
    """
    if WITHDRAWN not in files:
        return frozenset()
    where = f"{repository.name}: {WITHDRAWN}"
    if files[WITHDRAWN].size > _LARGEST:
        raise PublishError(f"{where}: expected at most {_LARGEST:,} bytes, got {files[WITHDRAWN].size:,}")
    try:
        record: Any = json_in(repository.read(WITHDRAWN, revision), where)
    except DatasetError as error:
        raise PublishError(f"{error}; mend or delete it there") from None
    names = record.get("sources") if isinstance(record, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PublishError(f"{where}: sources: expected a list of names, got {names!r:.80}; mend or delete it there")
    return frozenset(names)


def remembered(names: Iterable[str]) -> bytes:
    """The file that says which sources were withdrawn; the same names give the same bytes."""
    return json.dumps({"sources": sorted(names)}, indent=1).encode() + b"\n"


def left_out(
    offered: Collection[str],
    withdrawn: Collection[str],
    name: str,
    *,
    again: Collection[str] = (),
    asked: Collection[str] = (),
) -> list[str]:
    """The sources of an offer that a publish leaves out, because they were withdrawn.

    Args:
        offered: Names of the sources that may be published.
        withdrawn: Names of those that were withdrawn.
        name: Of the repository, for messages.
        again: Names of those that are published all the same.
        asked: Names of sources that were asked for one by one.

    Raises:
        PublishError: Nothing is left, one of ``asked`` would be left out, or one of ``again`` is not offered.
    """
    strangers = sorted(set(again) - set(offered))
    if strangers:
        raise PublishError(
            f"--again {strangers[0]}: no source of this name may be published; there are {', '.join(sorted(offered))}"
        )
    out = sorted(set(offered) & set(withdrawn) - set(again))
    if len(out) == len(offered) or not set(out).isdisjoint(asked):
        raise PublishError(words_of(out, name))
    return out


def words_of(names: Collection[str], repository: str) -> str:
    """What is said of sources that are left out because they were withdrawn."""
    verb, options = "was" if len(names) == 1 else "were", " ".join(f"--again {name}" for name in names)
    return f"{', '.join(names)} {verb} withdrawn from {repository}, and not published again without {options}"
