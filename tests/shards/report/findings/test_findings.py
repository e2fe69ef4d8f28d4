"""``sa-med2d findings``: silent on a set that is right, and each seeded fault is found under its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.command_line import main
from tests.support.body import SIDE, SLICES, built_kidneys
from tests.support.browser import chromium, watched
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.seeded_faults import EXPECTED, FAULTS, with_fault
from tests.support.sources import RECIPE


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in which nothing is wrong."""
    return built_kidneys(tmp_path_factory.mktemp("right"))


def findings(sa_med2d: Command, out: Path, *options: object) -> list[dict[str, Any]]:
    ran = sa_med2d("findings", out, "--json", "--workers", 1, *options)
    assert ran.code == 0, ran.err
    found: list[dict[str, Any]] = json.loads(ran.out)["findings"]
    return found


def test_nothing_is_found_where_nothing_is_wrong(sa_med2d: Command, right: Path) -> None:
    assert findings(sa_med2d, right) == []
    ran = sa_med2d("findings", right)
    assert ran.out == f"{2 * SLICES} images of {2 * SLICES} in 1 source looked at: no findings\n"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_name(sa_med2d: Command, right: Path, fault: str, tmp_path: Path) -> None:
    with_fault(right, tmp_path / "out", FAULTS[fault])
    assert sa_med2d("index", tmp_path / "out").code == 0
    found = {one["check"]: one for one in findings(sa_med2d, tmp_path / "out")}
    assert EXPECTED[fault] in found
    one = found[EXPECTED[fault]]
    assert one["source"] == "Kidneys"
    assert one["examples"]
    assert all(key.startswith("ct_00--Kidneys--case") for key in one["examples"])


def test_a_shift_is_said_with_its_way_back(sa_med2d: Command, right: Path, tmp_path: Path) -> None:
    with_fault(right, tmp_path / "out", FAULTS["masks shifted by 10 pixels to the right"])
    assert sa_med2d("index", tmp_path / "out").code == 0
    ran = sa_med2d("findings", tmp_path / "out")
    assert "the borders of masks would lie on stronger edges 0 pixels up, " in ran.out
    assert " to the left: look for a shift between masks and images" in ran.out


def test_whole_cases_are_looked_at_until_there_are_enough_images(sa_med2d: Command, right: Path) -> None:
    ran = sa_med2d("findings", right, "--json", "--images", 3)
    assert (json.loads(ran.out)["images"], json.loads(ran.out)["of"]) == (SLICES, 2 * SLICES)


def test_what_is_no_set_is_refused(sa_med2d: Command, tmp_path: Path) -> None:
    ran = sa_med2d("findings", tmp_path)
    assert ran.code == 1
    assert "holds no index" in ran.err


@pytest.fixture(scope="module")
def mirrored(right: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set with its masks mirrored."""
    out = tmp_path_factory.mktemp("mirrored") / "out"
    with_fault(right, out, FAULTS["masks mirrored left and right"])
    assert main(["index", str(out)]) == 0
    return out


def test_a_finding_says_what_was_measured_and_why_the_threshold_is_there(sa_med2d: Command, mirrored: Path) -> None:
    one = next(one for one in findings(sa_med2d, mirrored) if one["check"] == "mirrored")
    assert one["measure"] > one["threshold"] == 1.05
    assert "when these are mirrored" in one["meaning"]
    assert "0.92 times" in one["reason"]  # of sets that are right, as docs/findings.md has it


def test_a_report_looks_too_where_it_is_asked_to(sa_med2d: Command, mirrored: Path, tmp_path: Path) -> None:
    """And otherwise reads no shard."""

    def said(*options: object) -> Any:
        assert sa_med2d("report", mirrored, "--to", tmp_path, *options).code == 0
        return json.loads((tmp_path / "statistics.json").read_text())["findings"]

    assert said() is None
    looked = said("--findings", 3)
    assert (looked["images"], looked["of"], looked["sources"]) == (SLICES, 2 * SLICES, 1)
    assert "mirrored" in {one["check"] for one in looked["findings"]}


def test_pictures_of_findings(sa_med2d: Command, mirrored: Path, tmp_path: Path) -> None:
    """In a browser: each example is drawn, is opened by a click, and the filter keeps those of a check."""
    ran = sa_med2d("findings", mirrored, "--html", tmp_path / "page.html")
    assert (ran.code, ran.out.splitlines()[-1].startswith(f"{tmp_path / 'page.html'}: ")) == (0, True)
    examples = {one["check"]: one["examples"] for one in findings(sa_med2d, mirrored)}
    with chromium() as browser:
        seen = watched(browser)
        page = seen.page
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_function(
            "() => [...document.querySelectorAll('.example')].slice(0, 5).every((one) => one.querySelector('canvas[data-frame]'))"
        )
        heads = page.locator(".finding h2 span").all_text_contents()
        assert [head.split(",")[0].replace(" ", "_") for head in heads] == [
            one["check"] for one in findings(sa_med2d, mirrored)
        ]
        shown = [one.get_attribute("title") for one in page.locator(".finding").first.locator(".example").all()]
        assert shown == list(examples[heads[0].split(",")[0].replace(" ", "_")])
        page.locator(".example").nth(2).click()
        page.wait_for_selector("#stage canvas")
        assert page.locator("#name").text_content() == shown[2]
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.title") == shown[2]
        page.select_option("#by-finding", "mirrored")
        assert page.locator(".tile:not([hidden])").count() == len(set(examples["mirrored"]))
        assert seen.said == []
        assert [url for url in seen.asked if not url.startswith(("data:", "file:"))] == []


def test_a_page_of_nothing_that_looks_wrong(sa_med2d: Command, right: Path, tmp_path: Path) -> None:
    assert sa_med2d("findings", right, "--html", tmp_path / "page.html").code == 0
    with chromium() as browser:
        page = watched(browser).page
        page.goto((tmp_path / "page.html").as_uri())
        expected = f"Nothing looks wrong: {2 * SLICES} of {2 * SLICES} images in 1 source looked at"
        assert page.locator("#found").text_content() == expected
        assert not page.locator("#filters").is_visible()


def test_masks_that_follow_no_edge_say_nothing(sa_med2d: Command, tmp_path: Path) -> None:
    """A tumour that is not seen in the picture, where what is around it has more texture."""
    random = np.random.default_rng(3)
    z, y, x = np.mgrid[:SLICES, :SIDE, :SIDE]
    apart = np.hypot(x - 48, y - 48)
    texture = random.normal(0, 1, (1, SIDE, SIDE)) + np.cumsum(random.normal(0, 0.1, z.shape), axis=0)
    volume = (1000 + texture * (4 + apart**1.5)).astype(np.int16)
    write_nifti(tmp_path / "Kidneys/images/case0.nii.gz", volume)
    write_nifti(tmp_path / "Kidneys/labels/case0.nii.gz", (apart < 9).astype(np.uint8))
    recipe = tmp_path / "Kidneys.toml"
    recipe.write_text(RECIPE.format(name="Kidneys", license="CC-BY-4.0", modality="mr"))
    assert sa_med2d("build", recipe, "--raw", tmp_path, "--out", tmp_path / "out", "--workers", 1).code == 0
    assert not {"shifted", "mirrored"} & {one["check"] for one in findings(sa_med2d, tmp_path / "out")}
