"""The JSON Schema of a recipe, checked by a validator that is not ours, beside what the builder itself accepts."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import builder
from builder.errors import RecipeError
from builder.sources.load import parse_recipe

CATALOGUE = sorted((Path(builder.__file__).parent / "catalog").glob("*.toml"))
OF_TESTS = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))

GOOD = """
name = "Good"
title = "A source that a test wrote"
license = "CC-BY-4.0"
modality = "ct"

[files]
image = "images/{case}.nii.gz"
mask = "labels/{case}.nii.gz"

[labels]
1 = "liver"
2 = "spleen"
"""

VALUES = """
name = "Every-key_1"
title = "Every key that masks of pixel values may have"
homepage = "https://example.org"
license = "CC-BY-NC-4.0"
license_evidence = "https://example.org/license"
access = "registration"
citation = "Nobody, 2026"
modality = "x_ray"
submodality = "dr_1"
submodalities = { 0000 = "flair" }
resample_masks = true
axes = ["x", "z"]
keep_empty = true
patients = "The-people"
notes = ["A volume is empty."]
regions = { both = [1, "2"] }
splits = { train = ["Tr"], validation = [], test = ["Ts", "val*"], ratios = [0.7, 0.1, 0.2], seed = 3 }

[size]
download = 1
unpacked = 2
built = 3
cases = 4

[evidence]
layout = ["https://example.org/layout"]
labels = ["github:owner/name@0123456:docs/labels.md"]
license = ["doi:10.1000/182"]
split = ["https://example.org/split"]
download = ["http://example.org"]
checked = { layout = "two", labels = "one" }

[download]
zenodo = "123"
steps = ["Accept the terms."]

[[download.files]]
url = "https://example.org/a.zip"
name = "b.zip"
size = 10
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
md5 = "0123456789abcdef0123456789abcdef"
archive = "zip"
folder = "images"
inside = "all/of/it"

[[examples]]
image = "imagesTr/p/c_0000.nii.gz"
masks = ["labels/p/c_1.nii.gz"]
case = "p_c"
patient = "p"
split = "train"

[files]
image = "images{split}/{patient}/{case}_{submodality}.nii.gz"
mask = ["labels/{patient}/{case}{*}.nii.gz", "more/{patient}/"]
case = "{patient}_{case}"
frames = true
variables = { image = "data.image", mask = "data/mask" }
halves = { image = "left", mask = "right" }

[cases]
only = ["p_*", "0001-0500"]
leave_out = ["p_c2"]

[labels]
1 = "liver"
2 = { label = "My new class", organ = "liver", group = "lesion" }
3 = { label = "spleen" }

[masks]
instances = false
background = "#010203"
color_match = "nearest"
ignore = [9, "10", "spleen"]
only_named = true
grid_tolerance = 0.5
min_area = 0.001
pair = "space"

[gates]
constant_slice = "quarantine"
empty_mask = "off"
two_valued_image = "flag"
full_mask = "drop"
unnamed_values = "flag"
nonfinite_values = "flag"
burned_in_text = "off"
modality_mismatch = "flag"
patient_mismatch = "off"
resampling_loss = "flag"
bad_mask = "drop"
beyond_tissue = "off"
contours_without_slice = "flag"

[limits]
pixels = 1000
bytes = 2000

[intensity]
mode = "window"
center = 40
width = 400.5
"""

PEOPLE = GOOD.replace("[files]", 'patients = "People"\noverlap = "keep-first"\n[files]')

SPLIT_FILE = """
[patient_names]
names = { c = "d" }
file = "map.csv"
own = "new"
shared = "old"
patient = "Old_{patient}"

[splits]
file = "meta.csv"
patient = "image_id"
split = "split"
values = { train = ["1"], validation = ["2"], test = ["3"] }
"""

RATERS = (
    GOOD.replace('{case}.nii.gz"\n\n', '{case}_{rater}.nii.gz"\n\n')
    + """
[masks]
layers = ["1", "2"]
layer_axis = "last"

[raters]
use = "each"
names = ["first", "second"]
"""
)

SPLIT_LISTS = """
[splits]
lists = { train = "a.txt", validation = "lists/b.txt", test = "c.txt" }
"""

SEGMENTS = """
name = "Segments"
title = "Every key that DICOM may have"
download = { hub = "owner/name", revision = "v1" }
license = "licenseref-ours"
modality = "mr"
identifiers = "public"
identifiers_evidence = "https://example.org/deidentified"

[files]
image = "{case}/MR/"
mask = "{case}/SEG/"
patient = "PatientID"
channels = ["t1", "t2_1"]
series = 3

[labels]
"*liver*" = "liver"

[masks]
segments = true
threshold = 1
inverted = false
runs = { image = "ImageId", name = "{case}_{*}", pixels = "EncodedPixels", label = "ClassId", order = "rows", first = 0, relative = true }
"""

COLLECTION = (
    GOOD
    + """
[download]
tcia = "LCTSC"
"""
)


TAGS = """
name = "Tags"
title = "Every key of files that are found by their tags"
license = "CC0-1.0"
modality = "ct"

[files.dicom]
image = { modality = "CT", description = ["*thorax*", "chest"], body_part = "CHEST" }
mask = { modality = "SEG", description = "*", body_part = ["*"] }

[labels]
liver = "liver"

[masks]
segments = true
"""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """What the command prints."""
    command = [sys.executable, "-m", "builder", "sources", "schema"]
    parsed: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return parsed


def faults(schema: dict[str, Any], text: str) -> list[str]:
    return [error.json_path for error in Draft202012Validator(schema).iter_errors(tomllib.loads(text))]


def keys(recipe: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "") -> Iterator[str]:
    """Every key of a schema that a recipe uses, as a path."""
    schema = root["$defs"][schema["$ref"].split("/")[-1]] if "$ref" in schema else schema
    for arm in (schema, *schema.get("anyOf", ())):
        if isinstance(recipe, dict) and "$ref" in arm and arm is not schema:
            yield from keys(recipe, arm, root, where)
        for key in arm.get("properties", {}):
            if isinstance(recipe, dict) and key in recipe:
                yield f"{where}.{key}"
                yield from keys(recipe[key], arm["properties"][key], root, f"{where}.{key}")
    if isinstance(recipe, list) and isinstance(schema.get("items"), dict):
        for value in recipe:
            yield from keys(value, schema["items"], root, where)
    if isinstance(recipe, dict) and isinstance(schema.get("additionalProperties"), dict):
        for value in recipe.values():
            yield from keys(value, schema["additionalProperties"], root, f"{where}.*")


def count(schema: dict[str, Any], root: dict[str, Any]) -> int:
    """How many keys a table and the tables in it have."""
    inner = 0
    for entry in schema["properties"].values():
        for arm in (entry, entry.get("items", {}), *entry.get("anyOf", ()), *_values_of(entry)):
            inner += count(root["$defs"][arm["$ref"].split("/")[-1]], root) if "$ref" in arm else 0
    return len(schema["properties"]) + inner


def _values_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """What the values of a table with keys of the user's may be."""
    values = entry.get("additionalProperties")
    return values.get("anyOf", [values]) if isinstance(values, dict) else []


def test_it_is_a_schema_of_the_draft_it_names(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", [*CATALOGUE, *OF_TESTS], ids=lambda path: path.stem)
def test_recipes_that_build_are_accepted(schema: dict[str, Any], path: Path) -> None:
    assert faults(schema, path.read_text(encoding="utf-8")) == []


def test_every_key_is_accepted_with_a_value_that_builds(schema: dict[str, Any]) -> None:
    used = set()
    for text in (VALUES, SEGMENTS, COLLECTION, TAGS, PEOPLE + SPLIT_FILE, GOOD + SPLIT_LISTS, RATERS):
        parse_recipe(text, "Every.toml")
        assert faults(schema, text) == []
        used |= set(keys(tomllib.loads(text), schema, schema))
    assert len(used) == count(schema, schema), "a key is new: use it in a recipe above"


def test_every_key_and_table_is_described(schema: dict[str, Any]) -> None:
    for table in (schema, *schema["$defs"].values()):
        assert table["description"].endswith(".")
        for key, entry in table["properties"].items():
            assert entry["description"].strip().endswith("."), key
            assert "``" not in entry["description"], key


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("title =", "titel =", "$"),
        ("modality =", "modalty =", "$"),
        ('mask = "', 'maks = "', "$.files"),
        ('"ct"', '"CT"', "$.modality"),
        ('"Good"', '"Go--od"', "$.name"),
        ('"Good"', '"Good-"', "$.name"),
        ("images/{case}", "images/{caes}", "$.files.image"),
        ("images/{case}", "images/{case", "$.files.image"),
        ("images/{case}", "images/case}", "$.files.image"),
        ("images/{case}", "/images/{case}", "$.files.image"),
        ("images/{case}", "images//{case}", "$.files.image"),
        ("images/{case}", "../images/{case}", "$.files.image"),
        ("images/{case}", "images/../{case}", "$.files.image"),
        ("images/{case}", "images\\\\{case}", "$.files.image"),
        ('mask = "labels/{case}.nii.gz"', "mask = []", "$.files.mask"),
        ('mask = "labels/{case}.nii.gz"', "mask = 1", "$.files.mask"),
        ('2 = "spleen"', '2 = "_spleen"', "$.labels['2']"),
        ('2 = "spleen"', "2 = 5", "$.labels['2']"),
        ('2 = "spleen"', "2 = { organ = 'liver' }", "$.labels['2']"),
        ('2 = "spleen"', "2 = { label = 'spleen', organ = 'livr' }", "$.labels['2']"),
        ('2 = "spleen"', "2 = { label = 'spleen', orgn = 'liver' }", "$.labels['2']"),
        ('2 = "spleen"', '2 = "spleen"\n[masks]\ntreshold = 9', "$.masks"),
        ('2 = "spleen"', '2 = "spleen"\n[masks]\ninstances = "true"', "$.masks.instances"),
        ('2 = "spleen"', '2 = "spleen"\n[masks]\ngrid_tolerance = 2', "$.masks.grid_tolerance"),
        ('2 = "spleen"', '2 = "spleen"\n[masks]\nmin_area = -1', "$.masks.min_area"),
        ('2 = "spleen"', '2 = "spleen"\n[masks]\nmin_area = 1.5', "$.masks.min_area"),
        ('2 = "spleen"', '2 = "spleen"\n[masks]\nmin_area = "0.1 %"', "$.masks.min_area"),
        ('2 = "spleen"', '2 = "spleen"\n[masks]\nmin_area = true', "$.masks.min_area"),
        ('2 = "spleen"', '2 = "spleen"\n[gates]\nfull_mask = "ignore"', "$.gates.full_mask"),
        ('2 = "spleen"', '2 = "spleen"\n[gates]\nunnamed_values = "off"', "$.gates.unnamed_values"),
        ('2 = "spleen"', '2 = "spleen"\n[limits]\npixels = 0', "$.limits.pixels"),
        ('2 = "spleen"', '2 = "spleen"\n[intensity]\nmode = "hu"', "$.intensity.mode"),
        ('2 = "spleen"', '2 = "spleen"\n[splits]\ndev = ["a"]', "$.splits"),
        ('2 = "spleen"', '2 = "spleen"\n[splits]\nratios = [0.9, 0.1]', "$.splits.ratios"),
        ('2 = "spleen"', '2 = "spleen"\n[splits]\nratios = [1.5, 0.1, 0.1]', "$.splits.ratios[0]"),
        ('2 = "spleen"', '2 = "spleen"\n[splits]\nseed = -1', "$.splits.seed"),
        ('2 = "spleen"', '2 = "spleen"\n[splits]\ntest = "a"', "$.splits.test"),
        ('2 = "spleen"', '2 = "spleen"\n[splits]\nvalues = { dev = [] }', "$.splits.values"),
        ('2 = "spleen"', '2 = "spleen"\n[splits]\nlists = { train = 1 }', "$.splits.lists.train"),
        ("[files]", 'overlap = "keep-second"\n[files]', "$.overlap"),
        ("[files]", "patients = 'A'\npatient_names = { a = 'b' }\n[files]", "$.patient_names"),
        ("[files]", "cases = { only = [] }\n[files]", "$.cases.only"),
        ("[files]", "cases = { out = ['a'] }\n[files]", "$.cases"),
        ("[files]", 'axes = ["w"]\n[files]', "$.axes[0]"),
        ("[files]", "axes = []\n[files]", "$.axes"),
        ("[files]", 'submodality = "T1"\n[files]', "$.submodality"),
        ("[files]", 'identifiers = "open"\n[files]', "$.identifiers"),
        ("[files]", 'patients = "A--B"\n[files]', "$.patients"),
        ("[files]", "size = { cases = 0 }\n[files]", "$.size.cases"),
        ("[files]", "evidence = { layout = [] }\n[files]", "$.evidence.layout"),
        ("[files]", 'evidence = { checked = { layout = "three" } }\n[files]', "$.evidence.checked.layout"),
        ("[files]", 'download = { hub = "name" }\n[files]', "$.download.hub"),
        ("[files]", 'download = { files = [{ url = "ftp://a/b" }] }\n[files]', "$.download.files[0].url"),
        (
            "[labels]",
            "dicom = { image = { modality = 'ct' }, mask = { modality = 'SEG' } }\n[labels]",
            "$.files.dicom.image.modality",
        ),
        ("[labels]", "dicom = { image = { modality = 'CT' } }\n[labels]", "$.files.dicom"),
        (
            "[labels]",
            "dicom = { image = { modality = 'CT' }, mask = { modality = 'SEG', serie = 1 } }\n[labels]",
            "$.files.dicom.mask",
        ),
    ],
)
def test_a_typo_is_refused_where_it_stands_and_by_the_builder(
    schema: dict[str, Any], old: str, new: str, where: str
) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new)
    assert set(faults(schema, text)) == {where}
    with pytest.raises(RecipeError):
        parse_recipe(text, "Bad.toml")


@pytest.mark.parametrize(
    "pattern",
    ["{case}.png", "{*}/{case}{*}/", "a/..b/{case}..png", "{case}.nii.gz//", "Bilder ü/{patient} (1)/{case}+.tif"],
)
def test_an_odd_pattern_that_the_builder_takes_is_accepted(schema: dict[str, Any], pattern: str) -> None:
    text = GOOD.replace("images/{case}.nii.gz", pattern).replace("labels/{case}", "labels/{case}_{patient}")
    parse_recipe(text, "Odd.toml")
    assert faults(schema, text) == []
