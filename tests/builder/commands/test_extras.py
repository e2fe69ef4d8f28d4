"""What each installation can do, and which extra the rest asks for.

A process that finds only the packages of an installation stands for it: those that ``pyproject.toml`` names, and what
these need in turn.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.command import run_quietly
from tests.support.sources import write_source

ROOT: Final = Path(__file__).parents[3]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

COMMAND: Final = "import sys; from builder.command_line import main; sys.exit(main(sys.argv[1:]))"

LOAD: Final = """
import sys
from sa_med2d_20m import decode_masks, load
rows = list(load(sys.argv[1], "ct-permissive", split=sys.argv[2]))
print(len(rows), sum(len(decode_masks(row)) for row in rows), sys.modules["sa_med2d_20m"].__file__)
"""

Installation = Callable[..., "subprocess.CompletedProcess[str]"]


def needed(requirements: Iterable[str]) -> set[str]:
    """Distributions that are installed with requirements, among those that are here."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for chosen in ("", *requirement.extras):
            if (name, chosen) not in found:
                found.add((name, chosen))
                waiting += [(Requirement(text), chosen) for text in further(name, chosen)]
    return {name for name, _ in found}


def further(name: str, extra: str) -> list[str]:
    if name == PROJECT["name"]:  # as the file says, not as it was when it was installed
        optional: dict[str, list[str]] = PROJECT["optional-dependencies"]
        return optional[extra] if extra else list(PROJECT["dependencies"])
    try:
        return requires(name) or []
    except PackageNotFoundError:  # pure choice of the platform, or of an extra that is not installed here
        return []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Runs code where only what an installation brings is found; each is a folder of links to it."""

    @cache
    def packages(extras: str) -> Path:
        folder = tmp_path_factory.mktemp("packages")
        for name in needed([f"{PROJECT['name']}[{extras}]"]):
            with suppress(PackageNotFoundError):
                link(distribution(name), folder)
        return folder

    def run_in(extras: str, code: str, *arguments: object, beside: Path = ROOT) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(map(str, (beside, packages(extras))))
        command = [sys.executable, "-S", "-c", code, *map(str, arguments)]  # -S: without the packages that are here
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=beside, check=False)

    return run_in


def link(installed: Distribution, folder: Path) -> None:
    """Make what a distribution has at the top of the packages findable in a folder."""
    tops = {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__", "bin"}
    for top in tops:
        if not top.endswith(".pth") and not (folder / top).exists():
            (folder / top).symlink_to(Path(str(installed.locate_file(top))))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("raw"), cases=1).parent


@pytest.fixture(scope="module")
def built(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nobody writes to it."""
    out = tmp_path_factory.mktemp("built") / "out"
    assert run_quietly("build", raw / "Small.toml", "--raw", raw, "--out", out, "--workers", 1).code == 0
    return out


def test_loading_needs_no_extra(run: Installation, built: Path) -> None:
    [shard] = (built / "data").rglob("*.tar")
    ran = run("", LOAD, built, shard.name.partition("-")[0])
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split()[:2] == ["78", "78"]  # the boxes cross 17 + 31 + 30 planes, and no plane crosses both


def test_loader_is_one_file(run: Installation, built: Path, tmp_path: Path) -> None:
    [shard] = (built / "data").rglob("*.tar")
    beside = tmp_path / "project"
    beside.mkdir()
    shutil.copy(ROOT / "sa_med2d_20m.py", beside)
    ran = run("", LOAD, built, shard.name.partition("-")[0], beside=beside)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split()[2] == str(beside / "sa_med2d_20m.py")


@pytest.mark.parametrize(
    ("installed", "command", "extra"),
    [
        ("", "build Small.toml --raw RAW --out OUT", "build"),
        ("publish", "build Small.toml --raw RAW --out OUT", "build"),
        ("", "build Small.toml --raw RAW --out OUT --executor local", "build"),
        ("", "sources list", "build"),
        ("", "sources check Small.toml", "build"),
        ("", "sources init --from RAW --name A --license MIT --modality ct", "build"),
        ("", "fetch Small.toml --raw RAW", "fetch"),
        ("", "index OUT", "publish"),
        ("", "verify OUT", "publish"),
        ("", "publish OUT a/b --dry-run", "publish"),
        ("", "remove Small OUT --dry-run", "publish"),
        ("", "withdraw Small a/b", "publish"),
        ("", "status a/b", "publish"),
        ("", "export OUT --to to --layout files", "export"),
        ("publish", "export OUT --to to --layout coco", "export"),
        ("", "demo --out OUT", "demo"),
        ("build", "demo --out OUT", "demo"),
        ("build", "build Small.toml --raw RAW --out OUT --executor ray", "ray"),
        ("build", "build Small.toml --raw RAW --out OUT --executor slurm", "slurm"),
    ],
)
def test_command_names_the_extra_that_it_lacks(
    run: Installation, installed: str, command: str, extra: str, built: Path, raw: Path
) -> None:
    places = {"RAW": raw, "OUT": built, "Small.toml": raw / "Small.toml"}
    ran = run(installed, COMMAND, *(places.get(word, word) for word in command.split()))
    assert ran.returncode == 1
    *before, said = ran.stderr.splitlines()
    assert said.startswith("error: ")
    assert said.endswith(f": pip install 'sa-med2d-20m[{extra}]'")
    assert not any("Traceback" in line for line in before)


@pytest.mark.parametrize("url", ["s3://bucket/out", "gs://bucket/out"])
@pytest.mark.parametrize("command", ["verify URL", "build Small.toml --raw RAW --out URL"])
def test_address_names_the_extra_that_it_lacks(run: Installation, url: str, command: str, raw: Path) -> None:
    ran = run("build", COMMAND, *command.replace("URL", url).replace("RAW", str(raw)).split())
    assert ran.returncode == 2
    assert ran.stderr.endswith(f"{url} needs packages that are not installed: pip install 'sa-med2d-20m[{url[:2]}]'\n")


def test_what_publishing_installs_verifies_and_indexes(run: Installation, built: Path, tmp_path: Path) -> None:
    out = shutil.copytree(built, tmp_path / "out")
    for command in (["verify", out, "--deep"], ["index", out], ["verify", out]):
        ran = run("publish", COMMAND, *command)
        assert ran.returncode == 0, ran.stderr


def test_what_building_installs_builds(run: Installation, raw: Path, tmp_path: Path) -> None:
    command = ["build", raw / "Small.toml", "--raw", raw, "--out", tmp_path / "out", "--workers", 1]
    ran = run("build", COMMAND, *command)
    assert ran.returncode == 0, ran.stderr
