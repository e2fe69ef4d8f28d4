"""Recipes: what a source dataset is, as data. Validated in full before any pixel is read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from builder.readers.rules import DEFAULT_RULES, ReadRules
from builder.sources.metadata import SUBMODALITY, SourceMetadata
from builder.sources.pattern import Pattern
from builder.sources.selection import Cases
from builder.sources.submodality import submodality_of
from builder.sources.table import Table
from builder.sources.vocabulary import GROUPS, ORGANS, normalise
from sa_med2d_20m import SPLITS
from shards.description import HASHED_RATIOS

COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_INTEGER = re.compile(r"-?\d+")
_FIELD = re.compile(r"\{([^{}]*)\}")
MANY: Final = (".json", ".csv")
"""Endings of mask files that hold the masks of many images, so that they need share no capture with them."""
MOST_GRID_TOLERANCE: Final = 1.0
"""Most that ``masks.grid_tolerance`` may be, in voxels."""
ANY_INSTANCE: Final = "*"
"""Key in ``[labels]`` for the one class of an instance map."""

NAMED_MASKS: Final = ("SEG", "RTSTRUCT")
"""DICOM modalities of files that name their masks."""

PATIENT_ID: Final = "PatientID"
"""Value of ``files.patient``: the patient is the one whom the DICOM files name."""

# fmt: off
CONVERSION_KEYS: Final = frozenset({
    "name", "patients", "modality", "submodality", "submodalities", "resample_masks", "axes", "keep_empty",
    "identifiers", "cases.only", "cases.leave_out",
    "files.image", "files.mask", "files.patient", "files.channels", "files.frames", "files.series", "files.case",
    "files.variables.image", "files.variables.mask", "files.halves.image", "files.halves.mask",
    "files.dicom.image.modality", "files.dicom.image.description", "files.dicom.image.body_part",
    "files.dicom.mask.modality", "files.dicom.mask.description", "files.dicom.mask.body_part",
    "labels.label", "labels.organ", "labels.group", "regions",
    "masks.threshold", "masks.inverted", "masks.segments", "masks.instances", "masks.color_match", "masks.background",
    "masks.ignore", "masks.only_named", "masks.grid_tolerance", "masks.min_area", "masks.pair",
    "masks.runs.image", "masks.runs.name", "masks.runs.pixels", "masks.runs.label", "masks.runs.order",
    "masks.runs.first", "masks.runs.relative", "masks.layers", "masks.layer_axis", "raters.use", "raters.names",
    "gates.constant_slice", "gates.empty_mask", "gates.two_valued_image", "gates.full_mask", "gates.unnamed_values",
    "gates.nonfinite_values", "gates.burned_in_text", "gates.modality_mismatch", "gates.patient_mismatch",
    "gates.resampling_loss", "gates.bad_mask", "gates.beyond_tissue", "gates.contours_without_slice",
    "limits.pixels", "limits.bytes",
    "intensity.mode", "intensity.center", "intensity.width",
    "splits.train", "splits.validation", "splits.test", "splits.ratios", "splits.seed",
    "splits.file", "splits.patient", "splits.split", "splits.values.train", "splits.values.validation",
    "splits.values.test", "splits.lists.train", "splits.lists.validation", "splits.lists.test",
    "patient_names.names", "patient_names.file", "patient_names.own", "patient_names.shared", "patient_names.patient",
    "overlap",
})
"""Keys that shape the samples of a source: which there are, their keys, pixels and metadata.

Another value asks for another conversion. ``limits`` is here because it decides which cases are refused.
"""

DESCRIPTION_KEYS: Final = frozenset({
    "title", "homepage", "license_evidence", "access", "citation", "identifiers_evidence",
    "notes", "size", "evidence", "download", "examples",
})
"""Keys, and whole tables, that describe a source and stand in no sample. Another value changes no byte of a shard."""

LICENSE_KEYS: Final = frozenset({"license"})
"""The licence is a kind of its own. It shapes no pixel and no key of a sample, so another one asks for no conversion.

But it stands in the metadata of every sample, in its receipt and in the path of its shard. These are rewritten.
"""
# fmt: on


def _pattern(text: object) -> object:
    return Pattern(text) if isinstance(text, str) and text != PATIENT_ID else text


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


PatternField = Annotated[Pattern, BeforeValidator(_pattern)]
_Patterns = Annotated[list[PatternField], Field(min_length=1)]


_Descriptions = Annotated[list[str], Field(min_length=1)]


class SeriesTags(Table):
    """What files of ``[files.dicom]`` say of themselves.

    Attributes:
        modality: DICOM Modality, such as ``MR``, ``SEG`` or ``RTSTRUCT``.
        description: Patterns over Series Description with ``*`` and ``?``, in any case, of which one fits. A SEG or
            RTSTRUCT has a description of its own.
        body_part: The same over Body Part Examined.
    """

    modality: Annotated[str, Field(pattern=r"^[A-Z0-9_ ]{1,16}$")]
    description: Annotated[_Descriptions, BeforeValidator(_one_or_many, json_schema_input_type=str | _Descriptions)] = [
        "*"
    ]
    body_part: Annotated[_Descriptions, BeforeValidator(_one_or_many, json_schema_input_type=str | _Descriptions)] = [
        "*"
    ]

    @property
    def named_masks(self) -> bool:
        """Whether these are files that name their masks, SEG or RTSTRUCT."""
        return self.modality in NAMED_MASKS


class DicomFiles(Table):
    """``[files.dicom]``: DICOM files found by what they say of themselves, wherever they lie and whatever their names.

    All files below the root are looked into. Each image series is a case; where its images do not say where in the
    patient they lie, each image. The patient is PatientID. A SEG or RTSTRUCT belongs to the images or series that it
    refers to, and where none of those is there to all images in its frame of reference; another mask to the images of
    its study in its frame of reference.

    Attributes:
        image: Which series are images.
        mask: Which files or series are masks: ``SEG`` or ``RTSTRUCT``, with ``masks.segments = true``, or series of
            images whose values are labels; these need a description.
    """

    image: SeriesTags
    mask: SeriesTags

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        if self.image.named_masks:
            raise ValueError(f"image: modality {self.image.modality} is that of masks")
        if not self.mask.named_masks and self.mask.description == ["*"]:
            raise ValueError(
                f"mask: a series of {self.mask.modality} images needs a description, which tells it from other images"
            )
        return self


_NO_PATTERN: Final = Pattern("{case}//")
"""What stands for ``files.image`` where ``[files.dicom]`` finds the images; it matches no path."""


_ArrayName = Annotated[str, Field(min_length=1)]


class Variables(Table):
    """``files.variables``: which arrays are meant in files that hold several: ``.npz``, ``.mat`` and ``.h5``.

    With both named, one file may hold image and mask, and ``image`` and ``mask`` be one pattern.

    Attributes:
        image: Name of the array of an image, with dots or slashes between the fields of structs and groups:
            ``cjdata.image``. A list has an array for each of ``files.channels``.
        mask: The same of a mask. A list has an array for each rater (``raters.names``) or class (``masks.layers``).
    """

    image: _ArrayName | Annotated[list[_ArrayName], Field(min_length=1)] | None = None
    mask: _ArrayName | Annotated[list[_ArrayName], Field(min_length=1)] | None = None

    def of_image(self, channel: int | None) -> str | None:
        """The array of a channel, or the one that is meant; the first where none is asked for."""
        return self.image[channel or 0] if isinstance(self.image, list) else self.image

    def of_mask(self, layer: int | None) -> str | None:
        """The array of a layer, or the one that is meant; the first where none is asked for."""
        return self.mask[layer or 0] if isinstance(self.mask, list) else self.mask


Half = Literal["left", "right", "top", "bottom"]


class Halves(Table):
    """``files.halves``: which half of a picture is the image and which the mask, where a file holds both side by side.

    With both named, ``files.image`` and ``files.mask`` may be one pattern.

    Attributes:
        image: The half with the image.
        mask: The half with the mask.
    """

    image: Half | None = None
    mask: Half | None = None


class Files(Table):
    """``[files]``: which files are images and masks.

    Either ``image`` and ``mask`` say it by names, or ``[files.dicom]`` by what DICOM files say of themselves.

    Attributes:
        dicom: Which files are images and masks by what DICOM files say of themselves.
        image: Pattern of the images; captures ``{case}``, ``{patient}`` or both. Needed without ``dicom``, as ``mask``.
        mask: Patterns of the masks; they belong to the image whose captures they share. A file for many images (COCO
            .json, run lengths .csv) need share none: it says itself to which images its masks belong.
        patient: Pattern that finds ``{patient}`` in a case name, such as ``"{patient}_frame{*}"``, or ``PatientID``:
            what the DICOM files of the image say.
        channels: Sub-modalities of the volumes of a 4D image, in their order; they share the case's masks. A series of
            DICOM images with several at each place is one too, as echoes and points in time are.
        frames: Each volume of a 4D image is a case of its own; masks are 4D too, or 3D and shared by all frames.
        series: Which DICOM series is meant where a folder holds several: its number, or a pattern over its description
            with ``*`` and ``?``, in any case.
        variables: See `Variables`.
        halves: See `Halves`.
        case: How a case is named from captures where ``{case}`` alone is not unique, such as ``"{patient}_{case}"``.
    """

    dicom: DicomFiles | None = None
    image: Annotated[PatternField, Field(default=None, validate_default=True)]
    mask: Annotated[
        list[PatternField],
        BeforeValidator(_one_or_many, json_schema_input_type=PatternField | _Patterns),
        Field(default=None, validate_default=True, min_length=1),
    ]
    patient: Literal["PatientID"] | PatternField | None = None
    case: str | None = None
    channels: Annotated[list[Annotated[str, Field(pattern=SUBMODALITY)]], Field(min_length=1)] | None = None
    frames: bool = False
    series: int | str | None = None
    variables: Variables = Variables()
    halves: Halves = Halves()

    @field_validator("image", "mask", mode="wrap")
    @classmethod
    def _needed(cls, value: object, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
        if value is not None:
            return validate(value)
        if "dicom" in info.data and info.data["dicom"] is None:  # it is not there at all if it is faulty
            raise PydanticCustomError("missing", "Field required")
        return _NO_PATTERN if info.field_name == "image" else []

    @model_validator(mode="after")
    def _captures(self) -> Self:
        if self.dicom is not None:
            self._check_alone()
            return self
        if not {"case", "patient"} & set(self.image.captures):
            raise ValueError("image: captures neither {case} nor {patient}, so that its files cannot be told apart")
        if self.channels is not None and (self.frames or "submodality" in self.image.captures):
            raise ValueError("channels: goes neither with frames nor with {submodality} in the image pattern")
        if len(set(self.channels or ())) != len(self.channels or ()):
            raise ValueError("channels: one name stands there twice")
        if "label" in self.image.captures:
            raise ValueError("image: {label} belongs into a mask pattern")
        for mask in self.mask:
            shared = {"case", "patient"} & set(mask.captures) & set(self.image.captures)
            if not shared and not mask.text.endswith(MANY):
                raise ValueError(f"mask: {mask.text!r} shares neither {{case}} nor {{patient}} with the image pattern")
        if self.patient == PATIENT_ID and "patient" in self.image.captures:
            raise ValueError("patient: PatientID, but the image pattern captures {patient} too; expected one of them")
        if isinstance(self.patient, Pattern) and self.patient.captures != ("patient",):
            raise ValueError("patient: expected a pattern over case names that captures {patient} and nothing else")
        if self.case is not None:
            self._check_case(self.case)
        return self

    def _check_alone(self) -> None:
        others = sorted(self.model_fields_set & {"image", "mask", "case", "series"})
        if isinstance(self.patient, Pattern):
            others.append("patient (it is PatientID)")
        if others:
            raise ValueError(f"{', '.join(others)}: does not go with [files.dicom], which finds files by their tags")
        if self.channels is not None and self.frames:
            raise ValueError("channels: does not go with frames")

    def _check_case(self, case: str) -> None:
        literals, names = _FIELD.split(case)[0::2], _FIELD.findall(case)
        if not names or not set(names) <= set(self.image.captures) or any(set("{}") & set(text) for text in literals):
            allowed = ", ".join(f"{{{name}}}" for name in self.image.captures)
            raise ValueError(f"case: {case!r}: expected text with what the image pattern captures: {allowed}")


CLASS_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_ -]*$"
CLASS_NAME_IN_WORDS: Final = "letters, digits, blanks, hyphens and underscores, a letter or digit first"
ClassName = Annotated[str, Field(pattern=CLASS_NAME)]


class Label(Table):
    """A class that a recipe names.

    Attributes:
        label: Class name; a name or synonym of the vocabulary, or a new one.
        organ: Organ of a new class.
        group: Group of a new class.
    """

    label: ClassName
    organ: Literal[ORGANS] | None = None  # type: ignore[valid-type]
    group: Literal[GROUPS] | None = None  # type: ignore[valid-type]


def _label(value: object) -> object:
    return {"label": value} if isinstance(value, str) else value


LabelField = Annotated[Label, BeforeValidator(_label, json_schema_input_type=ClassName | Label)]


def _refuse_other_area(value: object) -> object:
    """One sentence instead of one for each alternative; TOML tells ``1.0`` from ``1``."""
    pixels = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not pixels and not (isinstance(value, float) and 0 < value < 1):
        raise ValueError(
            "expected a fraction of the image's area above 0 and below 1, a whole number of pixels, or 0 to keep all"
        )
    return value


_Area = Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)]
MinArea = Annotated[_Area, BeforeValidator(_refuse_other_area, json_schema_input_type=_Area)]


def _refuse_other_share(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, float) and 0 < value < 1):
        return value
    raise ValueError("expected true, false, or a share above 0 and below 1")


_Share = bool | Annotated[float, Field(gt=0, lt=1)]
KeepEmpty = Annotated[_Share, BeforeValidator(_refuse_other_share, json_schema_input_type=_Share)]


class Runs(Table):
    """``[masks.runs]``: what the columns of a CSV file of run lengths are, and how its pixels are counted.

    A row is an object of a picture; its runs are "start length start length ...", or ``-1`` or nothing for no mask.

    Attributes:
        image: Column that names the picture, with or without the ending of its file.
        name: Pattern that finds ``{case}``, what this column calls a picture, in the name of its case, where the column
            does not have the name of its file: ``"{case}_{*}"``.
        pixels: Column of the runs.
        label: Column that names the class; without it ``[labels]`` has the one key ``"*"``.
        order: Whether pixels are counted down the ``columns``, from left to right, or along the ``rows``.
        first: Number of the first pixel.
        relative: Starts are counted from the end of the run before, and the first from 0.
    """

    image: str | None = None
    name: PatternField | None = None
    pixels: str | None = None
    label: str | None = None
    order: Literal["columns", "rows"] = "columns"
    first: Literal[0, 1] = 1
    relative: bool = False

    @field_validator("name")
    @classmethod
    def _finds_a_case(cls, name: Pattern | None) -> Pattern | None:
        if name is not None and name.captures != ("case",):
            raise ValueError("expected a pattern over names of cases that captures {case} and nothing else")
        return name


OBJECTS: Final = "objects"
CLASSES: Final = "classes"
"""Names in ``masks.layers`` of the two layers that number objects and say their classes."""


class Masks(Table):
    """``[masks]``: how pixel values of masks become classes.

    Attributes:
        threshold: The mask is a grey picture; foreground is where its value is at least this. With ``segments``: the
            fraction from which a pixel of a fractional DICOM SEG is foreground (default 0.5).
        inverted: The mask is drawn the wrong way round: foreground is 0, or below the threshold.
        segments: Masks are DICOM SEG or RTSTRUCT, COCO (.json), YOLO polygons (.txt) or those of ASAP, Aperio and
            LIDC-IDRI (.xml), run lengths (.csv); ``[labels]`` has the names of segments, ROIs, categories, groups or
            layers, in any case, with * and ?; those of YOLO are class numbers.
        instances: Each value is an object of its own; ``[labels]`` names its class under the key ``"*"``. With
            ``segments``: each segment is an object of its own, else those of one class are joined.
        color_match: ``exact``, or ``nearest``: each pixel takes the nearest colour of ``[labels]`` or the background.
        background: Colour of the background of a colour-coded mask.
        ignore: What is left out: values or colours of masks; names of classes and segments, and what ``{label}``
            captures, in any case and with * and ?. What ``[labels]`` names may be left out too: the source then has no
            such class.
        only_named: Take only what ``[labels]`` names. Other values, colours and segments are left out, and so are other
            files that ``{label}`` finds.
        grid_tolerance: How far the grids of mask and image may lie apart anywhere, in voxels of the image.
        min_area: The smallest object that is kept: a fraction of the image's area (above 0 and below 1), a whole number
            of pixels, or 0 to keep all. The default is that of SA-Med2D-20M, 100 of 256 x 256 pixels. Set it to 0 for
            cells, vessels and lesions that are small by nature. The metadata of each image count what is left out.
        runs: See `Runs`.
        pair: How a volume of masks lies on its image: ``space``: where its header says. ``index``: its header is
            nonsense, and its array belongs to the image's voxel by voxel, as both are stored. ``reversed``: as
            ``index``, but its slices run the other way. ``names``: the image is a DICOM series, and the slices of the
            mask belong to its files in the order of their names, as those of a folder of pictures beside it do.
        layers: Keys of ``[labels]`` that the layers of each mask file stand for, in their order: pages of a TIFF,
            volumes of a 4D file, planes of an array. What ``ignore`` names is left out. ``objects`` and ``classes`` are
            two layers that belong together, with ``instances``: numbers of objects, and values that ``[labels]`` names.
        layer_axis: Which side of an array counts its layers, also those of raters.
    """

    threshold: float | None = None
    inverted: bool = False
    segments: bool = False
    instances: bool = False
    color_match: Literal["exact", "nearest"] = "exact"
    background: Annotated[str, Field(pattern=rf"^{COLOUR.pattern}$")] = "#000000"
    ignore: list[int | str] = []
    only_named: bool = False
    grid_tolerance: Annotated[float, Field(ge=0, le=MOST_GRID_TOLERANCE)] = 0.1
    min_area: MinArea = 100 / 65536
    runs: Runs = Runs()
    pair: Literal["space", "index", "reversed", "names"] = "space"
    layers: list[str] = []
    layer_axis: Literal["first", "last"] = "first"

    @property
    def classed_objects(self) -> bool:
        """Whether one layer of a mask has the numbers of objects and another their classes."""
        return {OBJECTS, CLASSES} <= set(self.layers)

    @property
    def ignored_values(self) -> frozenset[int]:
        """The pixel values of ``ignore``."""
        return frozenset(int(entry) for entry in self.ignore if _INTEGER.fullmatch(str(entry)))

    def ignores(self, name: str) -> bool:
        """Whether ``ignore`` names a class, a segment, a key of ``[labels]`` or what ``{label}`` captures."""
        return any(fnmatchcase(normalise(name), normalise(str(entry))) for entry in self.ignore)


RATER_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_. -]*$"
RATER_NAME_IN_WORDS: Final = "letters, digits, blanks, dots, hyphens and underscores, a letter or digit first"
_RaterName = Annotated[str, Field(pattern=RATER_NAME)]
JOINED: Final = ("majority", "union")
"""Values of ``raters.use`` that make one set of masks of those of several raters."""


class Raters(Table):
    """``[raters]``: what becomes of the masks that several raters drew of one image.

    ``{rater}`` in a mask pattern tells raters apart, or each mask file holds a layer of each.

    Attributes:
        use: ``each``: each rater's masks are a case of their own, called ``case@rater``. ``majority``: a pixel is of a
            class where more than half of the raters of its case say so, so a tie is background. ``union``: where one
            of them says so. Else the name of the rater whose masks are taken.
        names: Names of the raters. With ``{rater}``: those that count, by default all. Without: what the layers of each
            mask file are, in their order: pages of a TIFF, volumes of a 4D file, planes of an array; a file of fewer
            layers lacks the last raters. XML of LIDC-IDRI has a layer for each reading session.
    """

    use: _RaterName | None = None
    names: list[_RaterName] = []

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        reserved = {"each", *JOINED} & set(self.names)
        if reserved or len(set(self.names)) != len(self.names):
            what = f"{sorted(reserved)[0]} is no name of a rater" if reserved else "one name stands there twice"
            raise ValueError(f"names: {what}")
        if self.use is None and self.names:
            raise ValueError("use: is missing: each, majority, union, or one of the names")
        if self.names and self.use not in ("each", *JOINED, *self.names):
            raise ValueError(f"use: {self.use!r}: expected each, majority, union, or one of the names")
        return self


GateName = Literal[
    "constant_slice",
    "empty_mask",
    "two_valued_image",
    "full_mask",
    "unnamed_values",
    "nonfinite_values",
    "burned_in_text",
    "modality_mismatch",
    "patient_mismatch",
    "resampling_loss",
    "bad_mask",
    "beyond_tissue",
    "contours_without_slice",
]
"""A quality gate: a key of ``[gates]``."""

GateAction = Literal["off", "flag", "drop", "quarantine"]
"""What a recipe may say about what a gate finds; each gate takes some of them."""


class Gates(Table):
    """``[gates]``: what happens to what is wrong often enough to look for.

    ``quarantine`` holds the case back, ``drop`` leaves the slice out, ``flag`` keeps and counts it, ``off`` does not
    look.

    Attributes:
        constant_slice: A slice of the image has one single value.
        empty_mask: The masks of a case have no pixel at all; flagged, the case is counted, and like every slice without
            a mask its slices are left out unless ``keep_empty`` is set.
        two_valued_image: The whole image has two values: a mask that was taken for an image.
        full_mask: A mask covers more than 95 % of its slice: it may be inverted.
        unnamed_values: A mask holds values, colours or segments that ``[labels]`` does not name; flagged, they are
            background.
        nonfinite_values: The image holds NaN or infinite values; flagged, they become its lowest finite value.
        burned_in_text: A DICOM image says that text, which may name a patient, is part of its pixels.
            Pixels are not searched for text.
        modality_mismatch: A DICOM image says it is of another modality than the recipe.
        patient_mismatch: A DICOM mask names another patient, or another frame of reference, than its image, or refers
            to other series and images alone.
        resampling_loss: A class or object of a mask loses more than a twentieth of its volume when it is resampled.
        bad_mask: A mask file cannot be used: it is damaged, lies on another grid, holds what ``[labels]`` does not
            name, or another gate holds it back. ``drop`` leaves out this file alone where its case has others;
            ``not_annotated`` then has its classes, since what it shows is not known.
        beyond_tissue: A CT slice that is scaled by its own range, or by its volume's, holds values that no tissue has,
            below -1500 HU (padding) or above 4095 HU (metal). In HU they are clipped, see ``intensity.mode``; on
            another scale tissue gets fewer grey levels.
        contours_without_slice: A ROI of an RTSTRUCT was drawn on planes that are no slice of the image, as where slices
            of the series are missing; flagged, the contours on slices are taken.
    """

    constant_slice: Literal["drop", "quarantine"] = "drop"
    empty_mask: Literal["off", "flag", "quarantine"] = "flag"
    two_valued_image: Literal["off", "flag", "quarantine"] = "quarantine"
    full_mask: Literal["off", "flag", "drop", "quarantine"] = "flag"
    unnamed_values: Literal["flag", "quarantine"] = "quarantine"
    nonfinite_values: Literal["flag", "quarantine"] = "quarantine"
    burned_in_text: Literal["off", "flag", "quarantine"] = "quarantine"
    modality_mismatch: Literal["off", "flag", "quarantine"] = "quarantine"
    patient_mismatch: Literal["off", "flag", "quarantine"] = "quarantine"
    resampling_loss: Literal["off", "flag", "quarantine"] = "quarantine"
    bad_mask: Literal["drop", "quarantine"] = "quarantine"
    beyond_tissue: Literal["off", "flag", "quarantine"] = "flag"
    contours_without_slice: Literal["flag", "quarantine"] = "quarantine"

    def action(self, gate: GateName) -> GateAction:
        """What the recipe says about what a gate finds."""
        action: GateAction = getattr(self, gate)
        return action


class Limits(Table):
    """``[limits]``: how large a file may be; a larger one is refused by its header, before memory is taken.

    Attributes:
        pixels: Most pixels (voxels of all volumes, pages, frames) of a file.
        bytes: Most bytes of a file in memory, once it is decompressed.
    """

    pixels: Annotated[int, Field(gt=0)] = DEFAULT_RULES.pixels
    bytes: Annotated[int, Field(gt=0)] = DEFAULT_RULES.bytes


class IntensityRule(Table):
    """``[intensity]``: how source values become pixels.

    Attributes:
        mode: ``slice``: each slice from its own minimum to maximum. ``volume``: from the volume's. In both, values of a
            CT in HU below -1024 (padding) count as -1024, and those above 3071 (metal) as 3071. ``window``: ``center``
            and ``width`` in source units. ``lossless``: 16 bit, the volume's own values shifted.
        center: Centre of the window.
        width: Width of the window.
    """

    mode: Literal["slice", "volume", "window", "lossless"] = "slice"
    center: float | None = None
    width: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _window(self) -> Self:
        given = (self.center is not None) + (self.width is not None)
        if given != (2 if self.mode == "window" else 0):
            raise ValueError("center and width: both for mode 'window', neither for any other")
        return self


def _below(path: str) -> str:
    if not path or path.startswith("/") or "\\" in path or {"..", ""} & set(path.split("/")):
        raise ValueError(f"{path!r} is no path below the source's root, with forward slashes")
    return path


_FileBelow = Annotated[str, AfterValidator(_below)]


class SplitValues(Table):
    """``splits.values``: what the file calls the splits; ``train``, ``val``, ``test`` and the like need no entry.

    Attributes:
        train: Values of the split column, or keys of the object.
        validation: As ``train``.
        test: As ``train``.
    """

    train: list[str] = []
    validation: list[str] = []
    test: list[str] = []

    @property
    def listed(self) -> dict[str, list[str]]:
        """Split -> what the file calls it."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


class SplitLists(Table):
    """``splits.lists``: files of the source that list the names of a split, one a line.

    Attributes:
        train: Path of the file below the source's root.
        validation: As ``train``.
        test: As ``train``.
    """

    train: _FileBelow | None = None
    validation: _FileBelow | None = None
    test: _FileBelow | None = None

    @property
    def listed(self) -> dict[str, str | None]:
        """Split -> path of its list."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


class Splits(Table):
    """``[splits]``: which patients are in which split; no patient is ever in two.

    Attributes:
        train: Official split: captured ``{split}`` values, or patient names with ``*`` and ``?``. Of several that fit a
            patient, the one with the most other characters counts.
        validation: As ``train``.
        test: As ``train``.
        file: Path of a file of the source that says the split: a table with a first line of columns, whatever its
            delimiter, or a JSON file with a list of objects, or with an object of lists of names by split. A patient
            whom it does not name, or gives no split, is dealt with as if there were no file.
        patient: Column, or key of the objects, that has the patient; or a case in which ``files.patient`` finds them.
        split: Column, or key of the objects, that has the split.
        values: See `SplitValues`.
        lists: See `SplitLists`.
        ratios: Shares of train, validation and test, in this order, of the patients whom no official split places. They
            add up to 1. A hash of the patient decides, so small sources come near the shares only by chance.
        seed: Another number deals these patients anew.
    """

    train: list[str] = []
    validation: list[str] = []
    test: list[str] = []
    file: _FileBelow | None = None
    patient: str | None = None
    split: str | None = None
    values: SplitValues = SplitValues()
    lists: SplitLists = SplitLists()
    ratios: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=3, max_length=3)] = [*HASHED_RATIOS]
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def official(self) -> dict[str, list[str]]:
        """Split -> what names it."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @field_validator("ratios")
    @classmethod
    def _whole(cls, ratios: list[float]) -> list[float]:
        total = sum(Decimal(repr(ratio)) for ratio in ratios)
        if total != 1:
            raise ValueError(f"expected shares of train, validation and test that add up to 1, these give {total}")
        return ratios

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        values = [value for listed in self.official.values() for value in listed]
        if len(values) != len(set(values)):
            raise ValueError("one value stands in two splits")
        texts = [text for listed in self.values.listed.values() for text in listed]
        if len(texts) != len(set(texts)):
            raise ValueError("values: one value stands in two splits")
        return self

    @model_validator(mode="after")
    def _whole_file(self) -> Self:
        columns = (self.patient is not None) + (self.split is not None)
        listed = any(path is not None for path in self.lists.listed.values())
        if self.file is None and (columns or self.values.model_fields_set):
            raise ValueError("patient, split and values: belong to file, which is not given")
        if self.file is not None and listed:
            raise ValueError("file and lists exclude each other")
        if self.file is not None and columns != 2 and not (columns == 0 and self.file.lower().endswith(".json")):
            raise ValueError("file: needs patient and split, the columns that have them")
        return self

    @property
    def in_files(self) -> bool:
        """Whether files of the source say the split."""
        return self.file is not None or any(path is not None for path in self.lists.listed.values())


class PatientNames(Table):
    """``[patient_names]``: patients who have another name in the space that sources share (``patients``).

    It decides their split, and who stands in two sources. Metadata keep the names of the source.

    Attributes:
        names: Name in this source -> name in the shared space. Who is not named has one name in both.
        file: Path of a table of the source that says the same, below its root, whatever its delimiter.
        own: Column with the name in this source.
        shared: Column with the name in the shared space; nothing or ``NA`` for who has no other name.
        patient: Pattern that finds ``{patient}`` in the names of that column, such as ``"BraTS19_{patient}"``, where
            the shared space has only this part of them.
    """

    names: dict[str, str] = {}
    file: _FileBelow | None = None
    own: str | None = None
    shared: str | None = None
    patient: PatternField | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.patient is not None and (self.file is None or self.patient.captures != ("patient",)):
            raise ValueError("patient: expected a pattern over names of file that captures {patient} and nothing else")
        if len({value is None for value in (self.file, self.own, self.shared)}) > 1:
            raise ValueError("file, own and shared: all of them or none")
        return self


class Example(Table):
    """One of ``[[examples]]``: a case as it lies on disk. A test builds each with tiny files and expects this.

    Attributes:
        image: Path of its image below the source's root; ends in ``/`` for a DICOM series.
        masks: Paths of its masks.
        case: Name of the case.
        patient: Its patient; the case where it is left out.
        split: The split that the source itself gives it; left out where it gives none.
    """

    image: str
    masks: Annotated[list[str], Field(min_length=1)]
    case: str
    patient: str | None = None
    split: Literal[SPLITS] | None = None  # type: ignore[valid-type]


class Recipe(SourceMetadata):
    """A source dataset: what its files are, what is in them, and what may be done with them.

    Attributes:
        files: See `Files`.
        cases: See `Cases`.
        submodalities: Captured ``{submodality}`` -> name of the sub-modality, such as ``0000 = "flair"``.
        labels: Pixel value, colour, captured ``{label}`` or ``"*"`` -> class.
        regions: Name of a union -> the keys of ``labels`` that it joins.
        masks: See `Masks`.
        raters: See `Raters`.
        gates: See `Gates`.
        limits: See `Limits`.
        resample_masks: Bring masks that lie on another grid to the image's, by nearest neighbour.
        intensity: See `IntensityRule`.
        axes: Axes to slice: ``x`` gives axial, ``y`` coronal, ``z`` sagittal slices.
        splits: See `Splits`.
        patient_names: See `PatientNames`.
        overlap: What happens where another source of the output folder holds the same patients, by the same names in
            the same name space. ``keep-both``: both are kept. ``keep-first``: the cases of these patients are left out
            of this source, if the other stands before it in an entry of the known overlaps (``sa-med2d sources
            overlaps``), whatever the order of a command.
        keep_empty: Keep slices without any mask: all of them, or a share, such as 0.1, which a hash of their keys
            chooses, alike for all images of a case. They show what a class is not, where a source annotates all slices.
        identifiers: Names of cases and patients of DICOM sources: ``hashed``, with a key of the build, or ``public``:
            as they are, for collections that were de-identified at their source. Where they are hashed, a captured
            ``{submodality}`` or ``{label}`` must stand in ``[submodalities]``, ``[labels]`` or the vocabulary.
        identifiers_evidence: Where it is written that they may be public.
        examples: See `Example`.
    """

    files: Files
    cases: Cases = Cases()
    submodalities: dict[str, Annotated[str, Field(pattern=SUBMODALITY)]] = {}
    labels: dict[str, LabelField] = {}
    regions: dict[str, list[int | str]] = {}
    masks: Masks = Masks()
    raters: Raters = Raters()
    gates: Gates = Gates()
    limits: Limits = Limits()
    resample_masks: bool = False
    intensity: IntensityRule = IntensityRule()
    axes: Annotated[list[Literal["x", "y", "z"]], Field(min_length=1)] = ["x", "y", "z"]
    splits: Splits = Splits()
    patient_names: PatientNames = PatientNames()
    overlap: Literal["keep-both", "keep-first"] = "keep-both"
    keep_empty: KeepEmpty = False
    identifiers: Literal["hashed", "public"] = "hashed"
    identifiers_evidence: str | None = None
    examples: list[Example] = []

    @field_validator("axes")
    @classmethod
    def _each_once(cls, axes: list[str]) -> list[str]:
        if len(set(axes)) != len(axes):
            raise ValueError("one axis stands there twice")
        return axes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for check in (
            self._check_dicom,
            self._check_label_keys,
            self._check_single_class,
            self._check_ignored,
            self._check_pair,
            self._check_layers,
            self._check_raters,
            self._check_regions,
            self._check_identifiers,
            self._check_channels,
            self._check_split,
        ):
            check()
        return self

    @property
    def labels_by_file(self) -> bool:
        """Whether a mask file, or each of its layers, holds one class, which ``{label}`` or ``masks.layers`` names."""
        layers = bool(self.masks.layers) and not self.masks.classed_objects
        return layers or any("label" in mask.captures for mask in self.files.mask)

    @property
    def raters_by_file(self) -> bool:
        """Whether ``{rater}`` in the mask patterns tells raters apart."""
        return any("rater" in mask.captures for mask in self.files.mask)

    @property
    def layers(self) -> list[str]:
        """What the layers of each mask file are called, classes or raters; empty where a file holds one mask."""
        return self.masks.layers or ([] if self.raters_by_file else self.raters.names)

    @property
    def layers_by_array(self) -> bool:
        """Whether each layer of a mask file is an array of its own, which ``files.variables`` names."""
        return isinstance(self.files.variables.mask, list)

    @property
    def colours(self) -> bool:
        """Whether masks are colour-coded."""
        return any(COLOUR.fullmatch(key) for key in self.labels)

    def leaves_out(self, name: str) -> bool:
        """Whether the recipe leaves out what ``{label}`` captures or a key of ``[labels]`` stands for."""
        label = self.labels.get(name)
        if label is None:
            return self.masks.only_named or self.masks.ignores(name)
        return self.masks.ignores(name) or self.masks.ignores(label.label)

    def conversion_digest(self) -> str:
        """Hash all that a recipe says about conversion: every key but `DESCRIPTION_KEYS` and `LICENSE_KEYS`.

        Keys that a recipe leaves out count with their defaults. The order of user-named entries (``[labels]``) counts,
        since it numbers the classes; the order of tables and of other keys does not. The licence is not part of it:
        who keeps samples by this hash writes the recipe's licence into their metadata.

        Returns:
            SHA-256 of canonical JSON, 64 hexadecimal digits, the same in every process.
        """
        text = json.dumps(_canonical(self, ""), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def _check_label_keys(self) -> None:
        many = [mask.text for mask in self.files.mask if mask.text.endswith(MANY)]
        if many and not self.masks.segments:
            raise ValueError(f"masks: segments = true is needed for {', '.join(many)}: it holds named masks")
        runs = self.masks.runs
        if any(text.endswith(".csv") for text in many) and None in (runs.image, runs.pixels):
            raise ValueError("masks: runs: image and pixels are needed for a .csv: they name its columns")
        if self.labels_by_file or (self.masks.segments and self.labels):
            return
        if not self.labels:
            raise ValueError("labels: is missing, and no mask pattern captures {label}")
        wrong = [key for key in self.labels if not (_INTEGER.fullmatch(key) or COLOUR.fullmatch(key) or key == "*")]
        if wrong:
            raise ValueError(
                f'labels: {", ".join(map(repr, wrong))}: expected a pixel value (1), a colour ("#ff0000") or "*"; '
                "names need masks.segments = true (DICOM SEG, RTSTRUCT, COCO, YOLO, XML) or {label} in the mask pattern"
            )
        kinds = {"colour" if COLOUR.fullmatch(key) else "*" if key == ANY_INSTANCE else "value" for key in self.labels}
        if len(kinds) > 1:
            raise ValueError(f"labels: mixes {' and '.join(sorted(kinds))} keys")
        if (ANY_INSTANCE in self.labels) != (self.masks.instances and not self.masks.classed_objects):
            raise ValueError('labels: "*" and masks.instances = true go together')

    def _check_single_class(self) -> None:
        if self.masks.segments:
            self._check_segments()
            return
        binary = self.masks.threshold is not None or self.masks.inverted
        if binary and self.masks.instances:
            raise ValueError("masks: threshold or inverted, and instances exclude each other")
        if binary and not self.labels_by_file and len(self.labels) != 1:
            raise ValueError("masks: with threshold or inverted a mask has one class, so [labels] must have one entry")

    def _check_segments(self) -> None:
        if self.masks.inverted or not 0 < (self.masks.threshold or 1) <= 1:
            raise ValueError(
                "masks: with segments, nothing is inverted, and threshold is a fraction above 0 and up to 1"
            )
        if not self.labels:
            raise ValueError("labels: is missing; with masks.segments it has the names of segments, with * and ?")

    def _check_ignored(self) -> None:
        if self.masks.only_named and not self.labels:
            raise ValueError("masks: only_named: [labels] names nothing, so that nothing would be left")
        if self.labels and all(self.leaves_out(key) for key in self.labels) and not self.labels_by_file:
            raise ValueError("masks: ignore leaves out all that [labels] names")
        if self.masks.segments or self.labels_by_file:
            return
        kind = COLOUR if self.colours else _INTEGER
        names = [normalise(name) for key, label in self.labels.items() for name in (key, label.label)]
        wrong = [
            str(entry)
            for entry in self.masks.ignore
            if not kind.fullmatch(str(entry)) and not any(fnmatchcase(name, normalise(str(entry))) for name in names)
        ]
        if wrong:
            expected = "colours" if self.colours else "values"
            raise ValueError(f"masks: ignore: {', '.join(wrong)}: expected {expected}, or names that [labels] has")

    def _check_pair(self) -> None:
        if self.resample_masks and "0" in self.labels:
            raise ValueError("resample_masks: [labels] names 0, so no value is left for what lies outside of a mask")
        pair = self.masks.pair
        if pair != "space" and (self.resample_masks or self.masks.segments):
            raise ValueError(
                f'masks: pair = "{pair}" ignores where masks lie, and goes neither with resample_masks nor with '
                "segments"
            )
        if pair == "names" and not self.files.image.text.endswith("/"):
            raise ValueError('masks: pair = "names" needs images that are DICOM series: files.image ends in "/"')

    def _check_layers(self) -> None:
        layers, variables = self.masks.layers, self.files.variables
        for key, arrays, names, named in (
            ("image", variables.image, self.files.channels or [], "files.channels"),
            ("mask", variables.mask, self.layers, "raters.names or masks.layers"),
        ):
            if isinstance(arrays, list) and len(arrays) != len(names):
                raise ValueError(f"files.variables.{key}: {len(arrays)} arrays, but {named} has {len(names)} names")
        if not layers:
            return
        classed = self.masks.classed_objects
        known = {OBJECTS, CLASSES} if classed else set(self.labels)
        unknown = [name for name in layers if name not in known and not self.masks.ignores(name)]
        if classed and not self.masks.instances:
            raise ValueError(f"masks: layers: {OBJECTS} and {CLASSES} need instances = true")
        if unknown or len(set(layers)) != len(layers):
            what = f"{', '.join(unknown)}: neither in [labels] nor in masks.ignore" if unknown else "one is named twice"
            raise ValueError(f"masks: layers: {what}")
        if self.masks.segments or any("label" in mask.captures for mask in self.files.mask):
            raise ValueError("masks: layers: goes neither with segments nor with {label} in the mask pattern")

    def _check_raters(self) -> None:
        rule = self.raters
        if "rater" in self.files.image.captures:
            raise ValueError("files.image: {rater} belongs into a mask pattern")
        if rule.use is None and self.raters_by_file:
            raise ValueError("raters: use is missing, as {rater} in the mask pattern tells several raters apart")
        if rule.use is not None and not self.raters_by_file and (not rule.names or self.masks.layers):
            raise ValueError(
                "raters: neither does a mask pattern capture {rater}, nor do names say which raters drew the layers of "
                "each mask file"
            )
        lidc = all(mask.text.endswith(".xml") for mask in self.files.mask) and bool(self.files.mask)
        if rule.use is not None and not self.raters_by_file and self.masks.segments and not lidc:
            raise ValueError("raters: files of named masks, but XML, have no layers; tell raters apart by {rater}")
        if rule.use in JOINED and self.masks.instances:
            raise ValueError(f"raters: use = {rule.use!r} joins classes, and goes not with masks.instances")

    def _check_dicom(self) -> None:
        dicom = self.files.dicom
        if dicom is not None and dicom.mask.named_masks != self.masks.segments:
            given = "needs" if dicom.mask.named_masks else "does not go with"
            raise ValueError(f"files: dicom: a mask of modality {dicom.mask.modality} {given} masks.segments = true")

    def _check_regions(self) -> None:
        if self.regions and (self.masks.instances or (self.labels_by_file and not self.labels)):
            raise ValueError("regions: need [labels] that name the parts, and no instance map")
        for region, parts in self.regions.items():
            if not re.fullmatch(CLASS_NAME, region):
                raise ValueError(f"regions: {region!r}: expected a class name: {CLASS_NAME_IN_WORDS}")
            if region in self.labels:
                raise ValueError(f"regions: {region!r} is a key of [labels] too; give the union a name of its own")
            unknown = [str(part) for part in parts if str(part) not in self.labels]
            left_out = [str(part) for part in parts if str(part) in self.labels and self.leaves_out(str(part))]
            if left_out:
                raise ValueError(
                    f"regions: {region}: masks.ignore leaves out its part {', '.join(left_out)}; to have the union "
                    "alone, give the parts one name in [labels] instead"
                )
            if unknown or not parts:
                raise ValueError(
                    f"regions: {region}: {', '.join(unknown) or 'it has no parts'}; "
                    f"[labels] has {', '.join(self.labels)}"
                )

    def _check_identifiers(self) -> None:
        if (self.identifiers == "public") != (self.identifiers_evidence is not None):
            raise ValueError(
                'identifiers: "public" needs identifiers_evidence, an address where it is written that the collection '
                "was de-identified, and nothing else does"
            )

    def _check_split(self) -> None:
        if self.splits.in_files and "split" in self.files.image.captures:
            raise ValueError("splits: file and lists do not go with {split} in the image pattern; expected one of them")
        if self.patient_names != PatientNames() and self.patients is None:
            raise ValueError("patient_names: needs patients, the name space that the names are of")

    def _check_channels(self) -> None:
        names: dict[str, str] = {}
        for channel in self.files.channels or ():
            other = names.setdefault(submodality_of(self.modality, channel), channel)
            if other != channel:
                raise ValueError(
                    f"files.channels: {other!r} and {channel!r} are names of one sub-modality, "
                    f"{submodality_of(self.modality, channel)}; give one of them a name that tells them apart"
                )


def _canonical(value: Any, key: str) -> Any:
    """A value of a recipe as plain JSON, without the keys that ask for no conversion."""
    if isinstance(value, Table):
        inner = {name: f"{key}.{name}".removeprefix(".") for name in type(value).model_fields}
        passive = DESCRIPTION_KEYS | LICENSE_KEYS
        return {name: _canonical(getattr(value, name), full) for name, full in inner.items() if full not in passive}
    if isinstance(value, Mapping):  # named by the user: their order counts
        return [[name, _canonical(entry, key)] for name, entry in value.items()]
    if isinstance(value, list):
        return [_canonical(entry, key) for entry in value]
    return value.text if isinstance(value, Pattern) else value


def mask_rules(recipe: Recipe) -> ReadRules:
    """`read_rules` for masks, which may be another array, or another half, of a file than the image."""
    files = recipe.files
    return replace(read_rules(recipe), variable=files.variables.of_mask(None), half=files.halves.mask)


def read_rules(recipe: Recipe) -> ReadRules:
    """What a recipe says about reading; of files that hold image and mask, about the image."""
    files = recipe.files
    return ReadRules(
        recipe.limits.pixels,
        recipe.limits.bytes,
        files.series,
        variable=files.variables.of_image(None),
        half=files.halves.image,
    )
