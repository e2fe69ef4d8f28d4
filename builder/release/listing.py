"""What a release holds: its files by case, found by their names alone, without a look into any of them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from builder.errors import RecipeError, UnreadableError
from builder.release.classes import MAPPING, read_mapping
from builder.release.directory import Directory, Extents, Member, members
from builder.release.index import Paths, index_of, is_index, names_in
from builder.release.names import IMAGES, MASKS, FileName, Naming, Tag, older_image, older_mask, parse, stem_of
from builder.release.parts import PartsFile, names_of
from builder.release.place import ABSENT, BEYOND, ENCRYPTED, FILE, REFUSED, Place, archive_of, root_of
from builder.release.rows import Row, between_of, pack_row, unpack_rows
from builder.release.tags import modality_of
from shards.console import plural

_SHOWN: Final = 10
"""Names of a kind that a message gives."""
_MOST_SIZE: Final = 2**32 - 1
_MOST_METHOD: Final = min(REFUSED) - 1
_TICK: Final = 10_000


@dataclass(frozen=True)
class Wanted:
    """Which part of a release is imported; what is empty leaves nothing out.

    Attributes:
        modalities: Of images, after repair.
        sources: Names of sources.
    """

    modalities: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()


@dataclass(frozen=True)
class HowNamed:
    """How a release names its files.

    Attributes:
        naming: ``release``, or the older one.
        tag: Of all images in the older naming, which does not say it.
        source: Likewise.
        repair_modality: Whether wrong modalities are put right.
    """

    naming: Naming = "release"
    tag: str = ""
    source: str = ""
    repair_modality: bool = True

    def between(self, source: str, case: str) -> str:
        """What all paths of a case have in common, and rows need not hold."""
        return between_of(source, case) if self.naming == "release" else "\0"


CaseId = tuple[str, str, str]
"""Source, modality and case."""


@dataclass
class Faults:
    """What is wrong with a release as a whole, in words; of each kind the first few, and how many there are."""

    sentences: list[str] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)
    _first: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, name: str) -> None:
        """Take in a file with a fault.

        Args:
            kind: What is wrong with such files, and what became of them.
            name: Its name.
        """
        self._counts[kind] += 1
        if len(self._first[kind]) < _SHOWN:
            self._first[kind].append(name)

    def told(self) -> list[str]:
        """A sentence for each kind of fault."""
        found = [*self.sentences]
        for kind, count in self._counts.items():
            shown = ", ".join(self._first[kind]) + (", ..." if count > _SHOWN else "")
            found.append(f"{plural(count, 'file')} {kind}: {shown}")
        return found


@dataclass(frozen=True)
class Listing:
    """What a release holds.

    Attributes:
        place: Where it lies.
        how: How it names its files.
        cases: Source, modality and case -> rows of its files, in no order, see `builder.release.rows`.
        mapping: Source -> class id -> class name.
        faults: What is wrong with it.
        overlapping: Addresses of members that lie in one another; they are not read.
    """

    place: Place
    how: HowNamed
    cases: dict[CaseId, bytearray]
    mapping: dict[str, dict[str, str]]
    faults: Faults
    overlapping: frozenset[int]

    def rows(self, case: CaseId) -> Iterator[Row]:
        """The files of a case."""
        return unpack_rows(self.cases[case], self.how.between(case[0], case[2]))


def list_release(
    path: Path, wanted: Wanted, how: HowNamed, on_file: Callable[[int, int], None] = lambda *_: None
) -> Listing:
    """List a release.

    Args:
        path: A folder, or a zip; of a split zip its last part, or the folder that holds them.
        wanted: Which part of it.
        how: How it names its files.
        on_file: Told how many files, of how many (0: not known), have been listed.

    Raises:
        RecipeError: It is no release, or its list of members cannot be read.
    """
    directory = archive_of(path)
    listed = _list_zip(directory, wanted, how, on_file) if directory else _list_folder(path, wanted, how, on_file)
    if not listed.cases:
        raise RecipeError([_nothing(path, wanted, how, listed.faults)])
    return listed


def _nothing(path: Path, wanted: Wanted, how: HowNamed, faults: Faults) -> str:
    chosen = [*sorted(wanted.modalities), *sorted(wanted.sources)]
    what = f" of {', '.join(chosen)}" if chosen else ""
    hint = "" if how.naming == "sam-med2d" else "; the older names of data_demo need --naming sam-med2d"
    return "; ".join([f"{path}: holds no image{what} that is named as the release names them{hint}", *faults.told()])


class _Gathered:
    """Cases while they are listed."""

    def __init__(self, wanted: Wanted, how: HowNamed) -> None:
        self._wanted, self._how = wanted, how
        self.cases: dict[CaseId, bytearray] = defaultdict(bytearray)
        self.faults = Faults()
        self._tags: dict[str, Tag | None] = {}

    def add(self, name: FileName, row: Row) -> None:
        """Take in a file whose name can be read, if it is wanted."""
        if name.tag not in self._tags:
            self._tags[name.tag] = Tag.parse(name.tag)
        tag = self._tags[name.tag]
        if tag is None:
            self.faults.add("with a modality that is none of ours, left out", row.path)
            return
        modality = modality_of(tag, name.source, name.case, repaired=self._how.repair_modality)
        if not self._wants(name.source, modality):
            return
        if max(row.size, row.packed) > _MOST_SIZE:
            self.faults.add("of more than 4 GiB, left out", row.path)
            return
        between = self._how.between(name.source, name.case)
        self.cases[name.source, modality, name.case] += pack_row(row, between)

    def compare(self, index: Row, place: Place, there: Paths) -> None:
        """Name the files that the release's own list has, and that are wanted and not there."""
        listed = index.path.rpartition("/")[2]
        try:
            for path in there.without(names_in(place.open().pieces(index))):
                name = parse(path)
                tag = None if name is None else Tag.parse(name.tag)
                if name is None or tag is None:
                    continue
                modality = modality_of(tag, name.source, name.case, repaired=self._how.repair_modality)
                if self._wants(name.source, modality):
                    self.faults.add(f"that {listed} lists and that are not there", path)
                    if name.is_mask:  # its class is not known to be absent
                        self.add(name, Row(path, 0, 0, 0, 0, ABSENT))
        except UnreadableError as error:
            said = "cannot be read to its end, so files that it lists may be missing unseen"
            self.faults.sentences.append(f"{index.path}: {said}: {error}")

    def _wants(self, source: str, modality: str) -> bool:
        sources, modalities = self._wanted.sources, self._wanted.modalities
        return (not sources or source in sources) and (not modalities or modality in modalities)


def _list_zip(directory: Directory, wanted: Wanted, how: HowNamed, on_file: Callable[[int, int], None]) -> Listing:
    gathered, extents = _Gathered(wanted, how), Extents()
    top, mapping, index, older, there = _Top(), None, None, list[Row](), Paths()
    for number, member in enumerate(members(directory)):
        if number % _TICK == 0:
            on_file(number, directory.count)
        beyond = member.address + member.packed > directory.address
        if not beyond:
            extents.add(member)
        if member.name.endswith("/"):
            continue
        if not _is_text(member.name):
            gathered.faults.add(_NO_TEXT, member.name)
            continue
        if _leaves(member.name):
            gathered.faults.add("whose names lead out of the folder, left out", member.name)
            continue
        below = top.below(member.name)
        if below is None:
            mapping = _row_of(member.name, member, beyond) if member.name.endswith(MAPPING) else mapping
            index = _row_of(member.name, member, beyond) if is_index(member.name) else index
            if not member.name.endswith(".json"):
                gathered.faults.add("that are no part of the release, left out", member.name)
        elif how.naming == "sam-med2d":
            older.append(_row_of(below, member, beyond))
        else:
            there.add(below)
            _take(gathered, parse(below), _row_of(below, member, beyond))
    _take_older(gathered, how, older)
    on_file(directory.count, directory.count)
    place = Place(directory.parts.parts[-1].path, directory.parts, top.prefix)
    _check_parts(directory, extents, gathered.faults)
    if how.naming == "release" and index is not None:
        gathered.compare(index, replace(place, top=""), there)
    names = _mapping_of(place, mapping, gathered.faults) if how.naming == "release" else {}
    return Listing(place, how, dict(gathered.cases), names, gathered.faults, extents.overlapping())


def _take(gathered: _Gathered, name: FileName | None, row: Row) -> None:
    if name is None:
        gathered.faults.add("whose names are none of the release, left out", row.path)
    else:
        gathered.add(name, row)


def _take_older(gathered: _Gathered, how: HowNamed, rows: Sequence[Row]) -> None:
    """Take in files in the older naming: first all images, as only their names tell what the masks' say."""
    images = {row.path: found for row in rows if (found := older_image(row.path, how.tag, how.source)) is not None}
    stems = frozenset(map(stem_of, images))
    for row in sorted(rows):
        _take(gathered, images.get(row.path) or older_mask(row.path, stems, how.tag, how.source), row)


class _Top:
    """The folder of an archive that holds ``images`` and ``masks``: that of the first file that has one."""

    def __init__(self) -> None:
        self.prefix = ""
        self._found = False

    def below(self, name: str) -> str | None:
        """The path below it, None for a file that is in neither folder."""
        if self._found and name.startswith(self.prefix):
            path = name[len(self.prefix) :]
            return path if path.startswith((IMAGES, MASKS)) else None
        if self._found:
            return None
        for folder in (IMAGES, MASKS):
            at = name.find(folder)
            if at == 0 or (at > 0 and name[at - 1] == "/"):
                self.prefix, self._found = name[:at], True
                return name[at:]
        return None


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8 throughout."""
    return name.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in name)


_NO_TEXT: Final = "whose names are no UTF-8, left out"


def _leaves(name: str) -> bool:
    """Whether a name would lie outside of the folder that an archive is unpacked into. We unpack nothing, others do."""
    return name.startswith("/") or "\\" in name or ".." in name.split("/") or name[1:2] == ":" or "\0" in name


def _row_of(path: str, member: Member, beyond: bool) -> Row:
    if beyond:  # its numbers may be larger than a row holds
        return Row(path, 0, 0, 0, 0, BEYOND)
    method = ENCRYPTED if member.encrypted else min(member.method, _MOST_METHOD)
    return Row(path, member.address, member.packed, member.size, member.crc32, method)


def _check_parts(directory: Directory, extents: Extents, faults: Faults) -> None:
    parts = directory.parts
    if parts.missing:
        count = plural(len(parts.missing), "part")
        faults.sentences.append(f"{count} of the archive missing: {names_of(parts.missing)}; what lies in them is too")
    with PartsFile(parts) as file:
        faults.sentences += extents.misplaced(parts, file)


def _mapping_of(place: Place, row: Row | None, faults: Faults) -> dict[str, dict[str, str]]:
    if row is None:
        faults.sentences.append(f"{place.name}: holds no *{MAPPING}, so classes have no names")
        return {}
    try:
        return read_mapping(replace(place, top="").open().read(row))
    except UnreadableError as error:
        faults.sentences.append(f"{row.path}: cannot be read, so classes have no names: {error}")
        return {}


def _list_folder(path: Path, wanted: Wanted, how: HowNamed, on_file: Callable[[int, int], None]) -> Listing:
    root, gathered, older, there = root_of(path), _Gathered(wanted, how), list[Row](), Paths()
    for number, row in enumerate(_files(root, gathered.faults)):
        if number % _TICK == 0:
            on_file(number, 0)
        there.add(row.path)
        if how.naming == "sam-med2d":
            older.append(row)
        else:
            _take(gathered, parse(row.path), row)
    _take_older(gathered, how, older)
    names: dict[str, dict[str, str]] = {}
    if how.naming == "release":
        index = index_of(root)
        if index is not None:
            gathered.compare(Row(index.name, 0, 0, 0, 0, FILE), Place(root, None, ""), there)
        found = sorted(root.glob(f"*{MAPPING}"))
        if not found:
            gathered.faults.sentences.append(f"{root}: holds no *{MAPPING}, so classes have no names")
        for file in found[:1]:
            try:
                names = read_mapping(file.read_bytes())
            except (UnreadableError, OSError) as error:
                gathered.faults.sentences.append(f"{file}: cannot be read, so classes have no names: {error}")
    return Listing(Place(root, None, ""), how, dict(gathered.cases), names, gathered.faults, frozenset())


def _files(root: Path, faults: Faults) -> Iterator[Row]:
    """The files of an unpacked release, without those that are hidden."""
    for folder in (IMAGES, MASKS):
        try:
            entries = os.scandir(root / folder)
        except FileNotFoundError:
            faults.sentences.append(f"{root / folder}: is missing")
            continue
        except OSError as error:
            raise RecipeError([f"{root / folder}: cannot be read: {error.strerror or error}"]) from None
        with entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not _is_text(entry.name):
                    faults.add(_NO_TEXT, folder + entry.name)
                    continue
                if not entry.is_file():
                    faults.add("that are no regular files, left out", folder + entry.name)
                    continue
                state = entry.stat()
                yield Row(folder + entry.name, max(0, state.st_mtime_ns), state.st_size, state.st_size, 0, FILE)
