"""The licence table, against the licences' own words."""

from __future__ import annotations

import pytest
from packaging.licenses import canonicalize_license_expression

from shards.license import TERMS, canonical, refusal, terms, tiers


@pytest.mark.parametrize("name", TERMS)
def test_every_row_is_spelled_as_spdx_does(name: str) -> None:
    assert canonicalize_license_expression(name) == name
    assert canonical(name.lower()) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CC0-1.0", ("all", "commercial", "permissive")),
        ("CC-BY-4.0", ("all", "commercial", "permissive")),
        ("CC-BY-SA-4.0", ("all", "commercial")),
        ("CC-BY-NC-4.0", ("all",)),
        ("CC-BY-NC-SA-4.0", ("all",)),
        ("CC-BY-ND-4.0", ()),
        ("CC-BY-NC-ND-4.0", ()),
        ("Apache-2.0", ("all", "commercial", "permissive")),
        ("ODbL-1.0", ("all", "commercial")),
        ("unknown", ()),
        ("conflict", ()),
        ("LicenseRef-Somebody", ()),
        ("AGPL-3.0-only", ()),  # a real licence that the table does not know: closed
    ],
)
def test_tiers(name: str, expected: tuple[str, ...]) -> None:
    assert tiers(name) == expected
    assert tiers(name.lower()) == expected


def test_elements_in_the_name_are_in_the_row() -> None:
    for name, row in TERMS.items():
        if name.startswith("CC-BY"):
            elements = name.split("-")
            assert row.commercial == ("NC" not in elements)
            assert row.derivatives == ("ND" not in elements)
            assert row.share_alike == ("SA" in elements)
            assert row.attribution


@pytest.mark.parametrize(
    ("name", "evidence", "said"),
    [
        ("CC-BY-4.0", "https://example.org", None),
        ("CC-BY-4.0", None, "its recipe gives no license_evidence"),
        ("CC-BY-4.0", "", "its recipe gives no license_evidence"),
        ("unknown", "https://example.org", "its licence is unknown"),
        ("conflict", "https://example.org", "its licence is conflict"),
        ("CC-BY-ND-4.0", "https://example.org", "does not allow derivatives"),
        ("LicenseRef-Somebody", "https://example.org", "the licence table has no row"),
    ],
)
def test_refusals_say_why(name: str, evidence: str | None, said: str | None) -> None:
    refused = refusal(name, evidence)
    assert (refused is None) if said is None else (refused is not None and said in refused)


@pytest.mark.parametrize("name", ["", "free", "CC BY 4.0", "CC-BY-4.0 OR MIT", "CC-BY-9.9"])
def test_what_is_no_licence(name: str) -> None:
    with pytest.raises(ValueError, match="is no SPDX identifier"):
        canonical(name)


def test_unlisted_licence_has_no_terms() -> None:
    assert terms("LicenseRef-Somebody") is None
