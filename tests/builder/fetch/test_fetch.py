"""From the name of a source to its files and its shards, whoever has them."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.server import HubServer
from tests.support.command import Command
from tests.support.file_host import FileHost
from tests.support.output import tree
from tests.support.sources import write_source

Recipe = Callable[..., Path]
TOKEN = "hf_ann_secret"  # noqa: S105 - of the tests' own Hub


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def volumes(tmp_path: Path) -> dict[str, bytes]:
    """The files of a source that can be built."""
    return tree(write_source(tmp_path / "made").parent / "Small")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_one_command_leads_from_a_name_to_shards(
    host: FileHost, recipe: Recipe, sa_med2d: Command, volumes: dict[str, bytes], tmp_path: Path
) -> None:
    packed = zipped({f"Small v1/{path}": content for path, content in volumes.items()})
    url = host.add("/small.zip", packed)
    checksum = hashlib.sha256(packed).hexdigest()
    file = recipe({"url": url, "sha256": checksum, "archive": "zip", "inside": "Small v1"})
    out = tmp_path / "out"
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw", "--build", "--out", out, "--workers", 1)
    assert ran.code == 0, ran.err
    by_hand = tmp_path / "by hand"
    assert sa_med2d("build", file, "--raw", tmp_path / "made", "--out", by_hand, "--workers", 1).code == 0
    assert tree(out, "data") == tree(by_hand, "data") != {}


def test_build_and_out_go_together(recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    file = recipe({"url": "http://127.0.0.1:9/x"})
    assert sa_med2d("fetch", file, "--raw", tmp_path, "--build").code == 2
    assert sa_med2d("fetch", file, "--raw", tmp_path, "--out", tmp_path / "out").code == 2


def test_nothing_is_built_of_what_is_not_fetched(
    host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    file = recipe({"url": f"{host.url}/nowhere.zip"})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw", "--build", "--out", tmp_path / "out")
    assert ran.code == 1
    assert not (tmp_path / "out").exists()


def test_a_dry_run_lists_files_and_fetches_none(
    host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    file = recipe({"url": host.add("/a.zip", b"x"), "size": 1500}, {"url": host.add("/b.zip", b"x"), "folder": "b"})
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw", "--dry-run")
    assert ran.code == 0
    assert "a.zip: 1.5 kB" in ran.out
    assert "b/b.zip: size not known" in ran.out
    assert host.asked == {}
    document = json.loads(sa_med2d("fetch", file, "--raw", tmp_path / "raw", "--dry-run", "--json").out)
    [source] = document["sources"]
    assert source["files"] == {"a.zip": 1500, "b/b.zip": None}
    assert source["state"] == "listed"


def test_one_source_that_fails_does_not_stop_the_next(
    host: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    first = recipe({"url": f"{host.url}/nowhere"})
    second = recipe({"url": host.add("/here", b"here")}, name="Other")
    ran = sa_med2d("fetch", first, second, "--raw", tmp_path / "raw", "--json")
    assert ran.code == 1
    states = {source["name"]: source["state"] for source in json.loads(ran.out)["sources"]}
    assert states == {"Small": "failed", "Other": "fetched"}
    assert (tmp_path / "raw/Other/here").read_bytes() == b"here"


def test_what_a_person_must_do_is_printed(recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    file = recipe(steps=["Register at https://example.org.", "Unpack small.zip."])
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert lines[0] == "Small: A source that a test wrote"
    assert "CC-BY-4.0" in lines[1]
    assert lines[2:4] == ["1. Register at https://example.org.", "2. Unpack small.zip."]
    assert str(tmp_path / "raw" / "Small") in lines[4]
    assert "images/{case}.nii.gz" in ran.out
    assert "labels/{case}.nii.gz" in ran.out
    assert f"sa-med2d sources check {file} --raw {tmp_path / 'raw'}" in ran.out
    assert not (tmp_path / "raw").exists()


def test_a_source_of_metadata_only_can_be_asked_for(sa_med2d: Command, tmp_path: Path) -> None:
    file = tmp_path / "Small.toml"
    file.write_text(
        'name = "Small"\ntitle = "S"\nlicense = "unknown"\nmodality = "ct"\nhomepage = "https://example.org"\n'
    )
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "Get the files from https://example.org" in ran.out
    assert "cannot be built yet" in ran.out


def zenodo_record(host: FileHost, files: dict[str, bytes]) -> None:
    """A record as Zenodo's REST API gives it (developers.zenodo.org, files of a record)."""
    entries = [
        {
            "key": name,
            "size": len(content),
            "checksum": f"md5:{md5(content)}",
            "links": {"self": host.add(f"/api/records/1234/files/{name}/content", content)},
        }
        for name, content in files.items()
    ]
    host.add("/api/records/1234", json.dumps({"id": 1234, "files": entries}).encode(), ranges=False)


@pytest.fixture
def zenodo(host: FileHost, monkeypatch: pytest.MonkeyPatch) -> FileHost:
    monkeypatch.setenv("SA_MED2D_ZENODO_URL", host.url)
    return host


def test_a_record_of_zenodo_comes(zenodo: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    zenodo_record(zenodo, {"scans.zip": zipped({"images/a.txt": b"image"}), "readme.md": b"read me"})
    ran = sa_med2d("fetch", recipe(zenodo="1234"), "--raw", tmp_path / "raw")
    assert ran.code == 0, ran.err
    assert tree(tmp_path / "raw/Small", "images") == {"images/a.txt": b"image"}
    assert (tmp_path / "raw/Small/readme.md").read_bytes() == b"read me"


def test_of_a_record_only_what_the_recipe_names_comes(
    zenodo: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    zenodo_record(zenodo, {"scans.zip": zipped({"v1/a.txt": b"image"}), "other.zip": b"not asked for"})
    named = {"url": "https://zenodo.org/records/1234/files/scans.zip?download=1", "archive": "zip", "inside": "v1"}
    ran = sa_med2d("fetch", recipe({**named, "folder": "images"}, zenodo="1234"), "--raw", tmp_path / "raw")
    assert ran.code == 0, ran.err
    assert tree(tmp_path / "raw/Small", "images") == {"images/a.txt": b"image"}
    assert not any("other" in path for path in zenodo.asked)
    absent = recipe({"url": "https://zenodo.org/records/1234/files/moved.zip"}, zenodo="1234")
    ran = sa_med2d("fetch", absent, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "expected moved.zip among its files, it has other.zip, scans.zip" in ran.err


def test_the_checksum_of_zenodo_is_held(zenodo: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    zenodo_record(zenodo, {"a.bin": b"right"})
    zenodo.files["/api/records/1234/files/a.bin/content"].content = b"wrong"
    ran = sa_med2d("fetch", recipe(zenodo="1234"), "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert f"expected md5 {md5(b'right')}, got {md5(b'wrong')}" in ran.err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>busy</html>", "expected a JSON document"),
        (b'{"id": 1234}', "it may be closed to the public"),
        (b'{"files": [{"key": "../x", "size": 1, "links": {"self": "http://x"}}]}', "is no name of a file"),
    ],
)
def test_what_is_no_record_is_told(
    answer: bytes, said: str, zenodo: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    zenodo.add("/api/records/1234", answer)
    ran = sa_med2d("fetch", recipe(zenodo="1234"), "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert said in ran.err


@pytest.fixture
def tcia(host: FileHost, monkeypatch: pytest.MonkeyPatch) -> FileHost:
    """Two series as the NBIA Search REST API v1 gives them; zips are made when asked, so that no two are the same."""
    monkeypatch.setenv("SA_MED2D_TCIA_URL", f"{host.url}/v1")
    series = [
        {"PatientID": "P-1", "StudyInstanceUID": "1.2", "SeriesInstanceUID": f"1.2.{number}", "ImageCount": 2}
        for number in (3, 4)
    ]
    host.add("/v1/getSeries", json.dumps(series).encode(), ranges=False)
    for one in series:
        files = {"LICENSE": b"CC", "1-1.dcm": b"1", "1-2.dcm": b"2"}
        path = f"/v1/getImage?SeriesInstanceUID={one['SeriesInstanceUID']}"
        host.add(path, zipped(files), ranges=False, length=False, etag="")
    return host


def test_a_collection_of_tcia_comes(tcia: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path) -> None:
    file = recipe(tcia="A Collection")
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 0, ran.err
    assert tree(tmp_path / "raw/Small", "P-1") == {
        f"P-1/1.2/1.2.{number}/{name}": content
        for number in (3, 4)
        for name, content in (("1-1.dcm", b"1"), ("1-2.dcm", b"2"), ("LICENSE", b"CC"))
    }
    assert "/v1/getSeries?Collection=A+Collection&format=json" in tcia.asked
    assert sa_med2d("fetch", file, "--raw", tmp_path / "raw").code == 0
    assert [count for path, count in tcia.asked.items() if "getImage" in path] == [1, 1]


def test_a_series_that_lacks_images_is_told_and_fetched_again(
    tcia: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    path = "/v1/getImage?SeriesInstanceUID=1.2.3"
    whole = tcia.files[path].content
    tcia.files[path].content = zipped({"1-1.dcm": b"1"})
    file = recipe(tcia="A")
    ran = sa_med2d("fetch", file, "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "expected 2 DICOM files, got 1" in ran.err
    tcia.files[path].content = whole
    assert sa_med2d("fetch", file, "--raw", tmp_path / "raw").code == 0
    assert (tmp_path / "raw/Small/P-1/1.2/1.2.3/1-2.dcm").exists()


def test_a_collection_that_is_not_there_is_told(
    tcia: FileHost, recipe: Recipe, sa_med2d: Command, tmp_path: Path
) -> None:
    tcia.add("/v1/getSeries", b"[]")
    ran = sa_med2d("fetch", recipe(tcia="A"), "--raw", tmp_path / "raw")
    assert ran.code == 1
    assert "the collection has no public series" in ran.err


UPLOAD = """
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("ann/scans", repo_type="dataset")
api.upload_file(path_or_fileobj=b"image", path_in_repo="images/a.txt", repo_id="ann/scans", repo_type="dataset")
api.upload_file(path_or_fileobj=b"large" * 3000000, path_in_repo="a.bin", repo_id="ann/scans", repo_type="dataset")
"""


def test_a_dataset_of_the_hub_comes(recipe: Recipe, tmp_path: Path) -> None:
    file = recipe(hub="ann/scans", revision="main")
    command = [sys.executable, "-m", "builder", "fetch", str(file), "--raw", str(tmp_path / "raw")]
    with HubServer(tmp_path / "hub") as hub:
        hub.add_user("ann", TOKEN)
        owner = hub.environment(home=tmp_path / "home", token=TOKEN)
        subprocess.run([sys.executable, "-c", UPLOAD], env=owner, check=True, capture_output=True)
        nobody = hub.environment(home=tmp_path / "other")
        ran = subprocess.run(command, env=nobody, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert tree(tmp_path / "raw/Small", "images") == {"images/a.txt": b"image"}
        assert (tmp_path / "raw/Small/a.bin").read_bytes() == b"large" * 3000000
        before = len([one for one in hub.requests if "/resolve/" in one.path])
        assert subprocess.run(command, env=nobody, check=False, capture_output=True).returncode == 0
        assert len([one for one in hub.requests if "/resolve/" in one.path]) == before
        other = recipe(hub="ann/nothing")
        assert other == file
        ran = subprocess.run(command, env=nobody, capture_output=True, text=True, check=False)
        assert ran.returncode == 1
        assert "there is no such dataset, or it is private" in ran.stderr
        silent = nobody | {"HF_ENDPOINT": "http://127.0.0.1:9"}
        ran = subprocess.run(command, env=silent, capture_output=True, text=True, check=False)
        assert ran.returncode == 1
        assert ran.stderr.startswith("error: Small: https://huggingface.co/datasets/ann/nothing: ")
