"""What nothing has, for every argument of the loader: an error with advice, and never an empty or unpainted split."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from builder.command_line import main
from sa_med2d_20m import LABELS, DatasetError, Prompts, Semantic, interleave, load
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
        ({"min_area": 0.01}, "min_area is 0.01, expected a number of pixels"),
        ({"min_area": -1}, "min_area is -1"),
        ({"balance": 0}, "balance is 0, expected a share"),
        ({"balance": float("nan")}, "balance is nan"),
        ({"shuffle": True}, "shuffle is True, expected a seed"),
        ({"shuffle": -3}, "shuffle is -3, expected a seed"),
        ({"revision": "v1.0.0"}, "revision is 'v1.0.0', but .* is no repository"),
        ({"split": "training"}, "no split 'training'; it has train, test"),
    ],
)  # fmt: skip
def test_what_nothing_has(out: Path, arguments: dict[str, Any], said: str) -> None:
    def ask(semantic: dict[str, Any] | None = None, **others: Any) -> None:
        load(out, "ct", view="image" if semantic is None else Semantic(**semantic), **others)

    with pytest.raises(DatasetError, match=said):
        ask(**arguments)


@pytest.mark.parametrize("values", [{"positive": -1}, {"negative": -1}, {"jitter": -0.1}, {"jitter": float("nan")}])
def test_prompts_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match=r"of the prompts is .* expected 0 or more"):
        Prompts(**values)


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
