"""Gates over what an image says of itself, on DICOM files, which say most."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.support.command import Command
from tests.support.dicom_source import CASE, build, write_case


@pytest.mark.parametrize(
    ("gate", "attribute", "value", "said"),
    [
        ("burned_in_text", "BurnedInAnnotation", "YES", "text is part of its pixels"),
        ("modality_mismatch", "Modality", "MR", "the image says it is MR, the recipe ct"),
    ],
)
def test_gates_over_what_an_image_says(
    sa_med2d: Command, tmp_path: Path, gate: str, attribute: str, value: str, said: str
) -> None:
    def change(number: int, data: Dataset) -> None:
        if gate != "burned_in_text" or number == 7:  # one image with text is one too many
            setattr(data, attribute, value)

    write_case(tmp_path / "raw", change)
    ran = build(sa_med2d, tmp_path, tmp_path / "raw", CASE)
    assert ran.code == 1
    assert f"p1/ct/: gate: {gate}: " in ran.err
    assert said in ran.err
    assert build(sa_med2d, tmp_path, tmp_path / "raw", CASE + f'[gates]\n{gate} = "off"\n').code == 0


def test_mask_of_another_patient_is_held_back(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(corpus / "mirp-breast-mr-seg/UCSF-BR-06", raw / "a")
    for name, text in (("PatientID", "somebody else"), ("FrameOfReferenceUID", "1.2.3.4")):
        seg = pydicom.dcmread(corpus / "mirp-breast-mr-seg/UCSF-BR-06/mask/1-1.dcm")
        setattr(seg, name, text)
        (raw / "a/mask/1-1.dcm").chmod(0o644)
        seg.save_as(raw / "a/mask/1-1.dcm")
        files = '[files]\nimage = "{case}/image_dce_pe1/"\nmask = "{case}/mask/1-1.dcm"\n'
        ran = build(sa_med2d, tmp_path, raw, files + '[labels]\nbreast = "breast"\n[masks]\nsegments = true\n', "mr")
        assert ran.code == 1
        assert "gate: patient_mismatch: image and mask name different " in ran.err
        assert text not in ran.err
