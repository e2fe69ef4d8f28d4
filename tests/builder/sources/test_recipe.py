"""Recipes: what is accepted, and what is said about what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.sources import RECIPE

GOOD = RECIPE.format(name="Good", license="CC-BY-4.0", modality="ct")


def check(sa_med2d: Command, tmp_path: Path, text: str) -> str:
    recipe = tmp_path / "Bad.toml"
    recipe.write_text(text)
    ran = sa_med2d("sources", "check", recipe)
    assert ran.code == 1
    assert "Traceback" not in ran.err
    return ran.err.replace(str(recipe), "Bad.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title =", "titel =", ["Bad.toml: titel: unknown key; did you mean 'title'?", "Bad.toml: title: is required"]),
        ('mask = "', 'maks = "', ["files.maks: unknown key; did you mean 'mask'?"]),
        ('"CC-BY-4.0"', '"CC BY 4"', ["license: 'CC BY 4' is no SPDX identifier"]),
        ('"ct"', '"computed tomography"', ["modality: 'computed tomography'", "'x_ray'"]),
        ('"Good"', '"Go--od"', ["name: 'Go--od': expected letters"]),
        ('"Good"', '"Good-"', ["name: 'Good-'"]),
        ('modality = "ct"', 'modality = "ct"\naxes = ["x", "z", "x"]', ["axes: one axis stands there twice"]),
        ("images/{case}", "images/{caes}", ["{caes} is no capture; allowed are {case}, {patient}"]),
        ("images/{case}", "images/{*}", ["captures neither {case} nor {patient}"]),
        ("labels/{case}", "labels/{*}", ["shares neither {case} nor {patient} with the image pattern"]),
        ("images/{case}", "../images/{case}", ["no path below the source's root"]),
        ("images/{case}", "images/{case", ["brace without its partner"]),
        ('1 = "liver"', 'one = "liver"', ["labels: 'one': expected a pixel value", "names need masks.segments = true"]),
        ('1 = "liver"', '"#ff0000" = "liver"', ["labels: mixes colour and value keys"]),
        ('1 = "liver"', '1 = { label = "liver", organ = "livr" }', ["labels.1.organ: 'livr'", "'liver'"]),
        ('1 = "liver"', '1 = { label = "liver", orgn = "liver" }', ["labels.1.orgn: unknown key; did you mean 'organ'?"]),
        ('2 = "spleen"', "2 = 5", ["labels.2"]),
        ('2 = "spleen"', '2 = "spleen"\n[regions]\nboth = [1, 3]', ["regions: both: 3; [labels] has 1, 2"]),
        ('2 = "spleen"', '2 = "spleen"\n[masks]\nthreshold = 9', ["[labels] must have one entry"]),
        ('2 = "spleen"', '2 = "spleen"\n[masks]\ninstances = true', ['"*" and masks.instances = true go together']),
        ('2 = "spleen"', '2 = "spleen"\n[masks]\nthreshold = "9"', ["masks.threshold: '9': input should be a valid number"]),
        ('2 = "spleen"', '2 = "spleen"\n[intensity]\nmode = "window"', ["center and width: both for mode 'window'"]),
        ('2 = "spleen"', '2 = "spleen"\n[splits]\ntrain = ["a"]\ntest = ["a"]', ["one value stands in two splits"]),
        (
            '2 = "spleen"',
            '2 = "spleen"\n[splits]\nratios = [0.7, 0.2, 0.2]',
            ["splits.ratios: expected shares of train, validation and test that add up to 1, these give 1.1"],
        ),
        ('2 = "spleen"', '2 = "spleen"\n[splits]\ndev = ["a"]', ["splits.dev: unknown key; allowed are train, validation, test, file, patient, split"]),
        ('2 = "spleen"', '2 = "spleen" 3', ["no valid TOML"]),
        ('2 = "spleen"', f"2 = {'[' * 20_000}", ["Bad.toml: no valid recipe: its values are nested too deep"]),
        ('2 = "spleen"', f"2 = {'9' * 5000}", ["no valid TOML: Exceeds the limit"]),
        ('2 = "spleen"', '2 = "spleen"\n[regions]\n"a (b)" = [1, 2]', ["regions: 'a (b)': expected a class name"]),
        ('2 = "spleen"', '2 = "spleen"\n[regions]\n2 = [1, 2]', ["regions: '2' is a key of [labels] too"]),
        ('2 = "spleen"', '2 = "spleen"\n[intensity]\nmode = "window"\ncenter = nan\nwidth = 9', ["center: nan: "]),
        ('2 = "spleen"', '2 = "spleen"\n[intensity]\nmode = "window"\ncenter = 1\nwidth = inf', ["width: inf: "]),
        ('2 = "spleen"', '2 = "spleen"\n[masks]\nthreshold = -inf', ["masks.threshold: -inf: input should be a finite"]),
        ("[labels]", 'case = "{case"\n[labels]', ["files: case: '{case': expected text with what", "captures: {case}"]),
        ("[labels]", 'case = "{case!r}"\n[labels]', ["files: case: '{case!r}': expected"]),
        ("[labels]", 'case = "{case:>{case}}"\n[labels]', ["files: case: "]),
        ("[labels]", 'case = "{}"\n[labels]', ["files: case: '{}': expected"]),
        ("[labels]", 'case = "all"\n[labels]', ["files: case: 'all': expected"]),
        ('"CC-BY-4.0"', '"(MIT)"', ["license: '(MIT)' is no SPDX identifier", "did you mean MIT?"]),
        ('"CC-BY-4.0"', '"CC BY 4.0"', ["license: 'CC BY 4.0' is no SPDX identifier", "did you mean CC-BY-4.0?"]),
        ('"CC-BY-4.0"', '"GPL-3.0"', ["license: 'GPL-3.0' is one that SPDX gave up; did you mean GPL-3.0-only or"]),
        ('"CC-BY-4.0"', f'"{"(" * 5000}"', ["is no SPDX identifier"]),
        ("images/{case}", "images/{case}" + "{*}" * 40, ["has 41 captures, expected at most 32"]),
        ('[labels]\n1 = "liver"\n2 = "spleen"', "", ["labels: is missing, and no mask pattern captures {label}"]),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_what_is_allowed(
    sa_med2d: Command, tmp_path: Path, old: str, new: str, said: list[str]
) -> None:
    assert old in GOOD
    err = check(sa_med2d, tmp_path, GOOD.replace(old, new))
    assert all(text in err for text in said), err


def test_all_faults_are_told_at_once(sa_med2d: Command, tmp_path: Path) -> None:
    err = check(sa_med2d, tmp_path, GOOD.replace("title", "titel").replace('"ct"', '"CT"').replace("mask", "maks"))
    assert err.count("error: ") == 5


def test_good_recipe_says_what_it_is(sa_med2d: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "Good.toml"
    recipe.write_text(GOOD.replace("CC-BY-4.0", "cc-by-sa-4.0"))
    ran = sa_med2d("sources", "check", recipe)
    assert ran.code == 0
    assert "licence: CC-BY-SA-4.0, tiers: all, commercial" in ran.out


@pytest.mark.parametrize("reference", ["Nowhere", "nowhere.toml", "MSD_Splen"])
def test_missing_recipe(sa_med2d: Command, reference: str) -> None:
    ran = sa_med2d("sources", "check", reference)
    assert ran.code == 1
    assert reference in ran.err
    assert ("MSD_Spleen" in ran.err) is (reference == "MSD_Splen")
