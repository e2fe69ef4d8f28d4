"""What licences allow, in one table, and the tiers that follow from it.

A licence that is not in the table allows nothing: the gate fails closed. Each row was written from the licence's own
text at its SPDX page (https://spdx.org/licenses/) or, for ``LicenseRef-``, at the address beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sa_med2d_20m import TIERS

UNPUBLISHED: Final = ("unknown", "conflict")
"""What a recipe may say instead of a licence: buildable, never published."""


@dataclass(frozen=True)
class Terms:
    """What a licence allows and asks for.

    Attributes:
        redistribute: Copies may be passed on.
        commercial: Also for commercial use.
        derivatives: Changed copies may be passed on; slices are changed copies.
        share_alike: Changed copies must stay under the same licence.
        attribution: The authors must be named.
    """

    redistribute: bool = True
    commercial: bool = True
    derivatives: bool = True
    share_alike: bool = False
    attribution: bool = True


def _creative_commons() -> dict[str, Terms]:
    table = {}
    for version in ("1.0", "2.0", "2.5", "3.0", "4.0"):
        table[f"CC-BY-{version}"] = Terms()
        table[f"CC-BY-SA-{version}"] = Terms(share_alike=True)
        table[f"CC-BY-NC-{version}"] = Terms(commercial=False)
        table[f"CC-BY-NC-SA-{version}"] = Terms(commercial=False, share_alike=True)
        table[f"CC-BY-ND-{version}"] = Terms(derivatives=False)
        table[f"CC-BY-NC-ND-{version}"] = Terms(commercial=False, derivatives=False)
    return table


TERMS: Final[dict[str, Terms]] = {
    **_creative_commons(),
    "CC0-1.0": Terms(attribution=False),
    "PDDL-1.0": Terms(attribution=False),
    "Unlicense": Terms(attribution=False),
    "ODC-By-1.0": Terms(),
    "ODbL-1.0": Terms(share_alike=True),
    "CDLA-Permissive-1.0": Terms(),
    "CDLA-Permissive-2.0": Terms(),
    "CDLA-Sharing-1.0": Terms(share_alike=True),
    "OGL-UK-2.0": Terms(),
    "OGL-UK-3.0": Terms(),
    "MIT": Terms(),
    "BSD-2-Clause": Terms(),
    "BSD-3-Clause": Terms(),
    "Apache-2.0": Terms(),
    "HPND": Terms(),
    "GPL-2.0-only": Terms(share_alike=True),
    "GPL-2.0-or-later": Terms(share_alike=True),
    "GPL-3.0-only": Terms(share_alike=True),
    "GPL-3.0-or-later": Terms(share_alike=True),
    # https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009/: use, copy, modify and distribute for any purpose
    # and without fee, with the copyright notice
    "LicenseRef-MNI-ICBM152": Terms(),
}


def canonical(license_id: str) -> str:
    """Check and spell a licence as SPDX does.

    >>> canonical("cc-by-4.0"), canonical("unknown")
    ('CC-BY-4.0', 'unknown')

    Raises:
        ValueError: It is neither an SPDX identifier, nor ``LicenseRef-...``, nor ``unknown`` or ``conflict``.
    """
    if license_id in UNPUBLISHED:
        return license_id
    # the table of SPDX takes longer to load than a command to print its help
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression  # noqa: PLC0415

    try:
        spelled = canonicalize_license_expression(license_id)
    except InvalidLicenseExpression:
        spelled = None
    if spelled is None or " " in spelled:
        raise ValueError(
            f"{license_id!r} is no SPDX identifier (https://spdx.org/licenses/); "
            "expected one of those, LicenseRef-..., 'unknown' or 'conflict'"
        )
    return _SPELLING.get(spelled.lower(), str(spelled))


def terms(license_id: str) -> Terms | None:
    """The row of a licence, in any case; None where the table has none."""
    return _BY_LOWER_CASE.get(license_id.lower())


_BY_LOWER_CASE: Final = {name.lower(): row for name, row in TERMS.items()}
_SPELLING: Final = {name.lower(): name for name in TERMS}


def tiers(license_id: str) -> tuple[str, ...]:
    """The tiers that a licence belongs to; none for what may not be published.

    >>> tiers("CC-BY-SA-4.0"), tiers("CC-BY-ND-4.0"), tiers("unknown")
    (('all', 'commercial'), (), ())
    """
    row = terms(license_id)
    if row is None or not row.redistribute or not row.derivatives:
        return ()
    if not row.commercial:
        return TIERS[:1]
    return TIERS[:2] if row.share_alike else TIERS


def refusal(license_id: str, evidence: str | None) -> str | None:
    """Why a source may not be published, or None where it may."""
    row = terms(license_id)
    if license_id in UNPUBLISHED:
        return f"its licence is {license_id}"
    if row is None:
        return f"the licence table has no row for {license_id}"
    if not row.redistribute:
        return f"{license_id} does not allow redistribution"
    if not row.derivatives:
        return f"{license_id} does not allow derivatives, and slices are derivatives"
    if not evidence:
        return "its recipe gives no license_evidence"
    return None
