"""What a DICOM file says of its patient reaches no output."""

from __future__ import annotations

from pathlib import Path

import pydicom

from tests.support.command import Command
from tests.support.dicom_source import CASE, build, write_case


def test_nothing_of_the_patient_reaches_the_output(sa_med2d: Command, tmp_path: Path) -> None:
    write_case(tmp_path / "raw")
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE)
    assert ran.code == 0, ran.err
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    series = pydicom.dcmread(next((tmp_path / "raw/p1/ct").iterdir()))
    for secret in ("Roe", "secret-17", str(series.SeriesInstanceUID)):
        assert secret.encode() not in everything
        assert secret not in ran.err
