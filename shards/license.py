"""What licences allow, in one table, and the tiers that follow from it.

A licence that is not in the table allows nothing: the gate fails closed. Each row was written from the licence's own
text at its SPDX page (https://spdx.org/licenses/) or, for ``LicenseRef-``, at the address beside it.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from sa_med2d_20m import TIERS

UNPUBLISHED: Final = ("unknown", "conflict")
"""What a recipe may say instead of a licence: buildable, never published."""
_SHARED: Final = ("open", "registration")
"""Access of sources that their holders give to others."""
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9.+-]{1,100}")
_LONGEST: Final = 100
"""Characters of a licence, which names a folder."""
_DOI: Final = re.compile(r"(doi:\s*)?10\.\d{4,9}(\.\d+)*/\S+", re.IGNORECASE)


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


_CLOSED: Final = Terms(redistribute=False, commercial=False, derivatives=False)


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
    # terms of their own that do not allow, or do not speak of, passing the data on; what is not said is not allowed
    # https://www.med.upenn.edu/sbia/brats2018/data.html, and the rules of 2021 on Synapse (syn25829067): own research
    # alone, with citation
    "LicenseRef-BraTS": _CLOSED,
    # https://cause07.grand-challenge.org/Rules/: neither data nor derived data are passed on
    "LicenseRef-CAUSE07": _CLOSED,
    # https://github.com/ieee8023/covid-chestxray-dataset: each image has a licence of its own, some have none
    "LicenseRef-COVID-ChestXray": _CLOSED,
    # https://polyp.grand-challenge.org/CVCClinicDB/: research and teaching only, no commercial use
    "LicenseRef-CVC-ClinicDB": _CLOSED,
    # http://www.isi.uu.nl/Research/Databases/DRIVE/: not to be passed on, no commercial use
    "LicenseRef-DRIVE": _CLOSED,
    # https://github.com/vanvalenlab/deepcell-tf/blob/master/LICENSE: academic use, duties of notice
    "LicenseRef-DeepCell-NonCommercial": _CLOSED,
    # https://github.com/fetachallenge/fetachallenge.github.io, its page Data_download: research and education only
    "LicenseRef-FeTA": _CLOSED,
    # https://glas.grand-challenge.org/Dataset: research only
    "LicenseRef-GlaS": _CLOSED,
    # https://github.com/PerceptionComputingLab/INSTANCE2022, Agreements: not to be passed on
    "LicenseRef-INSTANCE2022": _CLOSED,
    # https://datasets.simula.no/kvasir-seg/: research and education, commercial use by permission
    "LicenseRef-Kvasir-SEG": _CLOSED,
    # https://datasets.simula.no/kvasir-capsule-seg/: research and education, commercial use by permission
    "LicenseRef-KvasirCapsule-SEG": _CLOSED,
    # https://zmiclab.github.io/zxh/0/mmwhs/: not to be passed on, to be deleted after 24 months
    "LicenseRef-MM-WHS": _CLOSED,
    # https://mrbrains13.isi.uu.nl/terms-of-participation/index.html: neither data nor derived data are passed on
    "LicenseRef-MRBrainS13": _CLOSED,
    # https://doi.org/10.34894/E0U32Q: terms of UMC Utrecht that come with the data
    "LicenseRef-MRBrainS18": _CLOSED,
    # https://www.spinesegmentation-challenge.com/wp-content/uploads/2021/12/Term-of-use.pdf: not read
    "LicenseRef-MRSpineSeg": _CLOSED,
    # http://oasis-brains.org/#access: a data use agreement
    "LicenseRef-OASIS": _CLOSED,
    # https://orcascore.grand-challenge.org/: an agreement of confidentiality
    "LicenseRef-orCaScore": _CLOSED,
    # https://github.com/PerceptionComputingLab/PARSE2022, Agreements: not to be passed on
    "LicenseRef-PARSE2022": _CLOSED,
    # https://www.fc.up.pt/addi/ph2%20database.html: research and education, not to be passed on, no commercial use
    "LicenseRef-PH2": _CLOSED,
    # https://zenodo.org/records/8026660: own research, with citation
    "LicenseRef-PROMISE12": _CLOSED,
    # https://ravir.grand-challenge.org/data/: research only, by a protocol that those accept who ask for the data
    "LicenseRef-RAVIR": _CLOSED,
    # https://refuge.grand-challenge.org/Rules/: for registered teams
    "LicenseRef-REFUGE": _CLOSED,
    # https://retouch.grand-challenge.org/: an agreement of confidentiality
    "LicenseRef-RETOUCH": _CLOSED,
    # https://github.com/miag-ull/rim-one-dl: not to be passed on, no commercial use
    "LicenseRef-RIM-ONE-DL": _CLOSED,
    # https://medicine.uiowa.edu/eye/rite-dataset: research only, by a form
    "LicenseRef-RITE": _CLOSED,
    # https://segrap2023.grand-challenge.org/dataset/: for those who take part, not to be passed on
    "LicenseRef-SegRap2023": _CLOSED,
    # https://ski10.grand-challenge.org/Rules/: neither data nor derived data are passed on
    "LicenseRef-SKI10": _CLOSED,
    # https://sliver07.grand-challenge.org/Rules/: neither data nor derived data are passed on, no commercial use
    "LicenseRef-SLIVER07": _CLOSED,
    # https://github.com/GewelsJI/VPS, README, section 9: not to be passed on, no commercial use
    "LicenseRef-SUN-SEG": _CLOSED,
    # https://github.com/PerceptionComputingLab/TDSC-ABUS2023, AGREEMENTS: not to be passed on
    "LicenseRef-TDSC-ABUS2023": _CLOSED,
    # https://vessel12.grand-challenge.org/Details/: only to take part in the challenge
    "LicenseRef-VESSEL12": _CLOSED,
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
        spelled = str(canonicalize_license_expression(license_id)) if _IDENTIFIER.fullmatch(license_id) else None
    except InvalidLicenseExpression:
        spelled = None
    # SPDX once said GPL-3.0 where it says GPL-3.0-only now
    if spelled is None or f"{spelled.removesuffix('+')}-only" in TERMS:
        fault = "no SPDX identifier (https://spdx.org/licenses/)" if spelled is None else "one that SPDX gave up"
        close = " or ".join(near(license_id))
        hint = f"did you mean {close}?" if close else "expected one of those, LicenseRef-..., 'unknown' or 'conflict'"
        raise ValueError(f"{license_id[:_LONGEST]!r} is {fault}; {hint}")
    return _SPELLING.get(spelled.lower(), spelled)


def near(license_id: str) -> list[str]:
    """The licences of the table that a text may mean, best first, whatever its blanks, hyphens and case.

    >>> near("CC BY 4.0"), near("GPL-3.0")
    (['CC-BY-4.0'], ['GPL-3.0-only', 'GPL-3.0-or-later'])
    """
    wanted = _bare(license_id)
    same = [name for name in TERMS if wanted in (_bare(name), _bare(name.removesuffix("-only")))]
    same += [name for name in TERMS if name.endswith("-or-later") and wanted == _bare(name.removesuffix("-or-later"))]
    close = difflib.get_close_matches(wanted, [_bare(name) for name in TERMS], n=3, cutoff=0.75)
    return same or [name for spelling in close for name in TERMS if _bare(name) == spelling]


def _bare(license_id: str) -> str:
    return "".join(sign for sign in license_id[:_LONGEST].casefold() if sign.isalnum())


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


def spdx_page(license_id: str) -> str | None:
    """Address of a licence's text; None where SPDX has none, or the table has no row.

    >>> spdx_page("CC-BY-4.0"), spdx_page("unknown")
    ('https://spdx.org/licenses/CC-BY-4.0.html', None)
    """
    if license_id in UNPUBLISHED or terms(license_id) is None or "LicenseRef" in license_id:
        return None
    return f"https://spdx.org/licenses/{license_id}.html"


def is_shared(access: str) -> bool:
    """Whether the holders of a source give it to others.

    >>> is_shared("registration"), is_shared("private")
    (True, False)
    """
    return access in _SHARED


def refusal(license_id: str, evidence: str | None, access: str) -> str | None:
    """Why a source may not be published, or None where it may.

    Args:
        license_id: Its licence.
        evidence: Where the licence was read, see `is_evidence`.
        access: ``open``, ``registration`` or ``private``; anything else counts as private.
    """
    private = None if is_shared(access) else f"its access is {access}"
    return _license_refusal(license_id) or private or _evidence_refusal(evidence)


def _license_refusal(license_id: str) -> str | None:
    row = terms(license_id)
    if license_id in UNPUBLISHED:
        return f"its licence is {license_id}"
    if row is None:
        return f"the licence table has no row for {license_id}"
    if not row.redistribute:
        return f"{license_id} does not allow redistribution"
    if not row.derivatives:
        return f"{license_id} does not allow derivatives, and slices are derivatives"
    return None


def _evidence_refusal(evidence: str | None) -> str | None:
    if not evidence:
        return "its recipe gives no license_evidence"
    if is_evidence(evidence):
        return None
    return f"its license_evidence is {evidence!r}, expected an http(s) address or a DOI where its licence is stated"


def is_evidence(text: str) -> bool:
    """Whether a text names a place where others can read a licence: an http(s) address with a host, or a DOI.

    The form of a DOI is that of https://www.doi.org/doi-handbook/HTML/doi-name-syntax.html: 10, a registrant, a suffix.

    >>> is_evidence("https://doi.org/10.5281/zenodo.10047292"), is_evidence("doi:10.5281/zenodo.10047292")
    (True, True)
    >>> is_evidence("https://"), is_evidence("none"), is_evidence("javascript:alert(1)")
    (False, False, False)
    """
    text = text.strip()
    if _DOI.fullmatch(text):
        return True
    if any(sign.isspace() or not sign.isprintable() for sign in text):
        return False
    try:
        address = urlsplit(text)
        host = address.hostname or ""
    except ValueError:  # of brackets that hold no IPv6 address
        return False
    labels = host.removesuffix(".").split(".")
    return address.scheme in ("http", "https") and len(labels) > 1 and all(labels)
