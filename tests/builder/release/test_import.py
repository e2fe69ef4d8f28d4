"""An import gives back what the release holds: every pixel, every name, whatever it is packed in."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from builder.cases.split import hashed_split
from builder.command_line import main
from tests.support.command import Command, Ran
from tests.support.output import tree
from tests.support.places import CORPUS
from tests.support.release import (
    MAPPING,
    ZIP,
    Member,
    box,
    decoded,
    differing,
    given_back,
    members_of,
    png,
    sparse_split,
    texture,
    with_json,
    write_tree,
    write_zip,
    zip_bytes,
    zip_tool,
)

if TYPE_CHECKING:
    from tests.support.object_store import Store

Samples = dict[str, dict[str, bytes]]
SamplesOf = Callable[[Path], Samples]
KINDS: dict[str, dict[str, Any]] = {
    "one zip": {},
    "zip64": {"zip64": True},
    "split zip": {"part": 3001},
    "split zip64": {"part": 2500, "zip64": True},
}
DEMO = CORPUS / "sam-med2d-demo"


def imported(sa_med2d: Command, release: Path, out: Path, *options: Any) -> Ran:
    ran = sa_med2d("import", release, "--out", out, "--workers", 1, *options)
    assert ran.code == 0, ran.err
    return ran


def records(samples: Samples) -> dict[str, Any]:
    return {key: json.loads(sample["json"]) for key, sample in samples.items()}


@pytest.fixture(scope="module")
def plain(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release, imported from its folder with nothing repaired."""
    out = tmp_path_factory.mktemp("plain") / "out"
    assert main(["import", str(unpacked), "--out", str(out), "--workers", "1", "--no-repairs"]) == 0
    return out


def test_every_pixel_and_name_comes_back(plain: Path, files: Mapping[str, bytes], samples_of: SamplesOf) -> None:
    assert differing(given_back(samples_of(plain).values()), decoded(files)) == []


def test_what_is_imported_is_a_dataset(sa_med2d: Command, plain: Path) -> None:
    ran = sa_med2d("verify", plain, "--deep")
    assert (ran.code, ran.err) == (0, "") or "no findings" in ran.err + ran.out


@pytest.mark.parametrize("kind", KINDS)
def test_archives_give_the_same_bytes_as_the_folder(
    sa_med2d: Command, files: Mapping[str, bytes], plain: Path, tmp_path: Path, kind: str
) -> None:
    packed = write_zip(tmp_path / "raw", zip_bytes(members_of(files), **KINDS[kind]))
    imported(sa_med2d, packed, tmp_path / "out", "--no-repairs")
    # receipts too: they hold what each case was made from
    below = ("data", "index", "build/receipts", "build/sources")
    assert tree(tmp_path / "out", *below) == tree(plain, *below)


def test_the_folder_of_a_download_is_the_archive_in_it(
    sa_med2d: Command, files: Mapping[str, bytes], plain: Path, tmp_path: Path
) -> None:
    packed = write_zip(tmp_path / "raw", zip_bytes(members_of(files), part=4000))
    imported(sa_med2d, packed.parent, tmp_path / "out", "--no-repairs")
    assert tree(tmp_path / "out", "data") == tree(plain, "data")


def test_split_zip_of_the_tool_that_made_the_release(
    sa_med2d: Command, files: Mapping[str, bytes], tmp_path: Path, samples_of: SamplesOf
) -> None:
    noise = np.random.default_rng(0)
    large = {
        f"images/pet_00--Large--case{number}--2d_none.png": png(noise.integers(0, 255, (200, 200), np.uint8), rgb=True)
        for number in range(6)
    }
    every = with_json({**{name: data for name, data in files.items() if name.endswith(".png")}, **large})
    (tmp_path / "raw").mkdir()
    packed = zip_tool(write_tree(tmp_path, every), tmp_path / "raw" / ZIP, split="64k")
    if packed is None:
        pytest.skip("zip is not installed")
    assert len(list((tmp_path / "raw").iterdir())) > 5
    imported(sa_med2d, packed, tmp_path / "out", "--no-repairs")
    assert differing(given_back(samples_of(tmp_path / "out").values()), decoded(every)) == []


def test_output_in_an_object_store(store: Store, sa_med2d: Command, unpacked: Path, plain: Path) -> None:
    ran = sa_med2d("import", unpacked, "--out", store.url, "--workers", 2, "--no-repairs")
    assert ran.code == 0, ran.err
    assert store.tree("data", "index", "build/receipts") == tree(plain, "data", "index", "build/receipts")
    again = sa_med2d("import", unpacked, "--out", store.url, "--workers", 1, "--no-repairs")
    assert (again.code, "are finished already and kept" in again.err) == (0, True), again.err


def test_parts_of_the_size_of_the_releases(
    sa_med2d: Command, files: Mapping[str, bytes], plain: Path, tmp_path: Path
) -> None:
    """30 GiB, nearly all of it a hole: addresses have more than 32 bit, and a member crosses the border."""
    packed = sparse_split(tmp_path / "raw", files, 30 << 30)
    assert packed.with_suffix(".z01").stat().st_size == 32_212_254_720
    imported(sa_med2d, packed, tmp_path / "out", "--no-repairs")
    assert tree(tmp_path / "out", "data") == tree(plain, "data")


def test_metadata_says_what_names_say(plain: Path, samples_of: SamplesOf) -> None:
    found = records(samples_of(plain))
    slice_ = found["mr_00--ACDC--patient001_frame12--x_0007"]
    assert (slice_["patient"], slice_["case"], slice_["axis"], slice_["index"]) == (
        "patient001",
        "patient001_frame12",
        "x",
        7,
    )
    assert slice_["image_file"] == "images/mr_00--ACDC--patient001_frame12--x_0007.png"
    assert (slice_["spacing"], slice_["slice_spacing"], slice_["origin"], slice_["slices"]) == (None,) * 4
    assert [(mask["class_id"], mask["instance"]) for mask in slice_["masks"]] == [
        ("0000", 0),
        ("0002", 0),
        ("0002", 2),
    ]
    assert slice_["masks"][0]["label"] == "heart_ventricle_right"
    picture = found["x_ray_00--covid_19_ct_cxr--16660_5_1--2d_none"]
    assert (picture["plane"], picture["index"], picture["intensity"]["scaling"]) == ("2d", None, "none")
    assert "ct_00--MSD_Liver--1%2E3%2E6%2E1-a%2Eb--z_10281" in found


def test_volume_has_its_planes_and_slices_back(plain: Path, samples_of: SamplesOf) -> None:
    """Slices of 30 x 40, 24 x 40 and 24 x 30 are those of a volume of 24 x 30 x 40."""
    found = records(samples_of(plain))
    told = {
        axis: {
            (about["plane"], about["slices"])
            for about in found.values()
            if about["case"] == "liver_0" and about["axis"] == axis
        }
        for axis in "xyz"
    }
    assert told == {"x": {("axial", 24)}, "y": {("coronal", 30)}, "z": {("sagittal", 40)}}


def test_slices_of_a_volume_stand_in_order(plain: Path, samples_of: SamplesOf) -> None:
    keys = [key for key in samples_of(plain) if "--liver_0--" in key]
    assert [key.rpartition("--")[2] for key in keys] == ["x_0003", "x_0011", "y_0003", "y_0011", "z_0003", "z_0011"]


def test_patient_has_one_split_and_the_catalogues(plain: Path, samples_of: SamplesOf) -> None:
    for about in records(samples_of(plain)).values():
        assert about["split"] == hashed_split(about["source"], about["patient"])
        assert about["official_split"] is False


def test_licences_are_the_catalogues_and_never_the_blanket_one(plain: Path, samples_of: SamplesOf) -> None:
    licences = {about["source"]: about["license"] for about in records(samples_of(plain)).values()}
    assert licences == {
        "ACDC": "unknown",
        "MSD_Liver": "CC-BY-SA-4.0",
        "covid_19_ct_cxr": "LicenseRef-COVID-ChestXray",
        "Nowhere": "unknown",
    }
    card = (plain / "README.md").read_text()
    assert "Not for publication: ACDC, Nowhere, covid_19_ct_cxr" in card
    assert "SA-Med2D-20M, version SAMed2Dv1, as it was released, re-packed" in card
    assert "arXiv:2311.11969" in card
    assert "Nothing was repaired" in (plain / "SOURCES.md").read_text()


def test_description_of_a_source_has_the_names_of_the_release(plain: Path) -> None:
    for source, mapping in MAPPING.items():
        about = json.loads((plain / f"build/sources/{source}.json").read_text())
        assert {known["original"]: known["class_id"] for known in about["classes"]} == mapping


def test_classes_that_the_vocabulary_does_not_know_are_named(sa_med2d: Command, unpacked: Path, tmp_path: Path) -> None:
    ran = imported(sa_med2d, unpacked, tmp_path / "out")
    assert "MSD_Liver: class 'my_odd_thing' is not in the vocabulary" in ran.err
    assert "Nowhere: the catalogue does not have it, so its licence is unknown" in ran.err


def test_class_that_the_vocabulary_does_not_know_stops_a_strict_import(
    sa_med2d: Command, unpacked: Path, tmp_path: Path
) -> None:
    ran = sa_med2d("import", unpacked, "--out", tmp_path / "out", "--strict")
    assert (ran.code, "MSD_Liver: class 'my_odd_thing' is not in the vocabulary" in ran.err) == (1, True)
    assert not (tmp_path / "out").exists()


def test_class_without_a_name_keeps_its_id(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    name = "ct_00--MSD_Spleen--spleen_2--x_0001"
    files = {f"images/{name}.png": png(texture(1)), f"masks/{name}--0007_000.png": png(box(1, 1, 9, 9))}
    ran = imported(sa_med2d, write_tree(tmp_path, with_json(files, {})), tmp_path / "out")
    assert "the class mapping has no name for 0007" in ran.err
    [mask] = records(samples_of(tmp_path / "out"))[name]["masks"]
    assert (mask["label"], mask["class_id"], mask["group"]) == ("class_0007", "0007", "other")


PARTS: dict[str, tuple[list[str], Callable[[str], bool]]] = {
    "modality": (["--modality", "mr"], lambda name: "/mr_" in name),
    "sources": (["--source", "MSD_Liver", "--source", "Nowhere"], lambda name: "Liver" in name or "Nowhere" in name),
    "label": (
        ["--label", "Liver"],
        lambda name: "--liver_0--" in name and ("images/" in name or "--0001_" in name),
    ),
}


@pytest.mark.parametrize("part", PARTS)
def test_part_of_a_release_reads_these_members_only(
    sa_med2d: Command, files: Mapping[str, bytes], tmp_path: Path, samples_of: SamplesOf, part: str
) -> None:
    options, wanted = PARTS[part]
    # what is not wanted cannot be read: it would be reported if it were
    broken = [
        Member(member.name, member.data, crc32=None if wanted(member.name) or member.name.endswith("json") else 1)
        for member in members_of(files)
    ]
    packed = write_zip(tmp_path / "raw", zip_bytes(broken, part=5000))
    imported(sa_med2d, packed, tmp_path / "out", *options)
    expected = {name: pixels for name, pixels in decoded(files).items() if wanted(name)}
    assert differing(given_back(samples_of(tmp_path / "out").values()), expected) == []


def test_labels_that_were_not_imported_are_no_examples_of_absence(
    sa_med2d: Command, unpacked: Path, tmp_path: Path, samples_of: SamplesOf
) -> None:
    imported(sa_med2d, unpacked, tmp_path / "out", "--label", "liver")
    about = records(samples_of(tmp_path / "out"))["ct_00--MSD_Liver--liver_0--x_0003"]
    assert about["not_annotated"] == ["liver_tumor", "union_liver_liver_tumor"]


def test_workers_and_resume_change_no_byte(sa_med2d: Command, unpacked: Path, tmp_path: Path) -> None:
    imported(sa_med2d, unpacked, tmp_path / "one", "--shard-size", "3KB")
    imported(sa_med2d, unpacked, tmp_path / "two", "--source", "ACDC")
    ran = sa_med2d("import", unpacked, "--out", tmp_path / "two", "--shard-size", "3KB", "--workers", 2)
    assert (ran.code, "converted already and kept" in ran.err) == (0, True), ran.err
    assert tree(tmp_path / "one", "data", "index") == tree(tmp_path / "two", "data", "index")
    again = imported(sa_med2d, unpacked, tmp_path / "two", "--shard-size", "3KB")
    assert "are finished already and kept" in again.err


def test_file_that_was_replaced_is_read_anew(
    sa_med2d: Command, files: Mapping[str, bytes], tmp_path: Path, samples_of: SamplesOf
) -> None:
    release = write_tree(tmp_path, files)
    imported(sa_med2d, release, tmp_path / "out")
    name = "masks/mr_00--ACDC--patient001_frame01--x_0006--0000_000.png"
    (release / name).write_bytes(png(box(0, 0, 3, 3)))
    ran = imported(sa_med2d, release, tmp_path / "out")
    assert "cases of other shards are converted already and kept" in ran.err or "finished already" in ran.err
    assert given_back(samples_of(tmp_path / "out").values())[name].sum() == 9 * 255


def test_mask_that_falls_apart_is_kept_as_it_is(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    name = "ct_00--MSD_Liver--liver_0--x_0001"
    two = box(1, 1, 9, 9) | box(20, 20, 9, 9)
    files = {f"images/{name}.png": png(texture(1), rgb=True), f"masks/{name}--0001_000.png": png(two)}
    imported(sa_med2d, write_tree(tmp_path, with_json(files)), tmp_path / "out")
    assert np.array_equal(given_back(samples_of(tmp_path / "out").values())[f"masks/{name}--0001_000.png"], two)
    assert sa_med2d("verify", tmp_path / "out", "--deep").code == 0
    described = tmp_path / "out/build/sources/MSD_Liver.json"
    described.write_text(json.dumps({**json.loads(described.read_text()), "repacked": None}))
    ran = sa_med2d("verify", tmp_path / "out", "--deep")
    assert (ran.code, "has 2 8-connected components, expected 1" in ran.err) == (1, True)


def test_many_masks_that_overlap_go_to_layers(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    """300 masks of one class, each over a part of the one before: more than a layer can number, and all overlap."""
    name = "ct_00--MSD_Liver--liver_0--x_0001"
    files = {f"images/{name}.png": png(texture(1), rgb=True)}
    files |= {f"masks/{name}--0001_{at:03d}.png": png(box(at % 35, at % 43, 5, 7)) for at in range(300)}
    imported(sa_med2d, write_tree(tmp_path, with_json(files)), tmp_path / "out")
    assert differing(given_back(samples_of(tmp_path / "out").values()), decoded(files)) == []
    assert sa_med2d("verify", tmp_path / "out", "--deep").code == 0


PICTURES: dict[str, npt.NDArray[Any]] = {
    "16 bit": np.arange(2000, dtype=np.uint16).reshape(40, 50) * 30,
    "grey": texture(3),
    "colour": np.dstack([texture(1), texture(2), texture(3)]),
    "opaque": np.dstack([texture(1), texture(2), texture(3), np.full((40, 50), 255, np.uint8)]),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_any_kind_keep_their_values(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, kind: str
) -> None:
    name, pixels = "dermoscopy_00--Nowhere--1--2d_none", PICTURES[kind]
    files = {f"images/{name}.png": png(pixels), f"masks/{name}--0000_000.png": png(box(3, 3, 9, 9))}
    imported(sa_med2d, write_tree(tmp_path, with_json(files)), tmp_path / "out")
    stored = np.asarray(Image.open(io.BytesIO(samples_of(tmp_path / "out")[name]["png"])))
    assert np.array_equal(stored, pixels[..., :3] if pixels.ndim == 3 else pixels)


@pytest.mark.parametrize("mode", ["1", "P"])
def test_masks_of_one_bit_and_with_a_palette(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, mode: str
) -> None:
    name, mask, file = "ct_00--MSD_Liver--liver_0--x_0001", box(3, 3, 9, 9), io.BytesIO()
    Image.fromarray(mask).convert(mode).save(file, "PNG")
    files = {f"images/{name}.png": png(texture(1), rgb=True), f"masks/{name}--0001_000.png": file.getvalue()}
    imported(sa_med2d, write_tree(tmp_path, with_json(files)), tmp_path / "out")
    assert np.array_equal(given_back(samples_of(tmp_path / "out").values())[f"masks/{name}--0001_000.png"], mask)


def test_images_that_would_share_a_key_are_named(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    files: dict[str, bytes] = {}
    for seed, tag in enumerate(("x_ray", "x_ray_00")):
        files[f"images/{tag}--crass--1--2d_none.png"] = png(texture(seed), rgb=True)
    ran = sa_med2d("import", write_tree(tmp_path, with_json(files)), "--out", tmp_path / "out")
    assert ran.code == 3
    assert "images/x_ray_00--crass--1--2d_none.png: match: it has the key of images/x_ray--crass--1--2d_none" in ran.err
    assert list(samples_of(tmp_path / "out")) == ["x_ray_00--crass--1--2d_none"]


def test_source_that_was_built_is_not_replaced(sa_med2d: Command, unpacked: Path, plain: Path, tmp_path: Path) -> None:
    (tmp_path / "out/build/sources").mkdir(parents=True)
    about = json.loads((plain / "build/sources/ACDC.json").read_text())
    (tmp_path / "out/build/sources/ACDC.json").write_text(json.dumps({**about, "repacked": None}))
    ran = sa_med2d("import", unpacked, "--out", tmp_path / "out")
    assert ran.code == 1
    assert "holds ACDC already, built from its own files" in ran.err


@pytest.mark.skipif(not DEMO.is_dir(), reason="the corpus is not here")
def test_older_naming_comes_back_too(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    ran = imported(sa_med2d, DEMO, tmp_path / "out", "--naming", "sam-med2d", "--older-tag", "ct", "--no-repairs")
    assert "is not in the vocabulary" not in ran.err
    about = json.loads((tmp_path / "out/build/sources/SAM-Med2D_demo.json").read_text())
    names = {known["class_id"]: known["original"] for known in about["classes"]}
    files = {
        path.relative_to(DEMO / "data_demo").as_posix(): path.read_bytes()
        for path in (DEMO / "data_demo").rglob("*.png")
    }
    assert len(files) == 35
    assert differing(given_back(samples_of(tmp_path / "out").values(), names), decoded(files)) == []
    splits: dict[str, set[str]] = {}
    for record in records(samples_of(tmp_path / "out")).values():
        splits.setdefault(record["patient"], set()).add(record["split"])
    assert sorted(splits) == ["amos_0004", "amos_0006", "amos_0507", "s0114", "s0619"]


def test_older_naming_needs_a_modality(sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("import", tmp_path, "--out", tmp_path / "out", "--naming", "sam-med2d")
    assert ran.code == 2
    assert "--older-tag: expected a modality" in ran.err
