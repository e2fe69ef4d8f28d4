"""What a DICOM file says of itself comes with its pixels, and what it says of its patient reaches no output."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pydicom

from builder.readers.dicom.identity import MODALITIES as DICOM_MODALITIES
from sa_med2d_20m import MODALITIES
from tests.support.command import Command
from tests.support.dicom_image import SECRET, image_dataset, pixels_of, save
from tests.support.dicom_reading import read_picture
from tests.support.dicom_source import CASE, build, write_case


def test_what_a_file_says_of_itself_comes_with_its_pixels(tmp_path: Path) -> None:
    said = {"Modality": "US", "PatientID": SECRET, "FrameOfReferenceUID": "1.2.3", "BurnedInAnnotation": "YES"}
    said |= {"SeriesInstanceUID": "1.2.4", "SOPInstanceUID": "1.2.5"}
    named = read_picture(save(tmp_path / "a", image_dataset(pixels_of(0), **said))).identity
    assert (named.modality, named.fits, named.burned_in) == ("US", frozenset({"ultrasound"}), True)
    assert named.patient == hashlib.sha256(SECRET.encode()).hexdigest()
    uids = named.frames_of_reference, named.series, named.instances
    assert uids == tuple(frozenset({hashlib.sha256(uid).hexdigest()}) for uid in (b"1.2.3", b"1.2.4", b"1.2.5"))


def test_every_modality_has_its_dicom_modalities() -> None:
    """One that had none would be refused in every DICOM file that says what it is."""
    assert set(DICOM_MODALITIES) == set(MODALITIES)
    assert all(DICOM_MODALITIES.values())


def test_nothing_of_the_patient_reaches_the_output(sa_med2d: Command, tmp_path: Path) -> None:
    write_case(tmp_path / "raw")
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE)
    assert ran.code == 0, ran.err
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    series = pydicom.dcmread(next((tmp_path / "raw/p1/ct").iterdir()))
    for secret in ("Roe", "secret-17", str(series.SeriesInstanceUID)):
        assert secret.encode() not in everything
        assert secret not in ran.err
