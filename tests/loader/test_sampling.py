"""Splits together and in part, patients, cases and modalities: whole patients, each once, whatever is asked."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from builder.command_line import main
from sa_med2d_20m import DatasetError, Masks, Where, interleave, load
from tests.support.nifti import write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map

PATIENTS = {"First": range(10), "Second": range(3), "Magnet": range(20, 22)}
"""Numbers of the patients of each source; the first two sources share people."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CT of ten patients with two cases each, of whom a second source has the first three; MR of two."""
    folder = tmp_path_factory.mktemp("sampling")
    raw = folder / "raw"
    shape = (12, 20, 18)
    recipes = []
    for name, numbers in PATIENTS.items():
        for number in numbers:
            for case in "ab":
                write_nifti(raw / name / f"images/p{number:02d}_{case}.nii.gz", ct_like(number, shape))
                write_nifti(raw / name / f"labels/p{number:02d}_{case}.nii.gz", organ_map(shape))
        text = RECIPE.format(name=name, license="MIT", modality="mr" if name == "Magnet" else "ct")
        text = text.replace("[labels]", 'patient = "{patient}_{*}"\n[labels]')
        splits = 'train = ["*"]\nvalidation = ["p08"]\ntest = ["p09"]\n' if name == "First" else 'train = ["*"]\n'
        recipes.append(raw / f"{name}.toml")
        recipes[-1].write_text(f'patients = "{name[0] == "M"}"\n{text}[splits]\n{splits}')
    arguments = ["build", *recipes, "--raw", raw, "--out", folder / "out", "--workers", 1, "--shard-size", "200KB"]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def records(out: Path) -> list[dict[str, Any]]:
    """All metadata, from the tars themselves."""
    return [json.loads(data) for name, data in members(out) if name.endswith(".json")]


def keys(rows: Any) -> list[str]:
    return sorted(row["key"] for row in rows)


@pytest.mark.parametrize(
    ("split", "held"),
    [
        ("all", {"train", "validation", "test"}),
        ("train+validation", {"train", "validation"}),
        ("validation + test", {"validation", "test"}),
        ("train[:100%]+test", {"train", "test"}),
        ("train[:50%]+train[50%:]", {"train"}),
    ],
)
def test_splits_together(out: Path, records: list[dict[str, Any]], split: str, held: set[str]) -> None:
    rows = load(out, "ct", split=split)
    expected = sorted(record["key"] for record in records if record["split"] in held and record["modality"] == "ct")
    assert keys(rows) == expected
    assert len(rows) == len(expected)


def people(rows: Any) -> dict[str, set[str]]:
    """Source -> names of its patients."""
    found = defaultdict(set)
    for row in rows:
        found[row["source"]].add(row["patient"])
    return dict(found)


def test_a_share_is_one_of_patients_who_are_never_cut(out: Path) -> None:
    whole = people(load(out, "ct"))
    assert {name: len(held) for name, held in whole.items()} == {"First": 8, "Second": 3}
    seen: list[set[str]] = []
    for number in range(4):
        found = people(load(out, "ct", split=f"train[{25 * number}%:{25 * (number + 1)}%]"))
        assert len(set().union(*found.values())) == 2  # of the eight people of both sources
        for name, held in found.items():
            assert held == whole[name] & set().union(*found.values())  # whoever is in both sources is taken in both
        seen.append(set().union(*found.values()))
    assert sorted(name for part in seen for name in part) == sorted(whole["First"])
    for source, names in people(load(out, "ct", split="train[:25%]")).items():
        for name in names:  # both cases, all slices
            some = load(out, "ct", split="train[:25%]", sources=None, where=Where(patients=name))
            every = load(out, "ct", where=Where(patients=name))
            assert [key for key in keys(some) if source in key] == [key for key in keys(every) if source in key]


def test_a_share_counted_from_the_end(out: Path) -> None:
    last = people(load(out, "ct", split="train[-25%:]"))
    assert last == people(load(out, "ct", split="train[75%:]"))
    others = people(load(out, "ct", split="train[:-25%]"))
    assert not set().union(*last.values()) & set().union(*others.values())


def test_a_share_in_all_ways_to_read(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    streamed = load(out, "ct", split="train[:25%]", view="mask", shuffle=3)
    copied = load(out, "ct", split="train[:25%]", view="mask", shuffle=3, streaming=False)
    assert [row["key"] for row in streamed] == [row["key"] for row in copied]
    assert len(streamed) == len(copied) == len(list(streamed))
    assert len(load(out, "ct", split="train[:25%]", view=Masks(negatives=1))) > 0
    volumes = list(load(out, "ct", split="train[:25%]", view="volume"))
    assert {row["patient"] for row in volumes} == {row["patient"] for row in streamed}


def test_patients_and_cases(out: Path, records: list[dict[str, Any]]) -> None:
    rows = load(out, "ct", where=Where(patients=["p01", "p05"]))
    assert keys(rows) == sorted(
        record["key"] for record in records if record["patient"] in ("p01", "p05") and record["modality"] == "ct"
    )
    assert len(rows) == len(keys(rows))
    one = load(out, "ct", where=Where(cases="p01_b"), sources="Second", planes="axial")
    assert {(row["case"], row["source"], row["plane"]) for row in one} == {("p01_b", "Second", "axial")}
    assert keys(load(out, "ct", split="all", where=Where(patients="p08"))) == keys(load(out, "ct", split="validation"))


def test_modalities_beside_configs(out: Path) -> None:
    assert keys(load(out, "all", where=Where(modalities="mr"))) == keys(load(out, "mr"))
    both = load(out, "all", where=Where(modalities=["ct", "mr"]))
    assert keys(both) == keys(load(out, "all"))
    mixed = interleave(out, "all", where=Where(modalities=["mr"], patients=["p20"]))
    assert {(row["modality"], row["patient"]) for row in mixed} == {("mr", "p20")}
    assert {row["modality"] for row in interleave(out, "all", split="all")} == {"ct", "mr"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "valid"}, "config 'ct' of .* has no split 'valid'; it has train, validation, test"),
        ({"split": "train[:10]"}, r"split is 'train\[:10\]', expected names such as .* or a share .*'train\[:10%\]'"),
        ({"split": "train+train[:5%]"}, r"split is 'train\+train\[:5%\]', which names patients of 'train' twice"),
        ({"split": "all+test"}, r"split is 'all\+test', which names patients of 'test' twice"),
        ({"split": "test[:10%]"}, r"\[0%:10%\] of the 1 patients of split 'test' is nobody"),
        ({"where": Where(patients="p008")}, "no patients 'p008' here; did you mean p0"),
        ({"where": Where(patients="p08")}, r"split 'train' has no patients 'p08'; split 'validation' has it"),
        ({"where": Where(cases="p09_a")}, r"split 'train' has no cases 'p09_a'; split 'test' has it"),
        ({"where": Where(modalities="mri")}, r"no modalities 'mri' here; (did you mean|there are)"),
        (
            {"where": Where(patients="p03"), "labels": "liver", "sources": "Second"},
            "no patients 'p03' here; did you mean p0",
        ),
        (
            {"where": Where(patients="p03", cases="p04_a")},
            "no image here has patients p03 and cases p04_a at once, .*, in split 'train'; no other split",
        ),
    ],
)
def test_what_is_not_there(out: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load(out, "ct", **options)


def test_who_is_not_in_a_share_is_said_to_be_in_the_split(out: Path) -> None:
    share = {row["patient"] for row in load(out, "ct", split="train[:25%]")}
    other = next(f"p0{number}" for number in range(8) if f"p0{number}" not in share)
    with pytest.raises(
        DatasetError, match=r"patients p0\d at once, .* in split 'train\[:25%\]'; split 'train' has \d+"
    ):
        load(out, "ct", split="train[:25%]", where=Where(patients=other))


def test_a_name_that_only_another_split_has_among_several(out: Path) -> None:
    with pytest.raises(DatasetError, match=r"split 'train\+test' has no patients 'p08'; split 'validation' has it"):
        load(out, "ct", split="train+test", where=Where(patients="p08"))
    with pytest.raises(DatasetError, match="patients is empty, which nothing fits; leave it out for all"):
        Where(patients=[])
