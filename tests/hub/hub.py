"""What the server holds, and who may do what with it."""

from __future__ import annotations

import shutil
import threading
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal

from tests.hub.accounts import Accounts, User
from tests.hub.errors import HubError, repository_not_found
from tests.hub.objects import ObjectStore
from tests.hub.repository import Repository
from tests.hub.xet import XetStore

LFS_ENDINGS = frozenset(
    {".7z", ".bin", ".gz", ".h5", ".jpg", ".npy", ".npz", ".parquet", ".png", ".tar", ".zip", ".zst"}
)
LFS_RULES = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in sorted(LFS_ENDINGS))

Objects = Literal["s3", "direct"]


@dataclass
class Dataset:
    """A dataset repository and its settings."""

    owner: str
    name: str
    repository: Repository
    private: bool
    gated: str | Literal[False] = False
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def id(self) -> str:
        """Owner and name."""
        return f"{self.owner}/{self.name}"

    def object_key(self, sha256: str) -> str:
        """Where the store has a large file of this dataset."""
        return f"{self.id}/{sha256}"


@dataclass(frozen=True)
class Saved:
    """All datasets as they were once.

    Args:
        datasets: Each with a copy of its git repository.
        objects: Content of its large files by key.
    """

    datasets: tuple[tuple[Dataset, Path], ...]
    objects: dict[str, bytes]


@dataclass(frozen=True)
class Options:
    """How this Hub behaves.

    Args:
        objects: ``s3`` redirects downloads of large files to the store, ``direct`` answers with their bytes.
        page_size: Entries of a tree, or commits of a history, in one answer.
        lfs_threshold: Files above it are large whatever they are called.
    """

    objects: Objects
    page_size: int
    lfs_threshold: int


class Hub:
    """All datasets.

    Args:
        url: Where this server listens.
        folder: Where the git repositories are.
        accounts: Who is known.
        store: Where large files are.
        options: How it behaves.
        xet: Where clients put large files instead, None for a Hub that has no Xet.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        accounts: Accounts,
        store: ObjectStore,
        options: Options,
        xet: XetStore | None = None,
    ) -> None:
        self.url = url
        self.xet = xet
        self.accounts = accounts
        self.store = store
        self.options = options
        self._folder = folder
        self._datasets: dict[str, Dataset] = {}
        self._naming = threading.Lock()

    def is_large(self, path: str, size: int) -> bool:
        """Whether a file goes to the store."""
        return PurePosixPath(path).suffix.lower() in LFS_ENDINGS or size > self.options.lfs_threshold

    def dataset_url(self, dataset: Dataset) -> str:
        """Its page."""
        return f"{self.url}/datasets/{dataset.id}"

    def folder_of(self, dataset_id: str) -> Path:
        """The bare git repository of a dataset."""
        return self._folder / f"{dataset_id}.git"

    def create(self, owner: str, name: str, user: User | None, *, private: bool) -> tuple[Dataset, bool]:
        """A dataset and whether it is new."""
        _may_write(owner, user)
        dataset_id = f"{owner}/{name}"
        with self._naming:
            if dataset_id in self._datasets:
                return self._datasets[dataset_id], False
            repository = Repository.create(self.folder_of(dataset_id), {".gitattributes": LFS_RULES.encode()}, owner)
            dataset = self._datasets[dataset_id] = Dataset(owner, name, repository, private)
            return dataset, True

    def delete(self, owner: str, name: str, user: User | None) -> None:
        """Delete a dataset with its history and its large files."""
        dataset, _ = self.writable(owner, name, user)
        with self._naming:
            self._drop(dataset)

    def clear(self) -> None:
        """Delete all datasets."""
        with self._naming:
            for dataset in list(self._datasets.values()):
                self._drop(dataset)

    def save(self) -> Saved:
        """All datasets as they are now; a Hub with Xet cannot be saved."""
        assert self.xet is None
        copies = []
        with self._naming:
            for dataset in self._datasets.values():
                copy = self._folder / "saved" / uuid.uuid4().hex
                shutil.copytree(dataset.repository.folder, copy)
                copies.append((replace(dataset), copy))
        return Saved(tuple(copies), {key: self.store.content(key) for key in self.store.listing()})

    def restore(self, saved: Saved) -> None:
        """Hold what was saved, and nothing else."""
        self.clear()
        with self._naming:
            for dataset, copy in saved.datasets:
                folder = shutil.copytree(copy, self.folder_of(dataset.id))
                self._datasets[dataset.id] = replace(dataset, repository=Repository(folder))
        for key, content in saved.objects.items():
            self.store.write(key, content)

    def _drop(self, dataset: Dataset) -> None:
        self._datasets.pop(dataset.id, None)
        shutil.rmtree(dataset.repository.folder, ignore_errors=True)
        self.store.delete_below(f"{dataset.id}/")
        if self.xet is not None:
            self.xet.delete(dataset.id)

    def readable(self, owner: str, name: str, user: User | None) -> Dataset:
        """A dataset whose metadata the user may see."""
        dataset = self._datasets.get(f"{owner}/{name}")
        if dataset is None or (dataset.private and not _owns(dataset.owner, user)):
            raise repository_not_found(user is not None)
        return dataset

    def open_to(self, owner: str, name: str, user: User | None) -> Dataset:
        """A dataset whose files the user may read."""
        dataset = self.readable(owner, name, user)
        if dataset.gated and not _owns(dataset.owner, user):
            told = "Ask for access on its page." if user else "You must have access to it and be authenticated."
            message = f"Access to dataset {dataset.id} is restricted and you are not in the authorized list. {told}"
            raise HubError(403 if user else 401, message, "GatedRepo")
        return dataset

    def writable(self, owner: str, name: str, user: User | None) -> tuple[Dataset, User]:
        """A dataset that the user may change, and the user."""
        dataset = self.readable(owner, name, user)
        return dataset, _may_write(owner, user)


def _owns(owner: str, user: User | None) -> bool:
    return user is not None and user.name == owner


def _may_write(owner: str, user: User | None) -> User:
    if user is None:
        raise repository_not_found(known_user=False)
    if user.name != owner:
        raise HubError(403, f"You don't have the rights to write below the namespace {owner}")
    if user.role != "write":
        raise HubError(403, "You must use a write token for this")
    return user
