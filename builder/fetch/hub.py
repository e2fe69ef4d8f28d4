"""Datasets of the Hugging Face Hub, by its own client, which resumes and checks sizes; checksums are checked here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.fetch.fault import FetchError
from builder.sources.download import Download
from sa_med2d_20m import redacted

_CLIENTS: Final = ("hf_xet", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3")
"""Packages by which releases of huggingface_hub speak with the Hub, and whose errors they let through."""


@dataclass(frozen=True)
class Snapshot:
    """A dataset as it stands at one commit.

    Attributes:
        repository: Owner and name.
        commit: Which.
        sizes: Path of each file -> its bytes.
        sha256: Path of each large file -> its checksum.
    """

    repository: str
    commit: str
    sizes: dict[str, int]
    sha256: dict[str, str]


def snapshot_of(download: Download) -> Snapshot:
    """What is to be fetched.

    Raises:
        FetchError: There is no such dataset, it asks for a login, or the Hub does not answer.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415 - slow to import

    repository = download.hub or ""
    with _told(repository):
        info = HfApi().dataset_info(repository, revision=download.revision, files_metadata=True)
    files = info.siblings or []
    return Snapshot(
        repository,
        info.sha or "",
        {file.rfilename: file.size or 0 for file in files},
        {file.rfilename: file.lfs.sha256 for file in files if file.lfs is not None},
    )


def download_snapshot(snapshot: Snapshot, root: Path, connections: int) -> None:
    """Have all its files below a folder.

    Raises:
        FetchError: They cannot be had, or differ from what the Hub says of them.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    with _told(snapshot.repository):
        snapshot_download(
            snapshot.repository,
            repo_type="dataset",
            revision=snapshot.commit,
            local_dir=root,
            max_workers=connections,
        )
    for path, expected in snapshot.sha256.items():
        with (root / path).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            kept = root / f"{path}.wrong"
            (root / path).replace(kept)
            wrong = f"expected sha256 {expected}, got {found}; it is kept as {kept}"
            raise FetchError(f"{snapshot.repository}: {path}: {wrong}; run the same command again")


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """Tell in words what the client of the Hub raises."""
    from huggingface_hub import errors  # noqa: PLC0415

    page = f"https://huggingface.co/datasets/{repository}"
    try:
        yield
    except errors.GatedRepoError:
        raise FetchError(f"{page}: asks for terms to be accepted: do so there, then 'hf auth login'") from None
    except errors.RepositoryNotFoundError:
        raise FetchError(f"{page}: there is no such dataset, or it is private: 'hf auth login'") from None
    except errors.RevisionNotFoundError:
        raise FetchError(f"{page}: it has no such revision; see download.revision") from None
    except Exception as error:
        ours = isinstance(error, errors.HfHubHTTPError | errors.LocalEntryNotFoundError)
        if not ours and type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        first = " ".join(redacted(str(error)).strip().splitlines()[:1])
        raise FetchError(f"{page}: {first}; run the same command again: it goes on from what is here") from None
