"""Slices without a mask: all, none or a share of them, and always the same ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from builder.errors import RecipeError
from builder.sources.load import parse_recipe
from tests.support.command import Command
from tests.support.nifti import write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE, write_source
from tests.support.volumes import ct_like, organ_map


def keys_of(sa_med2d: Command, folder: Path, keep_empty: str, *more: str) -> set[str]:
    recipe = write_source(folder / "raw", cases=1)
    recipe.write_text(f"keep_empty = {keep_empty}\n{recipe.read_text()}")
    ran = sa_med2d("build", recipe, "--raw", folder / "raw", "--out", folder / keep_empty, *more)
    assert ran.code == 0, ran.err
    return {name.removesuffix(".json") for name, _ in members(folder / keep_empty) if name.endswith(".json")}


def test_a_share_is_chosen_by_the_hash_of_keys(sa_med2d: Command, tmp_path: Path) -> None:
    none, every = keys_of(sa_med2d, tmp_path, "false"), keys_of(sa_med2d, tmp_path, "true")
    empty = every - none
    chosen = {key for key in empty if int(hashlib.sha256(key.encode()).hexdigest()[:16], 16) < 0.3 * 2**64}
    assert 0 < len(chosen) < len(empty)
    assert keys_of(sa_med2d, tmp_path, "0.3") == none | chosen
    assert keys_of(sa_med2d, tmp_path, "0.999999") == every


def test_images_that_share_masks_keep_the_same_slices(sa_med2d: Command, tmp_path: Path) -> None:
    for name in ("t1", "t2"):
        write_nifti(tmp_path / f"images/a_{name}.nii.gz", ct_like(len(name)))
    write_nifti(tmp_path / "labels/a.nii.gz", organ_map())
    text = RECIPE.format(name="Pair", license="MIT", modality="mr").replace("{case}.nii", "{case}_{submodality}.nii", 1)
    (tmp_path / "Pair.toml").write_text(f"keep_empty = 0.5\n{text}")
    assert sa_med2d("build", tmp_path / "Pair.toml", "--raw", tmp_path, "--out", tmp_path / "out").code == 0
    keys = [name.split("--") for name, _ in members(tmp_path / "out") if name.endswith(".json")]
    assert {tuple(rest) for kind, *rest in keys if kind == "mr_t1"} == {
        tuple(rest) for kind, *rest in keys if kind == "mr_t2"
    }


@pytest.mark.parametrize("value", ["0.0", "1.0", "-0.1", "2", '"some"'])
def test_another_value_is_refused_in_one_sentence(value: str) -> None:
    text = RECIPE.format(name="Small", license="MIT", modality="ct")
    with pytest.raises(RecipeError) as raised:
        parse_recipe(f"keep_empty = {value}\n{text}", "Small.toml")
    assert str(raised.value).endswith("expected true, false, or a share above 0 and below 1")
