"""Sources of one output folder that hold the same people: what is said of them, and whose copies are left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from builder.cases.discovery import Discovery
from builder.cases.patient_names import shared_names
from builder.errors import RecipeError
from builder.sources.overlaps import MEANINGS, overlaps_among
from builder.sources.recipe import Recipe
from shards.console import plural
from shards.foreign_json import json_in
from shards.paths import BUILD, INDEX, ShardId, stems
from shards.store import copied, is_here
from shards.tables import folder_rows


@dataclass(frozen=True)
class People:
    """Who stands in a source.

    Attributes:
        space: Name space of the patients.
        splits: Patient, by the name in that space -> split. Never written: it may name people.
        names: Name of the source -> name in that space, for who has another one there.
        nameable: Whether messages may name them: not where the source's names are replaced by hashes.
    """

    space: str
    splits: Mapping[str, str]
    names: Mapping[str, str]
    nameable: bool = True


@dataclass(frozen=True)
class OverlapHere:
    """Two sources of an output folder of which it is known that they overlap.

    Attributes:
        sources: Their names, the one that counts as the first in front.
        meaning: What kind of overlap it is, in words.
        what: What they have in common.
        same_space: Whether their patients share a name space, so that a hash gives the same person the same split.
        shared: How many patients stand in both; null where they share no name space.
        torn: How many of them stand in two splits, by official splits, ratios or seeds that differ; null likewise.
        torn_patients: Their names in that space, ordered; none where either source's names are replaced by hashes.
    """

    sources: tuple[str, str]
    meaning: str
    what: str
    same_space: bool
    shared: int | None
    torn: int | None
    torn_patients: tuple[str, ...] = ()


def people_of(recipe: Recipe, root: Path, found: Discovery) -> People:
    """The people of a source whose cases still have their own names."""
    names = shared_names(recipe, root)
    splits = {names.get(case.patient, case.patient): case.split for case in found.cases}
    return People(recipe.patient_space, splits, names)


def people_there(out: Path | None, besides: Iterable[str]) -> dict[str, People]:
    """The people of the sources that an output folder holds already.

    Of a source that the folder has under hashes, its local table of names tells who they are.

    Args:
        out: The folder, or None.
        besides: Sources that are left aside, since they are built anew.
    """
    found: dict[str, People] = {}
    if out is None:
        return found
    shards = [ShardId.parse(stem) for stem in stems(out, INDEX, ".parquet")]
    known, rows = set(besides), folder_rows(out)
    among = overlaps_among(known | {shard.source for shard in shards})
    wanted = {name for _, present in among for name in present} - known
    for shard in (shard for shard in shards if shard.source in wanted):
        people = found.get(shard.source) or _names_there(out, shard.source)
        patients = rows(shard)["patient"].unique().to_pylist()
        splits = {people.names.get(patient, patient): shard.split for patient in patients}
        found[shard.source] = replace(people, splits={**people.splits, **splits})
    return found


def _names_there(out: Path, source: str) -> People:
    """The name space of a source in a folder, and what its patients are called there; nobody stands in it yet.

    The plan of its last build says it, and the table of hashes, where there is one, what these stand for.
    """
    said: dict[str, Any] = {"space": source, "names": {}, "hashed": False}
    place = f"{BUILD}/plan/{source}.json"
    with copied(out, [place]) as near:
        if (near / place).exists():  # not where shards came in another way than by a build
            said = json_in((near / place).read_bytes(), place, any_names=True).get("patients", said)
    table = out / BUILD / "identifiers" / f"{source}.json"
    there = is_here(out) and table.exists()
    if said["hashed"] and not there:
        return People("", {}, {})  # nobody's space: who stands there cannot be told
    own: dict[str, str] = json.loads(table.read_text(encoding="utf-8")) if there else {}
    shared: dict[str, str] = said["names"]
    names = {**shared, **{hashed: shared.get(name, name) for hashed, name in own.items()}}
    return People(said["space"], {}, names, nameable=not said["hashed"])


def without_copies(recipe: Recipe, root: Path, found: Discovery, others: Mapping[str, People]) -> Discovery:
    """The cases of a source without those whose patients an earlier source has, where its recipe asks for that.

    The first of two is the one that stands before the other in an entry of ``overlaps.toml``, never the one that a
    command names first, and so are those that stand before the first. All whom it holds count, also those whom it
    leaves out itself, as then an earlier one has them.

    Args:
        recipe: Its recipe.
        root: Its folder.
        found: Its cases, under their own names.
        others: The other sources of the folder, as they are without anything left out.

    Raises:
        RecipeError: No case is left.
    """
    if recipe.overlap != "keep-first":
        return found
    earlier = _earlier(recipe.name, {name: one for name, one in others.items() if one.space == recipe.patient_space})
    taken = {patient for name in earlier for patient in others[name].splits}
    names = shared_names(recipe, root)
    kept = tuple(case for case in found.cases if names.get(case.patient, case.patient) not in taken)
    if found.cases and not kept:
        raise RecipeError(
            [
                f"{recipe.name}: {' and '.join(sorted(earlier))} hold all of its patients, and overlap = keep-first "
                "leaves nothing to build; leave it out of this folder, or take overlap out of the recipe"
            ]
        )
    gone = {case.name for case in found.cases} - {case.name for case in kept}
    return replace(found, cases=kept, copies=tuple(sorted(gone)))


def _earlier(name: str, others: Iterable[str]) -> set[str]:
    """The sources that stand before one in an entry of the known overlaps, and those before these."""
    among = overlaps_among([name, *others])
    found, waiting = set[str](), [name]
    while waiting:
        one = waiting.pop()
        before = {first for _, present in among if one in present for first in present[: present.index(one)]}
        waiting += sorted(before - found - {name})
        found |= before - {name}
    return found


def overlaps_here(built: Mapping[str, People], there: Mapping[str, People]) -> tuple[OverlapHere, ...]:
    """Every two sources of a folder that are known to overlap, of which at least one is being built."""
    people = {**there, **built}
    found: dict[tuple[str, str], OverlapHere] = {}
    for overlap, present in overlaps_among(people):
        for at, first in enumerate(present):
            for second in present[at + 1 :]:
                if first in built or second in built:
                    one, other = people[first], people[second]
                    same = one.space == other.space
                    both = one.splits.keys() & other.splits.keys()
                    torn = sorted(patient for patient in both if one.splits[patient] != other.splits[patient])
                    named = tuple(torn) if same and one.nameable and other.nameable else ()
                    pair = (first, second)
                    found[pair] = OverlapHere(
                        sources=pair,
                        meaning=MEANINGS[overlap.kind],
                        what=overlap.what,
                        same_space=same,
                        shared=len(both) if same else None,
                        torn=len(torn) if same else None,
                        torn_patients=named,
                    )
    return tuple(found[pair] for pair in sorted(found))


def contradiction(overlap: OverlapHere) -> str | None:
    """Why a strict build refuses two sources that put the same people into different splits; None where they do not."""
    if not overlap.torn:
        return None
    first, second = overlap.sources
    who = plural(overlap.torn, "patient")
    return (
        f"{second}: {who}{_listed(overlap)} {'stands' if overlap.torn == 1 else 'stand'} in another split than in "
        f'{first}; set overlap = "keep-first" in the recipe of {second}, or build one of them alone'
    )


_LISTED: Final = 5
"""Patients that a sentence names."""


def _listed(overlap: OverlapHere) -> str:
    names = overlap.torn_patients
    return f" ({', '.join(names[:_LISTED])}{', ...' if len(names) > _LISTED else ''})" if names else ""


def overlap_sentence(overlap: OverlapHere) -> str:
    """What a person should know of two sources that overlap."""
    text = f"{overlap.meaning}: {overlap.what} "
    if overlap.shared is None:
        return (
            f"{text}Nothing says who is the same patient, so a person may stand in two splits; train on one of them "
            "alone, or map the names of patients in the recipes (patients, patient_names)"
        )
    both = f"{plural(overlap.shared, 'patient')} {'stands' if overlap.shared == 1 else 'stand'} in both"
    if overlap.torn:
        return (
            f"{text}{both}, {overlap.torn:,} of them in different splits{_listed(overlap)}: do not train on one and "
            "test on the other"
        )
    return f"{text}{both}" + (", each in one split" if overlap.shared else "")
