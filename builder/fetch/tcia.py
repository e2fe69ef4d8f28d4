"""Series of a collection of The Cancer Imaging Archive, each a zip that its server (NBIA) makes when it is asked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlencode

from builder.fetch.fault import FetchError
from builder.fetch.host import Host
from builder.fetch.listing import RemoteFile
from builder.sources.download import Download

ADDRESS: Final = "SA_MED2D_TCIA_URL"
"""Environment variable with the address of the service, for mirrors and tests."""
_SERVICE: Final = "https://services.cancerimagingarchive.net/nbia-api/services/v1"
_UNSAFE: Final = re.compile(r"[/\\\0]")


def files_of(download: Download, host: Host) -> tuple[RemoteFile, ...]:
    """The series of the collection, each for ``PatientID/StudyInstanceUID/SeriesInstanceUID/``.

    Raises:
        FetchError: The service does not answer, or knows no such collection.
    """
    service = os.environ.get(ADDRESS, _SERVICE).rstrip("/")
    address = f"{service}/getSeries?{urlencode({'Collection': download.tcia, 'format': 'json'})}"
    series = host.json(address)
    try:
        found = tuple(_series(series, service))
    except (KeyError, TypeError, ValueError):
        wanted = "PatientID, StudyInstanceUID, SeriesInstanceUID and ImageCount"
        raise FetchError(f"{address}: expected a list of series, each with {wanted}; try again later") from None
    if not found:
        raise FetchError(f"{address}: the collection has no public series; its name may differ, or it asks for a login")
    return found


def _series(series: list[dict[str, object]], service: str) -> Iterator[RemoteFile]:
    for one in series:
        uid = str(one["SeriesInstanceUID"])
        parts = [str(one["PatientID"]), str(one["StudyInstanceUID"]), uid]
        folder = "/".join(_UNSAFE.sub("_", part) for part in parts)
        if not all(part.strip(". ") for part in parts):
            raise ValueError(folder)
        url = f"{service}/getImage?{urlencode({'SeriesInstanceUID': uid})}"
        yield RemoteFile(url, f"{_UNSAFE.sub('_', uid)}.zip", folder, archive="zip", images=int(str(one["ImageCount"])))
