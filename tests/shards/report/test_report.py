"""Statistics and figures: numbers as the metadata in the shards give them, files that stand on their own."""

from __future__ import annotations

import io
import json
import shutil
import statistics
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sa_med2d_20m import SPLITS
from shards.index_schema import INDEX_SCHEMA
from shards.license import tiers
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import members, tree
from tests.support.sources import RECIPE

MAIN = {"modalities", "organs", "classes", "longer_side", "mask_share"}


@pytest.fixture(scope="module")
def reported(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the built folder with its report; nobody writes to it."""
    from builder.command_line import main  # noqa: PLC0415

    out = tmp_path_factory.mktemp("reported") / "out"
    shutil.copytree(built, out)
    assert main(["report", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def said(reported: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((reported / "report/statistics.json").read_text())
    return found


@pytest.fixture(scope="module")
def records(built: Path) -> list[dict[str, Any]]:
    return [json.loads(data) for name, data in members(built) if name.endswith(".json")]


def counted(rows: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, int]:
    return dict(Counter(key(row) for row in rows))


def test_totals(said: dict[str, Any], records: list[dict[str, Any]]) -> None:
    masks = [mask for record in records for mask in record["masks"]]
    volumes = {(record["source"], record["case"], record["submodality"]) for record in records}
    assert said["total"] == {
        "images": len(records),
        "masks": len(masks),
        "mask_pixels": sum(mask["area"] for mask in masks),
        "pixels": sum(record["height"] * record["width"] for record in records),
        "without_mask": 0,
        "small_masks": sum(record["dropped"]["masks"] for record in records),
        "small_mask_pixels": sum(record["dropped"]["pixels"] for record in records),
        "sources": 3,
        "modalities": 2,
        "classes": 2,
        "organs": 2,
        "patients": 6,
        "cases": 6,
        "volumes": len(volumes),
    }


@pytest.mark.parametrize("key", ["modality", "source", "license", "split", "plane"])
def test_images_and_masks_by(said: dict[str, Any], records: list[dict[str, Any]], key: str) -> None:
    found = {row[key]: (row["images"], row["masks"]) for row in said["images_by"][key]}
    images = counted(records, lambda record: record[key])
    masks = counted([record for record in records for _ in record["masks"]], lambda record: record[key])
    assert found == {name: (images[name], masks[name]) for name in images}
    order = [row["images"] for row in said["images_by"][key]]
    assert key == "split" or order == sorted(order, reverse=True)


def test_a_tier_holds_the_narrower_ones(said: dict[str, Any], records: list[dict[str, Any]]) -> None:
    found = {row["tier"]: row["images"] for row in said["images_by"]["tier"]}
    assert found == counted((tier for record in records for tier in tiers(record["license"])), str)
    assert found["all"] > found["commercial"] > found["permissive"]


def test_masks_by_organ_group_and_class(said: dict[str, Any], records: list[dict[str, Any]]) -> None:
    masks = [(record, mask) for record in records for mask in record["masks"]]
    assert {row["organ"]: row["masks"] for row in said["masks_by"]["organ"]} == counted(
        masks, lambda one: one[1]["organ"]
    )
    by_both = {(row["modality"], row["organ"]): row["masks"] for row in said["masks_by"]["modality_and_organ"]}
    assert by_both == counted(masks, lambda one: (one[0]["modality"], one[1]["organ"]))
    assert {row["group"]: row["masks"] for row in said["masks_by"]["group"]} == counted(
        masks, lambda one: one[1]["group"]
    )
    for row in said["classes"]:
        own = [(record, mask) for record, mask in masks if mask["label"] == row["label"]]
        assert row["masks"] == len(own)
        assert row["images"] == len({record["key"] for record, _ in own})
        assert row["mask_pixels"] == sum(mask["area"] for _, mask in own)
        assert row["sources"] == ["Alpha", "Beta", "Magnet"]
    assert said["tail"] == {
        "below_1000": [row["label"] for row in said["classes"]],
        "from_100k_to_1m": [],
        "above_1m": [],
    }


def values_of(name: str, record: dict[str, Any]) -> list[float]:
    height, width = record["height"], record["width"]
    found: dict[str, Callable[[], list[float]]] = {
        "longer_side": lambda: [max(height, width)],
        "shorter_side": lambda: [min(height, width)],
        "aspect": lambda: [max(height, width) / min(height, width)],
        "masks_per_image": lambda: [len(record["masks"])],
        "mask_share": lambda: [mask["area"] / (height * width) for mask in record["masks"]],
        "finer_spacing": lambda: [min(record["spacing"])],
        "coarser_spacing": lambda: [max(record["spacing"])],
        "slice_spacing": lambda: [record["slice_spacing"]],
        "intensity_range": lambda: [record["intensity"]["max"] - record["intensity"]["min"]],
    }
    return found[name]()


def test_quantities(said: dict[str, Any], records: list[dict[str, Any]]) -> None:
    """To the three digits in which they are counted."""
    for name, found in said["quantities"].items():
        for modality, spread in found["modalities"].items():
            own = sorted(v for record in records if record["modality"] == modality for v in values_of(name, record))
            assert spread["count"] == len(own)
            assert spread["min"] == pytest.approx(own[0], rel=5e-3)
            assert spread["max"] == pytest.approx(own[-1], rel=5e-3)
            assert spread["mean"] == pytest.approx(statistics.fmean(own), rel=5e-3)
            for share in (5, 50, 95):
                expected = np.quantile(own, share / 100, method="inverted_cdf")
                assert spread[f"p{share:02d}"] == pytest.approx(expected, rel=5e-3)


def test_people_by_split(said: dict[str, Any], records: list[dict[str, Any]]) -> None:
    for row in said["people"]["split"]:
        own = [record for record in records if record["split"] == row["split"]]
        assert row["patients"] == len({(record["source"], record["patient"]) for record in own})
        assert row["cases"] == len({(record["source"], record["case"]) for record in own})
        assert row["volumes"] == row["cases"]
    assert [row["split"] for row in said["people"]["split"]] == list(SPLITS)
    alpha = {row["split"]: row["patients"] for row in said["people"]["source_and_split"] if row["source"] == "Alpha"}
    assert alpha == {"train": 1, "validation": 1, "test": 1}


def test_what_rules_left_out(said: dict[str, Any], built: Path) -> None:
    expected: dict[tuple[str, str], Counter[str]] = {}
    for path in (built / "build/receipts").rglob("*.json"):
        receipt = json.loads(path.read_text())
        for name, key in (("dropped", "count"), ("lost_pixels", "mask_pixels")):
            for reason, number in receipt[name].items():
                source = receipt["shard"].split("/")[2]
                expected.setdefault((source, reason), Counter())[key] += number
    rows = said["dropped"]["source_and_reason"]
    found = {
        (row["source"], row["reason"]): Counter(count=row["count"], mask_pixels=row["mask_pixels"]) for row in rows
    }
    assert found == expected
    assert {row["reason"] for row in said["dropped"]["reason"]} == {reason for _, reason in expected}


def test_what_rules_left_out_of_each_class(sa_med2d: Command, tmp_path: Path) -> None:
    """Counted in the mask itself: of two classes each has one object that is too small, one a slice that is constant."""
    labels = np.zeros((8, 64, 64), np.uint8)
    labels[:, 5:25, 5:25] = 1  # the liver, 400 pixels, and a crumb of 4 in a slice
    labels[3, 40:42, 40:42] = 1
    labels[:, 30:40, 5:15] = 2  # the spleen, 100 pixels, and crumbs of 6 in two slices
    labels[2:4, 50:53, 50:52] = 2
    values = np.random.default_rng(0).integers(0, 100, labels.shape).astype(np.int16)
    values[7] = 9
    write_nifti(tmp_path / "raw/Crumbs/images/one.nii.gz", values)
    write_nifti(tmp_path / "raw/Crumbs/labels/one.nii.gz", labels)
    recipe = tmp_path / "raw/Crumbs.toml"
    text = RECIPE.format(name="Crumbs", license="CC-BY-4.0", modality="ct").replace(
        "[files]", 'axes = ["x"]\n[files]', 1
    )
    recipe.write_text(text + '[gates]\nconstant_slice = "drop"\n')
    assert sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1).code == 0
    assert sa_med2d("report", tmp_path / "out").code == 0
    said = json.loads((tmp_path / "out/report/statistics.json").read_text())["dropped"]
    found = {(row["reason"], row["label"]): (row["mask_pixels"], row["share"]) for row in said["source_and_class"]}
    liver, spleen = 8 * 400 + 4, 8 * 100 + 12
    assert found == {
        ("small_mask", "liver"): (4, pytest.approx(4 / liver)),
        ("small_mask", "spleen"): (12, pytest.approx(12 / spleen)),
        ("constant_slice", "liver"): (400, pytest.approx(400 / liver)),
        ("constant_slice", "spleen"): (100, pytest.approx(100 / spleen)),
    }
    shares = {row["label"]: (row["mask_pixels"], row["share"]) for row in said["class"]}
    assert shares == {
        "liver": (404, pytest.approx(404 / liver)),
        "spleen": (112, pytest.approx(112 / spleen)),
    }
    assert pq.read_table(tmp_path / "out/report/lost.parquet").to_pylist() == said["source_and_class"]
    root = ET.parse(tmp_path / "out/report/figures/dropped_classes.svg").getroot()  # noqa: S314 - written by the command
    told = next(node.text for node in root if node.tag.endswith("desc"))
    assert told == "Classes: mask pixels left out: spleen 14 %; liver 13 %."  # 112 of 812 and 404 of 3,204


def test_tables_hold_what_the_statistics_are_made_of(reported: Path, said: dict[str, Any]) -> None:
    images = pq.read_table(reported / "report/images.parquet")
    assert sum(images["images"].to_pylist()) == said["total"]["images"]
    classes = pq.read_table(reported / "report/classes.parquet").to_pylist()
    assert sum(row["masks"] for row in classes) == said["total"]["masks"]
    names = {path.name for path in (reported / "report").glob("*.parquet")}
    assert names == {
        f"{name}.parquet"
        for name in ("images", "classes", "values", "people", "not_annotated", "small", "dropped", "lost")
    }


def test_figures_stand_on_their_own(reported: Path) -> None:
    figures = reported / "report/figures"
    names = {path.stem for path in figures.glob("*.svg")}
    assert names == {path.stem for path in figures.glob("*.png")}
    assert names > MAIN
    for name in names:
        svg = (figures / f"{name}.svg").read_text()
        root = ET.fromstring(svg)  # noqa: S314 - written by the command
        title = next(node.text for node in root if node.tag.endswith("title"))
        assert title
        assert "prefers-color-scheme:dark" in svg
        links = [value for node in root.iter() for key, value in node.attrib.items() if key.endswith("href")]
        assert all(link.startswith("#") for link in links)
        with PIL.Image.open(figures / f"{name}.png") as png:
            assert png.width == 8 * 144
            assert png.convert("RGB").getpixel((0, 0)) == (254, 254, 254)


def test_the_same_set_gives_the_same_report(sa_med2d: Command, reported: Path, tmp_path: Path) -> None:
    """Figures of an earlier version that are no longer drawn go, what else lies there stays."""
    stale, own = tmp_path / "figures/oldname.png", tmp_path / "figures/notes.txt"
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier version")
    own.write_text("mine")
    assert sa_med2d("report", reported, "--to", tmp_path).code == 0
    assert own.exists()
    own.unlink()
    assert tree(tmp_path) == tree(reported / "report")


def test_removing_a_source_removes_the_report(sa_med2d: Command, reported: Path, tmp_path: Path) -> None:
    """Its figures name the source."""
    shutil.copytree(reported, tmp_path / "out")
    assert sa_med2d("remove", "Beta", tmp_path / "out").code == 0
    assert not (tmp_path / "out/report").exists()


def test_no_report_goes_into_a_repository(sa_med2d: Command) -> None:
    ran = sa_med2d("report", "hf://datasets/ann/scans")
    assert ran.code == 1
    assert "--to" in ran.err


HOSTILE = "$\\frac{1}{0}$ <b>&\"'"


def rare(key: str, label: str, area: int = 3, **changes: Any) -> dict[str, Any]:
    """A row of an index."""
    mask = {"id": 1, "layer": 0, "label": label, "class_id": "0000", "organ": None, "group": "other", "instance": 0}
    row = dict.fromkeys(INDEX_SCHEMA.names) | {
        "key": key,
        "source": "Odd",
        "modality": "ct",
        "submodality": HOSTILE,
        "license": "unknown",
        "patient": "p",
        "case": "c",
        "split": "train",
        "plane": "2d",
        "axis": "2d",
        "height": 4,
        "width": 4,
        "intensity": {"min": 0.0, "max": 0.0, "scaling": "none", "slope": 1.0, "intercept": 0.0},
        "dropped": {"masks": 1, "pixels": 2, "labels": ["liver", "spleen"]},
        "not_annotated": ["liver"],
        "masks": [{**mask, "bbox": [0, 0, 1, 1], "area": area}],
    }
    return {**row, **changes}


def test_texts_of_others_and_values_that_are_not_there(sa_med2d: Command, tmp_path: Path) -> None:
    """Formulas and markup in names, no spacing, no organ, an image without a mask, a range of 0, no receipt."""
    rows = [rare("a", HOSTILE), rare("b", "liver", masks=[]), rare("c", "liver", spacing=[0.5, 1.0])]
    path = tmp_path / "index/ct/unknown/Odd/train-00000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), path)
    ran = sa_med2d("report", tmp_path)
    assert (ran.code, ran.err) == (0, "")
    said = json.loads((tmp_path / "report/statistics.json").read_text())
    assert said["total"]["without_mask"] == 1
    assert said["dropped"] is None
    assert said["images_by"]["tier"] == [{**said["images_by"]["tier"][0], "tier": "none", "images": 3}]
    assert said["quantities"]["intensity_range"]["all"]["max"] == 0
    assert said["quantities"]["finer_spacing"]["all"]["count"] == 1
    assert said["quantities"]["slice_spacing"] | {"all": None} == said["quantities"]["slice_spacing"]
    small = [{"source": "Odd", "label": label, "images": 3} for label in ("liver", "spleen")]
    assert said["small_masks"] == small
    assert said["total"]["small_mask_pixels"] == 6
    assert said["not_annotated"] == [{"source": "Odd", "label": "liver", "images": 3}]
    for path in (tmp_path / "report/figures").glob("*.svg"):
        ET.parse(path)  # noqa: S314
        assert PIL.Image.open(io.BytesIO(path.with_suffix(".png").read_bytes())).width


def test_a_set_without_an_image(sa_med2d: Command, tmp_path: Path, reported: Path) -> None:
    """Rules may leave nothing of a source; its tables have the same columns."""
    path = tmp_path / "index/ct/cc-by-4.0/None/train-00000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(INDEX_SCHEMA.empty_table(), path)
    ran = sa_med2d("report", tmp_path, "--html", tmp_path / "page.html")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads((tmp_path / "report/statistics.json").read_text())["total"]["images"] == 0
    for table in (tmp_path / "report").glob("*.parquet"):
        assert pq.read_schema(table).equals(pq.read_schema(reported / "report" / table.name))
    assert not (tmp_path / "report/figures").exists()
    assert 'id="p0"' not in (tmp_path / "page.html").read_text()
    ran = sa_med2d("findings", tmp_path)
    assert (ran.code, ran.out) == (0, "0 images of 0 in 1 source looked at: no findings\n")


@pytest.mark.parametrize(
    ("command", "option"), [("report", "--html"), ("findings", "--html"), ("overlap", "--html"), ("show", "--to")]
)
def test_a_file_that_cannot_be_written_is_told_before_any_work(
    sa_med2d: Command, tmp_path: Path, command: str, option: str
) -> None:
    """OUT is not even there."""
    (tmp_path / "afile").write_text("x")
    for path, said in ((tmp_path, "is a folder"), (tmp_path / "afile/page", "afile is no folder")):
        ran = sa_med2d(command, tmp_path / "out", option, path)
        assert ran.code == 2
        assert said in ran.err


def test_a_report_does_not_go_into_a_file(sa_med2d: Command, built: Path, tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("x")
    ran = sa_med2d("report", built, "--to", tmp_path / "afile")
    assert ran.code == 2
    assert ran.err.strip().endswith("afile: is no folder; expected one, or one that is not there yet")
