"""``overlap --html``: copies side by side, in a page that runs nothing and asks for nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from builder.command_line import main
from tests.support.browser import chromium, watched
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE
from tests.support.textures import texture

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patient who stands in train and, under another name, in test."""
    raw = tmp_path_factory.mktemp("twice")
    slices = [cv2.GaussianBlur(one.astype(np.float32), (0, 0), 2.5) for one in texture(1, side=128)]
    volume = np.stack(slices).astype(np.int16)
    mask = np.zeros(volume.shape, np.uint8)
    mask[:, 32:64, 10:60] = 1
    for case in ("a", "b"):
        write_nifti(raw / "Twice/images" / f"{case}.nii.gz", volume)
        write_nifti(raw / "Twice/labels" / f"{case}.nii.gz", mask)
    recipe = raw / "Twice.toml"
    splits = '[splits]\ntrain = ["a"]\ntest = ["b"]\n'
    recipe.write_text(RECIPE.format(name="Twice", license="CC-BY-4.0", modality="ct") + splits)
    assert main([str(one) for one in ("build", recipe, "--raw", raw, "--out", raw / "out", "--workers", 1)]) == 0
    return raw / "out"


@pytest.fixture
def copies(twice: Path, tmp_path: Path) -> Path:
    """Two slices of a set, one of them mirrored, in a folder of pictures whose names hold HTML."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    images = sorted((name, data) for name, data in members(twice) if re.search(r"Twice--a--x_\d+\.png$", name))
    for number, (_, data) in enumerate(images[2:4]):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None
        cv2.imwrite(str(folder / f"{number}{HOSTILE}.png"), pixels[:, :: 1 - 2 * number])
    return folder


def test_each_pair_has_both_images(sa_med2d: Command, twice: Path, copies: Path, tmp_path: Path) -> None:
    ran = sa_med2d("overlap", twice, copies, "--json", "--html", tmp_path / "page.html", "--workers", 1)
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    pairs = [pair for pair in found["pairs"] if pair["other"]["key"].startswith(("0", "1"))]
    assert {pair["other"]["key"] for pair in pairs} == {f"{number}{HOSTILE}" for number in (0, 1)}
    with chromium() as browser:
        seen = watched(browser, width=390, scheme="dark")
        page = seen.page
        page.goto((tmp_path / "page.html").as_uri())
        assert page.locator("article").count() == len(found["pairs"])
        for box, pair in zip(page.locator("article").all(), found["pairs"], strict=True):
            captions = box.locator("figcaption").all_text_contents()
            assert captions[0].startswith(pair["one"]["key"])
            assert captions[1] == pair["other"]["key"]
            assert ("mirrored left and right" in (box.text_content() or "")) == (pair["flip"] == "horizontal")
        sizes = page.evaluate("[...document.images].map((image) => [image.complete, image.naturalWidth > 0])")
        assert len(sizes) == 2 * len(found["pairs"])
        assert sizes == [[True, True]] * len(sizes)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert seen.said == []
        assert [url for url in seen.asked if not url.startswith(("data:", "file:"))] == []


def test_copies_in_two_splits_are_marked(sa_med2d: Command, twice: Path, tmp_path: Path) -> None:
    ran = sa_med2d("overlap", twice, "--html", tmp_path / "page.html", "--json", "--workers", 1)
    assert ran.code == 0, ran.err
    pairs = json.loads(ran.out)["pairs"]
    torn = [pair for pair in pairs if pair["one"]["split"] != pair["other"]["split"]]
    text = (tmp_path / "page.html").read_text()
    assert torn
    assert text.count("<strong>in ") == len(torn)
    assert len(pairs) == 1
    assert "1 pair with pictures" in ran.err
