"""The card: what it lists, from receipts written by hand."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import yaml
from datasets import Features
from datasets.info import DatasetInfo

from sa_med2d_20m import CONFIGS, LABELS, LOCAL_CONFIGS, MODALITIES, SPLITS, features
from shards.card import CardFigure, card, write_card
from shards.description import KnownOverlap, SourceDescription, read_sources, write_source
from shards.receipt import Receipt, read_receipts, write_receipt
from tests.support import sources
from tests.support.command import Command
from tests.support.output import members, tree

ROOT = Path(__file__).parents[2]


def add(
    out: Path,
    stem: str,
    license_id: str,
    *,
    samples: int = 2,
    evidence: str | None = "https://example.org/l",
    access: str = "open",
) -> None:
    """A receipt of a shard and what is known of its source; the shard itself is not needed."""
    receipt = Receipt(stem, license_id, "0" * 64, 10240, samples, 3 * samples, {"liver": 3 * samples}, ("case",))
    write_receipt(out, receipt)
    modality, _, name, _ = stem.split("/")
    source = SourceDescription(
        name, f"Title of {name}", "https://example.org", license_id, evidence, access, "Nobody", modality, ()
    )
    write_source(out, source)


def front(out: Path) -> dict[str, Any]:
    write_card(out)
    head: dict[str, Any] = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
    return head


def globs(out: Path) -> dict[str, dict[str, list[str]]]:
    """Config -> split -> patterns, but of those of the folder alone, which `local_globs` gives."""
    return {name: files for name, files in all_globs(out).items() if not name.endswith("-local")}


def local_globs(out: Path) -> dict[str, dict[str, list[str]]]:
    """As `globs`, of the configs that hold everything built."""
    return {name: files for name, files in all_globs(out).items() if name.endswith("-local")}


def all_globs(out: Path) -> dict[str, dict[str, list[str]]]:
    return {
        config["config_name"]: {files["split"]: files["path"] for files in config["data_files"]}
        for config in front(out)["configs"]
    }


@pytest.mark.parametrize(
    ("license_id", "expected"),
    [
        ("CC0-1.0", {"all", "all-commercial", "all-permissive", "ct", "ct-commercial", "ct-permissive"}),
        ("CC-BY-SA-4.0", {"all", "all-commercial", "ct", "ct-commercial"}),
        ("CC-BY-NC-4.0", {"all", "ct"}),
        ("CC-BY-NC-SA-4.0", {"all", "ct"}),
        ("CC-BY-ND-4.0", set()),
        ("unknown", set()),
        ("conflict", set()),
        ("LicenseRef-Somebody", set()),
    ],
)
def test_configs_of_one_licence(tmp_path: Path, license_id: str, expected: set[str]) -> None:
    add(tmp_path, f"ct/{license_id.lower()}/A/train-00000", license_id)
    assert set(globs(tmp_path)) == expected
    assert set(local_globs(tmp_path)) == {"all-local", "ct-local"}


def test_configs_of_several_sources(tmp_path: Path) -> None:
    add(tmp_path, "ct/cc-by-4.0/A/train-00000", "CC-BY-4.0")
    add(tmp_path, "ct/cc-by-4.0/A/test-00000", "CC-BY-4.0")
    add(tmp_path, "ct/cc-by-nc-4.0/B/train-00000", "CC-BY-NC-4.0")
    add(tmp_path, "mr/cc-by-sa-4.0/C/validation-00000", "CC-BY-SA-4.0")
    add(tmp_path, "oct/unknown/D/train-00000", "unknown")
    found = globs(tmp_path)
    assert set(found) == {
        *("all", "all-commercial", "all-permissive"),
        *("ct", "ct-commercial", "ct-permissive"),
        *("mr", "mr-commercial"),
    }
    assert found["ct"]["train"] == ["data/ct/cc-by-4.0/*/train-*.tar", "data/ct/cc-by-nc-4.0/*/train-*.tar"]
    assert found["ct-commercial"]["train"] == ["data/ct/cc-by-4.0/*/train-*.tar"]
    assert found["mr"] == {"validation": ["data/mr/cc-by-sa-4.0/*/validation-*.tar"]}
    assert found["all-commercial"]["validation"] == ["data/mr/cc-by-sa-4.0/*/validation-*.tar"]
    assert set(found["all-permissive"]) == {"train", "test"}


def test_default_is_the_permissive_one_and_the_only_default(tmp_path: Path) -> None:
    add(tmp_path, "ct/cc-by-4.0/A/train-00000", "CC-BY-4.0")
    add(tmp_path, "mr/cc-by-nc-4.0/B/train-00000", "CC-BY-NC-4.0")
    configs = front(tmp_path)["configs"]
    assert [config["config_name"] for config in configs if config.get("default")] == ["all-permissive"]


def test_splits_and_shards_without_samples_are_left_out(tmp_path: Path) -> None:
    add(tmp_path, "ct/cc-by-4.0/A/train-00000", "CC-BY-4.0")
    add(tmp_path, "ct/cc-by-4.0/A/test-00000", "CC-BY-4.0", samples=0)
    add(tmp_path, "mr/cc-by-4.0/B/train-00000", "CC-BY-4.0", samples=0)
    found = globs(tmp_path)
    assert set(found) == {"all", "all-commercial", "all-permissive", "ct", "ct-commercial", "ct-permissive"}
    assert set(found["ct"]) == {"train"}


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_modality_has_its_config(tmp_path: Path, modality: str) -> None:
    add(tmp_path, f"{modality}/mit/A/train-00000", "MIT")
    assert {modality, f"{modality}-commercial", f"{modality}-permissive"} < set(globs(tmp_path))


def test_names_of_configs() -> None:
    assert len(set(CONFIGS)) == len(CONFIGS) == 3 * (len(MODALITIES) + 1)
    assert CONFIGS[0] == "all-permissive"
    assert {name.removesuffix("-local") for name in LOCAL_CONFIGS} == {"all", *MODALITIES}
    assert LOCAL_CONFIGS[0] == "all-local"


def test_a_new_source_under_a_known_licence_changes_no_config(tmp_path: Path) -> None:
    add(tmp_path, "ct/cc-by-4.0/A/train-00000", "CC-BY-4.0")
    before = globs(tmp_path)
    add(tmp_path, "ct/cc-by-4.0/B/train-00000", "CC-BY-4.0")
    assert globs(tmp_path) == before


def test_only_tar_configs_are_listed(tmp_path: Path) -> None:
    """One Parquet config would make stock `datasets` read them all as Parquet."""
    add(tmp_path, "ct/cc-by-4.0/A/train-00000", "CC-BY-4.0")
    patterns = [glob for splits in globs(tmp_path).values() for listed in splits.values() for glob in listed]
    assert all(re.fullmatch(r"data/[a-z_]+/[a-z0-9.-]+/\*/[a-z]+-\*\.tar", glob) for glob in patterns)


def test_features_and_counts_of_every_config(tmp_path: Path) -> None:
    add(tmp_path, "ct/cc-by-4.0/A/train-00000", "CC-BY-4.0", samples=5)
    add(tmp_path, "ct/cc-by-4.0/A/train-00001", "CC-BY-4.0", samples=7)
    add(tmp_path, "ct/cc-by-nc-4.0/B/train-00000", "CC-BY-NC-4.0", samples=11)
    infos = {info["config_name"]: info for info in front(tmp_path)["dataset_info"]}
    assert set(infos) == set(all_globs(tmp_path))
    for info in infos.values():
        read = DatasetInfo._from_yaml_dict(info).features
        assert isinstance(read, Features)
        assert read == features()
    counts = {name: info["splits"][0]["num_examples"] for name, info in infos.items()}
    assert counts == dict.fromkeys(("all", "ct", "all-local", "ct-local"), 23) | dict.fromkeys(
        ("all-commercial", "all-permissive", "ct-commercial", "ct-permissive"), 12
    )


def test_sources_are_named_and_refusals_said(tmp_path: Path) -> None:
    add(tmp_path, "ct/cc-by-4.0/A/train-00000", "CC-BY-4.0", samples=1234)
    add(tmp_path, "ct/cc-by-nd-4.0/B/train-00000", "CC-BY-ND-4.0")
    add(tmp_path, "mr/unknown/C/train-00000", "unknown")
    add(tmp_path, "mr/mit/D/train-00000", "MIT", evidence=None)
    write_card(tmp_path)
    text = (tmp_path / "SOURCES.md").read_text()
    assert (
        "- **A** (CC-BY-4.0): 1,234 images, 3,702 masks.\n  [Title of A](https://example.org). Nobody\n- **B**" in text
    )
    assert "Not for publication: B, C, D;" in (tmp_path / "README.md").read_text()
    text = (tmp_path / "LICENSE.md").read_text()
    assert "| A | [CC-BY-4.0](https://spdx.org/licenses/CC-BY-4.0.html) | https://example.org/l |" in text
    assert "- B: CC-BY-ND-4.0 does not allow derivatives" in text
    assert "- C: its licence is unknown" in text
    assert "- D: its recipe gives no license_evidence" in text


@pytest.mark.parametrize(
    ("license_id", "access"), [("unknown", "open"), ("LicenseRef-Ours", "open"), ("CC-BY-4.0", "private")]
)
def test_card_of_nothing_that_may_be_published(tmp_path: Path, license_id: str, access: str) -> None:
    stem = f"ct/{license_id.lower()}/A"
    add(tmp_path, f"{stem}/train-00000", license_id, access=access)
    add(tmp_path, f"{stem}/test-00000", license_id, access=access)
    expected = {split: [f"data/ct/{license_id.lower()}/*/{split}-*.tar"] for split in ("train", "test")}
    assert all_globs(tmp_path) == {"all-local": expected, "ct-local": expected}
    configs = front(tmp_path)["configs"]
    assert [config["config_name"] for config in configs if config.get("default")] == ["all-local"]
    assert 'load_dataset("PATH OR REPOSITORY", "all-local", split="train"' in (tmp_path / "README.md").read_text()


def test_configs_of_a_folder_come_last_and_hold_everything(tmp_path: Path) -> None:
    add(tmp_path, "ct/cc-by-4.0/A/train-00000", "CC-BY-4.0", samples=5)
    add(tmp_path, "ct/conflict/B/train-00000", "conflict", samples=7)
    add(tmp_path, "mr/unknown/C/train-00000", "unknown", samples=11)
    head = front(tmp_path)
    assert [config["config_name"] for config in head["configs"]][-3:] == ["all-local", "ct-local", "mr-local"]
    assert [config["config_name"] for config in head["configs"] if config.get("default")] == ["all-permissive"]
    counts = {info["config_name"]: info["splits"][0]["num_examples"] for info in head["dataset_info"]}
    assert {name: counts[name] for name in local_globs(tmp_path)} == {"all-local": 23, "ct-local": 12, "mr-local": 11}
    assert counts["ct"] == 5


def test_a_private_source_is_in_no_tier_beside_others_of_its_licence(tmp_path: Path) -> None:
    for name, access in (("A", "open"), ("B", "private"), ("C", "registration")):
        add(tmp_path, f"ct/cc-by-4.0/{name}/train-00000", "CC-BY-4.0", access=access)
    add(tmp_path, "ct/cc-by-4.0/A/test-00000", "CC-BY-4.0")
    for patterns in globs(tmp_path).values():
        assert patterns["train"] == [f"data/ct/cc-by-4.0/{name}/train-*.tar" for name in ("A", "C")]
        assert patterns["test"] == ["data/ct/cc-by-4.0/*/test-*.tar"]
    assert local_globs(tmp_path)["ct-local"]["train"] == ["data/ct/cc-by-4.0/*/train-*.tar"]


def test_card_of_an_empty_folder(tmp_path: Path) -> None:
    assert front(tmp_path)["configs"] == []
    assert "Configs: none, there is no image." in (tmp_path / "README.md").read_text()


def test_same_receipts_give_the_same_card(tmp_path: Path) -> None:
    stems = [("ct/mit/A/train-00000", "MIT"), ("mr/mit/B/test-00000", "MIT"), ("ct/cc0-1.0/C/train-00000", "CC0-1.0")]
    for name, order in (("one", stems), ("other", stems[::-1])):
        for stem, license_id in order:
            add(tmp_path / name, stem, license_id)
        write_card(tmp_path / name)
    assert tree(tmp_path / "one") == tree(tmp_path / "other")


def test_path_and_metadata_that_disagree_are_in_no_wider_config(tmp_path: Path) -> None:
    """Otherwise the glob lets every other non-commercial source into the permissive config as well."""
    add(tmp_path, "ct/cc-by-nc-4.0/Honest/train-00000", "CC-BY-NC-4.0")
    add(tmp_path, "ct/cc-by-nc-4.0/Wrong/train-00000", "CC0-1.0")
    found = globs(tmp_path)
    assert not any("cc-by-nc" in glob for glob in str(found.get("all-permissive", "")).split(","))


def test_card_of_a_real_build_names_what_may_not_be_published(sa_med2d: Command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    recipes = [
        sources.write_source(raw, name, cases=1, license_id=license_id)
        for name, license_id in (("Free", "CC-BY-4.0"), ("Fixed", "CC-BY-ND-4.0"), ("Nobody", "unknown"))
    ]
    ran = sa_med2d("build", *recipes, "--raw", raw, "--out", tmp_path / "out", "--workers", 1)
    assert ran.code == 0
    assert "Fixed: will not be published: CC-BY-ND-4.0 does not allow derivatives" in ran.err
    text = (tmp_path / "out/SOURCES.md").read_text()
    assert "**Nobody** (unknown)" in text
    assert "Nobody, 2026" in text
    text = (tmp_path / "out/README.md").read_text()
    assert "the config ct-local of the folder holds it" in ran.err
    configs = yaml.safe_load(text.split("---\n")[1])["configs"]
    for local, licences in ((False, {"cc-by-4.0"}), (True, {"cc-by-4.0", "cc-by-nd-4.0", "unknown"})):
        listed = [config for config in configs if config["config_name"].endswith("-local") == local]
        patterns = {path for config in listed for files in config["data_files"] for path in files["path"]}
        assert {pattern.split("/")[2] for pattern in patterns} == licences


LICENSES = ("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0")


def add_many(out: Path) -> None:
    """Each modality under each of five licences, in three splits: all 36 configs hold data."""
    for modality in MODALITIES:
        for license_id in LICENSES:
            for number, split in enumerate(SPLITS):
                stem = f"{modality}/{license_id.lower()}/{modality}_{license_id.replace('.', '_')}/{split}-00000"
                add(out, stem, license_id, samples=1000 + number)


def test_a_card_of_all_configs_is_small(tmp_path: Path) -> None:
    """It was 109 kB with a list of features for each config, 74 kB with one; twelve configs are the folder's own."""
    add_many(tmp_path)
    assert set(globs(tmp_path)) == set(CONFIGS)
    assert (tmp_path / "README.md").stat().st_size < 36_000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], dict[str, dict[str, list[str]]]]:
    """A folder of every modality and licence, its shards below ``data``, and the globs of its card."""
    folder = tmp_path_factory.mktemp("many")
    add_many(folder)
    paths = [path.relative_to(folder / "build/receipts") for path in folder.rglob("receipts/**/*.json")]
    for path in paths:
        shard = folder / "data" / path.with_suffix(".tar")
        shard.parent.mkdir(parents=True, exist_ok=True)
        shard.touch()
    return folder, paths, globs(folder)


@pytest.mark.parametrize("config", CONFIGS)
def test_globs_match_the_shards_of_their_config_and_no_others(
    many: tuple[Path, list[Path], dict[str, dict[str, list[str]]]], config: str
) -> None:
    folder, paths, of_configs = many
    scope, _, tier = config.partition("-")
    of_tier = {"": LICENSES, "commercial": LICENSES[:3], "permissive": LICENSES[:2]}[tier]
    for split, patterns in of_configs[config].items():
        found = [path.relative_to(folder / "data").as_posix() for glob in patterns for path in folder.glob(glob)]
        assert sorted(found) == sorted(
            f"{path.as_posix().removesuffix('.json')}.tar"
            for path in paths
            if path.parts[0] == scope or scope == "all"
            if path.parts[1] in [name.lower() for name in of_tier] and path.name.startswith(split)
        )


def test_no_glob_is_wider_than_its_config(tmp_path: Path) -> None:
    """A shard that no config may hold keeps the glob over all modalities away."""
    add(tmp_path, "ct/cc-by-4.0/A/train-00000", "CC-BY-4.0")
    add(tmp_path, "mr/cc-by-4.0/B/train-00000", "CC-BY-4.0")
    assert globs(tmp_path)["all"] == {"train": ["data/*/cc-by-4.0/*/train-*.tar"]}
    add(tmp_path, "oct/cc-by-4.0/C/train-00000", "CC-BY-ND-4.0")
    assert globs(tmp_path)["all"] == {"train": ["data/ct/cc-by-4.0/*/train-*.tar", "data/mr/cc-by-4.0/*/train-*.tar"]}


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (["CC-BY-4.0"], "cc-by-4.0"),
        (["CC-BY-SA-4.0", "CC-BY-4.0"], ["cc-by-4.0", "cc-by-sa-4.0"]),
        (["ODbL-1.0", "PDDL-1.0", "GPL-3.0-only"], ["gpl-3.0", "odbl", "pddl"]),
        (["MIT", "LicenseRef-MNI-ICBM152"], ["mit", "other"]),
        (["OGL-UK-3.0"], "other"),
    ],
)
def test_licences_as_the_hub_names_them(tmp_path: Path, licenses: list[str], expected: Any) -> None:
    for number, license_id in enumerate(licenses):
        add(tmp_path, f"ct/{license_id.lower()}/S{number}/train-00000", license_id)
    head = front(tmp_path)
    assert head["license"] == expected
    assert head["license_link"] == "LICENSE.md"
    assert (tmp_path / "LICENSE.md").is_file()
    assert ("license_name" in head) == ("other" in expected)


def test_numbers_of_classes(tmp_path: Path) -> None:
    add(tmp_path, "ct/mit/A/train-00000", "MIT")
    write_card(tmp_path)
    numbers = json.loads((tmp_path / "id2label.json").read_text())
    assert numbers["0"] == "background"
    assert [numbers[str(number)] for number in range(1, len(numbers))] == list(LABELS)


def test_evidence_does_not_break_the_table(tmp_path: Path) -> None:
    add(tmp_path, "ct/mit/A/train-00000", "MIT", evidence="https://example.org/a|b\n| c")
    write_card(tmp_path)
    assert "| https://example.org/a&#124;b &#124; c |\n" in (tmp_path / "LICENSE.md").read_text()


def test_splits_with_patients(sa_med2d: Command, tmp_path: Path) -> None:
    """As the metadata in the shards says; `index` counts them anew where no build has."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    recipes = [
        sources.write_source(raw, "Free", cases=3),
        sources.write_source(raw, "Magnet", cases=2, modality="mr"),
    ]
    splits = '[splits]\ntrain = ["case00", "case02"]\ntest = ["case01"]\n'
    for recipe in recipes:
        recipe.write_text(recipe.read_text() + splits)
    assert sa_med2d("build", *recipes, "--raw", raw, "--out", out, "--workers", 1).code == 0
    records = [json.loads(data) for name, data in members(out) if name.endswith(".json")]
    expected = {}
    for split in SPLITS:
        own = [record for record in records if record["split"] == split]
        expected[split] = (len(own), len({(record["source"], record["patient"]) for record in own}))
    written = (out / "README.md").read_text()
    rows = {
        name: [int(cell.replace(",", "")) for cell in cells.split(" | ")] for name, cells in SPLIT_ROW.findall(written)
    }
    assert rows["images"] == [*(images for images, _ in expected.values()), len(records)]
    assert rows["patients"] == [3, 0, 2, 5] == [*(people for _, people in expected.values()), 5]
    assert rows["images: mr"][3] == sum(record["modality"] == "mr" for record in records)
    for path in (out / "build/sources").glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "patients": {}}))
    write_card(out)
    assert "Those of 2 sources are not counted." in (out / "README.md").read_text()
    assert sa_med2d("index", out).code == 0
    assert (out / "README.md").read_text() == written


SPLIT_ROW = re.compile(r"^\| (images|images: \w+|masks|patients) \| ([\d, |]+) \|$", re.MULTILINE)


def test_known_overlaps(tmp_path: Path) -> None:
    """Those of sources that are here stand in the card; all of them, with evidence, in the list of sources."""
    add(tmp_path, "ct/mit/A/train-00000", "MIT")
    add(tmp_path, "ct/mit/B/train-00000", "MIT")
    evidence = ("github:owner/name@81da0ee:a/b.md", "https://example.org/<b>")
    here = KnownOverlap(("B",), "are the same pictures", "B is A <again>.", evidence)
    elsewhere = KnownOverlap(("Gone",), "have some scans or people in common", "Ten scans.", ("doi:10.1000/x",))
    for name, overlaps in (("A", (here, elsewhere)), ("B", (replace(here, others=("A",)),))):
        write_source(tmp_path, replace(read_sources(tmp_path)[name], overlaps=overlaps))
    write_card(tmp_path)
    limits = (tmp_path / "README.md").read_text().split("## Known limits and overlaps\n")[1].split("\n## ")[0]
    assert limits.count("A, B: are the same pictures. B is A &lt;again&gt;.") == 1
    assert "Gone" not in limits
    listed = (tmp_path / "SOURCES.md").read_text()
    assert (
        "[evidence 1](https://github.com/owner/name/blob/81da0ee/a/b.md), [evidence 2](https://example.org/%3Cb%3E)"
        in listed
    )
    assert (
        "With Gone: have some scans or people in common. Ten scans. ([evidence 1](https://doi.org/10.1000/x))" in listed
    )


def test_a_build_knows_the_overlaps_of_the_catalogue(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = sources.write_source(tmp_path / "raw", "AbdomenAtlas", cases=1)
    assert sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", 1).code == 0
    catalogue = tomllib.loads((ROOT / "builder/overlaps.toml").read_text())["overlaps"]
    expected = [one for one in catalogue if "AbdomenAtlas" in one["sources"]]
    found = json.loads((tmp_path / "out/build/sources/AbdomenAtlas.json").read_text())["overlaps"]
    assert [one["what"] for one in found] == [one["what"] for one in expected]
    assert [{*one["others"], "AbdomenAtlas"} for one in found] == [set(one["sources"]) for one in expected]


ORDER = (
    "# SA-Med2D-20M, rebuilt in the open",
    "## Load it",
    "## Configs and licences",
    "## Fields",
    "## Splits and patients",
    "## Sources and classes",
    "## Figures",
    "## What was left out",
    "## Known limits and overlaps",
    "## Citation",
    "## Contact and take-down",
)


def test_the_order_of_a_card(tmp_path: Path) -> None:
    add(tmp_path, "ct/mit/A/train-00000", "MIT")
    add(tmp_path, "mr/mit/B/train-00000", "MIT")
    add(tmp_path, "ct/mit/C/train-00000", "MIT")
    figures = [CardFigure("figures/one.png", "One", "What it shows")]
    receipts, known = list(read_receipts(tmp_path).values()), read_sources(tmp_path)
    text = card(receipts, known, "ann/scans", figures, pictures={name: f"preview/{name}.jpg" for name in "ABC"}).split(
        "---\n"
    )[2]
    assert tuple(line for line in text.splitlines() if re.match("##? ", line)) == ORDER
    shown = re.findall(r"!\[[^]]+\]\((\S+)\)", text)
    # of each modality one, then the others
    assert shown == ["preview/A.jpg", "preview/B.jpg", "preview/C.jpg", "figures/one.png"]
    assert text.index("preview/A.jpg") < text.index("## Load it") < text.index("figures/one.png")
    cited = text.split("## Citation")[1]
    assert "https://huggingface.co/datasets/ann/scans" in cited
    assert "arXiv:2311.11969" in cited
    assert "[SOURCES.md](SOURCES.md)" in cited


def test_the_card_of_a_folder_shows_a_preview(sa_med2d: Command, tmp_path: Path) -> None:
    """Where there is one; it goes with its source."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    recipes = [sources.write_source(raw, name, cases=1) for name in ("Free", "Other")]
    assert sa_med2d("build", *recipes, "--raw", raw, "--out", out, "--workers", 1, "--preview").code == 0
    (free,) = pictures(out)
    assert free.startswith("build/previews/Free.")
    assert (out / free).exists()
    assert sa_med2d("remove", "Free", out).code == 0
    assert [path.split(".")[::2] for path in pictures(out)] == [["build/previews/Other", "png"]]


def test_the_card_of_a_folder_begins_with_a_sample(sa_med2d: Command, tmp_path: Path) -> None:
    """However it was built; a build that changes nothing draws nothing, and it goes with its source."""
    raw = tmp_path / "raw"
    recipes = [sources.write_source(raw, name, cases=2) for name in ("Free", "Other")]
    for name, order, workers in (("one", 1, 1), ("two", -1, 2)):
        arguments = ("--raw", raw, "--out", tmp_path / name, "--workers", workers)
        assert sa_med2d("build", *recipes[::order], *arguments).code == 0
    out = tmp_path / "one"
    (path,) = pictures(out)
    drawn = out / path
    assert drawn.name.startswith("Free.")
    assert drawn.read_bytes() == (tmp_path / "two" / path).read_bytes()
    assert (out / "README.md").read_bytes() == (tmp_path / "two/README.md").read_bytes()
    picture = np.asarray(PIL.Image.open(drawn)).astype(int)
    split = min(stem.split("/")[-1] for stem in read_receipts(out) if "/Free/" in stem).split("-")[0]
    records = [json.loads(data) for name, data in members(out) if name.endswith(".json")]
    records = [record for record in records if (record["source"], record["split"]) == ("Free", split)]
    classes = [len({mask["label"] for mask in record["masks"]}) for record in records]
    covered = [
        sum(mask["area"] for mask in record["masks"]) / record["height"] / record["width"]
        for record, count in zip(records, classes, strict=True)
        if count == max(classes)
    ]
    best = min(covered, key=lambda part: abs(part - 0.5))
    assert (np.ptp(picture, axis=2) > 20).mean() == pytest.approx(best, abs=0.05)
    before = drawn.stat().st_mtime_ns
    assert sa_med2d("build", *recipes, "--raw", raw, "--out", out, "--workers", 1).code == 0
    assert sa_med2d("index", out).code == 0
    assert (pictures(out), drawn.stat().st_mtime_ns) == ([path], before)
    assert sa_med2d("remove", "Free", out).code == 0
    (path,) = pictures(out)
    assert [one.name for one in (out / path).parent.iterdir()] == [Path(path).name]
    assert Path(path).name.startswith("Other.")


def pictures(out: Path) -> list[str]:
    return re.findall(r"!\[[^]]+\]\((\S+)\)", (out / "README.md").read_text())
