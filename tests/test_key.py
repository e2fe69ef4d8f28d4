"""Keys: the release's names, safe for WebDataset, undone without loss."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from datasets.packaged_modules.webdataset.webdataset import base_plus_ext as datasets_split
from hypothesis import assume, given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext as webdataset_split

from shards.key import SampleKey, escape, unescape

NAMES = st.text(min_size=1, max_size=30) | st.text("a-._% é/", min_size=1, max_size=12)


@given(NAMES, st.sampled_from("xyz"), st.integers(0, 12000))
def test_a_key_can_be_read_back(case: str, axis: str, index: int) -> None:
    assume(max(case) < "\ud800" or max(case) > "\udfff")
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


@given(NAMES)
def test_the_standard_library_undoes_the_escape(case: str) -> None:
    assert unquote(escape(case)) == unescape(escape(case)) == case


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("mr_00--ACDC--patient001_frame01--x_0006", ("mr", "00", "ACDC", "patient001_frame01", "x", 6)),
        ("mr_t1--BraTS2021--BraTS2021_00218--z_0141", ("mr", "t1", "BraTS2021", "BraTS2021_00218", "z", 141)),
        ("ct_00--Totalsegmentator_dataset--s0065--y_0051", ("ct", "00", "Totalsegmentator_dataset", "s0065", "y", 51)),
    ],
)
def test_examples_of_the_release(key: str, parts: tuple[str, str, str, str, str, int]) -> None:
    assert SampleKey.parse(key) == SampleKey(*parts)
    assert str(SampleKey(*parts)) == key


@pytest.mark.parametrize(
    "text", ["", "ct_00--A--b", "xy_00--A--b--x_0001", "ct_00--A--b--w_0001", "ct_00--A--b.c--x_0001"]
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        SampleKey.parse(text)
