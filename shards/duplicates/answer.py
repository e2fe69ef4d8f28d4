"""What copies mean for whoever trains: which part of which split of which source stands elsewhere too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shards.console import plural
from shards.duplicates.images import Images
from shards.duplicates.pairs import Pair


@dataclass(frozen=True)
class Part:
    """A split of a source, and how much of it has copies elsewhere.

    Attributes:
        source: Name of the source, None for files of which nothing is known.
        split: Name of the split, None likewise.
        images: How many images it has.
        copies: How many of them have a copy elsewhere.
        patients: How many patients it has, None where nothing says.
        patients_with_copies: How many of them have such an image.
        splits: Split that holds copies -> how many images have one there.
        sources: Source that holds copies -> how many images have one there.
    """

    source: str | None
    split: str | None
    images: int
    copies: int
    patients: int | None
    patients_with_copies: int | None
    splits: dict[str, int]
    sources: dict[str, int]

    @property
    def torn(self) -> int:
        """How many images have a copy in another split."""
        return sum(count for split, count in self.splits.items() if split != self.split)


def parts(pairs: Sequence[Pair], first: Images, second: Images | None) -> tuple[Part, ...]:
    """Say of each split of each source how much of it has copies: of the second set in the first, or within one.

    Args:
        pairs: The copies.
        first: The first set.
        second: The second, or None.
    """
    one = _numbers(pair.one for pair in pairs)
    other = _numbers(pair.other for pair in pairs)
    asked = first if second is None else second
    if second is None:
        one, other = np.concatenate([one, other]), np.concatenate([other, one])
    return tuple(_parts(asked.about, first.about, other, one))


def _numbers(lists: Iterable[tuple[int, ...]]) -> npt.NDArray[np.int64]:
    return np.array([number for numbers in lists for number in numbers], np.int64)


def _parts(asked: pa.Table, there: pa.Table, here: npt.NDArray[Any], copy: npt.NDArray[Any]) -> Iterator[Part]:
    """The parts of a set.

    Args:
        asked: What is known of its images.
        there: What is known of those that copies are looked for among.
        here: (P,) numbers of its images that have a copy.
        copy: (P,) numbers of the copies.
    """
    places = asked.select(["source", "split", "patient"])
    totals = Counter[tuple[str | None, str | None]]()
    people: dict[tuple[str | None, str | None], set[str | None]] = {}
    grouped = places.group_by(["source", "split", "patient"], use_threads=False).aggregate([([], "count_all")])
    for row in grouped.to_pylist():
        place = row["source"], row["split"]
        totals[place] += row["count_all"]
        people.setdefault(place, set()).add(row["patient"])
    rows = places.take(pa.array(here)).to_pylist()
    copies = there.select(["source", "split"]).take(pa.array(copy)).to_pylist()
    found: dict[tuple[str | None, str | None], dict[str, set[Any]]] = {}
    for number, row, other in zip(here.tolist(), rows, copies, strict=True):
        own = found.setdefault((row["source"], row["split"]), {"images": set(), "patients": set()})
        own["images"].add(number)
        own["patients"].add(row["patient"])
        own.setdefault(f"split {other['split'] or '?'}", set()).add(number)
        own.setdefault(f"source {other['source'] or '?'}", set()).add(number)
    for place, images in sorted(totals.items(), key=lambda one: (one[0][0] or "", one[0][1] or "")):
        own = found.get(place, {"images": set(), "patients": set()})
        known = None not in people[place]
        yield Part(
            source=place[0],
            split=place[1],
            images=images,
            copies=len(own["images"]),
            patients=len(people[place]) if known else None,
            patients_with_copies=len(own["patients"]) if known else None,
            splits=_counted(own, "split "),
            sources=_counted(own, "source "),
        )


def _counted(found: dict[str, set[Any]], start: str) -> dict[str, int]:
    return {name.removeprefix(start): len(own) for name, own in sorted(found.items()) if name.startswith(start)}


def sentences(found: Sequence[Part], *, within: bool, here: str, there: str) -> Iterator[str]:
    """Say it in words.

    Args:
        found: The parts of the set that is asked about.
        within: Whether copies were looked for within one set.
        here: What that set is called.
        there: What the set is called that copies were looked for in.
    """
    for part in found:
        name = " ".join(filter(None, (part.source, part.split))) or here
        if not part.copies:
            if not within:
                yield f"{name}: none of {plural(part.images, 'image')} is in {there}"
            continue
        share = 100 * part.copies / part.images
        people = ""
        if part.patients is not None:
            people = f", {part.patients_with_copies:,} of {plural(part.patients, 'patient')},"
        where = "elsewhere in it" if within else f"in {there}"
        splits = ", ".join(f"{count:,} in {split}" for split, count in part.splits.items() if split != "?")
        sources = ", ".join(f"{source} {count:,}" for source, count in part.sources.items() if source != "?")
        held = "; ".join(filter(None, (splits, f"by source: {sources}" if sources else "")))
        count = f"{part.copies:,} of {plural(part.images, 'image')} ({share:.3g} %)"
        yield f"{name}: {count}{people} {'has' if part.copies == 1 else 'have'} a copy {where}" + (
            f" ({held})" if held else ""
        )
    if within and any(part.torn for part in found):
        yield (
            "copies stand in different splits: do not train on one and test on the other; 'sa-med2d build --dedup "
            "group' puts all copies of a patient into one split, '--dedup keep-first' leaves later ones out"
        )


def record(pair: Pair, first: Images, second: Images) -> dict[str, Any]:
    """A pair as JSON."""
    of_volumes = pair.kind == "volume"
    return {
        "kind": pair.kind,
        "distance": round(pair.distance, 4),
        "flip": pair.flip,
        "slices": len(pair.one) if of_volumes else None,
        "reverse": pair.reverse if of_volumes else None,
        "one": _side(first, pair.one, of_volumes=of_volumes),
        "other": _side(second, pair.other, of_volumes=of_volumes),
    }


def _side(images: Images, numbers: tuple[int, ...], *, of_volumes: bool) -> dict[str, Any]:
    known = images.about.slice(numbers[0], 1).to_pylist()[0]
    volume = images.volumes[images.volume[numbers[0]]] if of_volumes else None
    last = images.about["key"][numbers[-1]].as_py()
    return {"key": known.pop("key"), "last_key": last if of_volumes else None, "volume": volume, **known}


def counts(pairs: Sequence[Pair]) -> dict[str, int]:
    """How many pairs there are of each kind."""
    kinds = Counter(pair.kind for pair in pairs)
    return {kind: kinds[kind] for kind in ("volume", "exact", "near")}
