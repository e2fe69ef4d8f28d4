"""Taking a source down from a repository: its shards, its index and its part of the card; from history if asked."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from sa_med2d_20m import DatasetError
from shards.hub.errors import PublishError
from shards.hub.manifest import Manifest
from shards.hub.preview import previewed_source
from shards.hub.publish import card_of, source_of
from shards.hub.repository import Operation, RemoteFile, Repository
from shards.hub.repository_tables import repository_tables
from shards.hub.withdrawals import WITHDRAWN, remembered, withdrawn_from
from shards.paths import FIGURES, TABLES


@dataclass(frozen=True)
class Withdrawn:
    """How a withdrawal ended.

    Attributes:
        commit: Where the branch is now.
        deleted: Number of files that were deleted.
        tags: Tags that still hold the source, or that held it and were deleted.
        branches: Other branches that still hold it.
        purged: Whether the tags were deleted and the history squashed.
        unlisted: Other sources that the card leaves out now, and why: their manifests cannot be read.
        forgotten: Why it is no longer known what else was withdrawn before, or None.
        no_tables: Why the tables were deleted, which the next publish writes again; None where they were not.
    """

    commit: str
    deleted: int
    tags: tuple[str, ...]
    branches: tuple[str, ...]
    purged: bool
    unlisted: Mapping[str, str]
    no_tables: str | None = None
    forgotten: str | None = None


def withdraw(source: str, repository: Repository, *, purge: bool = False) -> Withdrawn:
    """Remove a source, and have the repository remember that; run again after an interruption it finishes the job.

    Args:
        source: Its name.
        repository: Where it is.
        purge: Also delete the tags that hold it, and make the branch's history one commit.

    Raises:
        PublishError: Nothing there holds the source, the Hub refuses, or somebody else published it meanwhile.
    """
    head = repository.head()
    there = repository.files(head)
    own = sorted(path for path in there if source_of(path) == source)
    tags = tuple(tag for tag in repository.tags() if _holds(repository, tag, source))
    branches = tuple(
        branch
        for branch in repository.branches()
        if branch != repository.revision and _holds(repository, branch, source)
    )
    # a purge that was interrupted left it in the history alone; a name that stands nowhere is a slip of the pen
    if not (own or tags or branches or (purge and _in_history(repository, source))):
        raise PublishError(f"{repository.name} holds no source {source}")
    unlisted: dict[str, str] = {}
    no_tables = None
    withdrawn, forgotten = _withdrawn_before(repository, head, there)
    if own or source not in withdrawn:
        manifests, unreadable = repository.manifests(head, there)
        kept = {name: one for name, one in manifests.items() if name != source}
        unlisted = {name: why for name, why in unreadable.items() if name != source}
        drawn = {path for path in there if previewed_source(path) in kept}
        operations: list[Operation] = [CommitOperationDelete(path) for path in own]
        operations += [
            CommitOperationAdd(path, text) for path, text in card_of(kept, repository.name, drawn=drawn).items()
        ]
        operations.append(CommitOperationAdd(WITHDRAWN, remembered(withdrawn | {source})))
        with tempfile.TemporaryDirectory(prefix="sa-med2d-") as folder:
            tables, no_tables = _tables(Path(folder), kept, repository, head)
            operations += [CommitOperationAdd(path, str(file)) for path, file in tables.items()]
            # figures show the source too; they are drawn again by the next publish, a take-down waits for nothing
            made = (f"{TABLES}/", f"{FIGURES}/")
            gone = sorted(path for path in there if path.startswith(made) and path not in tables)
            operations += [CommitOperationDelete(path) for path in gone]
            head = repository.commit(operations, f"Withdraw {source}", head)
    if purge:
        for tag in tags:
            repository.delete_tag(tag)
        repository.squash()
        head = repository.head()
        # the squash takes the branch as it is when it comes, not as it was when the source was removed
        again = [name for name in (head, *repository.tags()) if _holds(repository, name, source)]
        if again:
            raise PublishError(
                f"{repository.name}: somebody published {source} again meanwhile, {', '.join(again)} holds it; run the "
                "same command again"
            )
    return Withdrawn(head, len(own), tags, branches, purge, unlisted, no_tables, forgotten)


def _withdrawn_before(
    repository: Repository, head: str, there: Mapping[str, RemoteFile]
) -> tuple[frozenset[str], str | None]:
    """What was withdrawn before, and why that cannot be read: a take-down does not wait for it to be mended."""
    try:
        return withdrawn_from(repository, head, there), None
    except PublishError as error:
        return frozenset(), str(error)


def _tables(
    folder: Path, kept: Mapping[str, Manifest], repository: Repository, head: str
) -> tuple[dict[str, Path], str | None]:
    """The tables without the source; none, and why, where an index cannot be read: nothing stops a take-down."""
    try:
        tables = repository_tables(folder, (), kept, repository, head)
    except DatasetError as error:
        return {}, str(error)
    return {path: folder / path for path in tables}, None


def _in_history(repository: Repository, source: str) -> bool:
    return any(_holds(repository, commit, source) for commit in repository.history())


def _holds(repository: Repository, revision: str, source: str) -> bool:
    return any(source_of(path) == source for path in repository.files(revision))
