"""A dataset repository of the Hugging Face Hub as the publisher sees it, by `huggingface_hub`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from sa_med2d_20m import DatasetError, redacted
from shards.foreign_json import LARGEST, too_large
from shards.hub.content import Content, git_oid, size_of
from shards.hub.errors import PublishError
from shards.hub.manifest import Manifest, read_manifest
from shards.paths import MANIFESTS, manifest_file

_DATASET = "dataset"
_TOO_LARGE: Final = 413
Operation = CommitOperationAdd | CommitOperationDelete


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        size: In bytes.
        oid: sha256 of a large file, git's sha1 of any other.
    """

    size: int
    oid: str

    def is_same(self, content: Content) -> bool:
        """Whether it has this content."""
        if self.size != size_of(content):
            return False
        if isinstance(content, bytes):
            return self.oid in (hashlib.sha256(content).hexdigest(), git_oid(content))
        is_large = len(self.oid) == len(content.sha256)
        return self.oid == (content.sha256 if is_large else git_oid(content.read()))


class Repository:
    """One branch of a dataset repository.

    Args:
        name: ``owner/name``.
        revision: Branch.
    """

    def __init__(self, name: str, revision: str = "main") -> None:
        self.name, self.revision = name, revision
        self._api = HfApi(library_name="sa-med2d")

    def create(self, *, private: bool) -> None:
        """Make the repository and the branch where they are not there."""
        with self._hub_errors():
            self._api.create_repo(self.name, repo_type=_DATASET, private=private, exist_ok=True)
            if self.revision != "main":
                self._api.create_branch(self.name, branch=self.revision, repo_type=_DATASET, exist_ok=True)

    def head(self) -> str:
        """The commit that the branch is at."""
        return self.commit_of(self.revision)

    def files(self, revision: str) -> dict[str, RemoteFile]:
        """All files at a commit, branch or tag."""
        found = {}
        with self._hub_errors():
            for entry in self._api.list_repo_tree(self.name, recursive=True, revision=revision, repo_type=_DATASET):
                if isinstance(entry, RepoFile):
                    oid = entry.lfs.sha256 if entry.lfs is not None else entry.blob_id
                    found[entry.path] = RemoteFile(entry.size, oid)
        return found

    def manifests(self, revision: str, files: dict[str, RemoteFile]) -> tuple[dict[str, Manifest], dict[str, str]]:
        """What is published.

        Returns:
            Manifests by source; and for each source whose manifest is none that this version reads, why.
        """
        found, unreadable = {}, {}
        for path in sorted(path for path in files if path.startswith(f"{MANIFESTS}/")):
            source = PurePosixPath(path).stem
            if files[path].size > LARGEST:
                unreadable[source] = str(too_large(f"{self.name}: {path}", files[path].size))
                continue
            with self._hub_errors():
                try:
                    local = self._api.hf_hub_download(self.name, path, revision=revision, repo_type=_DATASET)
                except EntryNotFoundError:
                    unreadable[source] = f"{self.name}: {path} is listed, but its content is not there"
                    continue
            try:
                manifest = read_manifest(Path(local).read_bytes(), f"{self.name}: {path}")
            except DatasetError as error:
                unreadable[source] = str(error)
                continue
            if manifest_file(manifest.source.name) == path:
                found[source] = manifest
            else:
                unreadable[source] = f"{self.name}: {path} is about {manifest.source.name}"
        return found, unreadable

    def read(self, path: str, revision: str) -> bytes:
        """The content of a file, for small files."""
        with self._hub_errors():
            local = self._api.hf_hub_download(self.name, path, revision=revision, repo_type=_DATASET)
        return Path(local).read_bytes()

    def download(self, patterns: Sequence[str], revision: str, folder: Path) -> None:
        """Get the files at a commit that match one of some patterns, to their paths below a folder."""
        with self._hub_errors():
            self._api.snapshot_download(
                self.name, repo_type=_DATASET, revision=revision, allow_patterns=list(patterns), local_dir=folder
            )

    def check_card(self, text: str) -> None:
        """Ask the Hub whether it takes a card, which it otherwise says when all else has gone up.

        Raises:
            PublishError: It does not: the card is too large, or its front matter is not what the Hub knows.
        """
        with self._hub_errors():
            try:
                DatasetCard(text).validate(repo_type=_DATASET)
            except ValueError as error:
                raise PublishError(f"{self.name}: the Hub does not take the card: {_first_line(error)}") from None
            except HfHubHTTPError as error:
                if error.response is None or error.response.status_code != _TOO_LARGE:
                    raise
                size = f"{len(text.encode()):,} bytes"
                raise PublishError(
                    f"{self.name}: the Hub does not take the card: its {size} are too many; publish fewer modalities "
                    "or one tier in a repository, with --modality or --tier"
                ) from None

    def send(self, additions: Sequence[CommitOperationAdd]) -> None:
        """Send the large ones of some files ahead of the commit that adds them.

        Those that were sent hold their content no longer; those that the Hub has already are not sent again.

        Raises:
            PublishError: The Hub refuses.
        """
        with self._hub_errors():
            self._api.preupload_lfs_files(
                self.name, additions=additions, repo_type=_DATASET, revision=self.revision, free_memory=True
            )

    def commit(self, operations: Sequence[Operation], message: str, parent: str) -> str:
        """Change files in one step, on top of a commit that must still be the branch's last.

        Files that were not sent ahead, see `send`, are sent first.

        Returns:
            The new commit.

        Raises:
            PublishError: Somebody else has changed the branch, or the Hub refuses.
        """
        with self._hub_errors():
            done = self._api.create_commit(
                self.name,
                operations=operations,
                commit_message=message,
                repo_type=_DATASET,
                revision=self.revision,
                parent_commit=parent,
            )
        return str(done.oid)

    def history(self) -> list[str]:
        """The commits of the branch, the last first."""
        with self._hub_errors():
            commits = self._api.list_repo_commits(self.name, repo_type=_DATASET, revision=self.revision)
            return [commit.commit_id for commit in commits]

    def tags(self) -> list[str]:
        """Names of the tags."""
        with self._hub_errors():
            return sorted(tag.name for tag in self._api.list_repo_refs(self.name, repo_type=_DATASET).tags)

    def branches(self) -> list[str]:
        """Names of the branches."""
        with self._hub_errors():
            return sorted(one.name for one in self._api.list_repo_refs(self.name, repo_type=_DATASET).branches)

    def commit_of(self, revision: str) -> str:
        """The commit that a branch or tag is at."""
        with self._hub_errors():
            return str(self._api.dataset_info(self.name, revision=revision).sha)

    def tag(self, name: str, revision: str) -> None:
        """Give a commit a name."""
        with self._hub_errors():
            self._api.create_tag(self.name, tag=name, revision=revision, repo_type=_DATASET)

    def delete_tag(self, name: str) -> None:
        """Take a name away."""
        with self._hub_errors():
            self._api.delete_tag(self.name, tag=name, repo_type=_DATASET)

    def squash(self) -> None:
        """Make all commits of the branch one."""
        with self._hub_errors():
            self._api.super_squash_history(self.name, branch=self.revision, repo_type=_DATASET)

    @contextmanager
    def _hub_errors(self) -> Iterator[None]:
        """Say in words what the Hub and its client raise; never with a token."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, _KNOWN) and type(error).__module__.split(".")[0] not in _CLIENTS:
                raise
            raise PublishError(f"{self.name}: {self._words(error)}") from None

    def _words(self, error: Exception) -> str:
        if isinstance(error, RevisionNotFoundError):
            return f"it has no branch, tag or commit {self.revision!r}"
        if isinstance(error, HfHubHTTPError):
            named = next((words for kind, words in _KINDS.items() if isinstance(error, kind)), None)
            status = error.response.status_code if error.response is not None else 0
            return named or _STATUSES.get(status) or f"the Hub answers {status}: {_first_line(error)}; {_AGAIN}"
        return f"{type(error).__name__}: {_first_line(error)}; {_AGAIN}"


_KNOWN: Final = (HfHubHTTPError, HFValidationError, OSError, RuntimeError, ValueError)
_CLIENTS: Final = ("hf_xet", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3")
"""Packages whose errors say that a connection failed; which of them `huggingface_hub` uses depends on its release."""
_AGAIN: Final = "run the same command again to go on"
_KINDS: Final[dict[type[Exception], str]] = {
    GatedRepoError: "it is gated, and this token, if there is one, has no access; ask for it on the repository's page, "
    "and log in with 'hf auth login'",
    RepositoryNotFoundError: "there is no such dataset that this token may see; check the name, or log in with "
    "'hf auth login'",
}
_STATUSES: Final = {
    401: "the Hub knows no such token; log in with 'hf auth login', or set HF_TOKEN",
    403: "this token may not write there; use one with the right to write to it",
    412: "somebody else has changed it meanwhile; nothing of theirs was overwritten, run the same command again",
}


def _first_line(error: Exception) -> str:
    """The sentence of an error, without any token, whatever a server says."""
    return redacted((str(error).strip() or "no reason given").splitlines()[0])
