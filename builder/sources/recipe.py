"""Recipes: what a source dataset is, as data. Validated in full before any pixel is read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from builder.readers.rules import DEFAULT_RULES, ReadRules
from builder.sources.pattern import Pattern
from builder.sources.submodality import submodality_of
from builder.sources.vocabulary import GROUPS, ORGANS
from sa_med2d_20m import MODALITIES, SPLITS
from shards.license import canonical

NAME = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*")
SUBMODALITY: Final = r"^[a-z0-9]+(_[a-z0-9]+)*$"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_INTEGER = re.compile(r"-?\d+")
_FIELD = re.compile(r"\{([^{}]*)\}")
MANY: Final = ".json"
"""Ending of mask files that hold the masks of many images, so that they need share no capture with them."""
MOST_GRID_TOLERANCE: Final = 1.0
"""Most that ``masks.grid_tolerance`` may be, in voxels."""
ANY_INSTANCE: Final = "*"
"""Key in ``[labels]`` for the one class of an instance map."""

PATIENT_ID: Final = "PatientID"
"""Value of ``files.patient``: the patient is the one whom the DICOM files name."""

# fmt: off
CONVERSION_KEYS: Final = frozenset({
    "name", "modality", "submodality", "submodalities", "resample_masks", "axes", "splits", "keep_empty", "identifiers",
    "files.image", "files.mask", "files.patient", "files.channels", "files.frames", "files.series", "files.case",
    "labels.label", "labels.organ", "labels.group", "regions",
    "masks.threshold", "masks.inverted", "masks.segments", "masks.instances", "masks.color_match", "masks.background",
    "masks.ignore", "masks.grid_tolerance", "masks.min_area", "masks.pair",
    "gates.constant_slice", "gates.empty_mask", "gates.two_valued_image", "gates.full_mask", "gates.unnamed_values",
    "gates.nonfinite_values", "gates.burned_in_text", "gates.modality_mismatch", "gates.patient_mismatch",
    "gates.resampling_loss",
    "limits.pixels", "limits.bytes",
    "intensity.mode", "intensity.center", "intensity.width",
})
"""Keys that shape the samples of a source: which there are, their keys, pixels and metadata.

Another value asks for another conversion. ``limits`` is here because it decides which cases are refused.
"""

DESCRIPTION_KEYS: Final = frozenset({
    "title", "homepage", "license_evidence", "access", "citation", "identifiers_evidence",
})
"""Keys that describe a source and stand in no sample. Another value changes no byte of a shard."""

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


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, strict=True, allow_inf_nan=False
    )


class Files(_Table):
    """``[files]``: which files are images and masks.

    Attributes:
        image: Pattern of the images; captures ``{case}``, ``{patient}`` or both.
        mask: Patterns of the masks; they belong to the image whose captures they share. A COCO file (.json) need share
            none: it says itself to which images its masks belong.
        patient: Pattern that finds ``{patient}`` in a case name, such as ``"{patient}_frame{*}"``, or ``PatientID``:
            what the DICOM files of the image say.
        channels: Sub-modalities of the volumes of a 4D image, in their order; they share the case's masks. A series of
            DICOM images with several at each place is one too, as echoes and points in time are.
        frames: Each volume of a 4D image is a case of its own; masks are 4D too, or 3D and shared by all frames.
        series: Which DICOM series is meant where a folder holds several: its number, or a pattern over its description
            with ``*`` and ``?``, in any case.
        case: How a case is named from captures where ``{case}`` alone is not unique, such as ``"{patient}_{case}"``.
    """

    image: PatternField
    mask: Annotated[
        list[PatternField],
        BeforeValidator(_one_or_many, json_schema_input_type=PatternField | _Patterns),
        Field(min_length=1),
    ]
    patient: Literal["PatientID"] | PatternField | None = None
    case: str | None = None
    channels: Annotated[list[Annotated[str, Field(pattern=SUBMODALITY)]], Field(min_length=1)] | None = None
    frames: bool = False
    series: int | str | None = None

    @model_validator(mode="after")
    def _captures(self) -> Self:
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

    def _check_case(self, case: str) -> None:
        literals, names = _FIELD.split(case)[0::2], _FIELD.findall(case)
        if not names or not set(names) <= set(self.image.captures) or any(set("{}") & set(text) for text in literals):
            allowed = ", ".join(f"{{{name}}}" for name in self.image.captures)
            raise ValueError(f"case: {case!r}: expected text with what the image pattern captures: {allowed}")


CLASS_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_ -]*$"
CLASS_NAME_IN_WORDS: Final = "letters, digits, blanks, hyphens and underscores, a letter or digit first"
ClassName = Annotated[str, Field(pattern=CLASS_NAME)]


class Label(_Table):
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


class Masks(_Table):
    """``[masks]``: how pixel values of masks become classes.

    Attributes:
        threshold: The mask is a grey picture; foreground is where its value is at least this. With ``segments``: the
            fraction from which a pixel of a fractional DICOM SEG is foreground (default 0.5).
        inverted: The mask is drawn the wrong way round: foreground is 0, or below the threshold.
        segments: Masks are DICOM SEG or RTSTRUCT, COCO (.json) or YOLO polygons (.txt); ``[labels]`` has the names of
            segments, ROIs or categories, in any case, with * and ?; those of YOLO are class numbers.
        instances: Each value is an object of its own; ``[labels]`` names its class under the key ``"*"``. With
            ``segments``: each segment is an object of its own, else those of one class are joined.
        color_match: ``exact``, or ``nearest``: each pixel takes the nearest colour of ``[labels]`` or the background.
        background: Colour of the background of a colour-coded mask.
        ignore: Values (or colours) that belong to no class and are left out.
        grid_tolerance: How far the grids of mask and image may lie apart anywhere, in voxels of the image.
        min_area: The smallest object that is kept: a fraction of the image's area (above 0 and below 1), a whole number
            of pixels, or 0 to keep all. The default is that of SA-Med2D-20M, 100 of 256 x 256 pixels. Set it to 0 for
            cells, vessels and lesions that are small by nature. The metadata of each image count what is left out.
        pair: How a volume of masks lies on its image: ``space``: where its header says. ``index``: its header is
            nonsense, and its array belongs to the image's voxel by voxel, as both are stored.
    """

    threshold: float | None = None
    inverted: bool = False
    segments: bool = False
    instances: bool = False
    color_match: Literal["exact", "nearest"] = "exact"
    background: Annotated[str, Field(pattern=rf"^{_COLOUR.pattern}$")] = "#000000"
    ignore: list[int | str] = []
    grid_tolerance: Annotated[float, Field(ge=0, le=MOST_GRID_TOLERANCE)] = 0.1
    min_area: MinArea = 100 / 65536
    pair: Literal["space", "index"] = "space"


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
]
"""A quality gate: a key of ``[gates]``."""

GateAction = Literal["off", "flag", "drop", "quarantine"]
"""What a recipe may say about what a gate finds; each gate takes some of them."""


class Gates(_Table):
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
        modality_mismatch: A DICOM image says it is of another modality than the recipe.
        patient_mismatch: A DICOM mask names another patient, or another frame of reference, than its image, or refers
            to other series and images alone.
        resampling_loss: A class or object of a mask loses more than a twentieth of its volume when it is resampled.
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

    def action(self, gate: GateName) -> GateAction:
        """What the recipe says about what a gate finds."""
        action: GateAction = getattr(self, gate)
        return action


class Limits(_Table):
    """``[limits]``: how large a file may be; a larger one is refused by its header, before memory is taken.

    Attributes:
        pixels: Most pixels (voxels of all volumes, pages, frames) of a file.
        bytes: Most bytes of a file in memory, once it is decompressed.
    """

    pixels: Annotated[int, Field(gt=0)] = DEFAULT_RULES.pixels
    bytes: Annotated[int, Field(gt=0)] = DEFAULT_RULES.bytes


class IntensityRule(_Table):
    """``[intensity]``: how source values become pixels.

    Attributes:
        mode: ``slice``: each slice from its own minimum to maximum. ``volume``: from the volume's. ``window``:
            ``center`` and ``width`` in source units. ``lossless``: 16 bit, the volume's own values shifted.
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


class Recipe(_Table):
    """A source dataset: what its files are, what is in them, and what may be done with them.

    Attributes:
        name: Goes into every key: letters, digits, underscores and single hyphens.
        title: Full name, for people.
        license: SPDX identifier, ``LicenseRef-...``, ``unknown`` or ``conflict``.
        license_evidence: Where the licence was read.
        modality: How the images were made.
        submodality: ``00`` where there is none or it is not known. Other names of one sequence, such as ``t1w`` and
            ``mprage``, become its canonical one, ``t1``.
        homepage: Address of the source.
        access: ``open``, ``registration`` or ``private``.
        citation: How its authors want to be cited.
        files: See `Files`.
        submodalities: Captured ``{submodality}`` -> name of the sub-modality, such as ``0000 = "flair"``.
        labels: Pixel value, colour, captured ``{label}`` or ``"*"`` -> class.
        regions: Name of a union -> the keys of ``labels`` that it joins.
        masks: See `Masks`.
        gates: See `Gates`.
        limits: See `Limits`.
        resample_masks: Bring masks that lie on another grid to the image's, by nearest neighbour.
        intensity: See `IntensityRule`.
        axes: Axes to slice: ``x`` gives axial, ``y`` coronal, ``z`` sagittal slices.
        splits: Official split: split -> captured ``{split}`` values, or patient names with ``*`` and ``?``.
        keep_empty: Keep slices without any mask.
        identifiers: Names of cases and patients of DICOM sources: ``hashed``, with a key of the build, or ``public``:
            as they are, for collections that were de-identified at their source.
        identifiers_evidence: Where it is written that they may be public.
    """

    name: str
    title: Annotated[str, Field(min_length=1)]
    license: str
    modality: Literal[MODALITIES]  # type: ignore[valid-type]
    submodality: Annotated[str, Field(pattern=SUBMODALITY)] = "00"
    homepage: str = ""
    license_evidence: str | None = None
    access: Literal["open", "registration", "private"] = "open"
    citation: str = ""
    files: Files
    submodalities: dict[str, Annotated[str, Field(pattern=SUBMODALITY)]] = {}
    labels: dict[str, LabelField] = {}
    regions: dict[str, list[int | str]] = {}
    masks: Masks = Masks()
    gates: Gates = Gates()
    limits: Limits = Limits()
    resample_masks: bool = False
    intensity: IntensityRule = IntensityRule()
    axes: Annotated[list[Literal["x", "y", "z"]], Field(min_length=1)] = ["x", "y", "z"]
    splits: dict[Literal[SPLITS], list[str]] = {}  # type: ignore[valid-type]
    keep_empty: bool = False
    identifiers: Literal["hashed", "public"] = "hashed"
    identifiers_evidence: str | None = None

    @field_validator("name")
    @classmethod
    def _safe_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("expected letters, digits, underscores and single hyphens between them")
        return name

    @field_validator("axes")
    @classmethod
    def _each_once(cls, axes: list[str]) -> list[str]:
        if len(set(axes)) != len(axes):
            raise ValueError("one axis stands there twice")
        return axes

    @field_validator("license")
    @classmethod
    def _known_license(cls, license_id: str) -> str:
        return canonical(license_id)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for check in (
            self._check_label_keys,
            self._check_single_class,
            self._check_ignored,
            self._check_pair,
            self._check_regions,
            self._check_splits,
            self._check_identifiers,
            self._check_channels,
        ):
            check()
        return self

    @property
    def labels_by_file(self) -> bool:
        """Whether the mask patterns capture ``{label}``, so that a mask file holds one class."""
        return any("label" in mask.captures for mask in self.files.mask)

    @property
    def colours(self) -> bool:
        """Whether masks are colour-coded."""
        return any(_COLOUR.fullmatch(key) for key in self.labels)

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
        if self.labels_by_file or (self.masks.segments and self.labels):
            return
        if not self.labels:
            raise ValueError("labels: is missing, and no mask pattern captures {label}")
        wrong = [key for key in self.labels if not (_INTEGER.fullmatch(key) or _COLOUR.fullmatch(key) or key == "*")]
        if wrong:
            raise ValueError(
                f'labels: {", ".join(map(repr, wrong))}: expected a pixel value (1), a colour ("#ff0000") or "*"; '
                "names need masks.segments = true (DICOM SEG, RTSTRUCT, COCO, YOLO) or {label} in the mask pattern"
            )
        kinds = {"colour" if _COLOUR.fullmatch(key) else "*" if key == ANY_INSTANCE else "value" for key in self.labels}
        if len(kinds) > 1:
            raise ValueError(f"labels: mixes {' and '.join(sorted(kinds))} keys")
        if (ANY_INSTANCE in self.labels) != self.masks.instances:
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
        if self.masks.segments:
            return
        kind = _COLOUR if self.colours else _INTEGER
        wrong = [str(value) for value in self.masks.ignore if not kind.fullmatch(str(value))]
        if wrong:
            raise ValueError(f"masks: ignore: {', '.join(wrong)}: expected what [labels] has: values, or colours")

    def _check_pair(self) -> None:
        if self.masks.pair == "index" and (self.resample_masks or self.masks.segments):
            raise ValueError(
                'masks: pair = "index" ignores where masks lie, and goes neither with resample_masks nor with segments'
            )

    def _check_regions(self) -> None:
        if self.regions and (self.masks.instances or (self.labels_by_file and not self.labels)):
            raise ValueError("regions: need [labels] that name the parts, and no instance map")
        for region, parts in self.regions.items():
            if not re.fullmatch(CLASS_NAME, region):
                raise ValueError(f"regions: {region!r}: expected a class name: {CLASS_NAME_IN_WORDS}")
            if region in self.labels:
                raise ValueError(f"regions: {region!r} is a key of [labels] too; give the union a name of its own")
            unknown = [str(part) for part in parts if str(part) not in self.labels]
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

    def _check_channels(self) -> None:
        names: dict[str, str] = {}
        for channel in self.files.channels or ():
            other = names.setdefault(submodality_of(self.modality, channel), channel)
            if other != channel:
                raise ValueError(
                    f"files.channels: {other!r} and {channel!r} are names of one sub-modality, "
                    f"{submodality_of(self.modality, channel)}; give one of them a name that tells them apart"
                )

    def _check_splits(self) -> None:
        values = [value for listed in self.splits.values() for value in listed]
        if len(values) != len(set(values)):
            raise ValueError("splits: one value stands in two splits")


def _canonical(value: Any, key: str) -> Any:
    """A value of a recipe as plain JSON, without the keys that ask for no conversion."""
    if isinstance(value, _Table):
        inner = {name: f"{key}.{name}".removeprefix(".") for name in type(value).model_fields}
        passive = DESCRIPTION_KEYS | LICENSE_KEYS
        return {name: _canonical(getattr(value, name), full) for name, full in inner.items() if full not in passive}
    if isinstance(value, Mapping):  # named by the user: their order counts
        return [[name, _canonical(entry, key)] for name, entry in value.items()]
    if isinstance(value, list):
        return [_canonical(entry, key) for entry in value]
    return value.text if isinstance(value, Pattern) else value


def read_rules(recipe: Recipe) -> ReadRules:
    """What a recipe says about reading."""
    return ReadRules(recipe.limits.pixels, recipe.limits.bytes, recipe.files.series)
