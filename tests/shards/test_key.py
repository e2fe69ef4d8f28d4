"""Keys: the release's names, safe for WebDataset, undone without loss."""

from __future__ import annotations

import itertools
import os
from urllib.parse import unquote

import pytest
from datasets.packaged_modules.webdataset.webdataset import base_plus_ext as datasets_split
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext as webdataset_split

from shards.key import SampleKey, escape, unescape

NAMES = (
    st.text(min_size=1, max_size=30)
    | st.text("a-._% é/", min_size=1, max_size=12)
    | st.binary(min_size=1, max_size=12).map(os.fsdecode)  # file names need not be UTF-8
)
ALIKE = (
    "a.b",
    "a%2Eb",
    "a%2eb",
    "a_b",
    "a-b",
    "a--b",
    "a%2D%2Db",
    "-a-b",
    "a-b-",
    "A.B",
    "a b",
    "a%20b",
    "a+b",
    "é",
    "e\u0301",
)


@given(NAMES, st.sampled_from("xyz"), st.integers(0, 12000))
def test_a_key_can_be_read_back(case: str, axis: str, index: int) -> None:
    for key in (
        SampleKey("mr", "t1_ce", "My-Source_1", case, axis, index),
        SampleKey("x_ray", "00", "S", case, "2d", None),
    ):
        assert SampleKey.parse(str(key)) == key


@given(NAMES)
def test_a_key_ends_where_webdataset_thinks(case: str) -> None:
    key = str(SampleKey("ct", "00", "Source", case, "x", 7))
    for member in ("png", "mask.png", "json"):
        assert webdataset_split(f"{key}.{member}") == datasets_split(f"{key}.{member}") == (key, member)
    assert key.isascii()
    assert len(key.split("--")) == 4


@given(NAMES, NAMES)
def test_no_two_names_share_a_key(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(ALIKE, 2)))
def test_names_that_look_alike_have_keys_of_their_own(one: str, other: str) -> None:
    assert len({str(SampleKey("ct", "00", "S", name, "x", 1)) for name in (one, other)}) == 2


@given(NAMES)
def test_the_standard_library_undoes_the_escape(case: str) -> None:
    assert unquote(escape(case), errors="surrogateescape") == unescape(escape(case)) == case


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("mr_00--ACDC--patient001_frame01--x_0006", ("mr", "00", "ACDC", "patient001_frame01", "x", 6)),
        ("mr_t1--BraTS2021--BraTS2021_00218--z_0141", ("mr", "t1", "BraTS2021", "BraTS2021_00218", "z", 141)),
        ("ct_00--CAD_PE--001--x_0125", ("ct", "00", "CAD_PE", "001", "x", 125)),
        ("ct_00--Totalsegmentator_dataset--s0065--y_0051", ("ct", "00", "Totalsegmentator_dataset", "s0065", "y", 51)),
    ],
)
def test_examples_of_the_release(key: str, parts: tuple[str, str, str, str, str, int]) -> None:
    assert SampleKey.parse(key) == SampleKey(*parts)
    assert str(SampleKey(*parts)) == key


def test_dotted_case_of_the_release_is_escaped_and_comes_back() -> None:
    """Its own spelling would end at the first dot."""
    case = "1.3.6.1.4.1.9328.50.4.0103"
    key = str(SampleKey("ct", "00", "CTSpine1K_Full", case, "z", 281))
    assert key == "ct_00--CTSpine1K_Full--1%2E3%2E6%2E1%2E4%2E1%2E9328%2E50%2E4%2E0103--z_0281"
    assert SampleKey.parse(key).case == case


def test_picture_of_the_release_gets_its_missing_submodality() -> None:
    """``x_ray--...`` there; elsewhere a modality always has one."""
    key = SampleKey("x_ray", "00", "covid_19_ct_cxr", "16660_5_1", "2d", None)
    assert str(key) == "x_ray_00--covid_19_ct_cxr--16660_5_1--2d_none"


@pytest.mark.parametrize(
    "text", ["", "ct_00--A--b", "xy_00--A--b--x_0001", "ct_00--A--b--w_0001", "ct_00--A--b.c--x_0001"]
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        SampleKey.parse(text)
