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


CONTOURS = (
    '[files]\nimage = "{case}/image/"\nmask = "{case}/mask/RS.dcm"\n'
    '[labels]\n"gtv_mass_*" = "gross_tumor_volume"\n[masks]\nsegments = true\n'
)
FOREIGN = "2.25.99"


def renamed(dataset: Dataset, *keywords: str) -> None:
    """Another UID for every element of these names, at any depth."""
    for element in dataset.iterall():
        if element.keyword in keywords:
            element.value = FOREIGN


FRAMES = ("FrameOfReferenceUID", "ReferencedFrameOfReferenceUID")
IMAGES = ("SeriesInstanceUID", "ReferencedSOPInstanceUID")


@pytest.mark.parametrize(
    ("foreign", "without", "said"),
    [
        ((*FRAMES, *IMAGES), (), "image and mask name different frames of reference"),
        (FRAMES, (), "image and mask name different frames of reference"),
        (IMAGES, (), None),  # another copy of the series
        (IMAGES, FRAMES, "the mask refers to other series and images than its image"),
        ((), (), None),
    ],
)
def test_contours_of_another_patient_are_held_back(
    sa_med2d: Command,
    corpus: Path,
    tmp_path: Path,
    foreign: tuple[str, ...],
    without: tuple[str, ...],
    said: str | None,
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(corpus / "mirp-sts/STS_001/CT/dicom", raw / "a")
    path = raw / "a/mask/RS.dcm"
    path.chmod(0o644)
    contours = pydicom.dcmread(path)
    renamed(contours, *foreign)
    for element in [one for one in contours.iterall() if one.keyword in without]:
        element.value = ""
    contours.save_as(path)
    ran = build(sa_med2d, tmp_path, raw, CONTOURS)
    assert ran.code == (0 if said is None else 1), ran.err
    assert said is None or f"gate: patient_mismatch: {said}" in ran.err
    assert FOREIGN not in ran.err
    if said is not None:
        assert build(sa_med2d, tmp_path, raw, CONTOURS + '[gates]\npatient_mismatch = "off"\n').code == 0


@pytest.mark.parametrize("lists", [True, False])
def test_segments_of_other_images_are_held_back(sa_med2d: Command, corpus: Path, tmp_path: Path, lists: bool) -> None:
    """Without a frame of reference, which radiographs lack, the images that the file refers to decide."""
    raw = tmp_path / "raw"
    shutil.copytree(corpus / "mirp-breast-mr-seg/UCSF-BR-06", raw / "a")
    path = raw / "a/mask/1-1.dcm"
    path.chmod(0o644)
    first = pydicom.dcmread(next((raw / "a/image_dce_pe1").iterdir()))
    files = '[files]\nimage = "{case}/image_dce_pe1/"\nmask = "{case}/mask/1-1.dcm"\n'
    for series, instance, code in ((FOREIGN, FOREIGN, 1), (FOREIGN, first.SOPInstanceUID, 0)):
        seg = pydicom.dcmread(path)
        seg.FrameOfReferenceUID = ""
        image, listed, source = Dataset(), Dataset(), Dataset()
        image.ReferencedSOPInstanceUID = instance
        listed.SeriesInstanceUID, listed.ReferencedInstanceSequence = series, [image]
        source.SourceImageSequence = [image]
        for keyword in ("ReferencedSeriesSequence", "SourceImageSequence"):
            if keyword in seg:
                del seg[keyword]
        if lists:
            seg.ReferencedSeriesSequence = [listed]
        for group in seg.PerFrameFunctionalGroupsSequence:
            group.DerivationImageSequence = [source]
        seg.save_as(path)
        ran = build(sa_med2d, tmp_path, raw, files + '[labels]\nbreast = "breast"\n[masks]\nsegments = true\n', "mr")
        assert ran.code == code, ran.err
        assert ("the mask refers to other series and images than its image" in ran.err) == (code == 1)
