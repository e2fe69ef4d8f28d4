"""The publisher against a local Hub: real clients over a real socket, and git as the judge of what is there."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.command_line import main
from tests.hub.hub import Saved
from tests.hub.server import HubServer
from tests.support.nifti import write_nifti
from tests.support.output import members
from tests.support.sources import write_source
from tests.support.volumes import ct_like
from tests.support.warm_process import Forked, WarmProcess

REPO = "ann/scans"
WITHDRAWN = {"withdrawn.json"}
TOKEN = "hf_ann_secret"  # noqa: S105 - of the tests' own Hub


@dataclass
class Publisher:
    """Runs commands in processes of their own, with an empty home each.

    Figures take seconds to draw, so only who looks at them has them in cards.

    Attributes:
        hub: Where they publish.
        folder: Where they run.
        warm: What forks them, and its home; None for processes that import all by themselves.
        kept: What the Hub held after a first publish with some arguments.
    """

    hub: HubServer
    folder: Path
    warm: tuple[WarmProcess, Path] | None = None
    kept: dict[tuple[str, ...], Saved] = field(default_factory=dict)
    runs: int = 0
    figures: bool = False

    def start(
        self, *arguments: object, token: str | None = TOKEN, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[str] | Forked:
        self.runs += 1
        words = list(map(str, arguments))
        if "publish" in arguments and not self.figures:
            words.append("--no-figures")
        if self.warm is not None:
            forks, home = self.warm
            shutil.rmtree(home, ignore_errors=True)
            return forks.start(words, self.hub.environment(home=home, token=token), self.folder, stdin)
        return subprocess.Popen(
            [sys.executable, *words],
            env=self.hub.environment(home=self.folder / f"home-{self.runs}", token=token),
            cwd=self.folder,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object, token: str | None = TOKEN) -> tuple[int, str]:
        """Exit code of a command, and what it says, which never has the token in it."""
        process = self.start("-m", "builder", *arguments, token=token)
        out, err = process.communicate(timeout=120)
        assert TOKEN not in out + err
        assert "Traceback" not in err, err
        assert process.returncode is not None
        return process.returncode, " ".join((out + err).split())

    def first(self, out: Path, *arguments: str) -> None:
        """Publish to a Hub that holds nothing; where another test has done the same, put in place what that made.

        Args:
            out: A copy of `built` that nobody has changed yet.
            arguments: What follows the name of the repository.
        """
        if arguments in self.kept:
            self.hub.restore(self.kept[arguments])
            return
        code, said = self.run("publish", out, REPO, *arguments)
        assert code == 0, said
        self.kept[arguments] = self.hub.save()

    def tag(self, name: str) -> None:
        """Tag what the repository holds."""
        api = "import json; from huggingface_hub import HfApi; "
        self.script(f"{api}HfApi().create_tag({REPO!r}, tag={name!r}, repo_type='dataset'); print(json.dumps(1))")

    def script(self, text: str, token: str | None = TOKEN) -> Any:
        """What a script of a user prints last, as JSON."""
        out, err = (process := self.start("-c", text, token=token)).communicate(timeout=120)
        assert process.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    def git(self, *arguments: str, repo: str = REPO) -> str:
        command = ["git", "-C", str(self.hub.git_folder(repo)), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def tree(self, revision: str = "main") -> set[str]:
        return set(self.git("ls-tree", "-r", "--name-only", revision).splitlines()) - {".gitattributes"}

    def commits(self) -> int:
        return int(self.git("rev-list", "--count", "main"))

    def xet_uploads(self) -> int:
        """Uploads by Xet that were begun."""
        return sum("/xet-write-token/" in one.path for one in self.hub.requests)

    def sent(self) -> int:
        """Uploads to the object store."""
        return sum(one.method == "PUT" and one.path.startswith("/objects-") for one in self.hub.requests)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources that may be published, of two modalities and three tiers; nobody writes to it."""
    folder = tmp_path_factory.mktemp("built")
    raw = folder / "raw"
    recipes = [
        write_source(raw, "Free", cases=2, license_id="CC-BY-4.0"),
        write_source(raw, "Share", cases=1, license_id="CC-BY-SA-4.0"),
        write_source(raw, "Magnet", cases=1, license_id="CC-BY-NC-4.0", modality="mr"),
    ]
    for recipe in recipes:
        recipe.write_text(recipe.read_text() + '[splits]\ntrain = ["case00"]\ntest = ["case01"]\n')
    build(folder, *recipes)
    return folder


def build(folder: Path, *recipes: Path) -> None:
    arguments = [
        "build",
        *recipes,
        "--raw",
        folder / "raw",
        "--out",
        folder / "out",
        "--workers",
        1,
        "--shard-size",
        "100KB",
    ]
    assert main([str(argument) for argument in arguments]) in (0, 3)


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "copy")
    return tmp_path / "copy/out"


@pytest.fixture(scope="module")
def warm_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, tuple[WarmProcess, Path] | None]]:
    """A Hub, and what forks its clients where processes can fork."""
    folder = tmp_path_factory.mktemp("hub")
    with HubServer(folder / "hub", objects="direct") as hub, ExitStack() as stack:
        warm = None
        if hasattr(os, "fork"):
            forks = stack.enter_context(WarmProcess(hub.environment(home=folder / "home")))
            warm = (forks, folder / "home")
        yield hub, warm


@pytest.fixture(scope="module")
def kept() -> dict[tuple[str, ...], Saved]:
    """See `Publisher`."""
    return {}


@pytest.fixture
def publisher(
    warm_hub: tuple[HubServer, tuple[WarmProcess, Path] | None], kept: dict[tuple[str, ...], Saved], tmp_path: Path
) -> Publisher:
    """A publisher to a Hub that holds nothing."""
    hub, warm = warm_hub
    hub.clear()
    hub.add_user("ann", TOKEN)
    hub.add_user("ann", "hf_reader", role="read")
    hub.add_user("bob", "hf_bob")
    return Publisher(hub, tmp_path, warm, kept)


@pytest.fixture
def cold(publisher: Publisher) -> Publisher:
    """The same, whose commands are started as a user starts them."""
    return replace(publisher, warm=None)


@pytest.fixture
def by_xet(tmp_path: Path) -> Iterator[Publisher]:
    """A publisher whose large files go by Xet, as they do to the Hub itself."""
    pytest.importorskip("hf_xet")
    home = tmp_path / "home"
    with HubServer(tmp_path / "hub", xet=True) as hub, WarmProcess(hub.environment(home=home)) as forks:
        hub.add_user("ann", TOKEN)
        yield Publisher(hub, tmp_path, (forks, home))


CARD = {"README.md", "LICENSE.md", "SOURCES.md", "CLASSES.md", "id2label.json", "croissant.json"}
"""The card, and the files that it refers to."""


def shards_of(out: Path, *sources: str) -> set[str]:
    """What should be in a repository that holds some sources."""
    splits = {path.name.split("-")[0] for name in sources for path in out.glob(f"data/*/*/{name}/*.tar")}
    files = {
        path.relative_to(out).as_posix()
        for name in ("data", "index")
        for path in (out / name).rglob("*")
        if path.is_file()
    }
    own = {path for path in files if path.split("/")[3] in sources}
    return (
        own
        | {f"sources/{name}.json" for name in sources}
        | {f"preview/{name}.{ending}" for name in sources for ending in ("tar", "jpg")}
        | CARD
        | {f"tables/{kind}-{split}.parquet" for kind in ("index", "masks") for split in splits}
    )


def test_publish_and_read_back(cold: Publisher, out: Path) -> None:
    code, said = cold.run("publish", out, REPO, "--tag", "v1.0.0")
    assert code == 0, said
    assert cold.tree() == shards_of(out, "Free", "Share", "Magnet")
    assert cold.git("rev-parse", "v1.0.0^{commit}") == cold.git("rev-parse", "main")
    assert not any(path.startswith("build") or path.endswith(".py") for path in cold.tree())
    names = [name for name, _ in members(out) if name.endswith(".json")]
    script = f"""
import json, datasets, sa_med2d_20m as s
configs = sorted(datasets.get_dataset_config_names({REPO!r}))
rows = {{c: sum(1 for split in datasets.get_dataset_split_names({REPO!r}, c)
               for _ in datasets.load_dataset({REPO!r}, c, split=split, streaming=True)) for c in configs}}
chosen = [row["key"] for row in s.load({REPO!r}, "ct-commercial", sources="Share", planes="axial", labels="spleen")]
default = {{row["source"] for row in s.load({REPO!r}, revision="v1.0.0")}}
print(json.dumps([rows, chosen, sorted(default)]))
"""
    rows, chosen, default = cold.script(script, token=None)
    ct, mr = (sum(name.startswith(modality) for name in names) for modality in ("ct", "mr"))
    free = sum("--Free--" in name for name in names)
    assert rows == {
        "all": ct + mr, "all-commercial": ct, "all-permissive": free,
        "ct": ct, "ct-commercial": ct, "ct-permissive": free, "mr": mr, "preview": 3 * 16,
    }  # fmt: skip
    records = [json.loads(data) for name, data in members(out) if "--Share--" in name and name.endswith(".json")]
    assert chosen == [
        one["key"]
        for one in records
        if one["plane"] == "axial" and "spleen" in {mask["label"] for mask in one["masks"]}
    ]
    assert default == ["Free"]
    card = cold.git("show", "main:README.md")
    for words in (
        "license: [cc-by-4.0, cc-by-nc-4.0, cc-by-sa-4.0]",
        "license_link: LICENSE.md",
        f'load_dataset("{REPO}"',
        "## Contact and take-down",
        "| CC-BY-NC-4.0 | all |",
    ):
        assert words in card
    assert "Nobody, 2026" in cold.git("show", "main:SOURCES.md")
    assert "| liver |" in cold.git("show", "main:CLASSES.md")
    assert "| Magnet | [CC-BY-NC-4.0]" in cold.git("show", "main:LICENSE.md")


def test_a_card_that_the_hub_refuses_is_known_before_data_goes_up(publisher: Publisher, out: Path) -> None:
    for status, said in (
        (413, r"the Hub does not take the card: its [\d,]+ bytes are too many; publish fewer"),
        (400, "does not take the card"),
    ):
        publisher.hub.faults.add("POST /api/validate-yaml", status=status)
        code, words = publisher.run("publish", out, REPO)
        assert code == 1
        assert re.search(said, words), words
        assert (publisher.tree(), publisher.sent()) == (set(), 0)
    assert publisher.run("publish", out, REPO)[0] == 0


def test_a_repository_of_a_tier_holds_no_other(publisher: Publisher, out: Path) -> None:
    publisher.first(out, "--source", "Magnet")
    head = publisher.git("rev-parse", "main")
    code, said = publisher.run("publish", out, REPO, "--tier", "commercial")
    assert code == 1
    assert f"{REPO} holds Magnet (CC-BY-NC-4.0), which is not of the tier commercial" in said
    assert publisher.git("rev-parse", "main") == head
    other = "ann/permissive"
    assert publisher.run("publish", out, other, "--tier", "permissive")[0] == 0
    assert set(publisher.git("ls-tree", "-r", "--name-only", "main", repo=other).splitlines()) - {
        ".gitattributes"
    } == shards_of(out, "Free")
    assert "license: cc-by-4.0\n" in publisher.git("show", "main:README.md", repo=other)


def add_own_data(folder: Path, license_id: str, access: str) -> None:
    """Build a source into the folder that may not be published."""
    recipe = write_source(folder / "raw", "Ours", cases=1, license_id=license_id, modality="pet")
    recipe.write_text(recipe.read_text().replace("[files]", f'access = "{access}"\n\n[files]', 1))
    build(folder, recipe)


@pytest.mark.parametrize(
    ("license_id", "access"), [("unknown", "open"), pytest.param("CC-BY-4.0", "private", marks=pytest.mark.slow)]
)
def test_configs_of_the_folder_stay_at_home(publisher: Publisher, out: Path, license_id: str, access: str) -> None:
    """Neither the card of a repository nor any of its files names a config that holds everything, or what it holds."""
    add_own_data(out.parent, license_id, access)
    local = {"all-local", "ct-local", "mr-local", "pet-local"}
    assert local <= set(re.findall(r"config_name: (\S+)", (out / "README.md").read_text()))
    code, said = publisher.run("publish", out, REPO, "--source", "Ours", "--allowed-only")
    assert code == 1
    assert "nothing of what is asked for may be published" in said
    code, said = publisher.run("publish", out, REPO, "--allowed-only")
    assert code == 0, said
    code, said = publisher.run("withdraw", "Free", REPO)  # which writes the card anew
    assert code == 0, said
    for revision in ("main", "main~1"):
        names = set(re.findall(r"config_name: (\S+)", publisher.git("show", f"{revision}:README.md")))
        assert {"all", "ct", "mr"} <= names
        assert not {name for name in names if "local" in name or "pet" in name}
        assert not {path for path in publisher.tree(revision) if "Ours" in path or "/pet/" in path}
        for path in ("README.md", "sources/Share.json"):
            text = publisher.git("show", f"{revision}:{path}")
            assert "-local" not in text
            assert "Ours" not in text


def test_publish_again_changes_nothing(publisher: Publisher, out: Path) -> None:
    publisher.first(out, "--source", "Free")
    before, sent = publisher.git("rev-parse", "main"), publisher.sent()
    code, said = publisher.run("publish", out, REPO, "--source", "Free")
    assert code == 0
    assert "0 files changed, 0 deleted" in said
    assert (publisher.git("rev-parse", "main"), publisher.sent()) == (before, sent)


def test_publish_more_then_less(publisher: Publisher, out: Path) -> None:
    publisher.first(out, "--source", "Free")
    assert publisher.tree() == shards_of(out, "Free")
    sent = publisher.sent()
    code, said = publisher.run("publish", out, REPO, "--tier", "commercial")
    assert code == 0, said
    assert publisher.tree() == shards_of(out, "Free", "Share")
    new = [path for path in shards_of(out, "Share") if path.endswith((".tar", ".parquet"))]
    assert publisher.sent() - sent == len(new)
    shutil.rmtree(out.parent / "raw/Free/images")
    write_nifti(out.parent / "raw/Free/images/case00.nii.gz", ct_like(9))
    build(out.parent, out.parent / "raw/Free.toml")
    code, said = publisher.run("status", REPO, out)
    assert re.search(r"Free .* [12] of 2 shards differ", said), said
    assert re.search(r"Magnet .* built, not published", said)
    commits = publisher.commits()
    code, said = publisher.run("publish", out, REPO, "--source", "Free")
    assert code == 0, said
    assert "4 deleted" in said  # the shard of case01, its index, and the tables of its split
    assert publisher.commits() == commits + 1  # so nobody meets old and new shards of one source together
    assert publisher.tree() == shards_of(out, "Free", "Share")
    assert re.search(r"Free .* up to date", publisher.run("status", REPO, out)[1])
    listed = publisher.git("show", "main:SOURCES.md")
    assert "Share" in listed
    assert "Magnet" not in listed


def edit_source(out: Path, name: str, **changes: Any) -> None:
    path = out / f"build/sources/{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def relicense(folder: Path, license_id: str) -> None:
    recipe = folder / "raw/Free.toml"
    recipe.write_text(recipe.read_text().replace("CC-BY-4.0", license_id))
    build(folder, recipe)


def move_to_other_licence(out: Path) -> None:
    for kind in ("data", "index", "build/receipts"):
        (out / kind / "ct/cc0-1.0").mkdir(parents=True)
        (out / kind / "ct/cc-by-4.0/Free").rename(out / kind / "ct/cc0-1.0/Free")
    for path in (out / "build/receipts/ct/cc0-1.0/Free").iterdir():
        path.write_text(path.read_text().replace("cc-by-4.0", "cc0-1.0").replace("CC-BY-4.0", "CC0-1.0"))
    edit_source(out, "Free", license="CC0-1.0")


def flip_a_byte(out: Path) -> None:
    path = next(out.glob("data/ct/cc-by-4.0/Free/*.tar"))
    content = bytearray(path.read_bytes())
    content[3000] ^= 1
    path.write_bytes(content)


def link_elsewhere(out: Path) -> None:
    path = next(out.glob("data/ct/cc-by-4.0/Free/*.tar"))
    path.rename(out.parent / "outside.tar")
    path.symlink_to(out.parent / "outside.tar")


def forge_receipts(out: Path) -> None:
    """Beside each receipt of a licence that forbids it, one that says another."""
    relicense(out.parent, "CC-BY-ND-4.0")
    for path in list((out / "build/receipts/ct/cc-by-nd-4.0/Free").iterdir()):
        path.with_name(f"z.{path.name}").write_text(path.read_text().replace("CC-BY-ND-4.0", "CC-BY-4.0"))


def forge_description(out: Path) -> None:
    edit_source(out, "Free", license_evidence=None)
    record = json.loads((out / "build/sources/Free.json").read_text())
    (out / "build/sources/z.json").write_text(json.dumps({**record, "license_evidence": "https://example.org"}))


def rebuild_as_private(folder: Path) -> None:
    recipe = folder / "raw/Free.toml"
    recipe.write_text('access = "private"\n' + recipe.read_text())
    build(folder, recipe)


def forge_access(out: Path) -> None:
    """Beside the description of a private source one that says it is open."""
    edit_source(out, "Free", access="private")
    record = json.loads((out / "build/sources/Free.json").read_text())
    for name in ("Free.open", "z", "A/Free"):
        (out / "build/sources/A").mkdir(exist_ok=True)
        (out / f"build/sources/{name}.json").write_text(json.dumps({**record, "access": "open"}))


def edit_index(out: Path, license_id: str) -> None:
    for path in out.glob("index/ct/cc-by-4.0/Free/*.parquet"):
        table = pq.read_table(path)
        at = table.column_names.index("license")
        names = pa.array([license_id] * table.num_rows)
        pq.write_table(table.set_column(at, "license", names), path)


def edit_receipts(out: Path, license_id: str) -> None:
    for path in (out / "build/receipts/ct/cc-by-4.0/Free").iterdir():
        path.write_text(json.dumps({**json.loads(path.read_text()), "license": license_id}))


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "unknown licence": (lambda out: relicense(out.parent, "unknown"), "its licence is unknown"),
    "conflict": (lambda out: relicense(out.parent, "conflict"), "its licence is conflict"),
    "no derivatives": (lambda out: relicense(out.parent, "CC-BY-ND-4.0"), "does not allow derivatives"),
    "not in the table": (lambda out: relicense(out.parent, "LicenseRef-Ours"), "the licence table has no row for LicenseRef-Ours"),
    "no evidence": (lambda out: edit_source(out, "Free", license_evidence=None), "its recipe gives no license_evidence"),
    "blank evidence": (lambda out: edit_source(out, "Free", license_evidence=" "), "its license_evidence is ' '"),
    "private": (lambda out: edit_source(out, "Free", access="private"), "its access is private"),
    "private, as its recipe says": (lambda out: rebuild_as_private(out.parent), "its access is private"),
    "access that nobody knows": (lambda out: edit_source(out, "Free", access="Open"), "its access is Open"),
    "private, and an open copy": (forge_access, "its access is private"),
    "evidence in a word": (lambda out: edit_source(out, "Free", license_evidence="none"), "its license_evidence is 'none'"),
    "evidence without a host": (lambda out: edit_source(out, "Free", license_evidence="https://"), "its license_evidence is 'https://'"),
    "second receipt": (forge_receipts, "does not allow derivatives"),
    "second description": (forge_description, "its recipe gives no license_evidence"),
    "receipt of another licence": (lambda out: edit_receipts(out, "CC-BY-ND-4.0"), "does not allow derivatives"),
    "index of another licence": (lambda out: edit_index(out, "unknown"), "differs from its shard"),
    "description that cannot be read": (lambda out: edit_source(out, "Free", license=4), "license is 4, expected str"),
    "no source": (lambda out: (out / "build/sources/Free.json").unlink(), "which tells licence and evidence, is missing"),
    "path of another licence": (move_to_other_licence, "its metadata says ct/cc-by-4.0/Free/"),
    "source of another licence": (lambda out: edit_source(out, "Free", license="CC0-1.0"), "its path says cc-by-4.0, its source CC0-1.0"),
    "damaged": (flip_a_byte, "its receipt says"),
    "no receipt": (lambda out: shutil.rmtree(out / "build/receipts/ct/cc-by-4.0"), "has no receipt"),
    "link": (link_elsewhere, "is a link that leads out of the folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_must_not_go_up_is_held_back(out: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage, said = REFUSED[name]
    damage(out)
    assert main(["publish", str(out), REPO, "--dry-run"]) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert f"held back: {'Free'}" in err
    assert said in err
    assert "nothing was uploaded" in err
    assert main(["publish", str(out), REPO, "--dry-run", "--allowed-only"]) == 0


def replace_as_a_build_does(path: Path, content: bytes) -> None:
    path.with_name("new").write_bytes(content)
    path.with_name("new").replace(path)


def manifest_of(publisher: Publisher, source: str) -> dict[str, str]:
    """Path -> sha256 of the published shards of a source, as its manifest says."""
    manifest = json.loads(publisher.git("show", f"main:sources/{source}.json"))
    return {f"data/{shard['shard']}.tar": shard["sha256"] for shard in manifest["shards"]}


def on_request(publisher: Publisher, pattern: str, act: Callable[[], Any]) -> list[str]:
    """Do something when the Hub gets the first request that matches; what it was is noted in what this returns."""
    seen: list[str] = []

    def matches(method: str, path: str) -> bool:
        if not seen and re.search(pattern, f"{method} {path}"):
            seen.append(path)
            act()
        return False

    publisher.hub.faults.add(matches)
    return seen


def test_shard_that_is_replaced_after_it_was_verified(publisher: Publisher, out: Path) -> None:
    """What was not judged does not go up: here under a licence whose samples say another."""
    tar = next(out.glob("data/ct/cc-by-4.0/Free/test-*.tar"))
    other = next(out.glob("data/mr/**/*.tar")).read_bytes()
    seen = on_request(publisher, "repos/create", lambda: replace_as_a_build_does(tar, other))
    code, said = publisher.run("publish", out, REPO, "--source", "Free")
    assert seen
    assert code == 1
    assert f"{tar} is no longer what was verified" in said
    assert publisher.tree() == set()
    code, said = publisher.run("publish", out, REPO, "--source", "Free")
    assert code == 1
    assert f"held back: {'Free'}" in said


@pytest.mark.parametrize("kind", ["data", "index"])
def test_file_that_vanishes_after_it_was_verified(publisher: Publisher, out: Path, kind: str) -> None:
    path = next(out.glob(f"{kind}/ct/cc-by-4.0/Free/test-*"))
    on_request(publisher, "repos/create", path.unlink)
    code, said = publisher.run("publish", out, REPO, "--source", "Free")
    assert code == 1
    assert f"{path} is no longer what was verified" in said
    assert publisher.tree() == set()


def test_shard_that_is_replaced_while_it_goes_up(publisher: Publisher, out: Path) -> None:
    """What arrives is what was judged, byte for byte, and what the manifest says."""
    tar = next(out.glob("data/ct/cc-by-4.0/Free/train-*.tar"))
    judged, path = tar.read_bytes(), tar.relative_to(out).as_posix()
    seen = on_request(publisher, "objects/batch|PUT /objects-", lambda: replace_as_a_build_does(tar, judged[::-1]))
    code, said = publisher.run("publish", out, REPO, "--source", "Free")
    assert seen
    assert code == 0, said
    script = f"""
import hashlib, json
from huggingface_hub import hf_hub_download
local = hf_hub_download({REPO!r}, {path!r}, repo_type="dataset")
print(json.dumps(hashlib.sha256(open(local, "rb").read()).hexdigest()))
"""
    assert publisher.script(script) == hashlib.sha256(judged).hexdigest() == manifest_of(publisher, "Free")[path]


def test_shard_that_is_replaced_between_two_commits(publisher: Publisher, tmp_path: Path) -> None:
    out = build_many(tmp_path)
    tars = sorted(out.rglob("*.tar"))
    seen = on_request(publisher, "/commit/", lambda: replace_as_a_build_does(tars[-1], tars[0].read_bytes()))
    code, said = publisher.run("publish", out, REPO)
    assert seen
    assert code == 1
    assert f"{tars[-1]} is no longer what was verified" in said
    assert "README.md" not in publisher.tree()
    assert tars[-1].relative_to(out).as_posix() not in publisher.tree()


def test_held_back_sources_stay_at_home(publisher: Publisher, out: Path) -> None:
    edit_source(out, "Free", license_evidence=None)
    code, said = publisher.run("publish", out, REPO)
    assert code == 1
    assert "nothing was uploaded: --allowed-only uploads the rest" in said
    assert not publisher.hub.requests
    code, said = publisher.run("publish", out, REPO, "--allowed-only")
    assert code == 0
    assert "held back: Free" in said
    assert publisher.tree() == shards_of(out, "Share", "Magnet")


def test_dry_run_asks_nobody(publisher: Publisher, out: Path) -> None:
    code, said = publisher.run("publish", out, REPO, "--dry-run", token=None)
    assert code == 0
    assert re.search(r"Magnet .* CC-BY-NC-4.0 .* all .* 1 ", said)
    assert not publisher.hub.requests


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", "Fre"], "holds no source Fre; it holds Free, Magnet, Share"),
        (["--modality", "pet"], "holds no modality pet; it holds ct, mr"),
        (["--source", "Magnet", "--tier", "permissive"], "holds no shard of what is asked for"),
    ],
)
def test_choices_that_hold_nothing(
    out: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", str(out), REPO, *arguments]) == 1
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("hf_wrong", "the Hub knows no such token"),
        (None, "the Hub knows no such token|there is no such dataset"),
        ("hf_reader", "this token may not write there"),
        ("hf_bob", "this token may not write there"),
    ],
)
def test_tokens_that_may_not(publisher: Publisher, out: Path, token: str | None, said: str) -> None:
    code, told = publisher.run("publish", out, REPO, "--source", "Share", token=token)
    assert code == 1
    assert re.search(said, told), told


def test_private_repository(publisher: Publisher, out: Path) -> None:
    code, said = publisher.run("publish", out, REPO, "--source", "Share", "--private")
    assert code == 0, said  # and its configs were streamed
    code, said = publisher.run("status", REPO, token="hf_bob")  # noqa: S106
    assert code == 1
    assert "there is no such dataset that this token may see" in said
    script = f"import json, sa_med2d_20m as s\ntry: s.load({REPO!r}, 'ct')\nexcept s.DatasetError as e: print(json.dumps(str(e)))"
    assert "no such dataset on the Hub that this token may see" in publisher.script(script, token="hf_bob")  # noqa: S106


def test_from_a_private_repository(publisher: Publisher, out: Path) -> None:
    """An output folder that somebody keeps on the Hub is published from there, and asked the same questions."""
    publisher.script(
        "import json; from huggingface_hub import HfApi; a = HfApi(); "
        "a.create_repo('ann/kept', repo_type='dataset', private=True); "
        f"a.upload_folder(repo_id='ann/kept', repo_type='dataset', folder_path={str(out)!r}); print(json.dumps(1))"
    )
    kept = "hf://datasets/ann/kept"
    code, said = publisher.run("verify", kept, "--deep")
    assert code == 0, said
    code, said = publisher.run("publish", kept, REPO, "--source", "Free")
    assert code == 0, said
    assert publisher.tree() == shards_of(out, "Free")
    code, said = publisher.run("status", REPO, kept)
    assert code == 0, said
    assert re.search("Free .* up to date", said)
    code, said = publisher.run("publish", kept, REPO, token="hf_bob")  # noqa: S106
    assert code == 1, said


def test_gated_repository(publisher: Publisher, out: Path) -> None:
    """Those without access are told where to ask, by the publisher and by the loader; its owner notices nothing."""
    publisher.first(out, "--source", "Share")
    publisher.script(
        "import json; from huggingface_hub import HfApi; "
        f"HfApi().update_repo_settings({REPO!r}, repo_type='dataset', gated='manual'); print(json.dumps(1))"
    )
    code, said = publisher.run("publish", out, REPO)
    assert code == 0, said
    before = publisher.git("rev-parse", "main")
    load = f"sum(1 for _ in s.load({REPO!r}, 'ct'))"
    assert publisher.script(f"import json, sa_med2d_20m as s\nprint(json.dumps({load}))") > 0
    script = f"import json, sa_med2d_20m as s\ntry: {load}\nexcept s.DatasetError as e: print(json.dumps(str(e)))"
    for token in ("hf_bob", None):
        for command in (["status", REPO], ["publish", out, REPO], ["withdraw", "Share", REPO]):
            code, said = publisher.run(*command, token=token)
            assert code == 1
            assert re.search("gated.* ask for it on the repository's page, and log in with 'hf auth login'", said), said
        said = publisher.script(script, token=token)
        assert re.search("gated; ask for access on its page, and log in with 'hf auth login' or give a token$", said), (
            said
        )
        assert "http" not in said
    assert publisher.git("rev-parse", "main") == before


def test_the_loader_says_that_a_token_is_wrong(publisher: Publisher, out: Path) -> None:
    publisher.first(out, "--source", "Share")
    script = f"import json, sa_med2d_20m as s\ntry: s.load({REPO!r}, 'ct')\nexcept s.DatasetError as e: print(json.dumps(str(e)))"
    said = publisher.script(script, token="hf_wrong")  # noqa: S106
    assert said == f"{REPO} cannot be read: the Hub knows no such token; log in with 'hf auth login', or set HF_TOKEN"


FAULTS: dict[str, dict[str, Any]] = {
    "busy": {"match": r"(PUT /objects-|/commit/|/preupload/)", "status": 503, "times": 2},
    "too many requests": {"match": r"objects/batch|/tree/", "status": 429, "times": 2, "retry_after": 0},
    "disk full": {"match": r"PUT /objects-", "status": 507, "times": 1},
    "answer lost": {"match": r"/commit/", "lose_answer": True, "times": 1},
    "cut in mid-upload": {"match": r"PUT /objects-", "lose_answer": True, "times": 1},
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_the_hub(publisher: Publisher, out: Path, name: str) -> None:
    fault = dict(FAULTS[name])
    publisher.hub.faults.add(fault.pop("match"), **fault)
    code, said = publisher.run("publish", out, REPO, "--source", "Magnet")
    if code != 0:
        assert "run the same command again" in said, said
        code, said = publisher.run("publish", out, REPO, "--source", "Magnet")
    assert code == 0, said
    assert publisher.tree() == shards_of(out, "Magnet")


def test_killed_at_any_moment(publisher: Publisher, out: Path) -> None:
    rng = random.Random(5)
    for _ in range(5):
        process = publisher.start("-m", "builder", "publish", out, REPO, "--tier", "commercial")
        time.sleep(rng.uniform(0.1, 2.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if publisher.hub.git_folder(REPO).is_dir() and "README.md" in publisher.tree():
            listed = publisher.git("show", "main:SOURCES.md")
            assert ("Share" in listed) == (shards_of(out, "Share") <= publisher.tree())
    code, said = publisher.run("publish", out, REPO, "--tier", "commercial")
    assert code == 0, said
    assert publisher.tree() == shards_of(out, "Free", "Share")
    assert publisher.sent() <= 2 * len(shards_of(out, "Free", "Share"))


def test_two_at_once(cold: Publisher, out: Path) -> None:
    """Both have read the same head; the one that comes second is told, and its next run finishes the job."""
    cold.first(out, "--source", "Free")
    cold.hub.faults.add(r"POST .*/preupload/", delay=3, times=2)
    both = [cold.start("-m", "builder", "publish", out, REPO, "--source", name) for name in ("Share", "Magnet")]
    told = [" ".join(process.communicate(timeout=120)[1].split()) for process in both]
    codes = [process.returncode for process in both]
    assert set(codes) == {0, 1}, told
    assert "somebody else has changed it meanwhile" in told[codes.index(1)]
    loser = ("Share", "Magnet")[codes.index(1)]
    assert cold.run("publish", out, REPO, "--source", loser)[0] == 0
    assert cold.tree() == shards_of(out, "Free", "Share", "Magnet")
    listed = cold.git("show", "main:SOURCES.md")
    assert all(name in listed for name in ("Free", "Share", "Magnet"))


def test_withdraw(publisher: Publisher, out: Path) -> None:
    publisher.first(out)
    publisher.tag("v1")
    code, said = publisher.run("withdraw", "Free", REPO)
    assert code == 0, said
    assert "tags that still hold it (--purge deletes them): v1" in said
    assert publisher.tree() == shards_of(out, "Share", "Magnet") | WITHDRAWN
    assert not [path for path in CARD if "Free" in publisher.git("show", f"main:{path}")]
    card = publisher.git("show", "main:README.md")
    assert "all-permissive" not in card  # nothing else was permissive
    code, said = publisher.run("withdraw", "Fre", REPO)
    assert code == 1
    assert f"{REPO} holds no source Fre" in said
    commits = publisher.commits()
    code, said = publisher.run("withdraw", "Fre", REPO, "--purge", "--yes")
    assert code == 1
    assert f"{REPO} holds no source Fre" in said
    assert publisher.commits() == commits
    code, said = publisher.run("withdraw", "Free", REPO, "--purge", "--yes")
    assert code == 0, said
    assert publisher.commits() == 1
    assert publisher.git("tag") == ""
    assert publisher.tree() == shards_of(out, "Share", "Magnet") | WITHDRAWN
    script = f"""
import json, sa_med2d_20m as s
print(json.dumps(sorted({{row["source"] for row in s.load({REPO!r}, "all")}})))
"""
    assert publisher.script(script) == ["Magnet", "Share"]


def test_what_was_withdrawn_is_not_published_again_unasked(publisher: Publisher, out: Path) -> None:
    publisher.first(out)
    assert publisher.run("withdraw", "Free", REPO)[0] == 0
    assert json.loads(publisher.git("show", "main:withdrawn.json")) == {"sources": ["Free"]}
    assert re.search("Free .* built, withdrawn from there", publisher.run("status", REPO, out)[1])
    before = publisher.git("rev-parse", "main")
    said_of_it = f"Free was withdrawn from {REPO}, and not published again without --again Free"
    code, said = publisher.run("publish", out, REPO)
    assert code == 0, said
    assert said_of_it in said
    assert publisher.git("rev-parse", "main") == before
    for asked in (["Free"], ["Free", "Share"]):
        code, said = publisher.run("publish", out, REPO, *(word for name in asked for word in ("--source", name)))
        assert (code, said_of_it in said) == (1, True), said
    assert publisher.run("withdraw", "Share", REPO, "--purge", "--yes")[0] == 0
    assert json.loads(publisher.git("show", "main:withdrawn.json")) == {"sources": ["Free", "Share"]}
    code, said = publisher.run("publish", out, REPO)
    assert f"Free, Share were withdrawn from {REPO}, and not published again without --again Free --again Share" in said
    assert publisher.tree() == shards_of(out, "Magnet") | WITHDRAWN
    code, said = publisher.run("publish", out, REPO, "--again", "Fre")
    assert (code, "--again Fre: no source of this name may be published" in said) == (1, True), said
    for _ in range(2):  # run again it finishes the job
        code, said = publisher.run("publish", out, REPO, "--again", "Free")
        assert code == 0, said
        assert publisher.tree() == shards_of(out, "Free", "Magnet") | WITHDRAWN
        assert json.loads(publisher.git("show", "main:withdrawn.json")) == {"sources": ["Share"]}
    listed = publisher.git("show", "main:SOURCES.md")
    assert ("Free" in listed, "Share" in listed) == (True, False)


UNREADABLE = (
    b"[" * 100_000,
    b'{"sources": "Free"}',
    b'{"sources": [1]}',
    b"\xff\xfe",
    b'{"sources": []}' + b" " * (1 << 20),
)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(content, id=str(at), marks=[pytest.mark.slow] if at else [])
        for at, content in enumerate(UNREADABLE)
    ],
)
def test_list_of_what_was_withdrawn_that_cannot_be_read(publisher: Publisher, out: Path, content: bytes) -> None:
    """Nothing is published past it, and no take-down waits for it."""
    publisher.first(out, "--tier", "commercial")
    put(publisher, "withdrawn.json", content)
    code, said = publisher.run("publish", out, REPO)
    assert (code, f"{REPO}: withdrawn.json" in said) == (1, True), said
    code, said = publisher.run("withdraw", "Free", REPO)
    assert code == 0, said
    assert "it was written anew, without what else was withdrawn before" in said
    assert publisher.tree() == shards_of(out, "Share") | WITHDRAWN
    assert json.loads(publisher.git("show", "main:withdrawn.json")) == {"sources": ["Free"]}


def test_a_purge_that_nobody_agreed_to(publisher: Publisher, out: Path) -> None:
    """Without a terminal it is refused, and at a terminal it asks: yes goes on, all else changes nothing."""
    publisher.first(out, "--tier", "commercial")
    publisher.tag("v1")
    before, asked = publisher.git("rev-parse", "main"), len(publisher.hub.requests)
    code, said = publisher.run("withdraw", "Free", REPO, "--purge")
    assert code == 1
    assert "where no terminal can be asked, say --yes. Nothing was changed" in said
    for answer in ("n\n", "\n", "never\n", "\x04"):
        code, said = at_a_terminal(publisher, answer, "withdraw", "Free", REPO, "--purge")
        assert code == 1, said
        assert f"deletes the tags of {REPO} that hold Free" in said
        assert "nothing was changed" in said
    assert (publisher.git("rev-parse", "main"), len(publisher.hub.requests)) == (before, asked)
    code, said = at_a_terminal(publisher, "y\n", "withdraw", "Free", REPO, "--purge")
    assert code == 0, said
    assert (publisher.commits(), publisher.git("tag")) == (1, "")
    assert publisher.tree() == shards_of(out, "Share") | WITHDRAWN


def at_a_terminal(publisher: Publisher, answer: str, *arguments: object) -> tuple[int, str]:
    """As `Publisher.run`, with a terminal where somebody types an answer when asked."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    try:
        process = publisher.start("-m", "builder", *arguments, stdin=theirs)
        os.write(ours, answer.encode())
        out, err = process.communicate(timeout=120)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Traceback" not in err, err
    assert process.returncode is not None
    return process.returncode, " ".join((out + err).split())


def put(publisher: Publisher, path: str, content: bytes) -> None:
    """Somebody else changes a file of the repository."""
    file = publisher.folder / "put"
    file.write_bytes(content)
    publisher.script(
        "import json; from huggingface_hub import HfApi; "
        f"HfApi().upload_file(path_or_fileobj={str(file)!r}, path_in_repo={path!r}, repo_id={REPO!r}, repo_type='dataset'); "
        "print(json.dumps(1))"
    )


def test_unreadable_manifest_of_another_source(publisher: Publisher, out: Path) -> None:
    """It blocks no take-down; it is named, and publishing that source again mends it."""
    publisher.first(out)
    put(publisher, "sources/Magnet.json", b'{"source": "somebody else wrote this')
    code, said = publisher.run("status", REPO)
    assert code == 0, said
    assert "Magnet.json is no JSON" in said
    code, said = publisher.run("publish", out, REPO, "--source", "Share")
    assert code == 1  # the card would lose a source
    assert "publish Magnet too, which writes it again, or withdraw it" in said
    code, said = publisher.run("withdraw", "Free", REPO)
    assert code == 0, said
    assert "Magnet.json is no JSON" in said
    assert "the card leaves Magnet out until it is published again" in said
    assert publisher.tree() == shards_of(out, "Share", "Magnet") | WITHDRAWN
    code, said = publisher.run("publish", out, REPO, "--source", "Magnet")
    assert code == 0, said
    listed = publisher.git("show", "main:SOURCES.md")
    assert ("Free" in listed, "Share" in listed, "Magnet" in listed) == (False, True, True)


def test_unreadable_manifest_of_what_is_withdrawn(publisher: Publisher, out: Path) -> None:
    publisher.first(out, "--tier", "commercial")
    put(publisher, "sources/Free.json", b"[" * 100_000)
    code, said = publisher.run("withdraw", "Free", REPO)
    assert code == 0, said
    assert publisher.tree() == shards_of(out, "Share") | WITHDRAWN


def sources_in_tables(publisher: Publisher, revision: str = "main") -> dict[str, list[str]]:
    """Path of each published table -> the sources that it has rows of."""
    read: dict[str, list[str]] = publisher.script(
        f"""
import io, json, pyarrow.parquet as pq
from huggingface_hub import HfFileSystem
files = HfFileSystem()
found = files.glob("datasets/{REPO}@{revision}/tables/*")
read = {{path.split("/", 3)[3]: set(pq.read_table(io.BytesIO(files.cat_file(path)))["source"].to_pylist()) for path in found}}
print(json.dumps({{path: sorted(names) for path, names in read.items()}}))
"""
    )
    return read


def test_tables_hold_what_is_published_and_nothing_else(publisher: Publisher, out: Path) -> None:
    """Tables of the folder, which hold everything, do not go up; a source that goes takes its rows with it."""
    edit_source(out, "Share", license_evidence=None)
    assert main(["index", str(out)]) == 0
    assert publisher.run("publish", out, REPO, "--source", "Free")[0] == 0
    code, said = publisher.run("publish", out, REPO, "--allowed-only", "--source", "Magnet", "--source", "Share")
    assert code == 0, said
    test = {f"tables/{kind}-test.parquet": ["Free"] for kind in ("index", "masks")}
    train = {f"tables/{kind}-train.parquet": ["Free", "Magnet"] for kind in ("index", "masks")}
    assert sources_in_tables(publisher) == {**test, **train}
    assert publisher.run("withdraw", "Free", REPO)[0] == 0
    assert sources_in_tables(publisher) == {path: ["Magnet"] for path in train}
    assert publisher.run("withdraw", "Magnet", REPO)[0] == 0
    assert publisher.tree() == CARD | WITHDRAWN


def another_index(publisher: Publisher, out: Path, damage: str) -> None:
    """Put another index in the place of Magnet's."""
    (path,) = (one.relative_to(out).as_posix() for one in out.glob("index/mr/*/Magnet/*.parquet"))
    publisher.script(
        f"""
import io, json, pyarrow as pa, pyarrow.parquet as pq
from huggingface_hub import HfApi
table = pq.read_table({str(out / path)!r}, partitioning=None)
data = io.BytesIO()
pq.write_table({damage}, data)
HfApi().upload_file(path_or_fileobj=data.getvalue(), path_in_repo={path!r}, repo_id={REPO!r}, repo_type="dataset")
print(json.dumps(1))
"""
    )


DAMAGES = {
    "table.slice(1)": "its manifest says",
    "table.drop_columns('key')": "is no index of this version",
    "table.set_column(table.column_names.index('license'), 'license', pa.array(['CC0-1.0'] * len(table)))": (
        "has rows whose license is 'cc0-1.0', expected 'cc-by-nc-4.0'"
    ),
    "table.set_column(table.column_names.index('shard'), 'shard', pa.array(['data/x.tar'] * len(table)))": (
        "has rows whose shard is 'data/x.tar'"
    ),
}


def test_an_index_that_somebody_changed_gives_no_rows(publisher: Publisher, out: Path) -> None:
    """It blocks no take-down; it is named, and publishing that source again mends it."""
    publisher.first(out, "--source", "Free", "--source", "Magnet")
    for damage, said in DAMAGES.items():
        another_index(publisher, out, damage)
        code, words = publisher.run("publish", out, REPO, "--source", "Share")
        assert code == 1
        assert said in words
        assert "publish that source too, which writes it again, or withdraw it" in words
    code, words = publisher.run("withdraw", "Free", REPO)
    assert code == 0, words
    assert said in words
    assert "the tables are deleted until the next publish writes them again" in words
    assert not [path for path in publisher.tree() if path.startswith("tables/")]
    assert publisher.run("publish", out, REPO, "--source", "Magnet")[0] == 0
    assert publisher.tree() == shards_of(out, "Magnet") | WITHDRAWN


def test_source_that_comes_back_while_it_is_purged(publisher: Publisher, out: Path) -> None:
    publisher.first(out, "--tier", "commercial")
    before = publisher.git("rev-parse", "main")
    on_request(publisher, "super-squash", lambda: publisher.git("update-ref", "refs/heads/main", before))
    code, said = publisher.run("withdraw", "Free", REPO, "--purge", "--yes")
    assert code == 1
    assert "somebody published Free again meanwhile" in said
    code, said = publisher.run("withdraw", "Free", REPO, "--purge", "--yes")
    assert code == 0, said
    assert publisher.tree() == shards_of(out, "Share") | WITHDRAWN


def test_killed_after_the_tag(publisher: Publisher, out: Path) -> None:
    """The tag was made, and its answer never came: the same command says so and succeeds; for anything else it is taken."""
    publisher.hub.faults.add("POST .*/tag/", lose_answer=True)
    code, said = publisher.run("publish", out, REPO, "--source", "Free", "--tag", "v1")
    tagged = publisher.git("rev-parse", "v1^{commit}")
    assert tagged == publisher.git("rev-parse", "main")
    commits = publisher.commits()
    code, said = publisher.run("publish", out, REPO, "--source", "Free", "--tag", "v1")
    assert code == 0, said
    assert "the tag v1 was there already, for the same" in said
    assert (publisher.commits(), publisher.git("rev-parse", "v1^{commit}")) == (commits, tagged)
    code, said = publisher.run("publish", out, REPO, "--source", "Share", "--tag", "v1")
    assert code == 1
    assert "the tag v1 exists already, for something else" in said
    assert publisher.tree() == shards_of(out, "Free")


def test_other_branch_and_taken_tag(publisher: Publisher, out: Path) -> None:
    publisher.first(out, "--source", "Free")
    publisher.tag("v1")
    code, said = publisher.run("publish", out, REPO, "--source", "Share", "--revision", "next")
    assert code == 0, said
    assert publisher.tree("next") == shards_of(out, "Free", "Share")
    assert publisher.tree() == shards_of(out, "Free")
    code, said = publisher.run("publish", out, REPO, "--source", "Share", "--tag", "v1")
    assert code == 1
    assert "the tag v1 exists already" in said
    assert publisher.tree() == shards_of(out, "Free")


def test_a_script_named_like_its_repository_is_refused(publisher: Publisher, out: Path) -> None:
    publisher.script(
        f"""
import json
from huggingface_hub import HfApi
HfApi().create_repo({REPO!r}, repo_type="dataset")
HfApi().upload_file(path_or_fileobj=b"x", path_in_repo="scans.py", repo_id={REPO!r}, repo_type="dataset")
print(json.dumps(1))
"""
    )
    code, said = publisher.run("publish", out, REPO, "--source", "Share")
    assert code == 1
    assert f"{REPO} holds scans.py" in said
    assert publisher.tree() == {"scans.py"}


def build_many(tmp_path: Path) -> Path:
    """60 shards with their indexes."""
    folder = tmp_path / "many"
    recipe = write_source(folder / "raw", "Many", cases=60)
    recipe.write_text('axes = ["x"]\n' + recipe.read_text() + '[splits]\ntrain = ["*"]\n')
    arguments = ["build", recipe, "--raw", folder / "raw", "--out", folder / "out", "--shard-size", "20KB"]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


def test_commits_are_of_the_size_that_the_hub_recommends(publisher: Publisher, tmp_path: Path) -> None:
    """60 shards with their indexes: more than one commit, none with half a shard, the card last."""
    out = build_many(tmp_path)
    code, said = publisher.run("publish", out, REPO)
    assert code == 0, said
    seen: set[str] = set()
    for commit in publisher.git("rev-list", "--reverse", "main").splitlines()[1:]:
        changed = set(publisher.git("diff-tree", "--no-commit-id", "--name-only", "-r", commit).splitlines())
        assert len(changed) <= 100
        seen |= changed
        stems = [
            {path.split("/", 1)[1].rsplit(".", 1)[0] for path in seen if path.startswith(kind)}
            for kind in ("data", "index/ct")
        ]
        assert {stem.removeprefix("ct/") for stem in stems[0]} == {stem.removeprefix("ct/") for stem in stems[1]}
        assert ("README.md" in seen) == (seen == shards_of(out, "Many"))
    assert publisher.commits() >= 3


def test_nothing_of_the_machine_goes_up(publisher: Publisher, out: Path) -> None:
    publisher.first(out, "--source", "Magnet")
    whole = "".join(
        publisher.git("show", f"main:{path}") for path in publisher.tree() if path.endswith((".md", ".json"))
    )
    for secret in (str(out), os.uname().nodename, TOKEN, "fingerprint", "quarantin"):
        assert secret not in whole


READ_BACK = f"""
import hashlib, json, datasets, sa_med2d_20m as s
from huggingface_hub import snapshot_download
from pathlib import Path
rows = {{}}
for config in sorted(set(datasets.get_dataset_config_names({REPO!r})) - {{"preview"}}):
    splits = datasets.load_dataset({REPO!r}, config, streaming=True)
    rows[config] = sorted(row["__key__"] for stream in splits.values() for row in stream)
ours = [row["key"] for row in s.load({REPO!r}, "all", split="train")]
chosen = {{row["source"] for row in s.load({REPO!r}, "all", split="train", planes="axial", labels="spleen")}}
folder = Path(snapshot_download({REPO!r}, repo_type="dataset"))
hashes = {{path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
          for path in folder.rglob("*") if path.suffix in (".tar", ".parquet") and "preview" not in path.parts}}
print(json.dumps([rows, sorted(ours), sorted(chosen), hashes]))
"""


def keys_of(out: Path, *marks: str) -> list[str]:
    """Keys of samples whose names hold one of these."""
    names = [name.removesuffix(".json") for name, _ in members(out) if name.endswith(".json")]
    return sorted(name for name in names if any(mark in name for mark in marks))


def test_by_xet(by_xet: Publisher, out: Path) -> None:
    """Publish, again, more, look, take down: as by LFS, but no byte of a shard goes to the store of LFS."""
    code, said = by_xet.run("publish", out, REPO, "--source", "Free", "--tag", "v1")
    assert code == 0, said
    assert by_xet.tree() == shards_of(out, "Free")
    assert (by_xet.sent(), by_xet.xet_uploads() > 0) == (0, True)
    before, uploads = by_xet.git("rev-parse", "main"), by_xet.xet_uploads()
    code, said = by_xet.run("publish", out, REPO, "--source", "Free")
    assert code == 0, said
    assert "0 files changed, 0 deleted" in said
    assert (by_xet.git("rev-parse", "main"), by_xet.xet_uploads()) == (before, uploads)
    code, said = by_xet.run("publish", out, REPO)
    assert code == 0, said
    assert by_xet.tree() == shards_of(out, "Free", "Share", "Magnet")
    assert by_xet.sent() == 0
    code, said = by_xet.run("status", REPO, out)
    assert code == 0, said
    assert len(re.findall("up to date", said)) == 3
    rows, ours, chosen, hashes = by_xet.script(READ_BACK, token=None)
    assert rows["all"] == keys_of(out, "--")
    assert rows["mr"] == keys_of(out, "--Magnet--")
    assert rows["ct-permissive"] == keys_of(out, "--Free--")
    records = [json.loads(data) for name, data in members(out) if name.endswith(".json")]
    assert ours == sorted(record["key"] for record in records if record["split"] == "train")
    assert chosen == ["Free", "Magnet", "Share"]
    assert main(["index", str(out)]) == 0  # all of the folder is published, so its tables are those of the repository
    assert hashes == {
        path: hashlib.sha256((out / path).read_bytes()).hexdigest()
        for path in shards_of(out, "Free", "Share", "Magnet")
        if path.endswith((".tar", ".parquet")) and not path.startswith("preview/")
    }
    code, said = by_xet.run("withdraw", "Free", REPO, "--purge", "--yes")
    assert code == 0, said
    assert by_xet.tree() == shards_of(out, "Share", "Magnet") | WITHDRAWN
    assert (by_xet.commits(), by_xet.git("tag")) == (1, "")
    rows = by_xet.script(READ_BACK, token=None)[0]
    assert rows["all"] == keys_of(out, "--Share--", "--Magnet--")
    assert "ct-permissive" not in rows


def test_the_card_shows_figures_of_all_that_is_there(publisher: Publisher, out: Path) -> None:
    """They come with the card, change with what is published, and go when a source is withdrawn, which they name."""
    pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
    publisher.figures = True
    assert publisher.run("publish", out, REPO, "--source", "Free")[0] == 0
    first = publisher.git("rev-parse", "main:figures/modalities.png")
    assert publisher.run("publish", out, REPO, "--source", "Magnet")[0] == 0
    shown = re.findall(r"!\[[^]]+\]\((\S+)\)", publisher.git("show", "main:README.md"))
    assert shown[:2] == ["preview/Free.jpg", "preview/Magnet.jpg"]
    shown = shown[2:]
    assert shown == [f"figures/{name}.png" for name in ("modalities", "organs", "classes", "longer_side", "mask_share")]
    there = {path for path in publisher.tree() if path.startswith("figures/")}
    assert there == {path.replace(".png", end) for path in shown for end in (".png", ".svg")}
    assert publisher.git("rev-parse", "main:figures/modalities.png") != first
    assert "mr 78 images" in publisher.git("show", "main:figures/modalities.svg")
    count = publisher.commits()
    assert publisher.run("publish", out, REPO, "--source", "Magnet")[0] == 0
    assert publisher.commits() == count
    assert publisher.run("withdraw", "Magnet", REPO)[0] == 0
    assert [path for path in publisher.tree() if path.startswith("figures/")] == []
    assert "figures/" not in publisher.git("show", "main:README.md")


def test_a_picture_stands_at_the_top_of_a_card(publisher: Publisher, out: Path) -> None:
    """Also without figures; one of each source, which goes with it."""

    def shown() -> list[str]:
        return re.findall(r"!\[[^]]+\]\((\S+)\)", publisher.git("show", "main:README.md"))

    assert publisher.run("publish", out, REPO, "--source", "Free")[0] == 0
    assert publisher.run("publish", out, REPO, "--source", "Magnet")[0] == 0
    assert shown() == ["preview/Free.jpg", "preview/Magnet.jpg"]
    side, coloured = publisher.script(PICTURE)
    assert side == 256
    assert coloured > 0.01  # by masks: the images are grey
    assert publisher.run("withdraw", "Free", REPO)[0] == 0
    assert shown() == ["preview/Magnet.jpg"]


PICTURE = f"""
import json, huggingface_hub, numpy, PIL.Image
path = huggingface_hub.hf_hub_download({REPO!r}, "preview/Magnet.jpg", repo_type="dataset")
pixels = numpy.asarray(PIL.Image.open(path).convert("RGB"), int)
print(json.dumps([max(pixels.shape), float((numpy.ptp(pixels, axis=2) > 60).mean())]))
"""


def test_croissant_describes_every_config(publisher: Publisher, out: Path) -> None:
    """By its own library: valid, and its records are what the metadata in the shards say."""
    mlcroissant = pytest.importorskip("mlcroissant")
    publisher.first(out)
    dataset = mlcroissant.Dataset(
        jsonld=json.loads(publisher.git("show", "main:croissant.json")), mapping={"repository": out}
    )
    # commits and tags of the repository are its dates and versions; here they would change with nothing else
    absent = ("datePublished", "version")
    assert list(dataset.metadata.issues.errors) == []
    assert all(any(name in warning for name in absent) for warning in dataset.metadata.issues.warnings)
    records = {
        record["key"]: record for record in (json.loads(data) for name, data in members(out) if name.endswith(".json"))
    }
    of_configs = {"ct-commercial": keys_of(out, "--Free--", "--Share--"), "mr": keys_of(out, "--Magnet--")}
    listed = set(re.findall(r"config_name: (\S+)", publisher.git("show", "main:README.md")))
    assert {one.name for one in dataset.metadata.record_sets} == listed - {"preview"}
    for config, keys in of_configs.items():
        found = [_plain(record, f"{config}/") for record in dataset.records(config)]
        assert sorted(record["key"] for record in found) == sorted(keys)
        for record in found:
            known = records[record["key"]]
            assert {name: record[name] for name in known if name in _COMPARED} == {
                name: value for name, value in known.items() if name in _COMPARED
            }
            assert [mask["label"] for mask in record["masks"]] == [mask["label"] for mask in known["masks"]]
    based = json.loads(publisher.git("show", "main:croissant.json"))["isBasedOn"]
    assert {one["alternateName"]: one["license"] for one in based} == {
        "Free": "https://spdx.org/licenses/CC-BY-4.0.html",
        "Magnet": "https://spdx.org/licenses/CC-BY-NC-4.0.html",
        "Share": "https://spdx.org/licenses/CC-BY-SA-4.0.html",
    }


_COMPARED = ("source", "modality", "license", "patient", "split", "plane", "index", "height", "width", "spacing")


def _plain(value: Any, prefix: str) -> Any:
    """A record of Croissant with the names of its fields alone, and texts for bytes."""
    if isinstance(value, dict):
        return {name.rsplit("/", 1)[-1]: _plain(item, prefix) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, prefix) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def test_the_viewer_is_shown_drawn_samples(publisher: Publisher, out: Path) -> None:
    """In a config of its own, which stock `datasets` reads; the label maps of the other configs stay as they are."""
    publisher.first(out)
    rows = publisher.script(PREVIEW_ROWS)
    assert {name.split("--")[1] for name, *_ in rows} == {"Free", "Magnet", "Share"}
    records = {name.removesuffix(".json"): json.loads(data) for name, data in members(out) if name.endswith(".json")}
    for name, size, other_size, drawn, masks in rows:
        assert size == other_size
        assert size[0] / size[1] == pytest.approx(records[name]["width"] / records[name]["height"], rel=0.02)
        assert masks == len(records[name]["masks"])
        assert drawn > 0
    assert publisher.run("withdraw", "Free", REPO)[0] == 0
    assert {path for path in publisher.tree() if path.startswith("preview/")} == {
        f"preview/{name}.{ending}" for name in ("Magnet", "Share") for ending in ("tar", "jpg")
    }
    assert "config_name: preview" in publisher.git("show", "main:README.md")
    assert publisher.run("publish", out, REPO, "--source", "Magnet")[0] == 0


PREVIEW_ROWS = f"""
import json, datasets, numpy
assert "preview" in datasets.get_dataset_config_names({REPO!r})
rows = datasets.load_dataset({REPO!r}, "preview", split="train", streaming=True)
print(json.dumps([
    [row["__key__"], row["jpg"].size, row["overlay.jpg"].size,
     int((numpy.abs(numpy.array(row["jpg"], int) - numpy.array(row["overlay.jpg"], int)) > 40).any(axis=2).sum()),
     len(row["json"]["masks"])]
    for row in rows
]))
"""
