"""What must never move: splits of patients, numbers of classes, names of samples, bytes of shards.

People train on what is published, cite it, and build upon it next year. These literals were written once. A change that
makes one of them fail is not put right by a new literal: for splits, class numbers and keys it is wrong. Bytes may
change, see `test_bytes_of_a_built_shard`.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from importlib.metadata import version
from typing import Final

import nibabel
import numpy as np
import pytest
from PIL import Image

from builder.cases.split import hashed_split
from sa_med2d_20m import LABELS, Dropped, Intensity, Mask, Metadata
from shards.key import SampleKey
from shards.png import encode_image, encode_label_map
from shards.tar import Sample, TarWriter

# --- splits -----------------------------------------------------------------------------------------------------------

SPLIT_OF: Final = [
    ("MSD_Spleen", "spleen_2", "train"),
    ("MSD_Spleen", "spleen_9", "test"),
    ("MSD_Spleen", "spleen_16", "validation"),
    ("MSD_Spleen", "spleen_18", "validation"),
    ("MSD_Spleen", "spleen_19", "train"),
    ("MSD_Spleen", "spleen_22", "test"),
    ("BrainTumour", "spleen_9", "train"),
    ("B", "", "test"),
    ("LiTS", "0", "train"),
    ("LiTS", "PATIENT-6", "validation"),
    ("LiTS", "PATIENT-2", "test"),
    ("LiTS", "1.3.6.1.4.1", "validation"),
    ("LiTS", "1.3.6.1.4.13", "test"),
    ("LiTS", "M\u00fcller 9", "validation"),  # one character
    ("LiTS", "Mu\u0308ller 9", "train"),  # u and a combining mark: another name
    ("LiTS", "Mu\u0308ller 14", "test"),
    ("LiTS", "\u60a3\u80052", "validation"),
    ("LiTS", "\U0001f6005", "test"),
    ("LiTS", "\udcff4", "validation"),  # the byte 0xff in a file name that is no UTF-8
    ("LiTS", "\udcff25", "test"),
    ("LiTS", "patient--4", "validation"),
    ("LiTS", "100 % 3", "test"),
    ("LiTS", " 21 ", "validation"),  # blanks count
    ("LiTS", "a/6", "test"),
    ("LiTS", "P\n8", "validation"),
    ("LiTS", "x" * 300 + "4", "test"),
    # next to the two borders, 0.8 and 0.9 of all hashes: their hashes begin with cccc and e666
    ("Edge", "p26110", "train"),
    ("Edge", "p80586", "validation"),
    ("Edge", "p58349", "validation"),
    ("Edge", "p46617", "test"),
]


@pytest.mark.parametrize(("source", "patient", "split"), SPLIT_OF)
def test_a_patient_stays_in_its_split(source: str, patient: str, split: str) -> None:
    hashed = hashlib.sha256(source.encode() + b"\0" + patient.encode("utf-8", "surrogateescape")).hexdigest()
    # 0.8 and 0.9 as 64 bits, rounded up
    expected = (
        "train" if hashed[:16] < "cccccccccccccccd" else "validation" if hashed[:16] < "e666666666666667" else "test"
    )
    assert expected == split
    assert hashed_split(source, patient) == split


# --- classes ----------------------------------------------------------------------------------------------------------

NUMBERED: Final = 1309
NAMES: Final = "7f77df4d7e7b134cab027020f58eaed86c129fe1e45c9d1af71d37126a20debf"
"""How many names `LABELS` has in the first release, and the SHA-256 of them, a name a line. Models are trained with
these numbers: after that release neither is written anew, whatever the reason."""


def test_a_class_keeps_its_number() -> None:
    """New names go to the end of `LABELS`, and the two literals above stay as they are."""
    assert hashlib.sha256("\n".join(LABELS[:NUMBERED]).encode()).hexdigest() == NAMES
    assert len(set(LABELS)) == len(LABELS)
    numbers = {
        "abdomen": 1,
        "aorta": 39,
        "liver": 604,
        "spleen": 1019,
        "vertebrae_T10": 1276,
        "zygomatic_arch_right": 1309,
    }
    assert {name: LABELS.index(name) + 1 for name in numbers} == numbers


# --- keys -------------------------------------------------------------------------------------------------------------

KEY_OF: Final = {
    "case_01": "case_01",
    "Case-01": "Case-01",
    "1.3.6.1": "1%2E3%2E6%2E1",
    "brain.nii": "brain%2Enii",
    "a--b": "a%2D%2Db",
    "a---b": "a%2D%2D%2Db",
    "-a": "%2Da",
    "a-": "a%2D",
    "-": "%2D",
    "a_-b": "a_-b",
    "a%2Db": "a%252Db",
    "100 %": "100%20%25",
    "a/b\\c": "a%2Fb%5Cc",
    "a\nb": "a%0Ab",
    "M\u00fcller": "M%C3%BCller",
    "Mu\u0308ller": "Mu%CC%88ller",
    "\u60a3\u8005": "%E6%82%A3%E8%80%85",
    "\U0001f600": "%F0%9F%98%80",
    "\udcff": "%FF",
    "\u0660": "%D9%A0",  # a digit, but not of ASCII
    "x" * 300: "x" * 300,
}


@pytest.mark.parametrize(("case", "written"), KEY_OF.items())
def test_a_case_keeps_its_key(case: str, written: str) -> None:
    key = SampleKey("ct", "00", "LiTS", case, "x", 7)
    assert str(key) == f"ct_00--LiTS--{written}--x_0007"
    assert SampleKey.parse(str(key)) == key


@pytest.mark.parametrize(
    ("key", "written"),
    [
        (SampleKey("mr", "t1_gd", "Pan-Nuke_2", "p", "2d", None), "mr_t1_gd--Pan-Nuke_2--p--2d_none"),
        (SampleKey("x_ray", "00", "A", "p", "z", 0), "x_ray_00--A--p--z_0000"),
        (SampleKey("ct", "00", "A", "p", "y", 12345), "ct_00--A--p--y_12345"),
    ],
)
def test_the_other_fields_of_a_key(key: SampleKey, written: str) -> None:
    assert str(key) == written
    assert SampleKey.parse(written) == key


# --- bytes ------------------------------------------------------------------------------------------------------------

WRITTEN_WITH: Final = {"isal": "1.9.1", "opencv-python-headless": "5.0.0.93"}
"""Versions that gave the bytes below, on x86-64."""


def _advice() -> str:
    here = {name: version(name) for name in WRITTEN_WITH}
    return f"pinned with {WRITTEN_WITH}, here is {here}: read what test_bytes_of_a_built_shard says"


def _sample(number: int) -> Sample:
    y, x = np.mgrid[:40, :33]
    grey = ((y * y + 3 * x * number) % 251).astype(np.uint8)
    image = grey if number % 2 else np.dstack([grey, grey[::-1], 255 - grey])
    label_map = np.zeros((80 if number == 3 else 40, 33), np.uint8)
    label_map[5:25, 10:30] = 1
    metadata = Metadata(
        key=f"ct_00--Pinned--case{number}--x_{number:04d}",
        source="Pinned",
        modality="ct",
        submodality="00",
        license="CC-BY-4.0",
        patient="M\u00fcller",
        case=f"case{number}",
        split="train",
        plane="axial",
        axis="x",
        index=number,
        height=40,
        width=33,
        spacing=(0.8, 1.5),
        stored_axes="LAS",
        schema=2,
        intensity=Intensity(-1000.0, 0.1 + 0.2, "slice", 1 / 3, -1000.0, number),
        image_file=f"images/case{number}.nii.gz",
        slice_spacing=5.0,
        slices=4,
        origin=(-12.5, 0.0, 1e-3),
        direction=(1.0, 0.0, 0.0, 0.0, 0.8, -0.6, 0.0, 0.6, 0.8),
        official_split=number == 1,
        dropped=Dropped(number, 7 * number, ("spleen",) if number else ()),
        not_annotated=("spleen",) if number == 2 else (),
        rater="2" if number == 3 else None,
        masks=(Mask(1, 0, "liver", "0000", "liver", "abdomen", 0, (10, 5, 20, 20), 400),),
    )
    return Sample(metadata.key, encode_image(image), encode_label_map(label_map), metadata.to_json())


def test_bytes_of_a_written_shard() -> None:
    """The form of tar, PNG and JSON alone; see below for what to do when it fails."""
    file = io.BytesIO()
    tar = TarWriter(file)
    for number in range(4):
        tar.write(_sample(number))
    tar.finish()
    assert (
        hashlib.sha256(file.getvalue()).hexdigest()
        == "bedf8c8c526d9b5090d3909924560c2474bacc53ca2455f812908b4efa707559"
    ), _advice()


RECIPE: Final = """
name = "Pinned"
title = "A volume that a test wrote"
license = "CC-BY-4.0"
modality = "ct"

[files]
image = "{case}_image.nii"
mask = "{case}_mask.nii"

[labels]
1 = "liver"
2 = "spleen"

[regions]
both = [1, 2]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The one shard of a source of one volume in LAS axes, with two labels and their union."""
    folder = tmp_path_factory.mktemp("pinned")
    affine = np.diag([-0.8, 0.9, 1.5, 1.0])
    x, y, z = np.mgrid[:18, :20, :14]
    volume = ((x * 37 + y * y * 5 + z * 11) % 1901 - 1000).astype(np.int16)
    labels = np.zeros(volume.shape, np.uint8)
    labels[2:9, 3:12, 1:9] = 1
    labels[9:16, 8:17, 4:12] = 2
    labels[3, 15, 3:6] = 1
    (folder / "Pinned").mkdir()
    for name, array in (("image", volume), ("mask", labels)):
        nibabel.save(nibabel.Nifti1Image(array, affine), folder / "Pinned" / f"p1_{name}.nii")
    (folder / "Pinned.toml").write_text(RECIPE)
    command = ["build", "Pinned.toml", "--raw", ".", "--out", "out", "--workers", "1"]
    subprocess.run([sys.executable, "-m", "builder", *command], cwd=folder, check=True)
    (shard,) = (folder / "out" / "data").rglob("*.tar")
    return shard.read_bytes()


def test_pixels_and_metadata_of_a_built_shard(built: bytes) -> None:
    """What is in the shard, whatever codec wrote it: pixels as Pillow reads them, and each JSON byte for byte."""
    digest = hashlib.sha256()
    with tarfile.open(fileobj=io.BytesIO(built)) as tar:
        for info in tar:
            file = tar.extractfile(info)
            assert file is not None
            data = file.read()
            content = data if info.name.endswith(".json") else np.asarray(Image.open(io.BytesIO(data))).tobytes()
            digest.update(f"{info.name}\n{len(content)}\n".encode() + content)
    assert digest.hexdigest() == "ebc431e9c6f8b1b35312e05be13af1e8f40c198148ab4ead4413a96dba618d64"


def test_bytes_of_a_built_shard(built: bytes) -> None:
    """A shard that was published can be built again, and its receipt and everybody's checksums still agree.

    When this fails and the test of pixels and metadata does not, the codec writes other bytes: a new `isal`, another
    processor, or a change of `shards.png` or `shards.tar`. When both fail, what is converted is another, or a new
    `opencv-python-headless` draws or resamples otherwise. If that is meant, it is a change of bytes: name it as one in
    CHANGELOG.md, raise the number that CONTRIBUTING.md names for it, and only then replace literal and versions here.
    """
    assert hashlib.sha256(built).hexdigest() == "5e4006ed9a3a32f63d78e83b827a225325214bbd1094d1cb56c1efcc8f071eb7", (
        _advice()
    )
