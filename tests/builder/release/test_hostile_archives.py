"""Archives that are made to harm, damaged or incomplete: a sentence each, and the rest is imported."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Command, Ran
from tests.support.release import (
    TOP,
    ZIP,
    Member,
    box,
    decoded,
    differing,
    given_back,
    members_of,
    png,
    texture,
    with_json,
    write_tree,
    write_zip,
    zip_bytes,
)

SamplesOf = Callable[[Path], dict[str, dict[str, bytes]]]

MAPPING = {"MSD_Liver": {"liver": "0001"}}


def name(case: int) -> str:
    return f"ct_00--MSD_Liver--liver_{case}--x_0001"


def small(cases: int = 4) -> dict[str, bytes]:
    """Cases of one image and one mask each."""
    files: dict[str, bytes] = {}
    for case in range(cases):
        files[f"images/{name(case)}.png"] = png(texture(case), rgb=True)
        files[f"masks/{name(case)}--0001_000.png"] = png(box(case, case, 9, 9))
    return with_json(files, MAPPING)


def run(sa_med2d: Command, release: Path, out: Path, *options: Any) -> Ran:
    return sa_med2d("import", release, "--out", out, "--workers", 1, *options)


def import_members(sa_med2d: Command, tmp_path: Path, members: list[Member], *options: Any) -> Ran:
    return run(sa_med2d, write_zip(tmp_path / "raw", zip_bytes(members)), tmp_path / "out", *options)


def changed(members: list[Member], path: str, **changes: Any) -> list[Member]:
    """Members, of which one is other."""
    found = [replace(one, **changes) if one.name == f"{TOP}/{path}" else one for one in members]
    assert found != members
    return found


MASK, IMAGE = f"masks/{name(1)}--0001_000.png", f"images/{name(1)}.png"
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "check sum": ({"crc32": 7}, "its check sum (CRC-32) is not what the archive says"),
    "larger than said": ({"size": 5, "stored": False}, "it inflates to more than the 5 bytes that the archive says"),
    "smaller than said": ({"size": 5000, "stored": False}, "the archive says 5,000"),
    "stored in another size": ({"size": 5, "stored": True}, "the archive says that it has 5"),
    "no picture": ({"data": b"none"}, "it is no PNG"),
    "empty": ({"data": b""}, "it is empty, 0 bytes"),
    "half a picture": ({"data": png(texture(1))[:200]}, "damaged PNG"),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("path", [MASK, IMAGE], ids=["mask", "image"])
def test_member_that_cannot_be_used_is_named_and_costs_itself(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, fault: str, path: str
) -> None:
    changes, reason = BAD[fault]
    ran = import_members(sa_med2d, tmp_path, changed(members_of(small()), path, **changes), "--json")
    assert ran.code == 3
    [source] = json.loads(ran.out)["sources"]
    [told] = source["bad_masks"] or source["quarantined"]
    assert path == IMAGE or not source["quarantined"]
    assert told["file"] == path
    assert reason in told["reason"]
    lost = {path} if path == MASK else {IMAGE, MASK}
    expected = {one: pixels for one, pixels in decoded(small()).items() if one not in lost}
    assert differing(given_back(samples_of(tmp_path / "out").values()), expected) == []


MISPLACED: dict[str, tuple[int, bytes, str]] = {
    "no header": (0, b"PK\x03\x05", "damaged: it does not lie where the archive says; fetch the part again"),
    "another name": (30, b"X", "the archive has 'XAMed2Dv1/"),
    "encrypted": (6, b"\x01", "it is encrypted"),
}


@pytest.mark.parametrize("fault", MISPLACED)
def test_header_in_front_of_a_member_is_compared(sa_med2d: Command, tmp_path: Path, fault: str) -> None:
    at, put, reason = MISPLACED[fault]
    data = zip_bytes(members_of(small()))[0]
    at += data.find(f"{TOP}/{MASK}".encode()) - 30
    packed = write_zip(tmp_path / "raw", [data[:at] + put + data[at + len(put) :]])
    ran = run(sa_med2d, packed, tmp_path / "out", "--json")
    [told] = json.loads(ran.out)["sources"][0]["bad_masks"]
    assert (ran.code, told["file"], reason in told["reason"]) == (3, MASK, True), told


def test_member_that_cannot_be_used_stops_a_strict_import(sa_med2d: Command, tmp_path: Path) -> None:
    members = changed(members_of(small()), MASK, crc32=7)
    ran = import_members(sa_med2d, tmp_path, members, "--strict")
    assert ran.code == 1
    assert f"{MASK}: labels: damaged: its check sum" in ran.err


def test_member_that_was_damaged_is_read_again_when_it_is_whole(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf
) -> None:
    """The directory of both archives is the same: only the bytes of the member differ."""
    good = zip_bytes(members_of(small()))[0]
    [image] = [one for one in members_of(small()) if one.name.endswith(IMAGE)]
    at = good.find(image.name.encode()) + 60
    broken = good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :]
    assert run(sa_med2d, write_zip(tmp_path / "raw", [broken]), tmp_path / "out").code == 3
    assert run(sa_med2d, write_zip(tmp_path / "raw", [good]), tmp_path / "out").code == 0
    assert differing(given_back(samples_of(tmp_path / "out").values()), decoded(small())) == []


@pytest.mark.parametrize("path", ["../../etc/images/x.png", "/abs/images/x.png", "a\\images\\x.png", "C:/images/x.png"])
def test_name_that_leads_out_is_named(sa_med2d: Command, tmp_path: Path, path: str) -> None:
    ran = import_members(sa_med2d, tmp_path, [*members_of(small()), Member(path, b"x")])
    assert ran.code == 3
    assert "1 file whose names lead out of the folder, left out" in ran.err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "raw"]


def test_two_members_of_one_name(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    members = members_of(small())
    [mask] = [one for one in members if one.name.endswith(MASK)]
    ran = import_members(sa_med2d, tmp_path, [*members, replace(mask, data=png(box(9, 9, 3, 3)))])
    assert ran.code == 3
    assert f"{MASK}: labels: the archive has several members of this name with other contents" in ran.err
    assert MASK not in given_back(samples_of(tmp_path / "out").values())
    same = import_members(sa_med2d, tmp_path / "same", [*members, mask])
    assert same.code == 0, same.err


def test_members_that_lie_in_one_another(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    """The bomb of Fifield: many members that share one body."""
    members = members_of(small())
    [at] = [number for number, one in enumerate(members) if one.name.endswith(f"images/{name(2)}.png")]
    start = sum(len(part) for part in zip_bytes(members[:at]))
    start -= len(zip_bytes(members[:at])[0]) - zip_bytes(members[:at])[0].find(b"PK\x01\x02")
    ran = import_members(sa_med2d, tmp_path, changed(members, f"images/{name(3)}.png", address=start))
    assert ran.code == 3
    assert f"images/{name(2)}.png: read: it shares bytes of the archive with another member, as in a bomb" in ran.err
    kept = {json.loads(sample["json"])["case"] for sample in samples_of(tmp_path / "out").values()}
    assert kept == {"liver_0", "liver_1"}


def test_many_members_in_one_another_take_no_time(sa_med2d: Command, tmp_path: Path) -> None:
    members = members_of(small())
    slices = (f"{TOP}/images/{name(5).removesuffix('0001')}{number:04d}.png" for number in range(5, 8_000))
    started = time.monotonic()
    ran = import_members(sa_med2d, tmp_path, [*members, *(replace(members[0], name=one, address=0) for one in slices)])
    assert ran.code == 3
    assert ran.err.count("as in a bomb") == 2  # once for each case: liver_0, and liver_5 with all its slices
    assert time.monotonic() - started < 60  # each beside each other would be minutes


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"packed": 2**64 - 1}, None),
        ({"packed": 2**64 - 1}, 900),
        ({"packed": 10**6}, None),
        ({"address": 2**40}, None),
    ],
)
def test_member_that_ends_behind_all_members_costs_itself(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, wrong: dict[str, int], part: int | None
) -> None:
    members = changed(members_of(small()), MASK, **wrong)
    packed = write_zip(tmp_path / "raw", zip_bytes(members, zip64=True, part=part))
    ran = run(sa_med2d, packed, tmp_path / "out")
    assert ran.code == 3, ran.err
    assert f"{MASK}: labels: it would end behind all members, so its offset or size in the archive is wrong" in ran.err
    expected = {path: pixels for path, pixels in decoded(small()).items() if path != MASK}
    assert differing(given_back(samples_of(tmp_path / "out").values()), expected) == []


def test_source_of_which_nothing_is_left_is_named(sa_med2d: Command, tmp_path: Path) -> None:
    lone = Member(f"{TOP}/images/mr_00--ACDC--patient001_frame01--z_0001.png", png(texture(1), rgb=True))
    twice = [lone, replace(lone, data=png(texture(2), rgb=True))]
    said = f"{lone.name.removeprefix(TOP)[1:]}: read: the archive has several members of this name with other contents"
    ran = import_members(sa_med2d, tmp_path / "one", [*members_of(small()), *twice])
    assert (ran.code, said in ran.err) == (3, True), ran.err
    ran = import_members(sa_med2d, tmp_path / "alone", twice)
    assert (ran.code, said in ran.err) == (1, True), ran.err


NOT_READ: dict[str, Callable[[list[Member], Member], list[Member]]] = {
    "encrypted": lambda members, _: changed(members, MASK, flags=1),
    "beyond": lambda members, _: changed(members, MASK, address=2**31),
    "repeated": lambda members, mask: [*members, replace(mask, data=png(box(9, 9, 3, 3)))],
    "shared": lambda members, mask: [*members, replace(mask, name=f"{TOP}/masks/other.png", address=9)],
}


@pytest.mark.parametrize("why", NOT_READ)
def test_class_of_a_mask_that_is_not_read_is_not_known_to_be_absent(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, why: str
) -> None:
    members = members_of(small())
    [mask] = [one for one in members if one.name.endswith(MASK)]
    if why == "shared":  # the first member of all, in which another begins
        members.insert(0, members.pop(members.index(mask)))
    import_members(sa_med2d, tmp_path, NOT_READ[why](members, mask))
    records = [json.loads(sample["json"]) for sample in samples_of(tmp_path / "out").values()]
    assert {one["case"]: one["not_annotated"] for one in records if one["image_file"] == IMAGE} == {
        "liver_1": ["liver"]
    }


def test_list_that_breaks_off_is_named(sa_med2d: Command, tmp_path: Path) -> None:
    data = bytearray(zip_bytes(members_of(small()))[0])
    data[-14:-10] = b"\x40\x1f\x40\x1f"
    ran = run(sa_med2d, write_zip(tmp_path / "raw", [bytes(data)]), tmp_path / "out")
    assert (ran.code, "the list of its members is damaged: it breaks off in entry 11 of 8,000" in ran.err) == (1, True)


def test_only_the_last_part_is_there(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    """Of the others the size is not known: their members have addresses of their own all the same."""
    files = {path: data for path, data in small(8).items() if path.endswith(".png")}
    whole = zip_bytes(members_of(files))[0]
    packed = split(tmp_path, files, whole.find(f"images/{name(7)}".encode()) // 2 - 40)
    for path in (packed.with_suffix(".z01"), packed.with_suffix(".z02")):
        path.unlink()
    ran = run(sa_med2d, packed, tmp_path / "out")
    assert (ran.code, "bomb" in ran.err, "behind all members" in ran.err) == (3, False, False), ran.err
    assert len(list((tmp_path / "raw").iterdir())) == 1
    assert "2 parts of the archive missing: SA-Med2D-16M.z01, SA-Med2D-16M.z02" in ran.err
    back = given_back(samples_of(tmp_path / "out").values())
    assert {path for path in back if path.startswith("images/")} == {f"images/{name(7)}.png"}


def test_number_of_parts_that_cannot_be(sa_med2d: Command, tmp_path: Path) -> None:
    data = bytearray(zip_bytes(members_of(small()), zip64=True)[0])
    data[-26:-22] = b"\xff\xff\xff\xff"
    ran = run(sa_med2d, write_zip(tmp_path / "raw", [bytes(data)]), tmp_path / "out")
    assert (ran.code, "it says that it has 4,294,967,295 parts" in ran.err) == (1, True), ran.err


def test_bomb_is_not_inflated(sa_med2d: Command, tmp_path: Path) -> None:
    bomb = b"\x89PNG\r\n\x1a\n" + bytes(300 << 20)
    ran = import_members(sa_med2d, tmp_path, changed(members_of(small()), MASK, data=bomb, stored=False), "--json")
    assert ran.code == 3
    assert "expected at most 268,435,456" in ran.out


def test_encrypted_member(sa_med2d: Command, tmp_path: Path) -> None:
    ran = import_members(sa_med2d, tmp_path, changed(members_of(small()), MASK, flags=1))
    assert (ran.code, f"{MASK}: labels: it is encrypted" in ran.err) == (3, True)


def split(tmp_path: Path, files: Mapping[str, bytes], part: int = 900) -> Path:
    return write_zip(tmp_path / "raw", zip_bytes(members_of(files), part=part))


def test_missing_part_is_named_and_the_rest_is_imported(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf
) -> None:
    files = small(8)
    packed = split(tmp_path, files)
    packed.with_suffix(".z02").rename(tmp_path / "kept")
    ran = run(sa_med2d, packed, tmp_path / "out")
    assert ran.code == 3
    assert "1 part of the archive missing: SA-Med2D-16M.z02; what lies in them is too" in ran.err
    assert "the part SA-Med2D-16M.z02 is missing; fetch it, and run the same command again" in ran.err
    some = given_back(samples_of(tmp_path / "out").values())
    assert 0 < len(some) < 16
    (tmp_path / "kept").rename(packed.with_suffix(".z02"))
    ran = run(sa_med2d, packed, tmp_path / "out")
    assert ran.code == 0, ran.err
    assert differing(given_back(samples_of(tmp_path / "out").values()), decoded(files)) == []


def test_part_of_the_wrong_size_is_named(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    packed = split(tmp_path, small(8))
    part = packed.with_suffix(".z02")
    part.write_bytes(part.read_bytes()[:-100])
    ran = run(sa_med2d, packed, tmp_path / "out")
    assert ran.code == 3
    assert "SA-Med2D-16M.z02: has 800 bytes and is 100 bytes shorter than the archive says; fetch it again" in ran.err
    assert len(given_back(samples_of(tmp_path / "out").values())) > 8


@pytest.mark.parametrize("part", [900, 3000], ids=["small parts", "large parts"])
@pytest.mark.parametrize("left", [0, 100, 500, 890], ids="{} bytes left".format)
def test_end_of_a_part_that_is_missing_costs_what_lies_there(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, left: int, part: int
) -> None:
    """And not what lies in the next part, whose bytes would have the same addresses."""
    files = small(8)
    members = members_of(files)
    stream = b"".join(zip_bytes(members, part=part))
    places = [stream.index(b"/".join((TOP.encode(), one.encode()))) - 30 for one in files]
    cut = 1 if part == 900 else 0
    there = {
        path
        for path, start, end in zip(files, places, [*places[1:], len(stream)], strict=True)
        if end <= cut * part + left or start >= (cut + 1) * part
    }
    packed = split(tmp_path, files, part)
    short = packed.with_suffix(f".z{cut + 1:02d}")
    short.write_bytes(short.read_bytes()[:left])
    ran = run(sa_med2d, packed, tmp_path / "out")
    assert ran.code == 3, ran.err
    assert f"{short.name}: has {left} bytes and is " in ran.err
    assert f"the part {short.name} ends before it, at {left} bytes; fetch the part again" in ran.err
    assert "bomb" not in ran.err
    whole = {
        path
        for path in there
        if path.endswith(".png") and path.replace("masks", "images").replace("--0001_000", "") in there
    }
    assert given_back(samples_of(tmp_path / "out").values()).keys() == whole
    assert whole


def test_parts_in_the_wrong_order_are_named(sa_med2d: Command, tmp_path: Path) -> None:
    packed = split(tmp_path, small(8))
    one, two, aside = packed.with_suffix(".z02"), packed.with_suffix(".z03"), tmp_path / "aside"
    one.rename(aside)
    two.rename(one)
    aside.rename(two)
    ran = run(sa_med2d, packed, tmp_path / "out")
    assert ran.code == 3
    assert "SA-Med2D-16M.z02: no member begins at its byte" in ran.err
    assert "SA-Med2D-16M.z03 does, as if parts stood under each other's names" in ran.err


ENDS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "it is missing or empty; fetch it again"),
    "cut off": (lambda data: data[:-30], "it has no end record, so it is no zip, or not all of one"),
    "cut off in front": (lambda data: data[100:], "expected"),
    "no zip": (lambda _: b"hello" * 100, "it has no end record"),
    "damaged directory": (lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x03"), "entry 1 of 10 is none"),
}


@pytest.mark.parametrize("kind", ENDS)
def test_archive_whose_list_cannot_be_read(sa_med2d: Command, tmp_path: Path, kind: str) -> None:
    harm, reason = ENDS[kind]
    packed = write_zip(tmp_path / "raw", [harm(zip_bytes(members_of(small()))[0])])
    ran = run(sa_med2d, packed, tmp_path / "out")
    assert ran.code == 1
    assert reason in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "out").exists()


def test_part_that_is_named_in_place_of_the_last(sa_med2d: Command, tmp_path: Path) -> None:
    packed = split(tmp_path, small())
    ran = run(sa_med2d, packed.with_suffix(".z01"), tmp_path / "out")
    assert (ran.code, "name the part that ends in .zip" in ran.err) == (1, True)
    packed.unlink()
    ran = run(sa_med2d, packed.parent, tmp_path / "out")
    assert (ran.code, "holds SA-Med2D-16M.z01 but no .zip, which is the last part" in ran.err) == (1, True)


def test_directory_in_a_missing_part(sa_med2d: Command, tmp_path: Path) -> None:
    parts = zip_bytes(members_of(small()), part=500)
    packed = write_zip(tmp_path / "raw", parts)
    packed.with_suffix(f".z{len(parts) - 1:02d}").unlink()
    ran = run(sa_med2d, packed, tmp_path / "out")
    assert ran.code == 1
    assert f"the part {ZIP.removesuffix('.zip')}.z{len(parts) - 1:02d} is missing" in ran.err


def test_folder_with_files_that_cannot_be_used(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    release = write_tree(tmp_path, {**small(), "images/notes.txt": b"hello", "images/ct_00--x.png": b"1"})
    (release / MASK).write_bytes(b"")
    (release / f"images/{name(2)}.png").unlink()
    ran = run(sa_med2d, release, tmp_path / "out")
    assert ran.code == 3
    assert f"{MASK}: labels: it is empty, 0 bytes" in ran.err
    assert f"1 mask without an image, left out: masks/{name(2)}--0001_000.png" in ran.err
    assert "2 files whose names are none of the release, left out: images/" in ran.err
    assert f"1 file that SAMed2D_v1.json lists and that are not there: images/{name(2)}.png" in ran.err
    kept = {json.loads(sample["json"])["case"] for sample in samples_of(tmp_path / "out").values()}
    assert kept == {"liver_0", "liver_1", "liver_3"}


def test_list_of_the_release_is_read_in_pieces(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that lies on the border of two pieces is one name, and one in another spelling is the same."""
    monkeypatch.setattr("builder.release.place._PIECE", 7)
    release = write_tree(tmp_path, small())
    listed = release / "SAMed2D_v1.json"
    listed.write_text(listed.read_text().replace("images/", "images\\/"))
    assert run(sa_med2d, release, tmp_path / "whole").code == 0
    (release / MASK).unlink()
    ran = run(sa_med2d, release, tmp_path / "out", "--modality", "ct")
    records = [json.loads(sample["json"]) for sample in samples_of(tmp_path / "out").values()]
    assert [one["case"] for one in records if one["not_annotated"] == ["liver"]] == ["liver_1"]
    assert (ran.code, f"1 file that SAMed2D_v1.json lists and that are not there: {MASK}" in ran.err) == (3, True), (
        ran.err
    )


@pytest.mark.parametrize("stored", [False, True], ids=["deflated", "stored"])
def test_list_in_an_archive_names_what_is_missing_there(
    sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    monkeypatch.setattr("builder.release.place._PIECE", 7)
    gone = f"images/{name(2)}.png"
    members = [
        replace(one, stored=stored) if one.name.endswith("v1.json") else one
        for one in members_of(small())
        if not one.name.endswith((MASK, gone))
    ]
    ran = import_members(sa_med2d, tmp_path, members, "--modality", "ct")
    assert ran.code == 3
    assert f"the release: 2 files that SAMed2D_v1.json lists and that are not there: {MASK}, {gone}\n" in ran.err
    assert f"{MASK}: labels: it is not there, though the release lists it" in ran.err
    records = [json.loads(sample["json"]) for sample in samples_of(tmp_path / "out").values()]
    assert {one["case"]: one["not_annotated"] for one in records} == {
        "liver_0": [],
        "liver_1": ["liver"],
        "liver_3": [],
    }


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"crc32": 7}, "its check sum (CRC-32) is not what the archive says"),
        ({"size": 5}, "it inflates to more than the 5 bytes that the archive says"),
        ({"packed": 9}, "its check sum (CRC-32) is not what the archive says"),
        ({"local_name": "x"}, "the archive has 'x' in its place"),
    ],
    ids=str,
)
def test_list_in_an_archive_that_is_damaged_is_named(
    sa_med2d: Command, tmp_path: Path, wrong: dict[str, Any], reason: str
) -> None:
    ran = import_members(sa_med2d, tmp_path, changed(members_of(small()), "SAMed2D_v1.json", stored=False, **wrong))
    assert ran.code == 3
    said = "SAMed2Dv1/SAMed2D_v1.json: cannot be read to its end, so files that it lists may be missing unseen: "
    assert f"{said}{'damaged: ' if 'not what' in reason or 'inflates' in reason else ''}{reason}" in ran.err


def test_name_that_is_no_utf8_is_named(sa_med2d: Command, tmp_path: Path, samples_of: SamplesOf) -> None:
    """In an archive that says that its names are UTF-8, and in a folder."""
    right, wrong = name(7).encode(), name(7).encode().replace(b"liver_7", b"liver\xe9_")
    data = zip_bytes([*members_of(small()), Member(f"{TOP}/images/{name(7)}.png", png(texture(7)), flags=1 << 11)])[0]
    assert data.count(right) == 2
    packed = write_zip(tmp_path / "raw", [data.replace(right, wrong[: len(right)])])
    tree = write_tree(tmp_path, small())
    shutil.copy(tree / IMAGE, tree / "images" / os.fsdecode(wrong + b".png"))
    for number, release in enumerate((packed, tree)):
        ran = run(sa_med2d, release, tmp_path / f"out{number}")
        assert ran.code == 3
        assert "1 file whose names are no UTF-8, left out: " in ran.err
        assert "lead out" not in ran.err
        assert differing(given_back(samples_of(tmp_path / f"out{number}").values()), decoded(small())) == []


def several(root: Path) -> Path:
    for name_of in "ab":
        (root / name_of / "images").mkdir(parents=True)
    return root


NOTHING: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda root: root / "no", "no such file or folder"),
    "no release": (lambda root: root, "holds neither the folder images nor a zip of the release"),
    "no zip": (lambda _: Path(__file__), "it has no end record, so it is no zip, or not all of one; fetch it again"),
    "device": (lambda _: Path("/dev/null"), "is neither a file nor a folder"),
    "several": (several, "holds 2 folders with images (a, b); name the one that is the release"),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_what_is_no_release(sa_med2d: Command, tmp_path: Path, kind: str) -> None:
    make, reason = NOTHING[kind]
    ran = run(sa_med2d, make(tmp_path), tmp_path / "out")
    assert (ran.code, reason in ran.err) == (1, True)
