"""The Hub of the tests against the real clients, each in a process of its own, and against git."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hub.server import MEBIBYTE, HubServer
from tests.support.warm_process import WarmProcess

REPO = "ann/scans"
ANN = "hf_ann"
PRELUDE = """
import io, json, sys
from huggingface_hub import CommitOperationAdd as Add, CommitOperationCopy as Copy, CommitOperationDelete as Delete
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download

api, repo = HfApi(), {"repo_id": "ann/scans", "repo_type": "dataset"}

def commit(*operations, message="change", **options):
    return api.create_commit(operations=operations, commit_message=message, **repo, **options).oid

def refusal(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except Exception as error:
        return [type(error).__name__, getattr(getattr(error, "response", None), "status_code", None)]
"""

Client = Callable[..., Any]


@dataclass(frozen=True)
class WarmHub:
    """A Hub, what forks its clients where processes can fork, and their home."""

    server: HubServer
    forks: WarmProcess | None
    home: Path


@pytest.fixture(scope="module")
def warm_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmHub]:
    folder = tmp_path_factory.mktemp("hub")
    with HubServer(folder / "hub") as server, ExitStack() as stack:
        forks, environment = None, server.environment(home=folder / "home")
        if hasattr(os, "fork"):
            forks = stack.enter_context(WarmProcess(environment, ["huggingface_hub.hf_file_system"]))
        yield WarmHub(server, forks, folder / "home")


@pytest.fixture
def hub(warm_hub: WarmHub) -> HubServer:
    """A Hub with ann, who also has a token that may only read, and bob."""
    server = warm_hub.server
    server.clear()
    server.add_user("ann", ANN)
    server.add_user("ann", "hf_read", role="read")
    server.add_user("bob", "hf_bob")
    return server


@pytest.fixture
def client(warm_hub: WarmHub, tmp_path: Path) -> Client:
    """Runs a script of a client, by default ann, in an empty home; gives what it left in ``result``."""
    homes = itertools.count()

    def run(hub: HubServer, script: str, token: str | None = ANN) -> Any:
        code = f"{PRELUDE}\n{textwrap.dedent(script)}\nprint(json.dumps(result))"
        if hub is warm_hub.server and warm_hub.forks is not None:
            shutil.rmtree(warm_hub.home, ignore_errors=True)
            environment = hub.environment(home=warm_hub.home, token=token)
            process = warm_hub.forks.start(["-c", code], environment, tmp_path)
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            return json.loads(out.splitlines()[-1])
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=hub.environment(home=tmp_path / f"home-{next(homes)}", token=token),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def git(hub: HubServer, *arguments: str) -> str:
    command = ["git", "-C", str(hub.git_folder(REPO)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def count(hub: HubServer, method: str, ending: str = "") -> int:
    return sum(request.method == method and request.path.endswith(ending) for request in hub.requests)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_commits_are_what_git_says(hub: HubServer, client: Client, tmp_path: Path) -> None:
    (tmp_path / "small.tar").write_bytes(b"s" * 1000)
    (tmp_path / "large.tar").write_bytes(b"l" * (11 * MEBIBYTE))
    result = client(
        hub,
        """
        api.create_repo(**repo)
        first = commit(Add("README.md", b"# Scans"), Add("data/small.tar", "small.tar"), Add("big.txt", b"b" * 11_000_000),
                       Add("data/large.tar", "large.tar"), message="Title", parent_commit=api.repo_info(**repo).sha)
        second = commit(Copy("data/small.tar", "copy.tar"), Delete("data/"), Delete("big.txt"), Add("data/é b.txt", b"e"))
        again = commit(Add("data/é b.txt", b"e"))
        siblings = {s.rfilename: [s.blob_id, s.size, s.lfs and s.lfs.sha256]
                    for s in api.repo_info(**repo, revision=first, files_metadata=True).siblings}
        downloaded = open(hf_hub_download(**repo, filename="data/large.tar", revision=first), "rb").read() == b"l" * (11 << 20)
        path = snapshot_download(**repo)
        result = dict(first=first, second=second, again=again, siblings=siblings, downloaded=downloaded,
                      copied=open(path + "/copy.tar").read() == "s" * 1000, info=api.whoami()["name"],
                      exists=refusal(api.create_repo, **repo), fine=api.create_repo(**repo, exist_ok=True).repo_id)
        """,
    )
    subprocess.run(["git", "clone", "--quiet", hub.git_folder(REPO), tmp_path / "clone"], check=True)
    assert result["downloaded"]
    assert result["copied"]
    assert (result["info"], result["fine"], result["exists"]) == ("ann", REPO, ["HfHubHTTPError", 409])
    assert result["second"] == result["again"] == git(hub, "rev-parse", "main")
    assert git(hub, "log", "--format=%s/%an").split("\n") == ["change/ann", "Title/ann", "initial commit/ann"]
    assert sorted(path.name for path in (tmp_path / "clone").rglob("*.t*")) == ["copy.tar", "é b.txt"]
    assert f"oid sha256:{sha256(b's' * 1000)}\nsize 1000\n" in (tmp_path / "clone" / "copy.tar").read_text()
    blobs = {path: row[0] for path, row in result["siblings"].items()}
    tree = git(hub, "ls-tree", "-r", "--format=%(path) %(objectname)", result["first"])
    assert blobs == dict(line.split() for line in tree.splitlines())
    assert result["siblings"]["README.md"][1:] == [7, None]
    assert result["siblings"]["data/large.tar"][1:] == [11 * MEBIBYTE, sha256(b"l" * 11 * MEBIBYTE)]
    assert count(hub, "PUT", sha256(b"l" * 11 * MEBIBYTE)) == 3
    assert count(hub, "PUT", sha256(b"s" * 1000)) == 1


def test_an_object_that_is_stored_is_not_uploaded_again(hub: HubServer, client: Client) -> None:
    client(hub, "api.create_repo(**repo); result = commit(Add('a.tar', b'x')), commit(Add('b.tar', b'x'))")
    assert count(hub, "PUT") == 1


@pytest.fixture
def paged(tmp_path: Path) -> Iterator[HubServer]:
    """A Hub with two entries on a page."""
    with HubServer(tmp_path / "paged", page_size=2) as server:
        server.add_user("ann", ANN)
        yield server


def test_trees_and_history_come_in_pages(paged: HubServer, client: Client) -> None:
    result = client(
        paged,
        """
        api.create_repo(**repo)
        commit(*(Add(f"{folder}/{n}.txt", b"%d" % n) for folder in "ab" for n in range(3)), message="files")
        last = commit(Add("a/1.txt", b"new"), message="last\\n\\nwith a text")
        tree = lambda *path, **options: [[type(e).__name__, e.path] for e in api.list_repo_tree(**repo, path_in_repo=path and path[0], **options)]
        expanded = {e.path: e.last_commit.title for e in api.list_repo_tree(**repo, path_in_repo="a", expand=True)}
        paths = [e.path for e in api.get_paths_info(**repo, paths=["a", "a/1.txt", "none"])]
        result = dict(last=last, root=tree(), all=tree(recursive=True), a=tree("a"), expanded=expanded, paths=paths,
                      missing=refusal(tree, "none"), commits=[c.commit_id for c in api.list_repo_commits(**repo)])
        """,
    )
    assert result["root"] == [["RepoFile", ".gitattributes"], ["RepoFolder", "a"], ["RepoFolder", "b"]]
    everything = git(paged, "ls-tree", "-r", "-t", "--name-only", "main").split()
    assert [path for _, path in result["all"]] == sorted(everything)
    assert result["a"] == [["RepoFile", f"a/{number}.txt"] for number in range(3)]
    assert result["expanded"] == {"a/0.txt": "files", "a/1.txt": "last", "a/2.txt": "files"}
    assert sorted(result["paths"]) == ["a", "a/1.txt"]
    assert result["missing"] == ["RemoteEntryNotFoundError", 404]
    assert result["commits"] == git(paged, "log", "--format=%H").split()
    assert count(paged, "GET", "/commits/main") == 2


def test_branches_tags_and_squash(hub: HubServer, client: Client) -> None:
    result = client(
        hub,
        """
        api.create_repo(**repo)
        one = commit(Add("f.txt", b"1"))
        api.create_branch(**repo, branch="dev/x")
        two = commit(Add("f.txt", b"2"), revision="dev/x")
        api.create_tag(**repo, tag="v1/a", revision="dev/x", tag_message="Annotated")
        api.create_tag(**repo, tag="v0", revision=one)
        read = lambda revision: open(hf_hub_download(**repo, filename="f.txt", revision=revision)).read()
        contents = [read(revision) for revision in ("main", "dev/x", "v1/a", "v0", two, "refs/heads/dev/x")]
        refs = api.list_repo_refs(**repo)
        refs = {ref.ref: ref.target_commit for ref in refs.branches + refs.tags}
        refused = [refusal(api.create_branch, **repo, branch="dev/x"), refusal(api.create_tag, **repo, tag="v0"),
                   refusal(api.delete_tag, **repo, tag="none"), refusal(api.repo_info, **repo, revision="main~1"),
                   refusal(commit, Add("f.txt", b"3"), parent_commit=two), refusal(commit, Delete("none"))]
        api.create_branch(**repo, branch="dev/x", exist_ok=True)
        api.super_squash_history(**repo, branch="dev/x")
        api.delete_tag(**repo, tag="v0")
        result = dict(one=one, two=two, contents=contents, refs=refs, refused=refused, squashed=read("dev/x"))
        """,
    )
    one, two = result["one"], result["two"]
    assert result["contents"] == ["1", "2", "2", "1", "2", "2"]
    expected = {"refs/heads/main": one, "refs/heads/dev/x": two, "refs/tags/v1/a": two, "refs/tags/v0": one}
    assert result["refs"] == expected
    statuses = [["HfHubHTTPError", 409]] * 2 + [["RevisionNotFoundError", 404]] * 2
    assert result["refused"] == [*statuses, ["HfHubHTTPError", 412], ["RemoteEntryNotFoundError", 404]]
    assert result["squashed"] == "2"
    assert git(hub, "rev-list", "--count", "dev/x") == "1"
    assert git(hub, "rev-parse", "v1/a^{commit}", "main").split() == [two, one]
    assert git(hub, "tag") == "v1/a"
    assert git(hub, "fsck", "--strict") == ""


def test_commits_at_the_same_time_all_arrive(hub: HubServer, client: Client) -> None:
    refused = client(
        hub,
        """
        from concurrent.futures import ThreadPoolExecutor
        api.create_repo(**repo)
        head = api.repo_info(**repo).sha
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: commit(Add(f"{n}.txt", b"%d" % n)), range(8)))
        head = api.repo_info(**repo).sha
        with ThreadPoolExecutor(8) as pool:
            result = list(pool.map(lambda n: refusal(commit, Add("one", b"%d" % n), parent_commit=head), range(8)))
        """,
    )
    assert sorted(refused, key=bool) == [None] + [["HfHubHTTPError", 412]] * 7
    assert len(git(hub, "ls-tree", "--name-only", "main").split()) == 10
    assert git(hub, "rev-list", "--count", "main") == "10"


MISSING, GATED, HTTP = "RepositoryNotFoundError", "GatedRepoError", "HfHubHTTPError"
FORBIDDEN = [HTTP, 403]
ACCESS = {
    ANN: {"info": [None] * 3, "read": [None] * 3, "write": [None] * 3, "create": None},
    "hf_read": {"info": [None] * 3, "read": [None] * 3, "write": [FORBIDDEN] * 3, "create": FORBIDDEN},
    "hf_bob": {
        "info": [None, [MISSING, 404], None],
        "read": [None, [MISSING, 404], [GATED, 403]],
        "write": [FORBIDDEN, [MISSING, 404], FORBIDDEN],
        "create": FORBIDDEN,
    },
    None: {
        "info": [None, [MISSING, 401], None],
        "read": [None, [MISSING, 401], [GATED, 401]],
        "write": [[MISSING, 401]] * 3,
        "create": [MISSING, 401],
    },
    "hf_bad": {"info": [[HTTP, 401]] * 3, "read": [[HTTP, 401]] * 3, "write": [[HTTP, 401]] * 3, "create": [HTTP, 401]},
}


def test_who_may_do_what(hub: HubServer, client: Client) -> None:
    client(
        hub,
        """
        for name in ("public", "private", "gated"):
            api.create_repo(f"ann/{name}", repo_type="dataset", private=name == "private")
        result = api.update_repo_settings("ann/gated", repo_type="dataset", gated="manual")
        """,
    )
    script = """
        def each(call, **options):
            return [refusal(call, f"ann/{name}", repo_type="dataset", **options) for name in ("public", "private", "gated")]

        result = dict(info=each(api.repo_info), read=each(hf_hub_download, filename=".gitattributes"),
                      write=each(api.auth_check, write=True),
                      create=refusal(api.create_repo, "ann/new", repo_type="dataset"))
        assert [error and error[0] for error in result["read"]] == [error and error[0] for error in each(api.auth_check)]
        """
    assert {token: client(hub, script, token) for token in ACCESS} == ACCESS


def test_a_deleted_dataset_is_gone_with_its_objects(hub: HubServer, client: Client) -> None:
    result = client(
        hub,
        """
        api.create_repo(**repo)
        commit(Add("a.tar", b"x"))
        api.delete_repo(**repo)
        gone = refusal(api.repo_info, **repo)
        api.create_repo(**repo)
        commit(Add("a.tar", b"x"))
        result = gone
        """,
    )
    assert result == ["RepositoryNotFoundError", 404]
    assert count(hub, "PUT") == 2


@pytest.mark.parametrize(("card", "refused"), [("a: [", True), ("- a", True), ("license: mit", False)])
def test_the_front_matter_of_a_card_is_a_yaml_mapping(hub: HubServer, client: Client, card: str, refused: bool) -> None:
    text = f"---\n{card}\n---\n# Title\n"
    result = client(hub, f"api.create_repo(**repo); result = refusal(commit, Add('README.md', {text.encode()!r}))")
    assert result == (["ValueError", None] if refused else None)


def shard(keys: range) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for key in keys:
            content = json.dumps({"key": key}).encode()
            info = tarfile.TarInfo(f"{key:06}.json")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


LARGE_FILE = r"GET .*(resolve/main/ramp\.bin|objects-.*/[0-9a-f]{64})$"

RAMP = f"ramp = bytes(range(256)) * {12 * MEBIBYTE // 256}"

CARD = """\
---
configs:
- config_name: ct
  data_files:
  - {split: train, path: data/ct-train-*.tar}
  - {split: test, path: data/ct-test-*.tar}
---
"""


@pytest.fixture(params=["s3", "direct"])
def published(request: pytest.FixtureRequest, tmp_path: Path, hub: HubServer, client: Client) -> Iterator[HubServer]:
    """A Hub with a small WebDataset, in both ways of serving large files."""
    shards = {"ct-train-0": range(3), "ct-train-1": range(3, 5), "ct-test-0": range(5, 6)}
    for name, keys in shards.items():
        (tmp_path / f"{name}.tar").write_bytes(shard(keys))
    (tmp_path / "README.md").write_text(CARD)
    with ExitStack() as stack:
        server = hub  # which serves by ``s3``
        if request.param == "direct":
            server = stack.enter_context(HubServer(tmp_path / "published", objects="direct"))
            server.add_user("ann", ANN)
        client(
            server,
            f"""
            {RAMP}
            api.create_repo(**repo)
            data = [Add(f"data/{{name}}.tar", f"{{name}}.tar") for name in {list(shards)}]
            result = commit(Add("README.md", "README.md"), *data, Add("ramp.bin", ramp))
            """,
        )
        yield server


def test_datasets_streams_what_the_card_says(published: HubServer, client: Client) -> None:
    result = client(
        published,
        """
        import datasets
        streamed = datasets.load_dataset("ann/scans", "ct", streaming=True)
        result = {split: [row["json"]["key"] for row in rows] for split, rows in streamed.items()}
        """,
        None,
    )
    assert result == {"train": [0, 1, 2, 3, 4], "test": [5]}


def test_a_range_is_all_that_is_sent(published: HubServer, client: Client) -> None:
    result = client(
        published,
        """
        with HfFileSystem().open("datasets/ann/scans/ramp.bin", block_size=4096, cache_type="none") as file:
            file.seek(1000)
            result = [list(file.read(300)), file.size]
        """,
    )
    assert result == [list((bytes(range(256)) * 3)[1000 % 256 :][:300]), 12 * MEBIBYTE]
    ranged = [request for request in published.requests if request.range and request.status == 206]
    assert [(request.range, request.sent) for request in ranged] == [("bytes=1000-1299", 300)]


def test_a_download_that_is_cut_goes_on_where_it_was(published: HubServer, client: Client) -> None:
    published.faults.add(LARGE_FILE, cut_after=11 * MEBIBYTE)
    assert client(
        published, f"{RAMP}; result = open(hf_hub_download(**repo, filename='ramp.bin'), 'rb').read() == ramp"
    )
    answers = [request for request in published.requests if re.search(LARGE_FILE, f"{request.method} {request.path}")]
    assert [(answer.range, answer.sent) for answer in answers if answer.sent] == [
        (None, 11 * MEBIBYTE),
        (f"bytes={10 * MEBIBYTE}-", 2 * MEBIBYTE),
    ]


def test_errors_are_met_as_often_as_was_said(hub: HubServer, client: Client) -> None:
    hub.faults.add(r"POST .*/preupload/", status=429, times=2, retry_after=0)
    hub.faults.add(r"PUT /objects-", status=500)
    hub.faults.add(lambda method, path: path.endswith("/verify"), status=503, delay=0.3)
    client(hub, "api.create_repo(**repo); result = commit(Add('a.tar', b'x'))")
    assert [request.status for request in hub.requests if "/preupload/" in request.path] == [429, 429, 200]
    assert [request.status for request in hub.requests if request.method == "PUT"] == [500, 200]
    assert [request.status for request in hub.requests if request.path.endswith("/verify")] == [503, 200]


def test_a_full_disk_ends_an_upload(hub: HubServer, client: Client) -> None:
    hub.faults.add(r"PUT /objects-", status=507)
    refused = client(hub, "api.create_repo(**repo); result = refusal(commit, Add('a.tar', b'x'))")
    assert refused == ["RuntimeError", None]
    assert [request.status for request in hub.requests if request.method == "PUT"] == [507]
    assert git(hub, "rev-list", "--count", "main") == "1"


def test_a_commit_whose_answer_is_lost_is_done(hub: HubServer, client: Client) -> None:
    hub.faults.add(r"POST .*/commit/main$", lose_answer=True)
    hub.faults.add(r"PUT /objects-", lose_answer=True)
    refused = client(hub, "api.create_repo(**repo); result = refusal(commit, Add('a.tar', b'x'))")
    assert refused == ["RemoteProtocolError", None]
    assert git(hub, "log", "--format=%s").splitlines() == ["change", "initial commit"]
    assert [request.status for request in hub.requests if request.method == "PUT"] == [0, 200]


def test_what_is_not_stored_is_not_committed(hub: HubServer, client: Client) -> None:
    result = client(
        hub,
        """
        from huggingface_hub.utils import get_session
        api.create_repo(**repo)
        headers, lfs = api._build_hf_headers(), f"{api.endpoint}/datasets/ann/scans.git/info/lfs/objects"
        post = lambda url, **body: get_session().post(url, headers=headers, **body)
        item = {"oid": "0" * 64, "size": 3}
        actions = post(f"{lfs}/batch", json={"operation": "upload", "objects": [item]}).json()["objects"][0]["actions"]
        early = post(actions["verify"]["href"], json=item).status_code
        stored = get_session().put(actions["upload"]["href"], content=b"abc").status_code
        wrong = post(actions["verify"]["href"], json=item).status_code
        def committed(key, value):
            lines = [{"key": "header", "value": {"summary": "change"}}, {"key": key, "value": value}]
            body = "".join(json.dumps(line) + "\\n" for line in lines)
            return post(f"{api.endpoint}/api/datasets/ann/scans/commit/main", content=body).status_code

        unknown, outside = committed("lfsFile", {"path": "a.tar", **item}), committed("file", {"path": "../a", "content": ""})
        result = [early, stored, wrong, unknown, outside]
        """,
    )
    assert result == [404, 200, 400, 400, 400]
    assert git(hub, "rev-list", "--count", "main") == "1"


@pytest.fixture
def xet_hub(tmp_path: Path) -> Iterator[HubServer]:
    """A Hub that takes large files by Xet."""
    pytest.importorskip("hf_xet")
    with HubServer(tmp_path / "xet-hub", xet=True) as server:
        server.add_user("ann", ANN)
        server.add_user("bob", "hf_bob")
        yield server


def test_xet_and_plain_http_give_the_same_bytes(xet_hub: HubServer, client: Client, tmp_path: Path) -> None:
    """What goes up by Xet comes back by Xet, by LFS's way of downloading, and in part; git holds its sha256."""
    import hf_xet  # noqa: PLC0415 - not on every machine

    data = random.Random(7).randbytes(3 * MEBIBYTE)
    (tmp_path / "noise.bin").write_bytes(data)
    result = client(
        xet_hub,
        """
        import hashlib
        from huggingface_hub.utils import get_session
        api.create_repo(**repo)
        api.upload_file(path_or_fileobj="noise.bin", path_in_repo="data/noise.bin", **repo)
        commit(Add("few.bin", b"abc"), Add("README.md", b"# Scans"))
        by_xet = {name: hashlib.sha256(open(hf_hub_download(**repo, filename=name), "rb").read()).hexdigest()
                  for name in ("data/noise.bin", "few.bin")}
        url = f"{api.endpoint}/datasets/ann/scans/resolve/main/data/noise.bin"
        whole = get_session().get(url, headers=api._build_hf_headers(), follow_redirects=True).content
        with HfFileSystem().open("datasets/ann/scans/data/noise.bin", block_size=4096, cache_type="none") as file:
            file.seek(1_000_000)
            part = file.read(300)
        info = api.get_paths_info(**repo, paths=["data/noise.bin"])[0]
        result = dict(by_xet=by_xet, whole=hashlib.sha256(whole).hexdigest(), part=part.hex(), xet=info.xet_hash,
                      lfs=[info.lfs.sha256, info.size])
        """,
    )
    assert result["by_xet"] == {"data/noise.bin": sha256(data), "few.bin": sha256(b"abc")}
    assert result["whole"] == sha256(data)
    assert result["part"] == data[1_000_000:1_000_300].hex()
    assert result["xet"] == hf_xet.hash_files([str(tmp_path / "noise.bin")])[0].hash
    assert result["lfs"] == [sha256(data), len(data)]
    assert git(xet_hub, "show", "main:data/noise.bin").splitlines()[1] == f"oid sha256:{sha256(data)}"
    assert count(xet_hub, "PUT") == 0
    assert count(xet_hub, "GET", "/xet-write-token/main") == 2
    assert any("/xet-read-token/" in request.path for request in xet_hub.requests)


def test_what_xet_does_not_hold_is_not_committed(xet_hub: HubServer, client: Client) -> None:
    """A file whose announced sha256 is not that of its bytes, and one that nobody has sent."""
    client(
        xet_hub,
        """
        import hf_xet
        api.create_repo(**repo)
        headers = api._build_hf_headers()
        wrong, none = "1" * 64, "2" * 64
        with hf_xet.XetSession().new_upload_commit(
            token_refresh_url=f"{api.endpoint}/api/datasets/ann/scans/xet-write-token/main", token_refresh_headers=headers
        ) as upload:
            upload.start_upload_bytes(b"not what was said", sha256=wrong)
        result = None
        """,
    )
    refused = client(
        xet_hub,
        """
        from huggingface_hub.utils import get_session
        def committed(oid):
            lines = [{"key": "header", "value": {"summary": "change"}}, {"key": "lfsFile", "value": {"path": "a.bin", "oid": oid}}]
            body = "".join(json.dumps(line) + "\\n" for line in lines)
            answer = get_session().post(f"{api.endpoint}/api/datasets/ann/scans/commit/main", headers=api._build_hf_headers(), content=body)
            return [answer.status_code, answer.json().get("error")]
        result = [committed(digit * 64) for digit in "12"]
        """,
    )
    assert refused == [
        [400, f"Object {'1' * 64} is not what was announced"],
        [400, f"LFS object {'2' * 64} of a.bin is not stored"],
    ]
    assert git(xet_hub, "rev-list", "--count", "main") == "1"


def test_who_may_have_a_xet_token(xet_hub: HubServer, hub: HubServer, client: Client) -> None:
    script = """
        from huggingface_hub.utils import get_session
        result = [get_session().get(f"{api.endpoint}/api/datasets/ann/scans/xet-{kind}-token/main", headers=api._build_hf_headers()).status_code
                  for kind in ("read", "write")]
        """
    for server in (xet_hub, hub):
        client(server, "api.create_repo(**repo); result = None")
    client(xet_hub, "api.update_repo_settings(**repo, gated='manual'); result = None")
    assert [client(xet_hub, script, token) for token in (ANN, "hf_bob", None)] == [[200, 200], [403, 403], [401, 401]]
    assert client(hub, script) == [404, 404]


def test_a_deleted_dataset_is_gone_from_xet(xet_hub: HubServer, client: Client) -> None:
    """With what its clients have registered, so that nothing of it can be committed again without an upload."""
    result = client(
        xet_hub,
        """
        api.create_repo(**repo)
        commit(Add("a.tar", b"x" * 1000))
        before = api.get_paths_info(**repo, paths=["a.tar"])[0].xet_hash
        api.delete_repo(**repo)
        api.create_repo(**repo)
        commit(Add("README.md", b"# Scans"))
        result = [bool(before), [e.path for e in api.list_repo_tree(**repo)]]
        """,
    )
    assert result == [True, [".gitattributes", "README.md"]]
    assert not list(xet_hub.git_folder(REPO).parents[1].glob("xet/*/xet/xorbs/shards/*.mdb"))
