"""Publishing a built folder to a dataset repository of the Hub.

A reader of the branch never meets a card that names what is not there, nor an index that is not its shard's: shards
that are new are committed with their indexes first, in steps; everything that changes what a reader may be reading goes
in one last commit with the card. Each commit names its parent, so two publishers cannot mix.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from sa_med2d_20m import PREVIEW, TIERS, DatasetError
from shards.card import CardFigure, card, configs
from shards.croissant import CROISSANT, croissant
from shards.documents import documents
from shards.hub.content import Content, JudgedFile, size_of
from shards.hub.errors import PublishError
from shards.hub.gate import Choice, Verdict, judge
from shards.hub.manifest import Manifest
from shards.hub.preview import preview_path, previewed_source, previews
from shards.hub.repository import Operation, RemoteFile, Repository
from shards.hub.repository_tables import repository_tables
from shards.hub.withdrawals import WITHDRAWN, left_out, remembered, withdrawn_from
from shards.license import tiers
from shards.paths import CARD, DATA, FIGURES, INDEX, MANIFESTS, TABLES, ShardId, manifest_file, picture_file
from shards.report.card_figures import CardFigures, card_figures
from shards.report.rows import Rows
from shards.tables import SAMPLES

MOST_FILES: Final = 100_000
MOST_IN_FOLDER: Final = 10_000
MOST_IN_COMMIT: Final = 100
LARGEST_FILE: Final = 20 * 10**9
"""What the Hub recommends for files in a repository, in a folder, in a commit, and bytes of a file: read at
https://huggingface.co/docs/hub/repositories-recommendations. Only the last commit of a publish, which must be one, may
have more files."""
SENT_AT_ONCE: Final = 2 << 30
"""Bytes of the copies that are on this machine's disk at a time, unless a single shard is larger."""


@dataclass(frozen=True)
class Offer:
    """What would go up.

    Attributes:
        allowed: Verdicts without a reason against.
        held_back: The others.
    """

    allowed: tuple[Verdict, ...]
    held_back: tuple[Verdict, ...]


@dataclass(frozen=True)
class Published:
    """How a publish ended.

    Attributes:
        commit: Where the branch is now.
        changed: Number of files that were added or replaced.
        deleted: Number of files that were deleted.
        configs: Names of the configs, whose first samples were streamed.
        tag: The tag that was asked for, or None.
        was_tagged: Whether it was there already, for the same: an earlier run was interrupted after it.
        left_out: Sources that were withdrawn from there and were not asked for again.
    """

    commit: str
    changed: int
    deleted: int
    configs: tuple[str, ...]
    tag: str | None
    was_tagged: bool
    left_out: tuple[str, ...] = ()


def offer(out: Path, choice: Choice, on_shard: Callable[[ShardId], None]) -> Offer:
    """Judge what is asked for.

    Raises:
        PublishError: The folder holds nothing of it.
    """
    try:
        verdicts = judge(out, choice, on_shard)
    except DatasetError as error:
        raise PublishError(str(error)) from None
    if not verdicts:
        raise PublishError(f"{out} holds no shard of what is asked for")
    return Offer(
        allowed=tuple(verdict for verdict in verdicts if not verdict.reasons),
        held_back=tuple(verdict for verdict in verdicts if verdict.reasons),
    )


def publish(
    out: Path,
    offered: Offer,
    repository: Repository,
    *,
    private: bool = False,
    tag: str | None = None,
    tier: str = TIERS[0],
    again: Collection[str] = (),
    asked: Collection[str] = (),
    figures: bool = False,
) -> Published:
    """Bring a repository to hold what the gate allowed, besides the other sources that it holds already.

    Run again after any interruption it finishes the job: what is there already is neither sent nor changed.

    Args:
        out: Output folder.
        offered: What the gate said of what is asked for.
        repository: Where it goes.
        private: Whether a new repository is private.
        tag: Name of the release.
        tier: What the repository may hold, from this folder or another.
        again: Sources that are published although they were withdrawn from there.
        asked: Sources that must not be left out because they were withdrawn.
        figures: Whether the card shows figures of what the repository holds, which go up with it.

    Raises:
        PublishError: The repository holds what is not of the tier, the Hub refuses, somebody else published
            meanwhile, what arrived is not what was sent, or all of it, or something of ``asked``, was withdrawn from
            there.
    """
    if not offered.allowed:
        raise PublishError(f"{out}: nothing of what is asked for may be published")
    repository.create(private=private)
    head = repository.head()
    there = repository.files(head)
    _refuse_script(repository.name, there)
    tagged = repository.commit_of(tag) if tag is not None and tag in repository.tags() else None
    if tagged not in (None, head):
        raise _taken(repository, tag)
    withdrawn = withdrawn_from(repository, head, there)
    names = [verdict.name for verdict in offered.allowed]
    left = left_out(names, withdrawn, repository.name, again=again, asked=asked)
    going = [verdict for verdict in offered.allowed if verdict.name not in left]
    ours = {verdict.name: _manifest(verdict) for verdict in going}
    manifests = {**_others(repository, head, there, ours), **ours}
    others = {name: manifest for name, manifest in manifests.items() if name not in ours}
    _refuse_wider(repository.name, others.values(), tier)
    memory = {WITHDRAWN: remembered(withdrawn - set(again))} if WITHDRAWN in there else {}
    files = [file for verdict in going for file in verdict.files]
    drawn_before = {path for path in there if previewed_source(path) in others}
    with _tables(files, others, repository, head) as tables:
        drawn = _figures(tables, manifests.values()) if figures else CardFigures()
        views = _previews(out, going)
        texts = _texts(ours.values(), manifests, repository.name, drawn, drawn=drawn_before | views.keys())
        texts |= drawn.files
        repository.check_card(texts[CARD].decode())
        wanted: dict[str, Content] = {**{file.path: file for file in files}, **tables, **views, **texts, **memory}
        changes = _changes(wanted, there, ours)
        if tagged is not None and (changes.first or changes.last or changes.stale):
            raise _taken(repository, tag)
        head = _bring(wanted, changes, repository, head, there=there, ours=ours)
    streamed = _stream_all(repository.name, head, manifests.values(), previews=bool(views))
    if tag is not None and tagged is None:
        repository.tag(tag, head)
    changed = len(changes.first) + len(changes.last)
    return Published(
        head, changed, len(changes.stale), streamed, tag, was_tagged=tagged is not None, left_out=tuple(left)
    )


def _taken(repository: Repository, tag: str | None) -> PublishError:
    """The error of a tag that names something else; one that names the very same is there from an interrupted run."""
    return PublishError(f"{repository.name}: the tag {tag} exists already, for something else; choose another")


@contextmanager
def _tables(
    files: Sequence[JudgedFile], others: Mapping[str, Manifest], repository: Repository, head: str
) -> Iterator[dict[str, JudgedFile]]:
    with tempfile.TemporaryDirectory(prefix="sa-med2d-") as folder:
        try:
            tables = repository_tables(Path(folder), files, others, repository, head)
        except DatasetError as error:
            raise PublishError(f"{error}; publish that source too, which writes it again, or withdraw it") from None
        yield tables


def _previews(out: Path, going: Iterable[Verdict]) -> dict[str, bytes]:
    """What is drawn of each source, by path."""
    found: dict[str, bytes] = {}
    for one in going:
        found |= previews(out, one.files, one.receipts[0].license) if one.receipts else {}
    return found


def _figures(tables: Mapping[str, JudgedFile], manifests: Iterable[Manifest]) -> CardFigures:
    """The figures of all that the repository will hold, from its tables."""
    held = sorted(path for path in tables if path.startswith(f"{TABLES}/{SAMPLES}-"))
    receipts = [receipt for manifest in manifests for receipt in manifest.receipts]
    return card_figures(Rows(tables[held[0]].out, tuple(held)), receipts) if held else CardFigures()


def _bring(
    wanted: Mapping[str, Content],
    changes: _Changes,
    repository: Repository,
    head: str,
    *,
    there: Collection[str],
    ours: Collection[str],
) -> str:
    """Commit what is new or other than it is there, and look whether it arrived; the last commit."""
    _check_limits([*(set(there) - set(changes.stale)), *wanted], wanted)
    for group in _groups(changes.first):
        with _sent(repository, dict(group)) as operations:
            head = repository.commit(operations, f"Add {_named(path for path, _ in group)}", head)
    with _sent(repository, changes.last) as operations:
        last = [*operations, *(CommitOperationDelete(path) for path in changes.stale)]
        if last:
            head = repository.commit(last, f"Publish {', '.join(ours)}", head)
    _verify_arrived(repository, head, wanted)
    return head


def _others(
    repository: Repository, head: str, there: dict[str, RemoteFile], ours: Collection[str]
) -> dict[str, Manifest]:
    """The manifests of the sources that are there already, without which the card would lose them."""
    manifests, unreadable = repository.manifests(head, there)
    for name, reason in unreadable.items():
        if name not in ours:
            raise PublishError(f"{reason}; publish {name} too, which writes it again, or withdraw it")
    return manifests


@dataclass(frozen=True)
class _Changes:
    """What must be done to a repository.

    Attributes:
        first: Shards, and their indexes, of sources of which nothing that is there must change: added in steps.
        last: All else that is new or other than it is there: added at once.
        stale: Files of the published sources, tables and figures that are no longer wanted: deleted with the last.
    """

    first: dict[str, JudgedFile]
    last: dict[str, Content]
    stale: tuple[str, ...]


def _changes(wanted: Mapping[str, Content], there: Mapping[str, RemoteFile], ours: Collection[str]) -> _Changes:
    stale = tuple(sorted(path for path in there if _is_made(path, ours) and path not in wanted))
    other = [path for path, data in wanted.items() if path in there and not there[path].is_same(data)]
    # a reader must not meet old and new shards of one source side by side: a patient could be in two splits
    moving = {source_of(path) for path in (*stale, *other) if path.startswith((f"{DATA}/", f"{INDEX}/"))}
    news = {path: data for path, data in wanted.items() if path not in there}
    still = {None, *moving}  # a table belongs to no source: it comes when all that it names is there
    first = {path: data for path, data in news.items() if not isinstance(data, bytes) and source_of(path) not in still}
    last = {path: data for path, data in news.items() if path not in first}
    return _Changes(first, {**last, **{path: wanted[path] for path in other}}, stale)


def _is_made(path: str, ours: Collection[str]) -> bool:
    """Whether a publish of these sources writes a file, or removes it."""
    return source_of(path) in ours or path.startswith((f"{TABLES}/", f"{FIGURES}/"))


@contextmanager
def _sent(repository: Repository, files: Mapping[str, Content]) -> Iterator[list[Operation]]:
    """The operations that add files; large ones were sent already, the others go with the commit.

    What is sent is a copy that nothing else writes, which has the bytes that were judged. The copy of a file that was
    sent is deleted before the next are made.
    """
    texts = [CommitOperationAdd(path, content) for path, content in files.items() if isinstance(content, bytes)]
    operations: list[Operation] = [*texts]
    with tempfile.TemporaryDirectory(prefix="sa-med2d-") as folder:
        for batch in _batches([content for content in files.values() if not isinstance(content, bytes)]):
            copies = [file.copy_to(Path(folder)) for file in batch]
            added = [CommitOperationAdd(file.path, str(copy)) for file, copy in zip(batch, copies, strict=True)]
            repository.send(added)
            for operation, copy in zip(added, copies, strict=True):
                if not operation.path_or_fileobj:
                    copy.unlink()
            operations += added
        yield operations


def _batches(files: Iterable[JudgedFile]) -> Iterator[list[JudgedFile]]:
    batch: list[JudgedFile] = []
    for file in files:
        if batch and sum(one.size for one in batch) + file.size > SENT_AT_ONCE:
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def card_of(
    manifests: Mapping[str, Manifest],
    repository: str,
    figures: Sequence[CardFigure] = (),
    *,
    drawn: Collection[str],
) -> dict[str, bytes]:
    """The card of a repository that holds these sources, and the files that it refers to, by path.

    Args:
        manifests: Of the sources, by name.
        repository: Its name.
        figures: Pictures of what they hold.
        drawn: Paths of what `shards.hub.preview.previews` gave of them.
    """
    held = [manifests[name] for name in sorted(manifests)]
    receipts = [receipt for manifest in held for receipt in manifest.receipts]
    sources = {manifest.source.name: manifest.source for manifest in held}
    return {
        **documents(receipts, sources),
        CROISSANT: croissant(receipts, sources, configs(receipts), repository),
        CARD: card(
            receipts,
            sources,
            repository,
            figures,
            preview=any(preview_path(name) in drawn for name in sources),
            pictures={name: picture_file(name) for name in sources if picture_file(name) in drawn},
        ).encode(),
    }


def source_of(path: str) -> str | None:
    """The source that a file of a repository belongs to."""
    if (drawn := previewed_source(path)) is not None:
        return drawn
    parts = PurePosixPath(path).parts
    if path.startswith(f"{MANIFESTS}/"):
        return PurePosixPath(path).stem
    return parts[3] if len(parts) == 5 and parts[0] in (DATA, INDEX) else None


def _manifest(verdict: Verdict) -> Manifest:
    assert verdict.source is not None
    return Manifest(verdict.source, verdict.receipts)


def _texts(
    ours: Iterable[Manifest],
    all_of_them: Mapping[str, Manifest],
    repository: str,
    figures: CardFigures,
    *,
    drawn: Collection[str],
) -> dict[str, bytes]:
    """The files that are written for the repository: manifests, and the card with what it refers to."""
    texts = {manifest_file(manifest.source.name): manifest.to_json() for manifest in ours}
    return {**texts, **card_of(all_of_them, repository, figures.listed, drawn=drawn)}


def _refuse_script(name: str, there: Mapping[str, RemoteFile]) -> None:
    """A script that is named like its repository breaks `datasets` from 4 on, for everybody."""
    script = f"{name.rsplit('/', 1)[-1]}.py"
    if script in there:
        raise PublishError(
            f"{name} holds {script}: releases of datasets from 4 on take it for a loading script and refuse the whole "
            "repository; delete it there first"
        )


def _refuse_wider(name: str, others: Iterable[Manifest], tier: str) -> None:
    """A repository of a tier is one that people take for it, and that is gated, or not, as a whole."""
    for manifest in others:
        for receipt in manifest.receipts:
            if tier != TIERS[0] and tier not in tiers(receipt.license):
                raise PublishError(
                    f"{name} holds {manifest.source.name} ({receipt.license}), which is not of the tier {tier}; choose "
                    "another repository for this tier, or withdraw that source"
                )


def _check_limits(paths: Sequence[str], wanted: Mapping[str, Content]) -> None:
    everything = set(paths)
    if len(everything) > MOST_FILES:
        raise PublishError(f"the repository would hold {len(everything):,} files, the Hub recommends {MOST_FILES:,}")
    folders = Counter(str(PurePosixPath(path).parent) for path in everything)
    crowded, count = max(folders.items(), key=lambda item: item[1])
    if count > MOST_IN_FOLDER:
        raise PublishError(f"{crowded} would hold {count:,} files, the Hub recommends {MOST_IN_FOLDER:,} in a folder")
    for path, data in wanted.items():
        if size_of(data) > LARGEST_FILE:
            raise PublishError(f"{path} is larger than {LARGEST_FILE:,} bytes; build with a smaller --shard-size")


def _groups(news: Mapping[str, JudgedFile]) -> Iterator[list[tuple[str, JudgedFile]]]:
    """New files in commits of a size that the Hub recommends; a shard and its index stay together."""
    items = list(news.items())
    group: list[tuple[str, JudgedFile]] = []
    for at, item in enumerate(items):
        group.append(item)
        ends_a_shard = item[0].startswith(INDEX) or at + 1 == len(items)
        if ends_a_shard and len(group) >= MOST_IN_COMMIT - 1:
            yield group
            group = []
    if group:
        yield group


def _named(paths: Iterable[str]) -> str:
    return ", ".join(sorted({source for path in paths if (source := source_of(path)) is not None}))


def _verify_arrived(repository: Repository, commit: str, wanted: Mapping[str, Content]) -> None:
    """Compare path, size and hash of every file with what the Hub says it holds."""
    there = repository.files(commit)
    for path, data in wanted.items():
        if path not in there:
            raise PublishError(f"{repository.name}: {path} did not arrive; run the same command again")
        if not there[path].is_same(data):
            raise PublishError(f"{repository.name}: {path} is not what was sent; run the same command again")


def _stream_all(name: str, commit: str, manifests: Iterable[Manifest], *, previews: bool) -> tuple[str, ...]:
    """Take the first sample of each split of each config, as users will; the names of the configs."""
    receipts = [receipt for manifest in manifests for receipt in manifest.receipts]
    listed = configs(receipts)
    for config in listed:
        found = _first_splits(name, config.name, commit)
        if found != {split: split for split in config.files}:
            raise PublishError(f"{name}: config {config.name} gives {found}, expected the splits {list(config.files)}")
    if previews:
        _first_splits(name, PREVIEW, commit)
    return tuple(config.name for config in listed)


def _first_splits(name: str, config: str, commit: str) -> dict[str, str]:
    """Split of a config -> the split that its first sample says."""
    import datasets  # noqa: PLC0415 - two seconds that only a publish needs

    try:
        splits = datasets.load_dataset(name, config, revision=commit, streaming=True)
        return {split: next(iter(rows))["json"]["split"] for split, rows in splits.items()}
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise PublishError(f"{name}: all arrived, but config {config} cannot be streamed: {reason}") from error
