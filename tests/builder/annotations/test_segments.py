"""What SEG and RTSTRUCT have in common: damaged files, files of another kind, and what is private."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import pydicom
import pydicom.dataset
import pytest

from builder.annotations import dicom_seg, rtstruct
from builder.annotations.segments import Segment
from builder.errors import UnreadableError
from builder.readers.dicom.identity import ATTRIBUTES as IDENTITY_ATTRIBUTES
from builder.readers.dicom.identity import REFERENCE_ATTRIBUTES
from tests.support.dicom_masks import (
    PATIENT,
    SHAPE,
    UNIT,
    blobs,
    drawn,
    empty,
    save,
    segments_of,
    square,
    write_rtstruct,
    write_seg,
)


class Reading:
    """Both readers on a file that a test wrote."""

    def __init__(self, folder: Path) -> None:
        written = write_seg(blobs())
        self.image = written.image
        self.seg = save(written.file, folder / "seg.dcm")
        self.rtstruct = write_rtstruct(folder / "rs.dcm", {"a": [square(1.5, 3.5, 2)], "b": [square(1.5, 3.5, 4)]})

    def files(self) -> list[Path]:
        return [self.seg, self.rtstruct]

    def read(self, path: Path, kind: Path) -> list[Segment]:
        if kind == self.seg:
            return segments_of(dicom_seg, path, self.image)
        return segments_of(rtstruct, path, empty(UNIT, SHAPE))


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return Reading(tmp_path)


def test_files_of_another_kind_are_refused_in_words(tmp_path: Path, reading: Reading) -> None:
    text, nothing = tmp_path / "notes.dcm", tmp_path / "empty.dcm"
    text.write_text("no DICOM " * 100)
    nothing.write_bytes(b"")
    for kind in reading.files():
        for path in (text, nothing):
            with pytest.raises(UnreadableError, match="no DICOM file"):
                reading.read(path, kind)
        with pytest.raises(FileNotFoundError):
            reading.read(tmp_path / "gone.dcm", kind)
    with pytest.raises(UnreadableError, match=r"no DICOM segmentation \(SEG\): the file is RT Structure Set Storage"):
        reading.read(reading.rtstruct, reading.seg)
    with pytest.raises(UnreadableError, match=r"no RT structure set \(RTSTRUCT\): the file is Segmentation Storage"):
        reading.read(reading.seg, reading.rtstruct)


@pytest.mark.filterwarnings("error")
def test_damaged_files_are_refused_and_nothing_else_is_raised_or_logged(
    tmp_path: Path, reading: Reading, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    rng = random.Random(0)
    damaged = tmp_path / "damaged.dcm"
    for kind in reading.files():
        whole = kind.read_bytes()
        for _ in range(150):
            content = bytearray(whole)
            for _ in range(rng.randint(1, 8)):
                content[rng.randrange(132, len(content))] = rng.randrange(256)
            if rng.random() < 0.3:
                del content[rng.randrange(len(content)) :]
            damaged.write_bytes(content)
            try:
                drawn(reading.read(damaged, kind))
            except UnreadableError as error:
                assert_private(str(error))
    for kind in reading.files():
        whole = kind.read_bytes()
        for length in range(0, len(whole) - 2, 37):
            damaged.write_bytes(whole[:length])
            with pytest.raises(UnreadableError):
                drawn(reading.read(damaged, kind))
    assert not caplog.records  # pydicom quotes values


def test_headers_that_promise_too_much_are_refused_before_memory_is_taken(tmp_path: Path, reading: Reading) -> None:
    damaged = tmp_path / "damaged.dcm"
    for attributes in (
        {"NumberOfFrames": 2**31 - 1},
        {"NumberOfFrames": 2**31 - 1, "Rows": 1, "Columns": 1},
        {"Rows": 65535, "Columns": 65535},
        {
            "TotalPixelMatrixRows": 2**32 - 1,
            "TotalPixelMatrixColumns": 2**32 - 1,
            "DimensionOrganizationType": "TILED_FULL",
        },
    ):
        file = pydicom.dcmread(reading.seg)
        for keyword, value in attributes.items():
            setattr(file, keyword, value)
        with pytest.raises(UnreadableError, match=r"damaged DICOM SEG|limits\.pixels|not that of the image|outside"):
            reading.read(save(file, damaged), reading.seg)


def assert_private(message: str) -> None:
    for word in (PATIENT, "1970", "2020", "1.2.8", "2.25."):
        assert word not in message


def test_only_the_written_attributes_are_decoded(monkeypatch: pytest.MonkeyPatch, reading: Reading) -> None:
    seen: set[str] = set()
    convert = pydicom.dataset.convert_raw_data_element  # type: ignore[attr-defined]

    def spy(raw: Any, **options: Any) -> Any:
        seen.add(pydicom.datadict.keyword_for_tag(raw.tag))
        return convert(raw, **options)

    monkeypatch.setattr(pydicom.dataset, "convert_raw_data_element", spy)
    for kind, module in ((reading.seg, dicom_seg), (reading.rtstruct, rtstruct)):
        seen.clear()
        drawn(reading.read(kind, kind))
        attributes = cast("tuple[str, ...]", module.ATTRIBUTES)
        assert seen
        meta = {"SpecificCharacterSet", "FileMetaInformationGroupLength"}
        assert seen <= {*attributes, *IDENTITY_ATTRIBUTES, *meta}
        # of the UIDs, those that say which images are meant leave the reader as hashes
        known = ("SOPClassUID", "TransferSyntaxUID", *REFERENCE_ATTRIBUTES)
        assert not [name for name in attributes if "UID" in name and name not in known]
