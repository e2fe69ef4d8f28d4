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
        ("LicenseRef-SKI10", ()),  # its rules forbid passing on the data, and what is derived from them
        ("LicenseRef-CAUSE07", ()),  # its rules forbid passing on the data, and what is derived from them
        ("LicenseRef-CVC-ClinicDB", ()),  # research and teaching only
        ("LicenseRef-COVID-ChestXray", ()),  # one licence for each image, and none for some
        ("LicenseRef-FeTA", ()),  # research and education only
        ("LicenseRef-Kvasir-SEG", ()),  # its page does not speak of passing on
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


@pytest.mark.parametrize("name", TERMS)
def test_a_tier_holds_the_narrower_ones(name: str) -> None:
    assert tiers(name) in {(), ("all",), ("all", "commercial"), ("all", "commercial", "permissive")}


@pytest.mark.parametrize("name", TERMS)
def test_gate_and_tiers_agree(name: str) -> None:
    assert (refusal(name, "https://example.org", "open") is None) == bool(tiers(name))


@pytest.mark.parametrize("name", [name for name in TERMS if "-NC" in name])
def test_non_commercial_is_in_no_commercial_tier(name: str) -> None:
    assert not {"commercial", "permissive"} & set(tiers(name))


@pytest.mark.parametrize("name", [name for name in TERMS if "-ND" in name])
def test_no_derivatives_is_in_no_tier(name: str) -> None:
    assert tiers(name) == ()


@pytest.mark.parametrize("name", ["GPL-2.0-only", "GPL-3.0-or-later", "ODbL-1.0", "CDLA-Sharing-1.0", "CC-BY-SA-3.0"])
def test_copyleft_is_not_permissive(name: str) -> None:
    assert tiers(name) == ("all", "commercial")


@pytest.mark.parametrize("name", ["CC0-1.0", "PDDL-1.0", "Unlicense"])
def test_public_domain_asks_for_nothing(name: str) -> None:
    row = terms(name)
    assert row is not None
    assert not row.attribution
    assert not row.share_alike


@pytest.mark.parametrize("name", ["UNKNOWN", "Conflict", "CC-BY-4.0 OR MIT", "", "*", "cc-by"])
def test_anything_else_is_closed(name: str) -> None:
    assert tiers(name) == ()
    assert refusal(name, "https://example.org", "open") is not None


@pytest.mark.parametrize(
    ("name", "evidence", "said"),
    [
        ("CC-BY-4.0", "https://example.org", None),
        ("CC-BY-NC-4.0", "https://example.org", None),
        ("CC-BY-SA-4.0", None, "its recipe gives no license_evidence"),
        ("CC-BY-4.0", None, "its recipe gives no license_evidence"),
        ("CC-BY-4.0", "", "its recipe gives no license_evidence"),
        ("unknown", "https://example.org", "its licence is unknown"),
        ("conflict", "https://example.org", "its licence is conflict"),
        ("CC-BY-ND-4.0", "https://example.org", "does not allow derivatives"),
        ("LicenseRef-Somebody", "https://example.org", "the licence table has no row"),
    ],
)
def test_refusals_say_why(name: str, evidence: str | None, said: str | None) -> None:
    refused = refusal(name, evidence, "open")
    assert (refused is None) if said is None else (refused is not None and said in refused)


@pytest.mark.parametrize(
    "evidence",
    [
        " ", "\t\n", "x", "none", "n/a", "https://", "http://", "https:///license", "https:example.org", "example.org",
        "javascript:alert('https://example.org')", "ftp://example.org/license", "file:///etc/hosts", "mailto:a@example.org",
        "https://localhost", "https://.", "https://example.", "https://..org", "https://[x]/", "https://user@/", "https://:443/",
        "https://exa mple.org", "https://example.org/\u202ex", "10.5281", "10.5281/", "doi:", "doi:zenodo.10047292", "11.5281/x",
    ],
)  # fmt: skip
def test_evidence_that_shows_nothing(evidence: str) -> None:
    refused = refusal("CC-BY-4.0", evidence, "open")
    assert refused is not None
    assert "its license_evidence is" in refused


@pytest.mark.parametrize(
    "evidence",
    [
        "https://example.org", "http://example.org/a/license.txt", "HTTPS://Example.org:8443/?a=b#c", " https://example.org ",
        "https://müller.example/lizenz", "https://doi.org/10.5281/zenodo.10047292", "10.5281/zenodo.10047292",
        "doi:10.7937/K9/TCIA.2015.A6V7JIWX", "DOI: 10.1000.10/123456",
    ],
)  # fmt: skip
def test_evidence(evidence: str) -> None:
    assert refusal("CC-BY-4.0", evidence, "open") is None


@pytest.mark.parametrize("access", ["private", "Private", "", "closed"])
def test_only_what_its_holders_share_is_published(access: str) -> None:
    assert refusal("CC0-1.0", "https://example.org", access) == f"its access is {access}"
    assert refusal("CC0-1.0", "https://example.org", "registration") is None


@pytest.mark.parametrize("name", ["", "free", "CC BY 4.0", "CC-BY-4.0 OR MIT", "CC-BY-9.9"])
def test_what_is_no_licence(name: str) -> None:
    with pytest.raises(ValueError, match="is no SPDX identifier"):
        canonical(name)


def test_unlisted_licence_has_no_terms() -> None:
    assert terms("LicenseRef-Somebody") is None
