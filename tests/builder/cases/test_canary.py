"""A person's name in every place where one could stand: after a build it stands nowhere but in the table of hashes.

Each source holds the name in paths, tags, headers, labels and comments; whatever is written or said is searched for it,
and what the Hub is sent too.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pyarrow.parquet as pq
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from pydicom.dataset import Dataset

from tests.hub.server import HubServer
from tests.support.command import Command
from tests.support.dicom_masks import square, write_rtstruct
from tests.support.dicom_source import HASHED, write_ct_series
from tests.support.nifti import RAS_TO_LPS, lps_affine
from tests.support.output import members, tree
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map

NAMES = ("DOE^JANE", "Müller-4711", "jane_mueller")
MARKS = (b"jane", "müller".encode(), b"m\\u00fcller", b"m%c3%bcller", "müller".encode("latin-1"), b"mueller")
"""How any of the names would show, in lower case: as it is, in JSON, in a key, in Latin-1."""
FRAME = "1.2.826.0.1.3680043.8.498.1"


def tagged(_: int, data: Dataset) -> None:
    """The name in all that names a person, and in all free text."""
    data.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (
        "PatientName", "PatientID", "PatientAddress", "OtherPatientNames", "ReferringPhysicianName", "StudyDescription",
        "SeriesDescription", "ProtocolName", "ImageComments", "PatientComments", "OperatorsName", "StudyID",
        "AccessionNumber", "InstitutionName", "DerivationDescription",
    ):  # fmt: skip
        setattr(data, keyword, NAMES[0] if data.get(keyword) is None and keyword != "StudyID" else NAMES[1])
    data.FrameOfReferenceUID = FRAME
    data.add_new(0x00090010, "LO", NAMES[0])
    data.add_new(0x00091001, "LO", NAMES[1])


FEW = slice(8)
"""Slices of an image: a file for each."""


def image(folder: Path, slices: slice = FEW) -> None:
    write_ct_series(folder, ct_like()[slices], tagged)


def mask(path: Path, array: Any = None) -> None:
    """Fits `image`; NRRD and MetaImage with the name in their own fields."""
    found = sitk.GetImageFromArray((ct_like()[FEW] > 0).astype(np.uint8) if array is None else array)
    found.SetSpacing((0.7, 0.8, 2))
    found.SetOrigin((-10, -20, 30))
    for key in ("Comment", "PatientName", "content", "space units"):
        found.SetMetaData(key, NAMES[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(found, str(path))


def folders(raw: Path) -> None:
    """Names of folders; sub-modalities and splits that the recipe names, and such that it does not."""
    for person, sub in ((NAMES[0], "T1 se"), (NAMES[1], "T1 se"), ("a", NAMES[2]), ("b", NAMES[0])):
        image(raw / "tr" / person / sub / "ct")
        mask(raw / "tr" / person / sub / "seg.nrrd")
    for split, person in ((NAMES[0], "c"), ("tr", "d"), ("tr", f"{NAMES[0]} (1)")):  # the last two have other grids
        image(raw / split / person / "T1 se/ct", slice(4))
        mask(raw / split / person / "T1 se/seg.nrrd")
    image(raw / "tr" / f"{NAMES[1]} without" / "T1 se/ct")
    mask(raw / "tr" / f"{NAMES[0]} alone" / "T1 se/seg.nrrd")
    two = raw / "tr" / f"{NAMES[0]} two" / "T1 se/ct"  # a folder of two series, and of a file that is damaged
    for number in range(2):
        image(two)
        for file in two.glob("[0-9]*"):
            file.rename(two / f"{NAMES[number]} {file.name}")
    mask(two.with_name("seg.nrrd"))


def labels(raw: Path) -> None:
    """One file for each class: one that the vocabulary knows, and one that is somebody's name."""
    for person, label in ((NAMES[0], "liver"), (NAMES[1], NAMES[2]), ("e", NAMES[1])):
        image(raw / person / "ct")
        mask(raw / person / f"{label}.mha")


def contours(raw: Path) -> None:
    """Structure sets: ROI names that the recipe names, others, damaged ones."""
    for person, rois in (("f", ["GTV 1"]), (NAMES[0], ["GTV 1", NAMES[0]]), (NAMES[1], [NAMES[1]])):
        image(raw / person / "ct", slice(None))
        write_rtstruct(
            raw / person / "rs.dcm", {name: [square(-5, 9, 30 + 2 * at) for at in range(3)] for name in rois}
        )
        file = pydicom.dcmread(raw / person / "rs.dcm")
        file.Modality = "RTSTRUCT"
        file.StructureSetLabel = file.StructureSetName = file.StructureSetDescription = NAMES[0]
        tagged(0, file)
        for roi in file.StructureSetROISequence:
            roi.ROIDescription = NAMES[1]
        file.save_as(raw / person / "rs.dcm")
    for person, modality in ((f"{NAMES[0]}2", NAMES[0]), (f"{NAMES[1]}2", "OT")):
        image(raw / person / "ct", slice(None))
        file = pydicom.dcmread(raw / "f/rs.dcm")
        file.Modality = modality
        file.save_as(raw / person / "rs.dcm")


def unmarked(raw: Path) -> None:
    """DICOM without the mark of its kind, that no reader knows."""
    for person in NAMES:
        image(raw / "series")
        first = sorted((raw / "series").iterdir())[0].read_bytes()
        (raw / person).write_bytes(first[132:])
        mask(raw / f"{person}.nrrd")


def held_back(raw: Path) -> None:
    """Not one case is left after matching."""
    for person in NAMES[:2]:
        image(raw / person / "x-y!" / "ct")
        mask(raw / person / "x-y!" / "seg.nrrd")


def masks_alone(raw: Path) -> None:
    """The images are none that name patients, but the masks are."""
    for person in NAMES[:2]:
        write_header_nifti(raw / f"{person}.nii.gz", ct_like())
        (raw / f"{person}.dcm").write_bytes(b"no mark")


def damaged(raw: Path) -> None:
    """Masks whose damage quotes what they hold."""
    for person, content in {
        f"{NAMES[0]}.mha": f"NDims = {NAMES[0]}\nElementDataFile = LOCAL\n",
        f"{NAMES[1]}.mha": f"NDims = 3\nDimSize = {NAMES[0]}\nElementDataFile = LOCAL\n",
        f"{NAMES[2]}.mha": f"NDims = 3\nDimSize = 4 4 4\nElementType = {NAMES[0]}\nElementDataFile = LOCAL\n",
    }.items():
        image(raw / person.removesuffix(".mha") / "ct")
        (raw / person.removesuffix(".mha") / "seg.mha").write_text(content)


def write_header_nifti(path: Path, array: Any) -> None:
    made = nibabel.Nifti1Image(array.transpose(2, 1, 0), RAS_TO_LPS @ lps_affine())
    made.header["descrip"], made.header["aux_file"] = NAMES[0], NAMES[0]
    made.header["intent_name"], made.header["db_name"] = NAMES[0], NAMES[0]
    made.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", NAMES[1].encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(made, path)


def headers_nifti(raw: Path) -> None:
    """A public source: names of files are nobody's, comments in headers are not read."""
    for case in ("a", "b", "c"):
        write_header_nifti(raw / f"i/{case}.nii.gz", ct_like())
        write_header_nifti(raw / f"m/{case}.nii.gz", organ_map())
    content = (raw / "i/c.nii.gz").read_bytes()
    (raw / "i/c.nii.gz").write_bytes(content[: len(content) // 2])


def headers_itk(raw: Path) -> None:
    for case in ("a", "b"):
        mask(raw / f"i/{case}.nrrd", ct_like())
        mask(raw / f"m/{case}.mha", (ct_like() > 0).astype(np.uint8))
    (raw / "i/b.nrrd").write_bytes((raw / "i/b.nrrd").read_bytes()[:400])


def headers_pictures(raw: Path) -> None:
    """PNG text, EXIF and TIFF descriptions."""
    pixels = np.random.default_rng(0).integers(0, 255, (96, 80, 3), np.uint8)
    painted = np.zeros((96, 80), np.uint8)
    painted[20:60, 20:60] = 1
    text = PIL.PngImagePlugin.PngInfo()
    for key in ("Author", "Comment", NAMES[2]):
        text.add_itxt(key, NAMES[1])
    exif = PIL.Image.Exif()
    exif[270], exif[315] = NAMES[0], NAMES[1]
    for folder, array in (("i", pixels), ("m", painted)):
        (raw / folder).mkdir(parents=True)
        PIL.Image.fromarray(array).save(raw / folder / "a.png", pnginfo=text, exif=exif)
        tifffile.imwrite(raw / folder / "b.tif", array, description=NAMES[0], software=NAMES[0])
    PIL.Image.fromarray(pixels).save(raw / "i/c.jpg", exif=exif, comment=NAMES[0].encode())
    PIL.Image.fromarray(painted).save(raw / "m/c.png")
    content = (raw / "i/b.tif").read_bytes()
    (raw / "i/d.tif").write_bytes(content[:8] + struct.pack("<H", 9) + NAMES[0].encode() * 9 + content[400:])
    (raw / "m/d.tif").write_bytes((raw / "m/b.tif").read_bytes())


@dataclass(frozen=True)
class Canary:
    """A source with names in it, and how many of its cases are good."""

    write: Callable[[Path], None]
    recipe: str
    built: int = 0


BONE = '[labels]\n1 = "bone"\n'
PUBLIC = RECIPE.format(name="Dicom", license="CC-BY-4.0", modality="ct").split("[files]")[0]
ROIS = '[files]\nimage = "{case}/ct/"\nmask = "{case}/rs.dcm"\n[labels]\n"gtv*" = "gross_tumor_volume"\n[masks]\nsegments = true\nmin_area = 0\n'  # fmt: skip
CANARIES = {
    "folders": Canary(
        folders,
        HASHED
        + '[files]\nimage = "{split}/{case}/{submodality}/ct/"\nmask = "{split}/{case}/{submodality}/seg.nrrd"\n'
        + '[submodalities]\n"T1 se" = "t1"\n'
        + BONE,
        2,
    ),
    "labels": Canary(labels, HASHED + '[files]\nimage = "{case}/ct/"\nmask = "{case}/{label}.mha"\n', 1),
    "contours": Canary(contours, HASHED + ROIS, 1),
    "contours, flagged": Canary(contours, HASHED + ROIS + '[gates]\nunnamed_values = "flag"\n', 2),
    "unmarked": Canary(unmarked, HASHED + '[files]\nimage = "{case}"\nmask = "{case}.nrrd"\n' + BONE),
    "held back": Canary(
        held_back,
        HASHED + '[files]\nimage = "{case}/{submodality}/ct/"\nmask = "{case}/{submodality}/seg.nrrd"\n' + BONE,
    ),
    "masks alone": Canary(
        masks_alone,
        HASHED + '[files]\nimage = "{case}.nii.gz"\nmask = "{case}.dcm"\n' + ROIS[ROIS.index("[labels]") :],
    ),
    "damaged": Canary(damaged, HASHED + '[files]\nimage = "{case}/ct/"\nmask = "{case}/seg.mha"\n' + BONE),
    "NIfTI headers": Canary(
        headers_nifti,
        PUBLIC + '[files]\nimage = "i/{case}.nii.gz"\nmask = "m/{case}.nii.gz"\n[labels]\n1 = "liver"\n2 = "spleen"\n',
        2,
    ),
    "NRRD and MetaImage headers": Canary(
        headers_itk, PUBLIC + '[files]\nimage = "i/{case}.nrrd"\nmask = "m/{case}.mha"\n' + BONE, 1
    ),
    "pictures": Canary(
        headers_pictures,
        PUBLIC.replace('"ct"', '"ultrasound"') + '[files]\nimage = "i/{case}.{*}"\nmask = "m/{case}.{*}"\n' + BONE,
        3,
    ),
}


def named_in(data: bytes) -> list[bytes]:
    return [mark for mark in MARKS if mark in data.lower()]


def leaks(files: dict[str, bytes]) -> dict[str, list[bytes]]:
    """Path -> marks of names in it or in its file; what is compressed is looked into."""
    found = {path: named_in(path.encode() + b"\0" + data + unfolded(path, data)) for path, data in files.items()}
    return {path: marks for path, marks in found.items() if marks}


def unfolded(path: str, data: bytes) -> bytes:
    if path.endswith(".gz"):
        return zlib.decompressobj(31).decompress(data)
    if data[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(data))
        return repr([table.schema, table.to_pylist()]).encode()
    return b""


@pytest.mark.parametrize("kind", CANARIES)
def test_no_name_leaves_a_build(sa_med2d: Command, tmp_path: Path, kind: str) -> None:
    canary, raw, out, recipe = CANARIES[kind], tmp_path / "raw", tmp_path / "out", tmp_path / "Dicom.toml"
    canary.write(raw)
    assert leaks(tree(raw)), "the source has no name in it"
    recipe.write_text(canary.recipe, encoding="utf-8")
    said = [
        sa_med2d("sources", "check", recipe, "--raw", raw),
        sa_med2d("build", recipe, "--raw", raw, "--out", out, "--workers", 1),
        sa_med2d("build", recipe, "--raw", raw, "--out", out, "--workers", 1, "--json"),
    ]
    assert all(one.code in (0, 1, 3) for one in said), said
    cases = {json.loads(data)["case"] for name, data in members(out) if name.endswith(".json")}
    assert len(cases) == canary.built, said[-2].err
    if cases:
        said += [sa_med2d("verify", out, "--json"), sa_med2d("index", out), sa_med2d("verify", out, "--deep")]
    for number, one in enumerate(said[1:]):  # a check writes nothing that leaves the machine, and shows one's own names
        assert named_in((one.out + one.err).encode()) == [], (number, one)
    written = tree(out)
    hashed = canary.recipe.startswith(HASHED)
    assert ("build/identifiers/Dicom.json" in written) == hashed
    if hashed:
        assert named_in(written.pop("build/identifiers/Dicom.json"))
    assert leaks(written) == {}


def test_no_name_is_published(sa_med2d: Command, tmp_path: Path) -> None:
    raw, out, recipe = tmp_path / "raw", tmp_path / "out", tmp_path / "Dicom.toml"
    folders(raw)
    recipe.write_text(CANARIES["folders"].recipe, encoding="utf-8")
    assert sa_med2d("build", recipe, "--raw", raw, "--out", out, "--workers", 1).code == 3
    with HubServer(tmp_path / "hub", objects="direct") as hub:
        hub.add_user("ann", "hf_ann")
        for number, arguments in enumerate((["publish", out, "ann/scans"], ["status", "ann/scans", out, "--json"])):
            ran = subprocess.run(
                [sys.executable, "-m", "builder", *map(str, arguments)],
                env=hub.environment(home=tmp_path / f"home{number}", token="hf_ann"),  # noqa: S106 - of this Hub
                capture_output=True,
                check=False,
            )
            assert ran.returncode == 0, ran.stderr
            assert named_in(ran.stdout + ran.stderr) == []
        subprocess.run(["git", "clone", "-q", hub.git_folder("ann/scans"), tmp_path / "clone"], check=True)
        sent = tree(tmp_path / "clone")
        assert any(path.endswith(".tar") for path in sent)
        assert leaks({path: data for path, data in sent.items() if not path.startswith(".git/")}) == {}
        assert leaks(tree(tmp_path / "hub")) == {}
