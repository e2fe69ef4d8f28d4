"""What is known of a source, whether or not its files can be told: the part that every entry of the catalogue has."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from builder.sources.download import Download
from builder.sources.evidence import Evidence
from builder.sources.table import Table
from sa_med2d_20m import MODALITIES
from shards.license import canonical

NAME: Final = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*")
SUBMODALITY: Final = r"^[a-z0-9]+(_[a-z0-9]+)*$"


class Size(Table):
    """``[size]``: how large a source is, as far as it is known.

    Attributes:
        download: Bytes to download.
        unpacked: Bytes of the unpacked files.
        built: Bytes of the shards.
        cases: Volumes or pictures with masks.
    """

    download: Annotated[int, Field(gt=0)] | None = None
    unpacked: Annotated[int, Field(gt=0)] | None = None
    built: Annotated[int, Field(gt=0)] | None = None
    cases: Annotated[int, Field(gt=0)] | None = None


class SourceMetadata(Table):
    """What is known of a source dataset: its name, its licence, and the way to it.

    Attributes:
        name: Goes into every key: letters, digits, underscores and single hyphens.
        title: Full name, for people, with any characters; names the edition where there are several.
        license: SPDX identifier, ``LicenseRef-...``, ``unknown`` or ``conflict``.
        license_evidence: Where the licence was read: an http(s) address with a host, or a DOI. Without it nothing is
            published.
        modality: How the images were made.
        submodality: ``00`` where there is none or it is not known. Other names of one sequence, such as ``t1w`` and
            ``mprage``, become its canonical one, ``t1``.
        homepage: Address of the source.
        access: ``open``, ``registration`` or ``private``. What is private is never published.
        citation: How its authors want to be cited.
        patients: Name space of patients that several sources share, since they hold the same people; the name of the
            source where it is left out. The split of a patient is drawn from name space and patient.
        notes: Known problems and advice, a sentence each.
        size: See `Size`.
        evidence: See `Evidence`.
        download: See `Download`.
    """

    name: str
    title: Annotated[str, Field(min_length=1)]
    license: str
    modality: Literal[MODALITIES]  # type: ignore[valid-type]
    submodality: Annotated[str, Field(pattern=SUBMODALITY)] = "00"
    homepage: str = ""
    license_evidence: str | None = None
    access: Literal["open", "registration", "private"] = "open"
    citation: str = ""
    patients: Annotated[str, Field(pattern=rf"^{NAME.pattern}$")] | None = None
    notes: list[Annotated[str, Field(min_length=1)]] = []
    size: Size = Size()
    evidence: Evidence = Evidence()
    download: Download | None = None

    @field_validator("name")
    @classmethod
    def _safe_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("expected letters, digits, underscores and single hyphens between them")
        return name

    @field_validator("license")
    @classmethod
    def _known_license(cls, license_id: str) -> str:
        return canonical(license_id)

    @property
    def patient_space(self) -> str:
        """Name space of its patients."""
        return self.patients or self.name
