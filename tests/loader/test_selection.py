"""Filters of the loader: the right rows, and no more read than they need."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import sa_med2d_20m
from builder.command_line import main
from sa_med2d_20m import DatasetError, load
from tests.support.nifti import write_nifti
from tests.support.output import members
from tests.support.range_server import Served, serve
from tests.support.sources import write_source
from tests.support.volumes import organ_map

Record = dict[str, Any]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources under three licences, of two modalities; nobody writes to it."""
    folder = tmp_path_factory.mktemp("selection")
    raw = folder / "raw"
    recipes = [
        write_source(raw, "Free", cases=4, license_id="CC-BY-4.0"),
        write_source(raw, "Share", cases=2, license_id="CC-BY-SA-4.0"),
        write_source(raw, "Magnet", cases=2, license_id="CC0-1.0", modality="mr"),
    ]
    for number in range(2):
        write_nifti(raw / f"Magnet/labels/case{number:02d}.nii.gz", (organ_map() == 1).astype(np.uint8) * 3)
    recipes[2].write_text(recipes[2].read_text().replace('1 = "liver"', '3 = "brain tumor"'))
    for recipe in recipes:
        recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["*"]\n')
    arguments = ["build", *recipes, "--raw", raw, "--out", folder / "out", "--workers", 1, "--shard-size", "300KB"]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def records(out: Path) -> list[Record]:
    """All metadata, from the tars themselves."""
    return [json.loads(data) for name, data in members(out) if name.endswith(".json")]


@pytest.fixture
def web(out: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(sa_med2d_20m, "_FIRST_WAIT", 0.01)
    sa_med2d_20m._chosen.cache_clear()
    with serve(out) as served:
        yield served
    fsspec.asyn.reset_lock()


def mask_is(**wanted: Any) -> Callable[[Record], bool]:
    return lambda mask: all(mask[name] in values for name, values in wanted.items())


CHOICES: dict[str, tuple[Record, Callable[[Record], bool], Callable[[Record], bool] | None]] = {
    "sources": ({"sources": ["Free", "Magnet"]}, lambda one: one["source"] in ("Free", "Magnet"), None),
    "licenses": ({"licenses": ["cc-by-sa-4.0"]}, lambda one: one["license"] == "CC-BY-SA-4.0", None),
    "planes": ({"planes": ["coronal", "sagittal"]}, lambda one: one["plane"] in ("coronal", "sagittal"), None),
    "submodalities": ({"submodalities": "00"}, lambda _: True, None),
    "labels": ({"labels": ["spleen"]}, lambda _: True, mask_is(label=["spleen"])),
    "one label": ({"labels": "liver"}, lambda _: True, mask_is(label=["liver"])),
    "organs": ({"organs": ["brain"]}, lambda _: True, mask_is(organ=["brain"])),
    "groups": ({"groups": ["lesion", "abdomen"], "planes": "axial"}, lambda one: one["plane"] == "axial", mask_is(group=["lesion", "abdomen"])),
    "area": ({"min_area": 150}, lambda _: True, lambda mask: mask["area"] >= 150),
    "all": (
        {"labels": ["liver"], "sources": "Share", "planes": "axial", "min_area": 100},
        lambda one: one["source"] == "Share" and one["plane"] == "axial",
        lambda mask: mask["label"] == "liver" and mask["area"] >= 100,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_filters_choose_what_the_metadata_says(out: Path, records: list[Record], name: str) -> None:
    arguments, sample_fits, mask_fits = CHOICES[name]
    expected = []
    for record in records:
        masks = [mask for mask in record["masks"] if mask_fits is None or mask_fits(mask)]
        if sample_fits(record) and masks:
            expected.append((record["key"], [mask["id"] for mask in masks]))
    rows = [(row["key"], [mask["id"] for mask in row["masks"]]) for row in load(out, "all", **arguments)]
    assert rows == expected
    assert rows
    by_mask = [(row["key"], row["id"]) for row in load(out, "all", view="mask", **arguments)]
    assert by_mask == [(key, number) for key, numbers in expected for number in numbers]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"labels": ["livr"]}, r"no labels 'livr' here; did you mean liver\?"),
        (
            {"labels": ["liver", "heart_of_gold"]},
            "no labels 'heart_of_gold' here; there are brain_tumor, liver, spleen",
        ),
        ({"labels": ["liver"], "organs": ["brain"]}, "no image here has labels liver and organs brain at once"),
        ({"organs": ["Liver"]}, "did you mean liver"),
        ({"groups": ["abdomn"]}, "did you mean abdomen"),
        ({"planes": ["axal"]}, "did you mean axial"),
        ({"submodalities": ["t1"]}, "no submodalities 't1' here; there are 00"),
        ({"sources": ["free"]}, "did you mean Free"),
        ({"licenses": ["CC-BY-5.0"]}, "did you mean cc-by-4.0"),
        ({"decode": "jpeg"}, "decode is 'jpeg', expected 'numpy' or 'torch' or 'pil' or 'bytes'"),
    ],
)
def test_unknown_values_are_named_with_near_ones(out: Path, arguments: Record, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        load(out, "all", **arguments)


def test_the_same_over_http(out: Path, web: Served) -> None:
    choices: list[Record] = [{}, {"labels": ["spleen"], "planes": "sagittal"}]
    for arguments in choices:
        ours = list(load(web.url, "all", **arguments))
        local = list(load(out, "all", **arguments))
        assert [row["key"] for row in ours] == [row["key"] for row in local]
        for row, other in zip(ours, local, strict=True):
            assert row["masks"] == other["masks"]
            assert np.array_equal(row["image"], other["image"])
            assert np.array_equal(row["mask"], other["mask"])


def test_shards_without_a_match_are_never_opened(web: Served) -> None:
    rows = list(load(web.url, "all", labels=["brain_tumor"]))
    assert rows
    opened = {path for path, _ in web.sent if path.endswith(".tar")}
    assert opened
    assert all(path.startswith("/data/mr/") for path in opened)


def test_bytes_read_grow_with_what_is_chosen(out: Path, web: Served) -> None:
    """Neighbouring samples are one request; of a tar, nothing but them and what lies in small gaps is read."""
    whole = sum(path.stat().st_size for path in out.glob("data/ct/**/*.tar"))
    list(load(web.url, "ct"))
    assert web.bytes_of(".tar") <= whole
    full = [path for path, _ in web.sent if path.endswith(".tar")]
    assert len(full) < 12  # of 48 pieces that are dealt
    web.sent.clear()
    rows = list(load(web.url, "ct", sources="Share", planes="axial", labels="spleen"))
    share = len(rows) / sum(name.endswith(".json") and name.startswith("ct") for name, _ in members(out))
    assert len(rows) > 10
    assert web.bytes_of(".tar") < 1.3 * share * whole


def test_what_servers_refuse_for_a_while_is_asked_again(out: Path, web: Served) -> None:
    web.failing = {".tar": [503, 429, "cut", 500, "cut"], ".parquet": [429, 503], "README.md": [502]}
    rows = list(load(web.url, "ct", sources="Free"))
    assert web.failing == {".tar": [], ".parquet": [], "README.md": []}
    local = list(load(out, "ct", sources="Free"))
    assert [row["key"] for row in rows] == [row["key"] for row in local]
    assert all(np.array_equal(row["image"], other["image"]) for row, other in zip(rows, local, strict=True))


def test_what_servers_refuse_for_good_is_an_error(web: Served) -> None:
    web.failing = {".tar": [503] * 20}
    with pytest.raises(DatasetError, match=r"train-0000.\.tar cannot be read after 20 attempts"):
        list(load(web.url, "ct", sources="Free"))
    web.failing = {"README.md": [403]}
    with pytest.raises(DatasetError, match="403"):
        load(web.url, "ct")


def test_any_file_system_of_fsspec(out: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(out), "/copy", recursive=True)
    assert [row["key"] for row in load("memory://copy", "mr")] == [row["key"] for row in load(out, "mr")]
    memory.rm("/copy", recursive=True)
    with pytest.raises(DatasetError, match=r"it has no README\.md"):
        load("memory://copy", "mr")
    with pytest.raises(DatasetError, match="nowhere"):
        load("nowhere://copy", "mr")


@pytest.mark.parametrize("damage", ["shifted", "other shard", "index of another", "no parquet"])
def test_index_and_shard_that_do_not_agree(out: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "out"
    fsspec.filesystem("file").put(str(out), str(copy), recursive=True)
    first, second = sorted(copy.glob("data/ct/cc-by-4.0/Free/*.tar"))[:2]
    index = copy / "index" / first.relative_to(copy / "data").with_suffix(".parquet")
    if damage == "shifted":
        first.write_bytes(bytes(512) + first.read_bytes())
    elif damage == "other shard":
        first.write_bytes(second.read_bytes().ljust(first.stat().st_size + 10**6, b"\0"))
    elif damage == "index of another":
        index.write_bytes((copy / "index" / second.relative_to(copy / "data").with_suffix(".parquet")).read_bytes())
        first.write_bytes(first.read_bytes().ljust(10**7, b"\0"))
    else:
        index.write_bytes(b"PAR1 nothing")
    with pytest.raises(DatasetError, match=r"does not hold .* where its index says|is damaged"):
        list(load(copy, "ct", sources="Free"))
