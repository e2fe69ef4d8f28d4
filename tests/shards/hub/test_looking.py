"""Copies and findings of a repository: ``overlap`` and ``findings`` read it over the socket as they read a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sa_med2d_20m import decode_png
from tests.hub.server import HubServer
from tests.support.body import built_kidneys
from tests.support.command import Command
from tests.support.output import members
from tests.support.warm_process import COMMANDS, WarmProcess

REPO = "ann/scans"
LOOKING = (
    "shards.duplicates.answer",
    "shards.duplicates.built",
    "shards.duplicates.folder",
    "shards.report.findings.look",
)
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients whose left and right are swapped."""
    return built_kidneys(tmp_path_factory.mktemp("swapped"), lambda kidneys: np.where(kidneys > 0, 3 - kidneys, 0))


@pytest.fixture(scope="module")
def hub_says(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs a command against a Hub that holds the set, and gives its exit code and what it says."""
    place = tmp_path_factory.mktemp("hub")
    with HubServer(place / "hub", objects="direct") as hub:
        hub.add_user("ann", "hf_ann")
        environment = hub.environment(home=place / "home", token="hf_ann")  # noqa: S106 - of the tests' own Hub
        with WarmProcess(environment, (*COMMANDS, *LOOKING)) as processes:

            def run(*arguments: object) -> tuple[int, str]:
                process = processes.start(["-m", "builder", *map(str, arguments)], environment, place)
                out, err = process.communicate(timeout=120)
                assert process.returncode is not None
                return process.returncode, err if process.returncode else out

            code, said = run("publish", folder, REPO, "--no-figures")
            assert code == 0, said
            yield run


@pytest.fixture(scope="module")
def on_the_hub(hub_says: Callable[..., tuple[int, str]]) -> Run:
    """Runs a command there that must succeed, and gives its JSON."""

    def run(*arguments: object) -> dict[str, Any]:
        code, said = hub_says(*arguments)
        assert code == 0, said
        found: dict[str, Any] = json.loads(said)
        return found

    return run


def test_mirrored_pictures_are_found_in_a_repository(on_the_hub: Run, folder: Path, tmp_path: Path) -> None:
    held = {name.removesuffix(".png"): data for name, data in members(folder) if name.endswith(".png")}
    keys = [key for key in sorted(held) if "--case1--" in key and not key.endswith(".mask")][::5]
    for key in keys:
        cv2.imwrite(str(tmp_path / f"{key[-4:]}.png"), decode_png(held[key])[:, ::-1])
    found = on_the_hub("overlap", REPO, tmp_path, "--json", "--workers", 1)
    assert {(pair["other"]["key"], pair["flip"]) for pair in found["pairs"]} == {
        (key[-4:], "horizontal") for key in keys
    }
    assert {pair["one"]["case"] for pair in found["pairs"]} == {"case1"}
    assert not {pair["one"]["key"] for pair in found["pairs"]} - set(held)


def test_a_repository_is_the_same_set_as_its_folder(on_the_hub: Run, folder: Path) -> None:
    found = on_the_hub("overlap", folder, REPO, "--json", "--workers", 1)
    assert [(pair["kind"], pair["distance"], pair["flip"]) for pair in found["pairs"]] == [("volume", 0.0, "none")] * 2
    assert [pair["one"]["case"] for pair in found["pairs"]] == [pair["other"]["case"] for pair in found["pairs"]]


def test_findings_of_a_repository_are_those_of_its_folder(on_the_hub: Run, folder: Path, sa_med2d: Command) -> None:
    found = on_the_hub("findings", REPO, "--json", "--workers", 1)["findings"]
    assert [one["check"] for one in found] == ["sides"]
    assert found == json.loads(sa_med2d("findings", folder, "--json", "--workers", 1).out)["findings"]


def test_a_repository_that_is_not_there_is_said(hub_says: Callable[..., tuple[int, str]]) -> None:
    code, said = hub_says("stats", "ann/none")
    assert (code, "hf://datasets/ann/none: is not there (" in said, "run the same command" in said) == (1, True, False)


@pytest.mark.parametrize("command", [("publish", "OUT"), ("status",), ("withdraw", "Kidneys")])
def test_a_name_of_no_repository_is_refused(sa_med2d: Command, command: tuple[str, ...]) -> None:
    """Before the Hub makes one of that name for the user."""
    ran = sa_med2d(*command, "scans")
    assert (ran.code, "'scans' is no name of a repository; expected owner/name" in ran.err) == (2, True)
