"""The files that ``[[examples]]`` of a recipe name, tiny and of the right kind, with every class of the recipe in them."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import highdicom
import nibabel
import numpy as np
import numpy.typing as npt
import PIL.Image
import pydicom
import scipy.io
import SimpleITK as sitk  # noqa: N813
import tifffile
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage, generate_uid

from builder.sources.recipe import CLASSES, OBJECTS, Example, Recipe
from tests.support.dicom_image import image_dataset, save
from tests.support.dicom_masks import contour, dicom_file

VOLUMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".img")
ARRAYS = (".npy", ".npz", ".mat", ".h5", ".hdf5")
FRAMES = 2
COLOURED = ("dermoscopy", "endoscopy", "fundus_photography", "histopathology")
BLOCK, CELL = 8, 12
"""Side of the square that a class fills, and of its cell, in pixels: well above what the area rule drops."""
STORAGE = {"mr": (MRImageStorage, "MR"), "pet": (PositronEmissionTomographyImageStorage, "PT")}
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Squares:
    """Where the classes of a case are painted: number ``n`` of ``count`` fills a square of its own."""

    count: int

    @property
    def side(self) -> int:
        return max(64, CELL * math.ceil(math.sqrt(self.count)) + CELL)

    @property
    def depth(self) -> int:
        return self.side // 2 + 2

    def corner(self, number: int) -> tuple[int, int]:
        columns = math.ceil(math.sqrt(self.count))
        return CELL // 2 + CELL * (number // columns), CELL // 2 + CELL * (number % columns)

    def square(self, number: int) -> Bools:
        """(side, side)."""
        painted = np.zeros((self.side, self.side), np.bool_)
        row, column = self.corner(number)
        painted[row : row + BLOCK, column : column + BLOCK] = True
        return painted

    def label_map(self, values: Sequence[int]) -> npt.NDArray[np.int64]:
        """(side, side), 0 outside of the squares."""
        painted = np.zeros((self.side, self.side), np.int64)
        for number, value in enumerate(values):
            painted[self.square(number)] = value
        return painted


def keys_of(recipe: Recipe, example: Example) -> list[str]:
    """What the masks of an example hold: keys of ``[labels]``, or what ``{label}`` captures where there is none."""
    if recipe.labels:
        return list(recipe.labels)
    return sorted({found for path in example.masks if (found := captured(recipe, path)) is not None})


def captured(recipe: Recipe, path: str) -> str | None:
    """What ``{label}`` captures in the path of a mask."""
    if recipe.files.dicom is not None:
        return None
    for pattern in recipe.files.mask:
        found = pattern.match(path)
        if found is not None:
            return found.get("label")
    raise AssertionError(f"{recipe.name}: example {path!r} fits no mask pattern")


def write_examples(recipe: Recipe, root: Path) -> None:
    """Write the images and masks of all examples below the root of the source."""
    for number, example in enumerate(recipe.examples):
        keys = keys_of(recipe, example)
        squares = Squares(len(keys))
        write_image(recipe, root / example.image, example, squares, seed=number, flat=is_flat(recipe, example))
        for path in example.masks:
            if recipe.files.halves.image is not None and path == example.image:
                write_halves(recipe, root / path, keys, squares, seed=number)
            else:
                write_mask(recipe, root, path, example, keys, squares)
    write_split(recipe, root)
    names = recipe.patient_names
    if names.file is not None:  # as where a patient is new
        lines = [
            f"{names.shared},{names.own}",
            *(f"NA,{example.patient or example.case}" for example in recipe.examples),
        ]
        write_text(root / names.file, "".join(f"{line}\n" for line in lines))


def write_split(recipe: Recipe, root: Path) -> None:
    """Write the file or the lists in which the source says the split of its examples, if the recipe names any."""
    splits = recipe.splits
    rows = [(example.patient or example.case, example.split) for example in recipe.examples if example.split]
    for split, path in splits.lists.listed.items():
        if path is not None:
            write_text(root / path, "".join(f"{name}\n" for name, own in rows if own == split))
    if splits.file is None:
        return
    usual = {"train": "train", "validation": "val", "test": "test"}
    texts = {split: (listed or [usual[split]])[0] for split, listed in splits.values.listed.items()}
    told = [(name, texts[split]) for name, split in rows]
    if splits.file.endswith(".json"):
        entries = [{splits.patient: name, splits.split: text} for name, text in told]
        listed = {text: [name for name, own in told if own == text] for text in texts.values()}
        write_text(root / splits.file, json.dumps(listed if splits.patient is None else entries))
    else:
        lines = [f"{name};40;{text}" for name, text in told]
        write_text(root / splits.file, "\ufeff" + "\n".join([f"{splits.patient};age;{splits.split}", *lines]) + "\n")


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_halves(recipe: Recipe, path: Path, keys: list[str], squares: Squares, *, seed: int) -> None:
    """A picture with the image in one half and the colours of its mask in the other."""
    image = np.random.default_rng(seed).integers(0, 250, (squares.side, squares.side, 3), np.uint8)
    halves = {recipe.files.halves.image: image, recipe.files.halves.mask: coloured(recipe, keys, squares)}
    axis = 1 if "left" in halves else 0
    write_array(
        path, np.concatenate([halves[half] for half in ("left", "top", "right", "bottom") if half in halves], axis)
    )


def is_flat(recipe: Recipe, example: Example) -> bool:
    """Whether the images are pictures; arrays are where their modality gives pictures."""
    if example.image.endswith(ARRAYS):
        return recipe.modality not in ("ct", "mr", "pet")
    return not example.image.endswith(("/", *VOLUMES))


def write_image(recipe: Recipe, path: Path, example: Example, squares: Squares, *, seed: int, flat: bool) -> None:
    if example.image.endswith("/"):
        write_series(recipe, path, example, squares, seed)
        return
    random = np.random.default_rng(seed)
    shape: tuple[int, ...] = (squares.side, squares.side) if flat else (squares.depth, squares.side, squares.side)
    shape = (*shape, 3) if flat and recipe.modality in COLOURED else shape
    arrays = recipe.files.variables.image
    times = len(recipe.files.channels or ()) or (FRAMES if recipe.files.frames else 0)
    if isinstance(arrays, list) or example.image.endswith(ARRAYS):
        path.unlink(missing_ok=True)  # several examples may be of one file
        depth = np.uint8 if flat else np.int16
        drawn = [random.integers(0, 250, shape).astype(depth) for _ in range(times or 1)]
        write_variables(path, arrays, drawn if isinstance(arrays, list) else [np.stack(drawn) if times else drawn[0]])
    elif times:
        write_array(path, np.stack([random.integers(0, 250, shape) for _ in range(times)]).astype(np.int16))
    elif flat and path.suffix.lower() in (".dcm", ".dicom", ""):
        storage, modality = STORAGE.get(recipe.modality, (CTImageStorage, {"ct": "CT"}.get(recipe.modality, "OT")))
        pixels = random.integers(0, 250, shape[:2]).astype(np.uint16)
        who = example.patient or example.case
        changes = {"SOPClassUID": storage, "Modality": modality, "PatientID": who, "PatientName": who}
        save(path, image_dataset(pixels, **changes))
    else:
        write_array(path, random.integers(0, 250, shape).astype(np.uint8 if flat else np.int16))


def write_series(recipe: Recipe, folder: Path, example: Example, squares: Squares, seed: int) -> None:
    random = np.random.default_rng(seed)
    storage, modality = STORAGE.get(recipe.modality, (CTImageStorage, "CT"))
    tags = None if recipe.files.dicom is None else recipe.files.dicom.image
    uid, study, frame = generate_uid() if tags is None else example.case, generate_uid(), generate_uid()
    who = example.patient or example.case
    described = str(recipe.files.series or "a") if tags is None else plain(tags.description)
    for number in range(squares.depth):
        pixels = random.integers(0, 250, (squares.side, squares.side)).astype(np.int16)
        dataset = image_dataset(
            pixels, SOPClassUID=storage, Modality=modality, SeriesInstanceUID=uid, StudyInstanceUID=study,
            FrameOfReferenceUID=frame, PatientID=who, PatientName=who, PatientBirthDate="", PatientSex="",
            StudyID="1", StudyTime="", AccessionNumber="", SeriesNumber=1, SeriesDescription=described,
            InstanceNumber=number + 1, ImagePositionPatient=[0, 0, number], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1], SliceThickness=1,
        )  # fmt: skip
        if isinstance(recipe.files.series, int):
            dataset.SeriesNumber = recipe.files.series
        if tags is not None:
            dataset.Modality, dataset.BodyPartExamined = tags.modality, plain(tags.body_part)
        save(folder / f"{number:03d}.dcm", dataset)


def plain(patterns: Sequence[str]) -> str:
    """A text that the first of some patterns fits."""
    return patterns[0].replace("*", "x").replace("?", "x")


def write_variables(path: Path, names: str | Sequence[str] | None, arrays: Sequence[npt.NDArray[Any]]) -> None:
    """Write arrays into a file that may hold others already, each under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = dict(zip([names or "array"] if names is None or isinstance(names, str) else names, arrays, strict=True))
    if path.suffix == ".npy":
        (array,) = arrays
        np.save(path, array)
    elif path.suffix == ".npz":
        held = dict(np.load(path)) if path.exists() else {}
        np.savez(path, **held, **named)  # type: ignore[arg-type]
    elif path.suffix == ".mat":
        held = scipy.io.loadmat(path, simplify_cells=True) if path.exists() else {}
        for name, array in named.items():
            *structs, last = re.split(r"[./]", name)
            place = held
            for struct in structs:
                place = place.setdefault(struct, {})
            place[last] = np.moveaxis(array, 0, 2) if array.ndim == 3 and array.shape[2] != 3 else array
        scipy.io.savemat(path, {name: value for name, value in held.items() if not name.startswith("__")})
    else:
        with h5py.File(path, "a") as file:
            for name, array in named.items():
                file.create_dataset(name.replace(".", "/"), data=array, compression="gzip")


def write_layers(recipe: Recipe, path: Path, keys: list[str], squares: Squares, *, flat: bool) -> None:
    """A mask file with a layer for each class or each rater."""
    if recipe.masks.classed_objects:
        held = {OBJECTS: range(1, len(keys) + 1), CLASSES: [int(key) for key in keys]}
        layers = [shaped(squares.label_map(held.get(name, [])), squares, flat=flat) for name in recipe.layers]
    elif recipe.masks.layers:
        planes = [squares.square(keys.index(name)) if name in keys else squares.square(0) * 0 for name in recipe.layers]
        layers = [shaped(plane.astype(np.int64), squares, flat=flat) for plane in planes]
    else:
        values = [int(key) for key in keys]
        layers = [shaped(squares.label_map(values), squares, flat=flat) for _ in recipe.layers]
    arrays = recipe.files.variables.mask
    if isinstance(arrays, list):
        write_variables(path, arrays, layers)
        return
    stack = np.stack(layers, axis=-1 if recipe.masks.layer_axis == "last" else 0)
    if path.name.endswith(ARRAYS):
        write_variables(path, arrays, [np.stack([stack] * FRAMES) if recipe.files.frames else stack])
    elif flat:
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, stack, photometric="minisblack")
    else:
        write_array(path, stack)


def write_mask(recipe: Recipe, root: Path, path: str, example: Example, keys: list[str], squares: Squares) -> None:
    text = captured(recipe, path)
    flat = is_flat(recipe, example)
    if recipe.masks.segments:
        write_segments(recipe, root, path, example, keys, squares)
    elif recipe.layers:
        write_layers(recipe, root / path, keys, squares, flat=flat)
    elif text is not None:
        for number, key in enumerate(keys):
            write_single(recipe, root / key.join(path.rsplit(text, 1)), squares.square(number), squares, flat=flat)
    elif recipe.masks.threshold is not None or recipe.masks.inverted:
        write_single(recipe, root / path, squares.square(0), squares, flat=flat)
    elif recipe.colours:
        write_array(root / path, coloured(recipe, keys, squares))
    else:
        values = [1 + number if key == "*" else int(key) for number, key in enumerate(keys)]
        write_mask_array(recipe, root / path, shaped(squares.label_map(values), squares, flat=flat))


def write_single(recipe: Recipe, path: Path, square: Bools, squares: Squares, *, flat: bool) -> None:
    """A mask of one class, as the threshold and the direction of the recipe ask."""
    foreground = 255 if flat else math.ceil(max(recipe.masks.threshold or 1, 1))
    drawn: npt.NDArray[np.int64] = np.where(square != recipe.masks.inverted, foreground, 0)
    write_mask_array(recipe, path, shaped(drawn, squares, flat=flat))


def write_mask_array(recipe: Recipe, path: Path, array: npt.NDArray[Any]) -> None:
    """A mask under the name of its array, where its file has several."""
    if path.name.endswith(ARRAYS):
        variable = recipe.files.variables.of_mask(None)
        write_variables(path, variable, [np.stack([array] * FRAMES) if recipe.files.frames else array])
    else:
        write_array(path, array)


def shaped(plane: npt.NDArray[np.int64], squares: Squares, *, flat: bool) -> npt.NDArray[Any]:
    """A plane as it is, or through the middle third of a volume whose other slices have its lowest value."""
    narrow: npt.NDArray[Any] = plane.astype(
        np.int16 if plane.min() < 0 else np.uint8 if plane.max() < 256 else np.uint16
    )
    if flat:
        return narrow
    volume = np.full((squares.depth, *plane.shape), narrow.min() if narrow[0, 0] == 0 else narrow[0, 0], narrow.dtype)
    volume[squares.depth // 3 : 2 * squares.depth // 3] = narrow
    return volume


def coloured(recipe: Recipe, keys: list[str], squares: Squares) -> npt.NDArray[np.uint8]:
    painted = np.full((squares.side, squares.side, 3), rgb(recipe.masks.background), np.uint8)
    for number, key in enumerate(keys):
        painted[squares.square(number)] = rgb(key)
    return painted


def rgb(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array by what the ending of its path says; a stack of volumes as one file of four dimensions.

    A volume without an ending is a folder of pictures, one for each slice.
    """
    if array.ndim == 3 and not path.suffix:
        for number, plane in enumerate(array):
            write_array(path / f"{number:03d}.png", plane)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz", ".hdr", ".img")):
        stored = np.transpose(array, (3, 2, 1, 0) if array.ndim == 4 else (2, 1, 0)[-array.ndim :])
        kind: Any = nibabel.Nifti1Pair if name.endswith((".hdr", ".img")) else nibabel.Nifti1Image
        nibabel.save(kind(stored if array.ndim > 2 else array.T[:, :, None], np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    elif name.endswith(".gz"):
        packed = io.BytesIO()
        PIL.Image.fromarray(array).save(packed, "ppm")
        path.write_bytes(gzip.compress(packed.getvalue()))
    elif name.endswith(VOLUMES):
        image = sitk.JoinSeries([sitk.GetImageFromArray(part) for part in array]) if array.ndim == 4 else None
        sitk.WriteImage(image or sitk.GetImageFromArray(array), str(path))
    else:
        PIL.Image.fromarray(array).save(path)


def write_segments(recipe: Recipe, root: Path, path: str, example: Example, keys: list[str], squares: Squares) -> None:
    names = [key.replace("*", "").replace("?", "x") or "any" for key in keys]
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    if recipe.files.dicom is not None:
        tags = recipe.files.dicom.mask
        write = write_seg if tags.modality == "SEG" else write_structures
        written = write(root / path, root / example.image, names, squares)
        mask = pydicom.dcmread(written)
        mask.SeriesDescription, mask.BodyPartExamined = plain(tags.description), plain(tags.body_part)
        mask.save_as(written)
    elif path.endswith(".csv"):
        told = None if recipe.masks.runs.name is None else recipe.masks.runs.name.match(example.case)
        called = Path(example.image).stem if told is None else told["case"]
        write_runs(recipe, root / path, called, names, squares)
    elif path.endswith(".xml"):
        (write_sessions if recipe.layers else write_outlines)(root / path, names, squares)
    elif path.endswith(".json"):
        write_coco(root / path, Path(example.image).name, names, squares)
    elif path.endswith(".txt"):
        lines = [" ".join([key, *(str(at / squares.side) for at in outline(squares, n))]) for n, key in enumerate(keys)]
        (root / path).write_text("\n".join(lines) + "\n")
    elif "seg" in path.lower() and "rtstruct" not in path.lower():
        write_seg(root / path, root / example.image, names, squares)
    else:
        write_structures(root / path, root / example.image, names, squares)


def write_runs(recipe: Recipe, path: Path, image: str, names: list[str], squares: Squares) -> None:
    """Rows of a table of run lengths, added to those of other pictures."""
    table = recipe.masks.runs
    columns = [name for name in (table.image, table.label, table.pixels) if name is not None]
    lines = [] if path.exists() else [",".join(columns)]
    for number, name in enumerate(names):
        drawn = squares.square(number)
        edges = np.flatnonzero(np.diff(np.r_[False, (drawn if table.order == "rows" else drawn.T).ravel(), False]))
        starts, lengths = edges[::2], edges[1::2] - edges[::2]
        counted = starts + table.first
        if table.relative:
            counted = starts - np.r_[0, edges[1:-1:2]]
        runs = " ".join(f"{start} {length}" for start, length in zip(counted, lengths, strict=True))
        said = {table.image: image, table.label: name, table.pixels: runs}
        lines.append(",".join(said[column] for column in columns))
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def write_outlines(path: Path, names: list[str], squares: Squares) -> None:
    """Polygons as Aperio ImageScope writes them, a layer for each class."""
    annotations = ElementTree.Element("Annotations")
    for number, name in enumerate(names):
        annotation = ElementTree.SubElement(annotations, "Annotation", Id=str(number + 1), Name=name)
        regions = ElementTree.SubElement(annotation, "Regions")
        region = ElementTree.SubElement(regions, "Region", Id="1", Type="0", NegativeROA="0")
        vertices = ElementTree.SubElement(region, "Vertices")
        for x, y in np.reshape(outline(squares, number), (-1, 2)):
            ElementTree.SubElement(vertices, "Vertex", X=str(x), Y=str(y), Z="0")
    ElementTree.ElementTree(annotations).write(path)


def write_sessions(path: Path, _names: list[str], squares: Squares) -> None:
    """A nodule in each of four reading sessions, as LIDC-IDRI has them: the first ring of pixels outside of it."""
    row, column = squares.corner(0)
    low, high = -1, BLOCK
    ring = [*((at, low) for at in range(low, high + 1)), *((high, at) for at in range(high)), (high, high)]
    ring += [*((at, high) for at in range(high - 1, low - 1, -1)), *((low, at) for at in range(high - 1, low, -1))]
    edges = "".join(
        f"<edgeMap><xCoord>{column + right}</xCoord><yCoord>{row + down}</yCoord></edgeMap>" for right, down in ring
    )
    heights = range(squares.depth // 3, 2 * squares.depth // 3)
    rois = "".join(
        f"<roi><imageZposition>{z}</imageZposition><inclusion>TRUE</inclusion>{edges}</roi>" for z in heights
    )
    session = f"<readingSession><unblindedReadNodule>{rois}</unblindedReadNodule></readingSession>"
    path.write_text(f'<LidcReadMessage xmlns="http://www.nih.gov">{session * 4}</LidcReadMessage>')


def outline(squares: Squares, number: int) -> list[float]:
    row, column = squares.corner(number)
    corners = [(0, 0), (BLOCK, 0), (BLOCK, BLOCK), (0, BLOCK)]
    return [float(at) for right, down in corners for at in (column + right, row + down)]


def write_coco(path: Path, image: str, names: list[str], squares: Squares) -> None:
    described = json.loads(path.read_text()) if path.exists() else {"images": [], "annotations": []}
    described["categories"] = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    place = len(described["images"])
    described["images"].append({"id": place, "file_name": image, "height": squares.side, "width": squares.side})
    described["annotations"] += [
        {"id": 1000 * place + n, "image_id": place, "category_id": n + 1, "iscrowd": 0, "segmentation": [outline(squares, n)]}
        for n in range(len(names))
    ]  # fmt: skip
    path.write_text(json.dumps(described))


def write_seg(path: Path, folder: Path, names: list[str], squares: Squares) -> Path:
    images = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    pixels = np.zeros((len(images), squares.side, squares.side, len(names)), np.uint8)
    for number in range(len(names)):
        pixels[len(images) // 3 : 2 * len(images) // 3, :, :, number] = squares.square(number)
    manual = highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
    described = [
        highdicom.seg.SegmentDescription(number, name, codes.SCT.Organ, codes.SCT.Liver, manual)
        for number, name in enumerate(names, 1)
    ]
    with warnings.catch_warnings(action="ignore"):
        file = highdicom.seg.Segmentation(
            images, pixels, "BINARY", described, generate_uid(), 2, generate_uid(), 1, "maker", "model", "1", "serial"
        )
    target = path / "1-1.dcm" if path.suffix == "" else path
    target.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(target)
    return target


def write_structures(path: Path, folder: Path, names: list[str], squares: Squares) -> Path:
    image = pydicom.dcmread(next(iter(sorted(folder.iterdir()))))
    file = dicom_file("1.2.840.10008.5.1.4.1.1.481.3", pydicom.uid.ExplicitVRLittleEndian)
    file.Modality, file.PatientID, file.PatientName = "RTSTRUCT", image.PatientID, image.PatientName
    file.StudyInstanceUID, file.FrameOfReferenceUID = image.StudyInstanceUID, image.FrameOfReferenceUID
    file.StructureSetROISequence, file.ROIContourSequence = [], []
    for number, name in enumerate(names, 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, image.FrameOfReferenceUID
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = [
            closed(squares, number - 1, z) for z in range(squares.depth // 3, 2 * squares.depth // 3)
        ]
        file.StructureSetROISequence.append(roi)
        file.ROIContourSequence.append(drawn)
    target = path / "1-1.dcm" if path.suffix == "" else path
    target.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(target, enforce_file_format=True)
    return target


def closed(squares: Squares, number: int, z: int) -> Dataset:
    edges = np.reshape(outline(squares, number), (-1, 2)) - 0.5  # edges of pixels, whose centres are at whole mm
    return contour("CLOSED_PLANAR", [(x, y, z) for x, y in edges])
