"""One bare git repository, driven by plumbing commands, so that ids, trees and history are those of git."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

NO_COMMIT = "0" * 40
POINTER_LIMIT = 200
POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize ([0-9]+)\n")
COMMIT_ID = re.compile("[0-9a-f]{40}")
NOT_IN_REFS = re.compile(r"[\s~^:?*\[\\]|\.\.|@\{")


class GitError(Exception):
    """What git says against a command."""


class MovedError(Exception):
    """The branch is not, or no longer, at the commit that a change was made for."""


class MissingPathError(Exception):
    """A path to be deleted is not there."""


@dataclass(frozen=True)
class Pointer:
    """What git holds in place of a large file."""

    sha256: str
    size: int

    @classmethod
    def parse(cls, blob: bytes) -> Self | None:
        """The pointer that a blob is, if it is one."""
        match = POINTER.fullmatch(blob)
        return cls(match[1].decode(), int(match[2])) if match else None

    @property
    def text(self) -> bytes:
        """The file in git."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()


@dataclass(frozen=True)
class Entry:
    """A file or directory of a tree; ``size`` is that of the file, not of its pointer."""

    path: str
    kind: Literal["file", "directory"]
    oid: str
    size: int
    pointer: Pointer | None


@dataclass(frozen=True)
class Commit:
    """A commit as the history shows it."""

    oid: str
    author: str
    date: datetime
    title: str
    message: str


@dataclass(frozen=True)
class Ref:
    """A branch or tag by its full name, and the commit it leads to."""

    name: str
    commit: str


def _environment() -> dict[str, str]:
    """Without any git setting of the caller or the machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**inherited, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def _identity(name: str) -> dict[str, str]:
    return {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", name), ("EMAIL", f"{name}@localhost"))
    }


class Repository:
    """A bare repository; its methods may be called from many threads.

    Args:
        folder: The repository itself, as `git clone` takes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writing = threading.Lock()
        self._of_objects = functools.cache(self._git)  # what git says of objects by their ids never changes

    @classmethod
    def create(cls, folder: Path, files: Mapping[str, bytes], author: str) -> Self:
        """A new repository with one commit on ``main``."""
        repository = cls(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        repository._git("init", "--quiet", "--bare", "--template=", "--initial-branch=main")
        tree = repository._write_tree(None, files, [])
        first = repository._git("commit-tree", tree, stdin=b"initial commit\n", extra=_identity(author))
        repository.create_branch("main", first.decode().strip())
        return repository

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, tag, full ref or full commit id."""
        names = [f"refs/heads/{revision}", f"refs/tags/{revision}"]
        if revision.startswith("refs/") or COMMIT_ID.fullmatch(revision):
            names.insert(0, revision)
        return next((commit for name in names if (commit := self._commit_of(name))), None)

    def branch_head(self, branch: str) -> str | None:
        """The last commit of a branch, None if there is no such branch."""
        return self._commit_of(f"refs/heads/{branch}")

    def refs(self) -> list[Ref]:
        """All branches and tags."""
        lines = self._git("for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", "refs/heads", "refs/tags")
        fields = [line.split() for line in lines.decode().splitlines()]
        return [Ref(name, commit) for name, *_, commit in fields]

    def commits(self, commit: str, *, path: str | None = None, limit: int | None = None) -> list[Commit]:
        """The history from a commit on backwards, all of it or of one path."""
        limited = [] if limit is None else [f"--max-count={limit}"]
        paths = [] if path is None else ["--", f":(literal){path}"]
        log = self._of_objects("log", "-z", "--format=%H%n%an%n%ct%n%s%n%b", *limited, commit, *paths).decode()
        return [_parse_commit(record) for record in log.split("\0") if record]

    def listing(self, commit: str, folder: str = "", *, recursive: bool = False) -> list[Entry] | None:
        """What is in a folder, by path; None if there is no such folder."""
        options = ["-r", "-t"] if recursive else []
        prefix = f"{folder}/" if folder else ""
        entries = self._entries([*options, "--", commit, *([prefix] if folder else [])])
        inside = [entry for entry in entries if entry.path.startswith(prefix)]
        return None if folder and not inside else sorted(inside, key=lambda entry: entry.path)

    def lookup(self, commit: str, paths: Iterable[str]) -> dict[str, Entry]:
        """The entries at paths; a path with nothing there is left out."""
        wanted = {path.strip("/") for path in paths} - {""}
        entries = self._entries(["-t", "--", commit, *wanted]) if wanted else []
        return {entry.path: entry for entry in entries if entry.path in wanted}

    def blob(self, oid: str) -> bytes:
        """The content of a file in git."""
        return self._of_objects("cat-file", "blob", oid)

    def commit(
        self,
        branch: str,
        files: Mapping[str, bytes],
        deleted: Iterable[str],
        *,
        message: str,
        author: str,
        parent: str | None,
    ) -> str:
        """Add a commit to a branch and return its id.

        Args:
            branch: An existing branch.
            files: New content by path; deletions come first.
            deleted: Paths, those of folders with a slash at their end.
            message: Title, blank line, text.
            author: User name.
            parent: Beginning of the id that the branch must be at, None for wherever it is.
        """
        with self._writing:
            head = self._git("rev-parse", f"refs/heads/{branch}").decode().strip()
            if parent is not None and not head.startswith(parent):
                raise MovedError(branch)
            tree = self._write_tree(head, files, deleted)
            return self._advance(branch, head, ["-p", head, tree], message, author)

    def squash(self, branch: str, *, message: str, author: str) -> str:
        """Replace the history of a branch by one commit with the same tree."""
        with self._writing:
            head = self._git("rev-parse", f"refs/heads/{branch}").decode().strip()
            return self._advance(branch, head, [f"{head}^{{tree}}"], message, author)

    def create_branch(self, branch: str, commit: str) -> None:
        """MovedError if there is such a branch."""
        self._git("check-ref-format", f"refs/heads/{branch}")
        self._move(f"refs/heads/{branch}", commit, NO_COMMIT)

    def create_tag(self, tag: str, commit: str, *, message: str | None, author: str) -> None:
        """MovedError if there is such a tag; with a message it becomes an annotated tag."""
        annotation = [] if message is None else ["--annotate", f"--message={message}"]
        with self._writing:
            if self._commit_of(f"refs/tags/{tag}"):
                raise MovedError(tag)
            self._git("tag", *annotation, "--", tag, commit, extra=_identity(author))

    def delete_ref(self, name: str) -> bool:
        """Delete a branch or tag by its full name; False if it was not there."""
        if self._commit_of(name) is None:
            return False
        self._git("update-ref", "-d", name)
        return True

    def _git(self, *arguments: str, stdin: bytes = b"", extra: Mapping[str, str] | None = None) -> bytes:
        command = ["git", f"--git-dir={self.folder}", *arguments]
        environment = {**_environment(), **(extra or {})}
        done = subprocess.run(command, input=stdin, capture_output=True, env=environment, check=False)
        if done.returncode:
            raise GitError(done.stderr.decode(errors="replace").strip() or " ".join(command))
        return done.stdout

    def _commit_of(self, name: str) -> str | None:
        if NOT_IN_REFS.search(name):
            return None
        ask = self._of_objects if COMMIT_ID.fullmatch(name) else self._git
        try:
            return ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").decode().strip()
        except GitError:
            return None

    def _advance(self, branch: str, head: str, what: list[str], message: str, author: str) -> str:
        commit = self._git("commit-tree", *what, stdin=message.encode(), extra=_identity(author)).decode().strip()
        self._move(f"refs/heads/{branch}", commit, head)
        return commit

    def _move(self, ref: str, new: str, old: str) -> None:
        """Compare and swap."""
        try:
            self._git("update-ref", ref, new, old)
        except GitError as error:
            raise MovedError(str(error)) from error

    def _entries(self, arguments: list[str]) -> list[Entry]:
        rows = self._of_objects("ls-tree", "-z", "-l", "--full-tree", *arguments).decode().split("\0")[:-1]
        parsed = [re.fullmatch(r"\d+ (\w+) (\w+) +(\d+|-)\t(.+)", row, re.DOTALL) for row in rows]
        found = [match.groups() for match in parsed if match]
        small = [oid for kind, oid, size, _ in found if kind == "blob" and int(size) <= POINTER_LIMIT]
        pointers = self._pointers(small)
        return [_entry(kind, oid, size, path, pointers.get(oid)) for kind, oid, size, path in found]

    def _pointers(self, oids: list[str]) -> dict[str, Pointer]:
        asked = "".join(f"{oid}\n" for oid in oids).encode()
        output = self._of_objects("cat-file", "--batch", stdin=asked) if oids else b""
        pointers, start = {}, 0
        for oid in oids:
            content = output.index(b"\n", start) + 1
            end = content + int(output[start:content].split()[2])
            if pointer := Pointer.parse(output[content:end]):
                pointers[oid] = pointer
            start = end + 1
        return pointers

    def _write_tree(self, head: str | None, files: Mapping[str, bytes], deleted: Iterable[str]) -> str:
        with tempfile.TemporaryDirectory(prefix="hub-commit-") as scratch:
            git = functools.partial(self._git, extra={"GIT_INDEX_FILE": f"{scratch}/index"})
            if head is not None:
                git("read-tree", head)
            removed = self._paths_of(head, deleted) if head else []
            written = self._write_blobs(Path(scratch), files)
            lines = [f"0 {NO_COMMIT}\t{path}\0" for path in removed]
            lines += [f"100644 {oid}\t{path}\0" for path, oid in zip(files, written, strict=True)]
            git("update-index", "-z", "--index-info", stdin="".join(lines).encode())
            return git("write-tree").decode().strip()

    def _write_blobs(self, scratch: Path, files: Mapping[str, bytes]) -> list[str]:
        for path in files:
            _check_path(path)
        names = [scratch / str(number) for number in range(len(files))]
        for name, content in zip(names, files.values(), strict=True):
            name.write_bytes(content)
        listed = "".join(f"{name}\n" for name in names).encode()
        return self._git("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=listed).decode().split()

    def _paths_of(self, head: str, deleted: Iterable[str]) -> list[str]:
        """The files that deletions take away."""
        present = self._of_objects("ls-tree", "-r", "-z", "--name-only", head).decode().split("\0")[:-1]
        removed = []
        for path in deleted:
            hit = [name for name in present if name == path or (path.endswith("/") and name.startswith(path))]
            if not hit:
                raise MissingPathError(path)
            removed += hit
        return removed


def _entry(kind: str, oid: str, size: str, path: str, pointer: Pointer | None) -> Entry:
    if kind == "tree":
        return Entry(path, "directory", oid, 0, None)
    return Entry(path, "file", oid, pointer.size if pointer else int(size), pointer)


def _parse_commit(record: str) -> Commit:
    oid, author, seconds, title, message = record.split("\n", 4)
    return Commit(oid, author, datetime.fromtimestamp(int(seconds), UTC), title, message.strip())


def _check_path(path: str) -> None:
    """Git itself leaves such paths out of the index without an error."""
    if any(part in {"", ".", ".."} or part.lower() == ".git" for part in path.split("/")):
        raise GitError(f"Invalid path: {path}")
