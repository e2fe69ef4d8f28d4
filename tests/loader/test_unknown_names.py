"""What nothing has, for every argument of the loader: an error with advice, and never an empty or unpainted split."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.command_line import main
from sa_med2d_20m import (
    LABELS,
    Clip,
    DatasetError,
    Masks,
    Output,
    Prompts,
    Semantic,
    Where,
    collate,
    decode_masks,
    interleave,
    load,
    next_click,
    select,
)
from tests.support.nifti import write_nifti
from tests.support.sources import write_source
from tests.support.volumes import organ_map


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey and white matter in train; a stomach, another source, licence and plane in test alone."""
    folder = tmp_path_factory.mktemp("names")
    raw = folder / "raw"
    first = write_source(raw, "Brains", cases=2)
    first.write_text(first.read_text().replace('"liver"', '"grey_matter"').replace('"spleen"', '"white_matter"'))
    rare = organ_map()
    rare[5, 2:20, 2:20] = 1  # more grey matter than any slice of train shows
    rare[10:14, 30:36, 4:10] = 7
    write_nifti(raw / "Brains/labels/case01.nii.gz", rare)
    first.write_text(first.read_text() + '7 = "stomach"\n[splits]\ntrain = ["case00"]\ntest = ["case01"]\n')
    second = write_source(raw, "Others", cases=1, license_id="MIT")
    second.write_text(second.read_text() + '[splits]\ntest = ["*"]\n')
    arguments = ["build", first, second, "--raw", raw, "--out", folder / "out", "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"semantic": {"classes": ["gray_matter"]}}, r"no classes 'gray_matter' here; did you mean grey_matter"),
        ({"semantic": {"classes": ["grey_matter", "white matter"]}}, r"no classes 'white matter' .*did you mean white_matter"),
        ({"semantic": {"classes": "grey_mater"}}, r"no classes 'grey_mater' here; did you mean grey_matter"),
        ({"semantic": {"classes": ["stomach"]}}, "split 'train' has no classes 'stomach'; split 'test' has it"),
        ({"semantic": {"classes": ["liver", "stomach"]}}, "has no classes 'liver', 'stomach'; split 'test' has one"),
        ({"semantic": {"classes": ["lung"]}}, "no image here shows one of the classes lung; there are grey_matter, white_"),
        ({"semantic": {"classes": []}}, "classes is empty"),
        ({"semantic": {"classes": ["liver", "liver"]}}, "classes names 'liver' twice"),
        ({"semantic": {"overlap": ["grey mater"]}}, "no overlap 'grey mater' here; did you mean grey_matter"),
        ({"semantic": {"overlap": "smal"}}, "no overlap 'smal' here; did you mean small"),
        (
            {"semantic": {"classes": ["grey_matter"], "overlap": ["white_matter"]}},
            "overlap names 'white_matter', which is none of the classes grey_matter",
        ),
        ({"semantic": {"classes": LABELS[:255], "ignore": True}}, "gives 255 to what is not annotated: name at most 254"),
        ({"labels": "stomach"}, "split 'train' has no labels 'stomach'; split 'test' has it"),
        ({"organs": "stomach"}, "split 'train' has no organs 'stomach'; split 'test' has it"),
        ({"sources": "Others"}, "split 'train' has no sources 'Others'; split 'test' has it"),
        ({"licenses": "MIT"}, "split 'train' has no licenses 'mit'; split 'test' has it"),
        ({"sources": "Brains", "labels": "stomach"}, "split 'train' has no labels 'stomach'; split 'test' has it$"),
        ({"sources": "Brains", "labels": "stomach", "planes": "axial"}, "has no labels 'stomach'; split 'test' has it"),
        (
            {"labels": "grey_matter", "min_area": 230},
            r"has labels grey_matter and min_area 230 at once, .*, in split 'train'; split 'test' has \d+ such",
        ),
        (
            {"labels": "grey_matter", "min_area": 250, "planes": "coronal"},
            r"has labels grey_matter and min_area 250 and planes coronal at once, .* 'train'; no other split has such an image",
        ),
        ({"labels": ["stomac"]}, "no labels 'stomac' here; there are grey_matter, white_matter"),
        ({"labels": []}, "labels is empty"),
        ({"planes": ()}, "planes is empty"),
        ({"sources": []}, "sources is empty"),
        ({"labels": [3]}, "labels holds 3, expected names"),
        ({"licenses": [None]}, "licenses holds None, expected names"),
        ({"min_area": 10**6}, r"no mask of 1000000 pixels here, .* the largest has \d+"),
        ({"min_area": 0.01}, "min_area is 0.01, expected a whole number from 0 on"),
        ({"min_area": -1}, "min_area is -1"),
        ({"balance": 0}, "balance is 0, expected a share"),
        ({"balance": float("nan")}, "balance is nan"),
        ({"shuffle": True}, "shuffle is True, expected a whole number from 0 on"),
        ({"shuffle": -3}, "shuffle is -3, expected a whole number from 0 on"),
        ({"revision": "v1.0.0"}, "revision is 'v1.0.0', but .* is no repository"),
        ({"split": "training"}, "no split 'training'; it has train, test"),
        ({"split": None}, "split is None, expected names such as"),
        ({"split": "train[:200%]"}, r"split is 'train\[:200%\]', expected names such as"),
        ({"labels": 3}, "labels is 3, expected names"),
        ({"sources": 1}, "sources is 1, expected names"),
        ({"licenses": 1}, "licenses is 1, expected names"),
        ({"where": {"patients": "a"}}, r"where is {'patients': 'a'}, expected Where"),
        ({"prompts": True}, r"prompts is True, expected Prompts"),
        ({"streaming": "no"}, "streaming is 'no', expected True or False"),
        ({"token": 3}, "token is 3, expected a text, True or False"),
        ({"storage_options": "a"}, "storage_options is 'a', expected options by their names"),
        ({"cache": 3}, "cache is 3, expected the path of a folder"),
        ({"decode": 256}, r"decode is 256, expected 'numpy' or .* or Output"),
        ({"view": "volumes"}, r"view is 'volumes', expected 'image' or .* or Masks\(...\) or Semantic\(...\) or Clip"),
        ({"view": Clip(30)}, "has 30 neighbouring slices, .* 'train'; no other split has such an image"),
        ({"semantic": {"classes": 5}}, "classes is 5, expected names"),
        ({"semantic": {"overlap": 3}}, "overlap is 3, expected names"),
        ({"semantic": {"ignore": "yes"}}, "ignore is 'yes', expected True or False"),
    ],
)  # fmt: skip
def test_what_nothing_has(out: Path, arguments: dict[str, Any], said: str) -> None:
    def ask(semantic: dict[str, Any] | None = None, view: Any = "image", **others: Any) -> None:
        load(out, "ct", view=view if semantic is None else Semantic(**semantic), **others)

    with pytest.raises(DatasetError, match=said):
        ask(**arguments)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"positive": -1}, "a whole number from 0 on"),
        ({"positive": 1.5}, "a whole number from 0 on"),
        ({"negative": "2"}, "a whole number from 0 on"),
        ({"seed": "a"}, "a whole number from 0 on"),
        ({"jitter": -0.1}, "a number from 0 on"),
        ({"jitter": float("nan")}, "a number from 0 on"),
        ({"jitter": float("inf")}, "a number from 0 on"),
        ({"coarse": "a"}, "a number from 0 on"),
    ],
)
def test_prompts_that_cannot_be(values: dict[str, Any], expected: str) -> None:
    [[name, value]] = values.items()
    with pytest.raises(DatasetError, match=rf"^{name} of the prompts is {value!r}, expected {expected}$"):
        Prompts(**values)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: Where(patients=3), "patients is 3, expected names"),  # type: ignore[arg-type]
        (lambda: Output(normalise=True), "Output: no normalise True here; there are imagenet"),  # type: ignore[arg-type]
        (lambda: Masks(seed=-1), "seed is -1, expected a whole number from 0 on"),
        (lambda: Prompts(texts=3), "texts is 3, expected texts, True or False"),  # type: ignore[arg-type]
        (lambda: Prompts(texts=["{phrase.x}"]), "texts holds '{phrase.x}', expected a text with {phrase}"),
        (lambda: Output(256.0), "size is 256.0, expected a whole number from 1 to"),  # type: ignore[arg-type]
        (lambda: Output(window=40), "window is 40, expected (centre, width)"),  # type: ignore[arg-type]
        (lambda: Prompts(texts=["{phrase[a]}"]), "texts holds '{phrase[a]}', expected a text with"),
        (lambda: next_click([[0, 1], [1]], [[0, 1], [1, 0]]), "the mask is no array; expected"),
        (
            lambda: collate([{"image": np.ones((2, 2)), "mask": 1}, {"image": np.ones((2, 2))}]),
            "rows of a batch differ in columns: image, and image, mask",
        ),
        (lambda: next_click(None, None), "the mask holds object, expected bool or numbers"),
        (lambda: next_click(np.ones((2, 2)), np.ones((2, 2)), seed=-1), "seed is -1, expected a whole number"),
        (lambda: collate([{"image": b"png"}]), "a batch is made of rows of load with arrays or tensors, got {'image'"),
        (lambda: decode_masks(3), "the sample is 3, expected a row"),  # type: ignore[arg-type]
        (lambda: load(5), "path is 5, expected a folder, an address or the name of a"),  # type: ignore[arg-type]
        (lambda: select(".", lables="liver"), "select: no filter 'lables' here; did you mean labels"),
        (lambda: select(".", splits=3), "splits is 3, expected names"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be(out: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Any], said: str) -> None:
    monkeypatch.chdir(out)
    with pytest.raises(DatasetError, match=re.escape(said)):
        ask()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": ["ct"]}, r"weights is \['ct'\], expected weights by the names of modalities"),
        ({"seed": "a"}, "seed is 'a', expected a whole number from 0 on"),
        ({"where": "ct"}, "where is 'ct', expected Where"),
    ],
)
def test_mixtures_that_cannot_be(out: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        interleave(out, "all", **options)


@pytest.mark.parametrize("weight", [-1, "much", float("inf")])
def test_weights_that_cannot_be(out: Path, weight: Any) -> None:
    with pytest.raises(DatasetError, match=r"the weight of ct is .* expected a number from 0 on"):
        interleave(out, "all", weights={"ct": weight})


def test_classes_of_the_vocabulary_may_be_missing_in_a_split(out: Path) -> None:
    """One list of classes serves all splits, as class numbers must."""
    classes = ["grey_matter", "white_matter", "stomach", "lung"]
    shown = {split: {value for row in load(out, "ct", split=split, view=Semantic(classes, ["lung"]))
                     for value in set(row["mask"].ravel().tolist())} for split in ("train", "test")}  # fmt: skip
    assert shown == {"train": {0, 1, 2}, "test": {0, 1, 2, 3}}


def test_a_split_that_was_not_downloaded(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "part", ignore=shutil.ignore_patterns("train-*.tar"))
    assert len(list(load(tmp_path / "part", "ct", split="test"))) > 0
    said = r"its card promises split 'train' .* no file data/ct/cc-by-4.0/\*/train-\*.tar; it was downloaded in part"
    for options in ({}, {"sources": "Brains"}, {"streaming": False}):
        with pytest.raises(DatasetError, match=said):
            load(tmp_path / "part", "ct", **options)
