"""SA-Med2D-20M: the data contract, a fast PNG decoder and the loader, in one file.

The file imports nothing else of this project, so it can be copied next to a training script::

    from sa_med2d_20m import decode_masks, load

    for sample in load("OUT", "mr-permissive", split="train"):
        image, masks = sample["image"], decode_masks(sample)   # (H, W) uint8, (N, H, W) bool

`load` reads a built folder, a repository of the Hugging Face Hub or any address that fsspec knows, with any release of
`datasets` from 3.6 on. Up to 3.x the file is a loading script too::

    load_dataset("sa_med2d_20m.py", "ct-commercial", data_dir="OUT", streaming=True, trust_remote_code=True)

The file reads from what is stored up to `load`. Its parts, each below a line of dashes that names it:

- the contract: names that all parts share; the metadata of a sample, and the same as features and as an Arrow schema;
  what an argument may be; classes
- what is stored: PNG; masks
- where it lies: reading from anywhere; which shards there are; choosing samples by the index
- what is asked for: views (`Masks`, `Semantic`, `Clip`); what a source annotates; size, window and scale (`Output`);
  columns; prompts (`Prompts`, `next_click`)
- how it comes: rows (`collate`); volumes and clips; cache (`CachedRows`)
- what is called: loading (`load`, `interleave`); samples for programs (`select`); the loading script of `datasets` 3.x
"""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import difflib
import fnmatch
import functools
import hashlib
import importlib
import io
import itertools
import json
import math
import mmap
import operator
import os
import re
import shlex
import struct
import sys
import time
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, Literal

try:
    # by name: `datasets` 3.x would demand every module that a loading script imports
    zlib = importlib.import_module("isal.isal_zlib")
except ImportError:  # the loader alone also runs without ISA-L, only slower
    import zlib


class _Deferred:
    """A module that is imported when it is first used: who wants a constant waits for none of them."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)  # from now on it is found without coming here
        return value

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return _Deferred, (self._name,)  # what was used of it so far is no part of it


if typing.TYPE_CHECKING:
    import logging
    from concurrent import futures
    from concurrent.futures import Future

    import cv2
    import datasets
    import fsspec
    import huggingface_hub
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    import yaml
    from huggingface_hub import errors as hub_errors
    from PIL import Image

    hub_utils: Any  # which exports late, so that types do not show
else:
    cv2, np, futures, logging = map(_Deferred, ("cv2", "numpy", "concurrent.futures", "logging"))
    datasets, fsspec, yaml, Image = map(_Deferred, ("datasets", "fsspec", "yaml", "PIL.Image"))
    pa, pc, pq = map(_Deferred, ("pyarrow", "pyarrow.compute", "pyarrow.parquet"))
    huggingface_hub, hub_errors, hub_utils = (_Deferred(f"huggingface_hub{part}") for part in ("", ".errors", ".utils"))

__all__ = [
    "CACHE",
    "LABELS",
    "MEMORY_LIMIT",
    "MODALITIES",
    "NORMALISATIONS",
    "SCHEMA",
    "SPLITS",
    "TEMPLATES",
    "WINDOWS",
    "CacheReceipt",
    "CacheSettings",
    "CachedRows",
    "Clip",
    "DatasetError",
    "Dropped",
    "Fitted",
    "Intensity",
    "Mask",
    "Masks",
    "Metadata",
    "Output",
    "Prompts",
    "SAMed2D20M",
    "SAMed2DError",
    "Selection",
    "Semantic",
    "ShardPart",
    "Where",
    "collate",
    "decode_masks",
    "decode_png",
    "fitted_samples",
    "interleave",
    "linked_objects",
    "load",
    "next_click",
    "quoted_command",
    "select",
    "split_layers",
]

_Read = typing.TypeVar("_Read")

# --- names that all parts share ---------------------------------------------------------------------------------------
# Numbers and names of the contract, and the base of all errors.

SCHEMA: Final = 2
"""Number of the data contract. It changes when bytes, order or fields of a shard change."""

MODALITIES: Final = (
    "ct",
    "mr",
    "pet",
    "ultrasound",
    "x_ray",
    "fundus_photography",
    "dermoscopy",
    "endoscopy",
    "oct",
    "microscopy",
    "histopathology",
)
SPLITS: Final = ("train", "validation", "test")
TIERS: Final = ("all", "commercial", "permissive")
"""Tiers of licences from wide to narrow: what may be redistributed, also used commercially, and is not share-alike."""


def config_name(scope: str, tier: str) -> str:
    """The config that holds a tier of a modality, or of all of them.

    >>> config_name("ct", "all"), config_name("all", "permissive")
    ('ct', 'all-permissive')
    """
    return scope if tier == "all" else f"{scope}-{tier}"


DEFAULT_CONFIG: Final = config_name("all", "permissive")
CONFIGS: Final = tuple(
    dict.fromkeys([DEFAULT_CONFIG, *(config_name(scope, tier) for scope in ("all", *MODALITIES) for tier in TIERS)])
)
"""Every config that a card may list, in its order: the default first."""
LOCAL: Final = "local"
LOCAL_CONFIGS: Final = tuple(config_name(scope, LOCAL) for scope in ("all", *MODALITIES))
"""Configs that hold everything built, whatever its licence: of a folder or a private store, never published."""
PREVIEW: Final = "preview"
"""The config of a published card that viewers show, of samples with their masks drawn over them, and its folder. It is
for eyes, and `load` does not know it."""

CARD: Final = "README.md"
DATA: Final = "data"
INDEX: Final = "index"
DESCRIPTIONS: Final = ("sources", "build/sources")
"""Folders with a file for each source that says which classes it annotates: of a repository, of an output folder."""
MEMBERS: Final = ("png", "mask.png", "json")
"""Extensions of the members of a sample, in their order."""
PLACES: Final = tuple(f"{member}_{what}" for member in ("image", "mask", "json") for what in ("offset", "size"))
"""Columns of the index that say where the members lie in their shard, in bytes."""


class SAMed2DError(Exception):
    """What this project raises on purpose: the base of all its errors, whose messages are for the reader."""


class DatasetError(SAMed2DError, ValueError):
    """A dataset, a config or a member of a shard is not what was asked for or what it should be."""


def quoted_command(*words: object) -> str:
    """A command of ours, without its name, as messages give it and a shell takes it.

    >>> print(quoted_command("index", "my set"))
    'sa-med2d index 'my set''
    """
    return f"'{shlex.join(['sa-med2d', *map(str, words)])}'"


# --- the metadata of a sample -----------------------------------------------------------------------------------------
# The contract of the data as dataclasses. Writing a shard, the index, features and every check of what is read derive
# from them. Comments give units and what null means; docs/contract.md says more.


@dataclass(frozen=True)
class Intensity:
    """How the pixels of a stored image relate to the values of its source.

    A source value is ``slope * pixel + intercept``: exactly with scaling ``none`` and ``lossless``, within half
    a grey level with ``slice``, ``volume`` and ``window``, but for values that are clipped.
    """

    min: float  # smallest source value of the image before it is clipped, in the source's own units (HU for most CT)
    max: float  # the largest
    scaling: str  # none, slice, volume, window or lossless
    slope: float  # source units per grey level
    intercept: float  # source value of pixel 0
    clipped: int  # pixels whose source value lies below that of pixel 0 or above that of the highest grey level


@dataclass(frozen=True)
class Mask:
    """One 8-connected object of one class in one image."""

    id: int  # value of its pixels in its layer of the label map, 1 to 255
    layer: int  # of the label map, from 0; layer and id together are unique within the sample
    label: str  # class name in the vocabulary that all sources share
    class_id: str  # four digits, the class within its source (the original release's numbering scheme)
    organ: str | None  # one of the 31 organs of the original
    group: str  # head_and_neck, thorax, abdomen, pelvis, lesion or other
    instance: int  # number of the object within its class and image, from 0
    bbox: tuple[int, int, int, int]  # x, y, width, height in pixels; x counts columns, y counts rows
    area: int  # number of pixels


@dataclass(frozen=True)
class Dropped:
    """What the area rule left out of an image: objects that its source annotates and `Metadata.masks` does not have."""

    masks: int  # number of objects
    pixels: int  # their pixels
    labels: tuple[str, ...]  # their classes, each once: the image shows them, or more of them, than its masks say


_JSON: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True)
class Metadata:
    """The JSON member of a sample: always these fields, in this order, with these types; null is `None`."""

    key: str  # of WebDataset: {modality}_{submodality}--{source}--{case}--{axis}_{slice:04d}
    source: str  # name of the source dataset (the recipe's name)
    modality: str  # one of `MODALITIES`
    submodality: str  # sequence, phase or channel; 00 where there is none
    license: str  # SPDX identifier, or LicenseRef-...
    patient: str  # whom the case belongs to; the unit of the split
    case: str  # name as in the source (unescaped, unlike in the key)
    split: str  # train, validation or test
    plane: str  # axial, coronal, sagittal; 2d for pictures; unknown for stacks without orientation
    axis: str  # x, y, z (axes 0, 1, 2 of the LPS array in z, y, x order) or 2d
    index: int | None  # slice number along that axis, towards superior, posterior, left; null for pictures
    height: int  # rows of the image in pixels
    width: int  # columns
    spacing: tuple[float, float] | None  # mm between rows and between columns
    stored_axes: str | None  # axis codes of the volume as it was stored, such as LAS
    schema: int  # `SCHEMA` of the build
    intensity: Intensity
    image_file: str  # path of the image below the source's root
    slice_spacing: float | None  # mm between slices along the axis
    slices: int | None  # how many slices the volume has along the axis; null for pictures
    origin: tuple[float, float, float] | None  # x, y, z of the centre of the first voxel in LPS axes, in LPS mm
    direction: tuple[float, float, float, float, float, float, float, float, float] | None
    """Of the x, y and z axis of that volume as the columns of a 3 x 3 matrix, row by row."""
    official_split: bool  # whether the source itself puts the case into its split
    dropped: Dropped
    not_annotated: tuple[str, ...]  # labels of classes that the source annotates, but not in this case
    rater: str | None
    """Who drew the masks: a rater by the source's name; ``majority of N`` or ``union of N`` where the masks of so many
    raters were joined; null where the source has one set of masks."""
    masks: tuple[Mask, ...]  # ordered by class, then by the first pixel in reading order

    def to_record(self) -> dict[str, Any]:
        """The metadata as plain data, its fields in order of definition."""
        records = {"intensity": vars(self.intensity), "dropped": vars(self.dropped)}
        return {**vars(self), **records, "masks": [vars(mask) for mask in self.masks]}

    def to_json(self) -> bytes:
        """The metadata as compact UTF-8 JSON with its fields in order of definition."""
        return record_json(self.to_record())


def record_json(record: Mapping[str, Any]) -> bytes:
    """A record of metadata as it stands in a shard."""
    return _JSON.encode(record).encode()


# --- the one definition, as features and as an Arrow schema -----------------------------------------------------------
# What these fields are in the words of Arrow.

_SCALARS: Final = {str: "string", int: "int64", float: "float64", bool: "bool"}


def metadata_types(of: type = Metadata) -> dict[str, Any]:
    """The field types of a metadata dataclass as nested plain data.

    Returns:
        Field name -> Arrow type name (``"int64"``), ``[item]`` for a list, or a dict for a record.
    """
    hints = typing.get_type_hints(of)
    return {field.name: _describe(hints[field.name]) for field in fields(of)}


def _describe(hint: Any) -> Any:
    if is_dataclass(hint):
        return metadata_types(typing.cast("type", hint))
    if isinstance(hint, types.UnionType):
        return _describe(next(arm for arm in typing.get_args(hint) if arm is not type(None)))
    if typing.get_origin(hint) is tuple:
        return [_describe(typing.get_args(hint)[0])]
    return _SCALARS[hint]


# --- what an argument may be ------------------------------------------------------------------------------------------
# Every refusal is one sentence: what was given, what was expected, and near names.


def _refuse_other(name: str, value: object, kind: type | types.UnionType, expected: str) -> None:
    """Refuse an argument of another type than it should have; in ``expected`` are the words for it."""
    if not isinstance(value, kind):
        raise DatasetError(f"{name} is {value!r:.80}, expected {expected}")


def _check_choice(name: str, value: object, known: Sequence[str], further: str = "") -> None:
    if value not in known:
        raise DatasetError(f"{name} is {value!r:.80}, expected {' or '.join(map(repr, known))}{further}")


def _refuse_below(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise DatasetError(f"{name} is {value!r:.80}, expected a whole number from {least} on")


def _check_balance(balance: object) -> None:
    if balance is not None and (type(balance) not in (int, float) or not 0 < balance <= 1):  # type: ignore[operator]
        raise DatasetError(f"balance is {balance!r:.80}, expected a share of the images, above 0 and up to 1")


def _listed(name: str, values: object, of: str = "names") -> tuple[str, ...] | None:
    """Values of an argument; one text is one value."""
    if values is None:
        return None
    _refuse_other(name, values, Iterable, of)
    listed = (values,) if isinstance(values, str) else tuple(typing.cast("Iterable[Any]", values))
    if not listed:
        raise DatasetError(f"{name} is empty, which nothing fits; leave it out for all")
    for value in listed:
        if not isinstance(value, str):
            raise DatasetError(f"{name} holds {value!r:.80}, expected {of}")
    return listed


class _UnknownValueError(DatasetError):
    """No shard of the split holds a value; another split may.

    Attributes:
        name: The argument.
        values: What was asked for.
    """

    def __init__(self, message: str, name: str, values: Sequence[str]) -> None:
        super().__init__(message)
        self.name, self.values = name, tuple(values)


def _refuse_unknown(name: str, asked: Iterable[str] | None, known: Iterable[str], where: str) -> None:
    known = sorted(known)
    for value in asked or ():
        if value not in known:
            near = difflib.get_close_matches(str(value), known, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are {_some(known)}"
            raise _UnknownValueError(f"{where}: no {name} {value!r} here; {hint}", name, [value])


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(sorted(names)[:20]) or 'none'}{', ...' if len(names) > 20 else ''}"


# --- classes ----------------------------------------------------------------------------------------------------------
# The vocabulary, of which a semantic map has the numbers.

LABELS: Final = tuple(
    """
    abdomen abdominal_aorta abdominal_cavity abdominal_tissue abdominal_wall adrenal_gland adrenal_gland_left
    adrenal_gland_right adrenal_tumor adrenocortical_carcinoma airway airway_wall ambiguous_cell amygdala amygdala_left
    amygdala_right anal_canal angular_gyrus angular_gyrus_left angular_gyrus_right anterior_cingulate_gyrus
    anterior_cingulate_gyrus_left anterior_cingulate_gyrus_right anterior_eyeball anterior_eyeball_left
    anterior_eyeball_right anterior_orbital_gyrus anterior_orbital_gyrus_left anterior_orbital_gyrus_right
    anterior_scalene anterior_scalene_left anterior_scalene_right anterior_temporal_lobe_lateral_part
    anterior_temporal_lobe_lateral_part_left anterior_temporal_lobe_lateral_part_right
    anterior_temporal_lobe_medial_part anterior_temporal_lobe_medial_part_left anterior_temporal_lobe_medial_part_right
    aorta aorta_false_lumen aorta_true_lumen aortic_annulus aortic_arch aortic_dissection aortic_root
    aortic_sinotubular_junction aortic_valve aortic_vessel_tree appendix artery arytenoid_cartilage
    arytenoid_cartilage_left arytenoid_cartilage_right ascending_aorta ascites atrial_appendage atrial_appendage_left
    atrial_appendage_right auditory_canal auditory_canal_left auditory_canal_right autochthon autochthon_left
    autochthon_right axillary_lymph_node azygos_vein bacterium barretts_esophagus basal_ganglia basophil bile bile_duct
    bipolar_forceps bladder_cancer bladder_tumor bladder_wall blood blood_vessel body body_extremities body_trunc bone
    bone_lesion bowel_bag brachial_plexus brachial_plexus_left brachial_plexus_right brachiocephalic_trunk
    brachiocephalic_vein brachiocephalic_vein_left brachiocephalic_vein_right brain brain_aneurysm brain_edema
    brain_enhancing_tumor brain_growth brain_infarction brain_lesion brain_metastasis
    brain_necrotic_and_non_enhancing_tumor_core brain_necrotic_core brain_non_enhancing_tumor brain_parenchyma
    brain_resection_cavity brain_tumor brain_tumor_core brain_ventricles brain_whole_tumor brainstem
    brainstem_excluding_substantia_nigra breast breast_calcification breast_cancer breast_carcinoma_in_situ
    breast_dense_tissue breast_implant breast_invasive_carcinoma breast_left breast_lesion breast_mass breast_right
    breast_tissue breast_tumor breast_tumor_benign bronchus bronchus_left bronchus_right buccal_mucosa
    cadiere_forceps_body cadiere_forceps_head cadiere_forceps_wrist cancer capsulorhexis_cystotome capsulorhexis_forceps
    carotid_artery carotid_artery_left carotid_artery_right carotid_lumen carotid_vessel_wall carpal cartilage catheter
    caudate_nucleus caudate_nucleus_left caudate_nucleus_right cecum celiac_trunk cell cell_membrane central_sulcus
    central_sulcus_left central_sulcus_right cerebellar_cortex cerebellar_cortex_left cerebellar_cortex_right
    cerebellar_vermis cerebellar_white_matter cerebellar_white_matter_left cerebellar_white_matter_right cerebellum
    cerebellum_left cerebellum_right cerebral_artery cerebral_artery_stenosis cerebral_vessel cerebral_white_matter
    cerebral_white_matter_left cerebral_white_matter_right cerebrospinal_fluid cerebrum cerebrum_left cerebrum_right
    cervical_cancer cervical_esophagus cervical_spine cervical_vertebrae cervix cheek cheek_left cheek_right chest_wall
    choroid_of_eye choroid_plexus choroid_plexus_left choroid_plexus_right choroidal_neovascularization clavicula
    clavicula_left clavicula_right clipper coccyx cochlea cochlea_left cochlea_right colon colon_adenocarcinoma
    colon_cancer colon_high_grade_intraepithelial_neoplasia colon_low_grade_intraepithelial_neoplasia colon_mucosa
    colon_serrated_adenoma colon_tumor colorectal_adenocarcinoma colorectal_adenoma colorectal_cancer
    colorectal_high_grade_adenoma colorectal_high_grade_intraepithelial_neoplasia colorectal_low_grade_adenoma
    colorectal_low_grade_intraepithelial_neoplasia colorectal_serrated_adenoma common_bile_duct common_carotid_artery
    common_carotid_artery_left common_carotid_artery_right compact_bone cone_photoreceptor connective_tissue
    connective_tissue_cell coracobrachial coracobrachial_left coracobrachial_right cornea corneal_nerve
    coronary_arteries coronary_calcification coronary_calcification_lad coronary_calcification_lcx
    coronary_calcification_rca coronary_stenosis corpus_callosum cortical_grey_matter cortical_grey_matter_left
    cortical_grey_matter_right corticospinal_tract corticospinal_tract_left corticospinal_tract_right costal_cartilages
    covered_kidney covid_lesion cricoid_cartilage cricopharyngeus cuneus cuneus_left cuneus_right
    curved_atraumatic_grasper_body curved_atraumatic_grasper_head cyst cystic_artery cystic_duct cystoid_macular_edema
    cytoplasm dead_cell deep_grey_matter deltoid deltoid_left deltoid_right dental_bridge dental_caries dental_crown
    dental_filling dental_implant dental_pulp descending_aorta diaphragm diencephalon digastric digastric_left
    digastric_right drain_tube drusen duodenum ear ear_left ear_right electrocautery_hook ellipsoid_zone endotip
    enlarged_perivascular_space eosinophil epicardial_fat epidural_hemorrhage epiglottis epithelial_cell epithelium
    erector_spinae erector_spinae_left erector_spinae_right esophageal_cancer esophageal_tumor esophagitis esophagus
    ethmoid_sinus eustachian_tube_bone eustachian_tube_bone_left eustachian_tube_bone_right external_carotid_artery
    external_carotid_artery_left external_carotid_artery_right external_cerebrospinal_fluid external_oblique
    external_oblique_left external_oblique_right eye eye_left eye_lens eye_lens_left eye_lens_right eye_right face fat
    femoral_cartilage femoral_fracture femur femur_head femur_head_left femur_head_right femur_left femur_right
    fetal_head fetus fibroblast fibula fibula_left fibula_right foot_ulcer fourth_ventricle fovea foveal_avascular_zone
    frontal_lobe frontal_lobe_left frontal_lobe_right frontal_sinus frontal_sinus_left frontal_sinus_right
    fusiform_gyrus fusiform_gyrus_left fusiform_gyrus_right gallbladder gallstone gastric_cancer gastric_tumor
    gastrointestinal_tract gastrointestinal_ulcer gauge gauze geographic_atrophy gland glioblastoma glioma
    globus_pallidus globus_pallidus_left globus_pallidus_right glomerulus glottis gluteus_maximus gluteus_maximus_left
    gluteus_maximus_right gluteus_medius gluteus_medius_left gluteus_medius_right gluteus_minimus gluteus_minimus_left
    gluteus_minimus_right gonads grasper grey_matter gross_tumor_volume gross_tumor_volume_nodal
    gross_tumor_volume_primary ground_glass_opacity hard_exudate hard_palate harmonic_ace_body harmonic_ace_head head
    head_and_neck_tumor healthy_myocardium heart heart_atrium heart_atrium_left heart_atrium_right heart_blood_pool
    heart_myocardium heart_tissue heart_ventricle heart_ventricle_left heart_ventricle_right hemorrhage hepatic_artery
    hepatic_vein hepatic_vessel hepatocellular_carcinoma high_grade_glioma hip hip_implant hip_left hip_right
    hippocampus hippocampus_anterior hippocampus_left hippocampus_posterior hippocampus_right humerus humerus_left
    humerus_right hyoid hyperplastic_polyp hypopharynx hypothalamus hypothalamus_left hypothalamus_right
    hypoxic_ischemic_lesion iliac_artery iliac_artery_left iliac_artery_right iliac_vena iliac_vena_left
    iliac_vena_right iliopsoas iliopsoas_left iliopsoas_right impacted_tooth inferior_alveolar_canal
    inferior_alveolar_canal_left inferior_alveolar_canal_right inferior_alveolar_nerve inferior_alveolar_nerve_left
    inferior_alveolar_nerve_right inferior_frontal_gyrus inferior_frontal_gyrus_left inferior_frontal_gyrus_right
    inferior_mesenteric_artery inferior_oblique_muscle inferior_oblique_muscle_left inferior_oblique_muscle_right
    inferior_pharyngeal_constrictor inferior_rectus_muscle inferior_rectus_muscle_left inferior_rectus_muscle_right
    inferior_vena_cava inflammatory_cell infraspinatus infraspinatus_left infraspinatus_right inner_ear inner_ear_left
    inner_ear_right instrument_clasper instrument_shaft instrument_wrist insula_anterior_inferior_cortex
    insula_anterior_inferior_cortex_left insula_anterior_inferior_cortex_right insula_anterior_long_gyrus
    insula_anterior_long_gyrus_left insula_anterior_long_gyrus_right insula_anterior_short_gyrus
    insula_anterior_short_gyrus_left insula_anterior_short_gyrus_right insula_middle_short_gyrus
    insula_middle_short_gyrus_left insula_middle_short_gyrus_right insula_posterior_long_gyrus
    insula_posterior_long_gyrus_left insula_posterior_long_gyrus_right insula_posterior_short_gyrus
    insula_posterior_short_gyrus_left insula_posterior_short_gyrus_right insular_cortex insular_cortex_left
    insular_cortex_right intermuscular_fat internal_auditory_canal internal_auditory_canal_left
    internal_auditory_canal_right internal_capsule internal_capsule_left internal_capsule_right internal_carotid_artery
    internal_carotid_artery_left internal_carotid_artery_right internal_jugular_vein internal_jugular_vein_left
    internal_jugular_vein_right internal_oblique internal_oblique_left internal_oblique_right intervertebral_disc_L1_L2
    intervertebral_disc_L2_L3 intervertebral_disc_L3_L4 intervertebral_disc_L4_L5 intervertebral_disc_L5_S1
    intervertebral_disc_T10_T11 intervertebral_disc_T11_T12 intervertebral_disc_T12_L1 intervertebral_disc_T9_T10
    intervertebral_discs intestine intracerebral_hemorrhage intracranial_artery_stenosis intracranial_hemorrhage
    intraocular_lens intraretinal_fluid intraretinal_microvascular_abnormality intraventricular_cerebrospinal_fluid
    intraventricular_hemorrhage iris irrigation_aspiration_tip irrigator ischemic_core ischemic_penumbra
    ischemic_stroke_lesion katena_forceps kidney kidney_cancer kidney_capsule kidney_central_echo_complex kidney_cortex
    kidney_cortex_left kidney_cortex_right kidney_cyst kidney_cyst_left kidney_cyst_right kidney_left kidney_lesion
    kidney_lesion_left kidney_lesion_right kidney_medulla kidney_medulla_left kidney_medulla_right kidney_parenchyma
    kidney_parenchyma_left kidney_parenchyma_right kidney_pelvis kidney_pelvis_left kidney_pelvis_right kidney_right
    kidney_stone kidney_tumor kidney_tumor_left kidney_tumor_right lacrimal_gland lacrimal_gland_left
    lacrimal_gland_right larynx larynx_air lateral_orbital_gyrus lateral_orbital_gyrus_left lateral_orbital_gyrus_right
    lateral_pterygoid lateral_pterygoid_left lateral_pterygoid_right lateral_rectus_muscle lateral_rectus_muscle_left
    lateral_rectus_muscle_right lateral_remainder_occipital_lobe lateral_remainder_occipital_lobe_left
    lateral_remainder_occipital_lobe_right lateral_ventricle lateral_ventricle_body lateral_ventricle_body_left
    lateral_ventricle_body_right lateral_ventricle_excluding_temporal_horn
    lateral_ventricle_excluding_temporal_horn_left lateral_ventricle_excluding_temporal_horn_right
    lateral_ventricle_frontal_horn lateral_ventricle_frontal_horn_left lateral_ventricle_frontal_horn_right
    lateral_ventricle_left lateral_ventricle_occipital_horn lateral_ventricle_occipital_horn_left
    lateral_ventricle_occipital_horn_right lateral_ventricle_right lateral_ventricle_temporal_horn
    lateral_ventricle_temporal_horn_left lateral_ventricle_temporal_horn_right lateral_ventricle_trigone
    lateral_ventricle_trigone_left lateral_ventricle_trigone_right latissimus_dorsi latissimus_dorsi_left
    latissimus_dorsi_right left_anterior_descending_artery left_atrial_scar left_atrial_wall left_coronary_cusp
    left_ventricular_outflow_tract lens_injector lentiform_nucleus lentiform_nucleus_left lentiform_nucleus_right lesion
    levator_palpebrae_superioris levator_palpebrae_superioris_left levator_palpebrae_superioris_right levator_scapulae
    levator_scapulae_left levator_scapulae_right lingual_canal lingual_gyrus lingual_gyrus_left lingual_gyrus_right lips
    liver liver_cancer liver_cyst liver_lesion liver_ligament liver_lobe liver_lobe_left liver_lobe_right
    liver_metastasis liver_necrosis liver_segment_1 liver_segment_2 liver_segment_3 liver_segment_4 liver_segment_5
    liver_segment_6 liver_segment_7 liver_segment_8 liver_tumor low_grade_glioma lumbar_spine lumbar_vertebrae lung
    lung_arteries lung_cancer lung_consolidation lung_fibrosis lung_left lung_lesion lung_lobe lung_lower_lobe
    lung_lower_lobe_left lung_lower_lobe_right lung_middle_lobe_right lung_nodule lung_right lung_tumor lung_upper_lobe
    lung_upper_lobe_left lung_upper_lobe_right lung_veins lung_vessels lymph_node lymph_node_lesion lymphocyte
    macrophage macula mammary_gland mammary_gland_left mammary_gland_right mandible mandible_left mandible_right
    mandibular_incisive_canal mandibular_incisive_canal_left mandibular_incisive_canal_right manubrium
    maryland_bipolar_forceps_body maryland_bipolar_forceps_head maryland_bipolar_forceps_wrist masseter masseter_left
    masseter_right mastoid_process mastoid_process_left mastoid_process_right maxilla maxillary_sinus
    maxillary_sinus_left maxillary_sinus_right medial_orbital_gyrus medial_orbital_gyrus_left medial_orbital_gyrus_right
    medial_pterygoid medial_pterygoid_left medial_pterygoid_right medial_rectus_muscle medial_rectus_muscle_left
    medial_rectus_muscle_right mediastinal_lymph_node mediastinal_tissue mediastinum medulla_oblongata melanoma
    meningioma meniscus mesentery metacarpal metastasis metatarsal microaneurysm midbrain
    middle_and_inferior_temporal_gyrus middle_and_inferior_temporal_gyrus_left middle_and_inferior_temporal_gyrus_right
    middle_ear middle_ear_left middle_ear_right middle_frontal_gyrus middle_frontal_gyrus_left
    middle_frontal_gyrus_right middle_pharyngeal_constrictor middle_scalene middle_scalene_left middle_scalene_right
    mitochondria mitral_valve mitral_valve_anterior_leaflet mitral_valve_posterior_leaflet monocyte
    multiple_sclerosis_lesion muscle myelinated_white_matter myocardial_edema myocardial_infarction myocardial_scar
    myopic_maculopathy nasal_cavity nasal_cavity_left nasal_cavity_right nasopharyngeal_carcinoma nasopharyngeal_tumor
    nasopharynx neck_lymph_node neck_lymph_node_level_2 neck_lymph_node_level_2_left neck_lymph_node_level_2_right
    neck_lymph_node_level_3 neck_lymph_node_level_3_left neck_lymph_node_level_3_right necrosis nematode neoplastic_cell
    neoplastic_polyp neuroblastoma neutrophil nipple nipple_left nipple_right no_reflow non_coronary_cusp
    non_neoplastic_polyp normal_tissue nucleus nucleus_accumbens nucleus_accumbens_left nucleus_accumbens_right
    occipital_lobe occipital_lobe_left occipital_lobe_right omentum optic_chiasm optic_cup optic_disc optic_disc_rim
    optic_nerve optic_nerve_left optic_nerve_right optic_radiation optic_radiation_left optic_radiation_right
    oral_cavity oropharynx ovary ovary_left ovary_right pancreas pancreatic_cancer pancreatic_cyst pancreatic_duct
    pancreatic_lesion pancreatic_tumor parahippocampal_and_ambient_gyrus parahippocampal_and_ambient_gyrus_left
    parahippocampal_and_ambient_gyrus_right parietal_lobe parietal_lobe_left parietal_lobe_right parotid_gland
    parotid_gland_left parotid_gland_right patella patella_left patella_right patellar_cartilage pectoral_muscle
    pectoral_muscle_left pectoral_muscle_right pectoralis_major pectoralis_major_left pectoralis_major_right
    pectoralis_minor pectoralis_minor_left pectoralis_minor_right pelvic_bones pelvic_fracture pelvis penile_bulb
    periapical_lesion pericardial_effusion pericardium peripapillary_atrophy peritoneum phacoemulsification_tip
    phalanges_feet phalanges_hand pharyngeal_constrictors pharynx pigment_epithelial_detachment pituitary_gland
    pituitary_tumor placenta placental_vessel plasma_cell platelet platysma platysma_left platysma_right pleura
    pleural_cavity pleural_effusion pneumonia pneumothorax polyp pons portal_vein portal_vein_and_splenic_vein
    postcentral_gyrus postcentral_gyrus_left postcentral_gyrus_right posterior_cingulate_gyrus
    posterior_cingulate_gyrus_left posterior_cingulate_gyrus_right posterior_eyeball posterior_eyeball_left
    posterior_eyeball_right posterior_orbital_gyrus posterior_orbital_gyrus_left posterior_orbital_gyrus_right
    posterior_scalene posterior_scalene_left posterior_scalene_right posterior_temporal_lobe
    posterior_temporal_lobe_left posterior_temporal_lobe_right pre_subgenual_frontal_cortex
    pre_subgenual_frontal_cortex_left pre_subgenual_frontal_cortex_right precentral_gyrus precentral_gyrus_left
    precentral_gyrus_right preretinal_hemorrhage prevertebral prevertebral_left prevertebral_right prostate
    prostate_anterior_fibromuscular_stroma prostate_cancer prostate_cancer_gleason_3 prostate_cancer_gleason_4
    prostate_cancer_gleason_5 prostate_central_gland prostate_central_zone prostate_lesion prostate_or_uterus
    prostate_peripheral_zone prostate_transition_zone prostate_tumor psoas psoas_left psoas_major psoas_major_left
    psoas_major_right psoas_right pubic_symphysis pulmonary_artery pulmonary_artery_annulus pulmonary_artery_bifurcation
    pulmonary_artery_left_start pulmonary_artery_right_start pulmonary_artery_sinotubular_junction pulmonary_embolism
    pulmonary_vein pupil putamen putamen_left putamen_right quadratus_lumborum quadratus_lumborum_left
    quadratus_lumborum_right quadriceps_femoris quadriceps_femoris_left quadriceps_femoris_right radius radius_left
    radius_right rectum rectus_abdominis rectus_abdominis_left rectus_abdominis_right red_blood_cell renal_arteries
    renal_artery_left renal_artery_right renal_cell_carcinoma renal_vein renal_vein_left renal_vein_right
    retained_tooth_root retina retinal_artery retinal_atrophy retinal_capillary retinal_detachment retinal_fluid
    retinal_hemorrhage retinal_layers retinal_neovascularization retinal_nonperfusion retinal_nonperfusion_area
    retinal_vein retinal_vessel retinal_vessel_crossing rib rib_1 rib_10 rib_11 rib_12 rib_2 rib_3 rib_4 rib_5 rib_6
    rib_7 rib_8 rib_9 rib_cage rib_fracture rib_fracture_buckle rib_fracture_displaced rib_fracture_nondisplaced
    rib_fracture_segmental rib_left rib_left_1 rib_left_10 rib_left_11 rib_left_12 rib_left_2 rib_left_3 rib_left_4
    rib_left_5 rib_left_6 rib_left_7 rib_left_8 rib_left_9 rib_right rib_right_1 rib_right_10 rib_right_11 rib_right_12
    rib_right_2 rib_right_3 rib_right_4 rib_right_5 rib_right_6 rib_right_7 rib_right_8 rib_right_9 right_coronary_cusp
    right_ventricular_myocardium root_canal_filling sacrum salivary_gland sartorius sartorius_left sartorius_right scalp
    scapula scapula_left scapula_right scissors sclera seminal_vesicle_left seminal_vesicle_right seminal_vesicles
    septal_area septal_area_left septal_area_right septum_pellucidum serratus_anterior serratus_anterior_left
    serratus_anterior_right sessile_serrated_lesion sigmoid_colon skeletal_muscle skin skin_cancer skin_lesion skull
    skull_base skull_implant slit_knife small_bowel small_clip_applier_body small_clip_applier_head
    small_clip_applier_wrist soft_exudate soft_palate soft_tissue_sarcoma spatula specimen_bag sphenoid_sinus
    spinal_canal spinal_cord spine spleen spleen_lesion splenic_artery splenic_vein spongy_bone sterno_thyroid
    sterno_thyroid_left sterno_thyroid_right sternocleidomastoid sternocleidomastoid_left sternocleidomastoid_right
    sternum sternum_body stomach straight_gyrus straight_gyrus_left straight_gyrus_right stroke_lesion stroma
    styloid_process_of_temporal_bone styloid_process_of_temporal_bone_left styloid_process_of_temporal_bone_right
    subarachnoid_hemorrhage subarachnoid_space subcallosal_area subcallosal_area_left subcallosal_area_right
    subclavian_artery subclavian_artery_left subclavian_artery_right subcutaneous_fat subcutaneous_tissue
    subdural_hemorrhage subgenual_frontal_cortex subgenual_frontal_cortex_left subgenual_frontal_cortex_right
    sublingual_gland sublingual_gland_left sublingual_gland_right submandibular_gland submandibular_gland_left
    submandibular_gland_right subretinal_fluid subretinal_hyperreflective_material subscapularis subscapularis_left
    subscapularis_right substantia_nigra substantia_nigra_left substantia_nigra_right suction_instrument
    superior_frontal_gyrus superior_frontal_gyrus_left superior_frontal_gyrus_right superior_mesenteric_artery
    superior_mesenteric_vein superior_oblique_muscle superior_oblique_muscle_left superior_oblique_muscle_right
    superior_parietal_gyrus superior_parietal_gyrus_left superior_parietal_gyrus_right superior_pharyngeal_constrictor
    superior_rectus_muscle superior_rectus_muscle_left superior_rectus_muscle_right
    superior_temporal_gyrus_anterior_part superior_temporal_gyrus_anterior_part_left
    superior_temporal_gyrus_anterior_part_right superior_temporal_gyrus_middle_part
    superior_temporal_gyrus_middle_part_left superior_temporal_gyrus_middle_part_right superior_vena_cava
    supraglottic_larynx supramarginal_gyrus supramarginal_gyrus_left supramarginal_gyrus_right supraspinatus
    supraspinatus_left supraspinatus_right surgical_clamp surgical_clip surgical_instrument surgical_instrument_clasper
    surgical_instrument_shaft surgical_instrument_wrist suturing_needle suturing_thread tarsal teeth_lower teeth_upper
    temporal_lobe temporal_lobe_left temporal_lobe_right temporalis temporalis_left temporalis_right
    temporomandibular_joint temporomandibular_joint_left temporomandibular_joint_right teres_major teres_major_left
    teres_major_right testicle testicle_left testicle_right thalamus thalamus_left thalamus_right
    thigh_medial_compartment thigh_medial_compartment_left thigh_medial_compartment_right thigh_posterior_compartment
    thigh_posterior_compartment_left thigh_posterior_compartment_right third_ventricle thoracic_aorta thoracic_cavity
    thoracic_spine thoracic_vertebrae thorax thymus thyrohyoid thyrohyoid_left thyrohyoid_right thyroid_cartilage
    thyroid_gland thyroid_gland_left thyroid_gland_right thyroid_nodule tibia tibia_left tibia_right tibial_cartilage
    tongue tooth tooth_11 tooth_11_pulp tooth_12 tooth_12_pulp tooth_13 tooth_13_pulp tooth_14 tooth_14_pulp tooth_15
    tooth_15_pulp tooth_16 tooth_16_pulp tooth_17 tooth_17_pulp tooth_18 tooth_18_pulp tooth_21 tooth_21_pulp tooth_22
    tooth_22_pulp tooth_23 tooth_23_pulp tooth_24 tooth_24_pulp tooth_25 tooth_25_pulp tooth_26 tooth_26_pulp tooth_27
    tooth_27_pulp tooth_28 tooth_28_pulp tooth_31 tooth_31_pulp tooth_32 tooth_32_pulp tooth_33 tooth_33_pulp tooth_34
    tooth_34_pulp tooth_35 tooth_35_pulp tooth_36 tooth_36_pulp tooth_37 tooth_37_pulp tooth_38 tooth_38_pulp tooth_41
    tooth_41_pulp tooth_42 tooth_42_pulp tooth_43 tooth_43_pulp tooth_44 tooth_44_pulp tooth_45 tooth_45_pulp tooth_46
    tooth_46_pulp tooth_47 tooth_47_pulp tooth_48 tooth_48_pulp torso_fat trachea traditional_serrated_adenoma
    transversospinalis transversospinalis_left transversospinalis_right trapezius trapezius_left trapezius_right
    triceps_brachii triceps_brachii_left triceps_brachii_right tricuspid_valve trocar tumor tumor_epithelium
    tumor_stroma tympanic_cavity tympanic_cavity_left tympanic_cavity_right ulna ulna_left ulna_right ultrasound_probe
    ureter ureter_left ureter_right urethra urinary_bladder uterine_fibroid uterine_tumor uterocervix uterus vagina vein
    venous_sinuses ventral_diencephalon ventral_diencephalon_left ventral_diencephalon_right ventral_temporal_cortex
    ventricular_myocardium vertebrae vertebrae_C1 vertebrae_C2 vertebrae_C3 vertebrae_C4 vertebrae_C5 vertebrae_C6
    vertebrae_C7 vertebrae_L1 vertebrae_L2 vertebrae_L3 vertebrae_L4 vertebrae_L5 vertebrae_L6 vertebrae_S1 vertebrae_T1
    vertebrae_T10 vertebrae_T11 vertebrae_T12 vertebrae_T13 vertebrae_T2 vertebrae_T3 vertebrae_T4 vertebrae_T5
    vertebrae_T6 vertebrae_T7 vertebrae_T8 vertebrae_T9 vertebrae_body vertebral_arch vertebral_artery
    vertebral_artery_left vertebral_artery_right vertebral_fracture vertebral_lesion vestibular_schwannoma
    vestibule_and_semicircular_canals vestibule_and_semicircular_canals_left vestibule_and_semicircular_canals_right
    visceral_fat vitreous_hemorrhage white_blood_cell white_matter white_matter_hyperintensity white_matter_lesion
    white_matter_tracts yeast_cell zygomatic_arch zygomatic_arch_left zygomatic_arch_right
    """.split()  # noqa: SIM905 - hundreds of names are read as text
)
"""Every class name of the vocabulary that all sources share, sorted as of the first release. The number of a class in a
semantic map is its place here, from 1; new names are added at the end, so that numbers never change."""


# --- PNG --------------------------------------------------------------------------------------------------------------

MEMORY_LIMIT: Final = 2**30
"""Bytes that a picture, a sample or a stack of masks may take, an index twice, and image or label map of a volume four
times: whatever a file says, more is refused before the memory is taken."""


def _refuse_large(
    size: int, what: str, advice: str = "it is damaged, or made to take memory", limit: int = MEMORY_LIMIT
) -> None:
    if size > limit:
        raise DatasetError(f"{what} takes {size:,} bytes, expected at most {limit:,}; {advice}")


def _parsed(text: bytes | str, where: str) -> Any:
    """JSON of a file."""
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text)  # which is faster than for bytes
    except RecursionError:
        raise DatasetError(f"{where}: expected JSON of a few levels, got one nested too deep to be read") from None
    except ValueError as error:  # UnicodeDecodeError too, and numbers of more than 4,300 digits
        raise DatasetError(f"{where}: expected JSON, got {text[:40]!r} ({error})") from None


_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {0: 1, 2: 3}
_LARGEST_PIXEL: Final = (4, 8)
"""Bytes of a pixel of four channels of 8 and of 16 bit."""
_NONE, _SUB = 0, 1
_MOST_INFLATED: Final = 1032
"""Bytes that one deflated byte can become (https://zlib.net/zlib_tech.html): a damaged header may say more."""
_LARGEST_SUM: Final = 2**31 - 1
"""Of an integral image in 32 bit."""


def decode_png(data: bytes) -> npt.NDArray[np.uint8 | np.uint16]:
    """Decode a PNG into an array.

    Our shards hold PNG of one fixed row filter (SUB for images, NONE for label maps), which is undone by a
    cumulative sum; any other PNG goes through OpenCV.

    Args:
        data: A whole PNG file.

    Returns:
        (H, W) for greyscale, (H, W, 3) RGB or (H, W, 4) RGBA; uint8, or uint16 for 16 bit.

    Raises:
        DatasetError: The bytes are no PNG, or a damaged one.
    """
    if data[:8] != _PNG_SIGNATURE or len(data) < 33:
        raise DatasetError(f"expected a PNG file, got {len(data)} bytes that start with {bytes(data[:8])!r}")
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    if not width or not height:
        raise DatasetError(f"damaged PNG: its size is {width} x {height}")
    _refuse_large(width * height * _LARGEST_PIXEL[depth > 8], f"a PNG of {width} x {height} pixels")
    if depth in (8, 16) and colour in _CHANNELS and not interlace:
        rows = _inflate_rows(data, height, width * _CHANNELS[colour] * (depth // 8))
        pixels = _undo_filter(rows, _CHANNELS[colour] * (depth // 8))
        if pixels is not None:
            return _as_pixels(pixels, height, width, depth, colour)
    return _decode_any_png(data)


def _inflate_rows(data: bytes, height: int, stride: int) -> npt.NDArray[np.uint8]:
    body, position = [], 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            body.append(data[position + 8 : position + 8 + length])
        position += 12 + length
    try:
        packed = body[0] if len(body) == 1 else b"".join(body)
        raw = zlib.decompress(packed, bufsize=min(height * (stride + 1), _MOST_INFLATED * len(packed) + 1))
    except zlib.error as error:
        raise DatasetError(f"damaged PNG: its pixel data cannot be inflated ({error})") from None
    if len(raw) != height * (stride + 1):
        raise DatasetError(f"damaged PNG: expected {height * (stride + 1)} bytes of pixel rows, got {len(raw)}")
    return np.frombuffer(raw, np.uint8).reshape(height, stride + 1)


def _undo_filter(rows: npt.NDArray[np.uint8], bytes_per_pixel: int) -> npt.NDArray[np.uint8] | None:
    kinds = rows[:, 0].tobytes()  # whose counts are faster than an array's
    if kinds.count(_NONE) == len(kinds):
        return rows[:, 1:]
    if kinds.count(_SUB) != len(kinds):
        return None
    return _running_sums(rows[:, 1:].reshape(rows.shape[0], -1, bytes_per_pixel))


def _running_sums(differences: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Sums along the rows, modulo 256; (H, W, channels).

    By OpenCV's integral image, whose neighbouring rows differ by just these: three times as fast as `numpy.cumsum`,
    which waits for each sum before the next. Nothing is summed where nothing changes: before the first difference it
    is 0, behind the last one the row stays as it is, so masks and pictures with a black border take less. Three equal
    channels are summed once.
    """
    height, width, channels = differences.shape
    grey = _equal_channel(differences) if channels == 3 else None
    if grey is not None:
        return cv2.cvtColor(_running_sums(grey[..., None])[..., 0], cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)
    left, top, across, down = cv2.boundingRect(differences.reshape(height, -1))
    sums = np.zeros((height, width, channels), np.uint8)
    if not down:
        return sums
    left, right = left // channels, -(-(left + across) // channels)
    rows = max(1, _LARGEST_SUM // (255 * width))
    for start in range(top, top + down, rows):
        end = min(start + rows, top + down)
        above = cv2.integral(differences[start:end, left:right], sdepth=cv2.CV_32S)
        above = above.reshape(end - start + 1, -1, channels)
        box = sums[start:end, left:right]
        np.subtract(above[1:, 1:], above[:-1, 1:], out=box, dtype=np.int32, casting="unsafe")
    sums[top : top + down, right:] = sums[top : top + down, right - 1 : right]
    return sums


def _equal_channel(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    """The first of three channels, (H, W), where all are equal; None where they are not."""
    if (pixels[0, :, :1] != pixels[0, :, 1:]).any():  # a picture in colour nearly always says so here
        return None
    first = cv2.extractChannel(pixels, 0)
    same = not cv2.norm(cv2.cvtColor(first, cv2.COLOR_GRAY2RGB), pixels, cv2.NORM_INF)
    return typing.cast("npt.NDArray[np.uint8]", first) if same else None


def _as_pixels(
    rows: npt.NDArray[np.uint8], height: int, width: int, depth: int, colour: int
) -> npt.NDArray[np.uint8 | np.uint16]:
    shape = (height, width) if colour == 0 else (height, width, _CHANNELS[colour])
    if depth == 8:
        return np.ascontiguousarray(rows).reshape(shape)
    return np.ascontiguousarray(rows).reshape(-1).view(">u2").astype(np.uint16).reshape(shape)


def _decode_any_png(data: bytes) -> npt.NDArray[np.uint8 | np.uint16]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DatasetError(f"damaged PNG: OpenCV refuses it ({error.err})") from None
    if pixels is None:
        raise DatasetError("damaged PNG: OpenCV cannot decode it either")
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return typing.cast("npt.NDArray[np.uint8 | np.uint16]", pixels)


# --- masks ------------------------------------------------------------------------------------------------------------
# A label map, as a shard has it, as binary masks; also out of what other decoders made of it.


def split_layers(label_map: npt.NDArray[Any], height: int) -> npt.NDArray[Any]:
    """Separate the stacked layers of a label map.

    Args:
        label_map: (layers * H, W), as stored in ``mask.png``.
        height: H, the height of the image.

    Returns:
        (layers, H, W), a view.
    """
    rows, width = label_map.shape
    if height <= 0 or rows % height:
        raise DatasetError(f"label map of {rows} rows is no stack of layers of the image's {height} rows")
    return label_map.reshape(rows // height, height, width)


def draw_mask(layers: npt.NDArray[Any], mask: Mapping[str, Any], out: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Draw one mask within its box, whatever else its metadata says.

    Args:
        layers: (layers, H, W).
        mask: Entry of a sample's list of masks.
        out: (H, W), all False.

    Returns:
        ``out``.
    """
    x, y, width, height = mask["bbox"]
    box = np.s_[..., y : y + height, x : x + width]
    out[box] = layers[mask["layer"]][box] == mask["id"]
    return out


def decode_masks(sample: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """The masks of a sample as a stack of binary arrays.

    Reads schema 1 (ids unique in a sample, 16 bit beyond 255 masks) and schema 2 (8 bit, ids unique in their layer).

    Args:
        sample: A row of `load`, of stock ``datasets.load_dataset`` on our shards, or a sample of plain `webdataset`,
            decoded or not. The label map may be PNG bytes, a PIL image, a tensor or an array: (rows, W), (1, rows, W),
            or three equal channels first or last; whole numbers, or floats where 1.0 stands for 255.

    Returns:
        (N, H, W) bool, or (N, Z, H, W) of a volume or clip; mask ``n`` belongs to entry ``n`` of the list of masks.

    Raises:
        DatasetError: The sample holds no label map or no list of masks; the label map was clipped to 8 bit, resized or
            otherwise changed by what decoded it, so that a mask has not the area that its entry says; or the stack
            takes more than `MEMORY_LIMIT`.
    """
    record = _record(sample)
    key = str(record.get("key", "a sample"))
    height = _whole(record, "height", key)
    stored, whole, advice = _stored_map(sample), None, _ONE_BY_ONE
    if stacked := "indices" in record and np.ndim(stored) == 3:  # of a volume, whose slices are laid side by side here
        (slices, rows, width), advice = stored.shape, "row['mask'] == id gives objects one by one"
        stored, whole = stored.swapaxes(0, 1).reshape(rows, slices * width), [0, 0, width, height]
    entries = [_mask_entry(entry, f"{key}: masks[{at}]", whole) for at, entry in enumerate(record["masks"])]
    layers = split_layers(_as_label_map(stored, key, height), height)
    if stacked:
        layers = layers.reshape(-1, height, slices, width).swapaxes(1, 2)
    size = len(entries) * math.prod(layers.shape[1:])
    _refuse_large(size, f"{key}: the stack of its {len(entries)} masks", advice)
    stack = np.zeros((len(entries), *layers.shape[1:]), np.bool_)
    for at, (entry, out) in enumerate(zip(entries, stack, strict=True)):
        try:
            _refuse_outside(entry, layers.shape)
        except DatasetError as error:
            raise DatasetError(f"{key}: masks[{at}]: {error}") from None
        pixels = np.count_nonzero(draw_mask(layers, entry, out))
        if pixels != entry["area"]:
            raise DatasetError(_why_changed(layers, entry, entries, int(pixels), key))
    return stack


_ONE_BY_ONE: Final = 'load(..., view="mask") gives masks one by one'


def _record(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    _refuse_other("the sample", sample, Mapping, "a row, which has names and values")
    record: Any = sample if "masks" in sample else sample.get("json")
    if isinstance(record, bytes | str):
        record = _parsed(record, str(sample.get("__key__", "a sample")))
    if not isinstance(record, Mapping) or "masks" not in record:
        raise DatasetError(f"expected a sample with 'masks' or 'json', got the columns {sorted(sample)}")
    return record


def _whole(values: Mapping[str, Any], name: str, where: str) -> int:
    """A whole number of a row, which `datasets` may have made an array or a tensor of."""
    try:
        return operator.index(values[name])
    except (KeyError, TypeError, IndexError):
        got = repr(values[name])[:80] if name in values else "nothing"
        raise DatasetError(f"{where}: {name}: expected a whole number, got {got}") from None


def _mask_entry(entry: Any, where: str, whole: list[int] | None = None) -> dict[str, Any]:
    """What of an entry says where its mask lies, in ``whole`` or in its own box."""
    if not isinstance(entry, Mapping):
        raise DatasetError(f"{where}: expected the fields of a mask, got {entry!r:.80}")
    try:
        bbox = whole or [operator.index(side) for side in entry["bbox"]]
        x, y, width, height = bbox
    except (KeyError, TypeError, ValueError):
        raise DatasetError(f"{where}: bbox: expected four whole numbers, got {entry.get('bbox')!r:.80}") from None
    if min(x, y, width, height) < 0:
        raise DatasetError(f"{where}: bbox: expected no negative number, got {bbox}")
    return {"bbox": bbox, **{name: _whole(entry, name, where) for name in ("id", "layer", "area")}}


def _refuse_outside(entry: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    layers, *_, rows, columns = shape
    x, y, width, height = entry["bbox"]
    if not 0 <= entry["layer"] < layers:
        raise DatasetError(f"layer: expected 0 to {layers - 1}, got {entry['layer']!r:.80}")
    if x + width > columns or y + height > rows:
        raise DatasetError(f"bbox: expected a box within {columns} x {rows} pixels, got {entry['bbox']!r:.80}")


def _stored_map(sample: Mapping[str, Any]) -> Any:
    stored = sample.get("mask", sample.get("mask.png"))
    if stored is None:
        raise DatasetError(f"expected a sample with 'mask' or 'mask.png', got the columns {sorted(sample)}")
    if isinstance(stored, Mapping):
        stored = stored.get("bytes")
    return decode_png(bytes(stored)) if isinstance(stored, bytes | bytearray | memoryview) else stored


def _as_label_map(stored: Any, key: str, height: int) -> npt.NDArray[Any]:
    """A label map of whole numbers, (layers * H, W), out of what a decoder made of it."""
    if hasattr(stored, "detach"):  # a tensor of torch, which may lie on a GPU
        stored = stored.detach().cpu()
    pixels = np.asarray(stored)
    if pixels.dtype.kind not in "biuf":
        raise DatasetError(f"{key}: mask: expected a label map, got {type(stored).__name__} of {pixels.dtype}")
    return _as_whole_numbers(_single_channel(pixels, key, height), key)


def _single_channel(pixels: npt.NDArray[Any], key: str, height: int) -> npt.NDArray[Any]:
    """(rows, W) out of (rows, W), or of one, three or four channels first or last."""
    if pixels.ndim == 2:
        return pixels
    if pixels.ndim == 3:
        first, last = pixels.shape[0] in _CHANNEL_COUNTS, pixels.shape[2] in _CHANNEL_COUNTS
        if first and not (last and pixels.shape[0] % height == 0):
            pixels = np.moveaxis(pixels, 0, -1)
        if first or last:
            grey: npt.NDArray[Any] = pixels[..., 0]
            if all(np.array_equal(grey, pixels[..., at]) for at in range(1, min(3, pixels.shape[2]))):
                return grey
            raise DatasetError(f"{key}: mask: expected equal channels, got a picture in colours: it is no label map")
    raise DatasetError(f"{key}: mask: expected (rows, columns) or equal channels, got an array of {pixels.shape}")


_CHANNEL_COUNTS: Final = (1, 3, 4)


def _as_whole_numbers(pixels: npt.NDArray[Any], key: str) -> npt.NDArray[Any]:
    if pixels.dtype.kind != "f":
        return pixels.astype(np.uint8) if pixels.dtype.kind == "b" else pixels
    scaled = pixels * 255 if ((pixels > 0) & (pixels < 1)).any() else pixels  # 1.0 for 255, as webdataset's "rgb"
    whole: npt.NDArray[Any] = np.rint(scaled)
    if not (np.abs(scaled - whole) < 0.01).all():
        raise DatasetError(
            f"{key}: mask: expected whole numbers, got values between them: a label map is resized by nearest "
            "neighbour only, and after decode_masks"
        )
    return whole.astype(np.int64)


def _why_changed(
    layers: npt.NDArray[Any], entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], pixels: int, key: str
) -> str:
    found = f"{key}: mask {entry['id']} in layer {entry['layer']}: area: expected {entry['area']} pixels, got {pixels}"
    largest, held = max(entry["id"] for entry in entries), int(layers.max())
    if largest > 255 >= held:
        return (
            f"{found}: the label map was clipped to 8 bit (its values end at {held}, the ids at {largest}) by what "
            "decoded it; give decode_masks the undecoded PNG, or decode it with decode_png"
        )
    return f"{found}: the label map was changed after it was stored; decode masks first, then crop, flip or resize them"


# --- reading from anywhere --------------------------------------------------------------------------------------------
# Files of a folder, of the Hub or of any address that fsspec knows: whole, or ranges of a shard while the last one is
# used. Requests that fail for a while are tried again, and no message holds a secret.

_ATTEMPTS: Final = 20
"""How often a request is tried: one that fails five times in nine, as two hops do that fail in a third, ends so in
one of 100,000; a server that stays down and names no time is given up after a minute."""
_ATTEMPTS_OF_STRANGERS: Final = 8
"""The same where nothing has answered yet: the address may be wrong."""
_PATIENCE_WITH_STRANGERS: Final = 30.0
"""Seconds after which it is not tried again there: an attempt may take long, where nothing refuses it."""
_FIRST_WAIT: Final = 0.25
_LONGEST_WAIT: Final = 4.0
_PATIENCE: Final = 330.0
"""Seconds of waits that a server may ask of one request: the Hub counts requests by windows of five minutes."""
_HEADER: Final = 512
"""Bytes of a member's tar header, which lies before the member."""


_LASTING: Final = (PermissionError, IsADirectoryError, NotADirectoryError, TypeError, ValueError, ImportError)
"""Errors that do not go away by waiting."""


@dataclass(frozen=True)
class _Place:
    """A built dataset: a folder of any file system that fsspec knows.

    Attributes:
        name: As the user called it, for messages.
        protocol: Of fsspec: ``file``, ``hf``, ``http``, ``s3`` ...
        root: Path within it.
        options: Options of the file system, as sorted pairs.
    """

    name: str
    protocol: str
    root: str
    options: tuple[tuple[str, Any], ...] = dataclasses.field(default=(), repr=False)

    @property
    def local(self) -> bool:
        """Whether reading costs no request."""
        return self.protocol == "file"

    @property
    def folder(self) -> str:
        """What commands are told: the folder, or that of a copy of it on this machine."""
        return self.name if self.local else "OUT"

    def command(self, name: str) -> str:
        """A command for this dataset, or for its copy."""
        return quoted_command(name, self.folder)

    @property
    def server(self) -> str:
        """What asks for patience: all repositories of the Hub do it together."""
        return "hf" if self.protocol == "hf" else self.root

    @property
    def environment(self) -> int:
        """What may change where a server is and whom it lets in; what is kept of it is kept for this alone."""
        return 0 if self.local else _environment()

    def patiently(self, read: Callable[[], _Read], below: str) -> _Read:
        """See `_patiently`."""
        return _patiently(
            read,
            f"{self.name}: {below}",
            patience=_patience(self.server, self.environment),
            secrets=_secrets(self.options),
        )

    def file_system(self) -> Any:
        """The file system; one for each process, as connections do not survive a fork, and for each environment."""
        return _file_system(self.protocol, self.options, os.getpid(), self.environment)

    def path(self, below: str) -> str:
        """Path of a file below the root, as the file system wants it."""
        return f"{self.root.rstrip('/')}/{below}"

    def read(self, below: str) -> bytes:
        """A whole file; DatasetError where it cannot be read, or is too large where that costs no request to know."""
        if self.local and Path(self.path(below)).is_file():
            _refuse_large(Path(self.path(below)).stat().st_size, f"{self.name}: {below}")
        read: Callable[[], bytes] = lambda: self.file_system().cat_file(self.path(below))  # noqa: E731
        return self.patiently((lambda: _from_hub(self, below)) if self.protocol == "hf" else read, below)

    def glob(self, pattern: str) -> dict[str, str]:
        """Paths below the root, sorted, and for each what changes when the file does.

        Nothing does where paths name a commit, and where a store does not say it.
        """
        told = not self.local and self.protocol != "hf"  # which would make requests for it
        found = self.patiently(lambda: self.file_system().glob(self.path(pattern), detail=told), pattern)
        start = len(self.file_system()._strip_protocol(self.root).rstrip("/")) + 1
        below = {self.file_system()._strip_protocol(path)[start:]: path for path in sorted(found)}
        return {path: _version(found[full]) if told else _stamp(self, path) for path, full in below.items()}


def _version(about: Mapping[str, Any]) -> str:
    """What changes when a file of a store does, of what its listing says."""
    return next((f"{about.get('size')}-{about[name]}" for name in _VERSIONS if about.get(name)), "")


_VERSIONS: Final = ("ETag", "etag", "mtime", "LastModified", "created")
"""Keys of listings, of several stores, the best first."""


def _from_hub(place: _Place, below: str, span: _Span | None = None) -> bytes:
    """A file of the Hub, or bytes of it, by a single request that is not repeated.

    `HfFileSystem` repeats each request up to five times, after a second or more each, and tells nobody else of it:
    its waits would come on top of ours.

    Returns:
        The bytes; fewer than were asked for where the file ends before.

    Raises:
        FileNotFoundError: There is no such file.
        Exception: What the client raises, of the kind that `_patiently` knows.
    """
    repository, commit = place.root.removeprefix("datasets/").rsplit("@", 1)
    address = huggingface_hub.hf_hub_url(repository, below, repo_type="dataset", revision=commit)
    headers = hub_utils.build_hf_headers(token=dict(place.options).get("token"))
    if span is not None:
        headers["Range"] = f"bytes={span.start}-{span.end - 1}"
    limit = huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    response = hub_utils.get_session().get(address, headers=headers, timeout=limit)
    if span is not None and response.status_code == 416:  # it starts behind the end
        return b""
    if response.status_code == 404:
        raise FileNotFoundError(place.path(below))
    hub_utils.hf_raise_for_status(response)
    data = bytes(response.content)
    return data if span is None or response.status_code == 206 else data[span.start : span.end]


def _environment() -> int:
    """Hash of the variables of the environment, which clients take endpoints, credentials and proxies from.

    All of them count: each client has its own, and reads them once, when it is made.
    """
    return hash(frozenset(os.environ.items()))


class _Nested(dict[str, Any]):
    """Options within options, known by their text, as fsspec knows them."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(str(sorted(self.items())))


@functools.lru_cache(maxsize=16)
def _file_system(protocol: str, options: tuple[tuple[str, Any], ...], _process: int, _environment: int) -> Any:
    given = dict(options)
    if protocol == "s3":  # which tries 25 times what we try again ourselves
        given["config_kwargs"] = {"retries": {"total_max_attempts": 1}, **(given.get("config_kwargs") or {})}
    made = fsspec.filesystem(protocol, skip_instance_cache=True, **given)
    made.retries = 1  # of S3 too; no other has it
    return made


def _place(path: str | Path, revision: str | None, token: str | bool | None, options: Mapping[str, Any]) -> _Place:
    """Where a dataset lies: an existing folder, an address with ``://``, or a repository of the Hub."""
    _refuse_other("path", path, str | os.PathLike, "a folder, an address or the name of a repository")
    _refuse_other("token", token, str | bool | None, "a text, True or False")
    _refuse_other("storage_options", options, Mapping, "options by their names")
    name = str(path)
    if "://" in name and not name.startswith("hf://"):
        given = {name: _Nested(value) if isinstance(value, dict) else value for name, value in options.items()}
        try:
            fs, root = fsspec.core.url_to_fs(name, **options)
            protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
            place = _Place(_without_secrets(name), protocol, root, tuple(sorted(given.items())))
            place.file_system().invalidate_cache()  # others may have written there since it was listed
        except (ImportError, OSError, TypeError, ValueError) as error:
            raise DatasetError(_without_secrets(f"{name}: {error}", _secrets(tuple(options.items())))) from None
        return place
    if Path(name).is_dir() or not _REPOSITORY.fullmatch(name.removeprefix("hf://datasets/")):
        if revision is not None:
            raise DatasetError(f"revision is {revision!r}, but {name} is no repository of the Hub")
        return _Place(name, "file", str(Path(name).absolute()))
    repository = name.removeprefix("hf://datasets/")
    return _Place(name, "hf", f"datasets/{repository}@{_commit_of(repository, revision, token)}", (("token", token),))


_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def _commit_of(repository: str, revision: str | None, token: str | bool | None) -> str:
    """The commit that is read from start to end, whatever is published meanwhile."""
    api = huggingface_hub.HfApi(token=token)
    secrets = _secrets((("token", token),))
    try:
        info = _patiently(
            lambda: api.dataset_info(repository, revision=revision),
            repository,
            known=(hub_errors.HfHubHTTPError,),
            patience=_patience("hf", _environment()),
            secrets=secrets,
        )
    except hub_errors.GatedRepoError:
        raise DatasetError(f"{repository} cannot be read: {_GATED}") from None
    except hub_errors.RevisionNotFoundError:
        raise DatasetError(f"{repository} has no revision {revision!r}") from None
    except hub_errors.RepositoryNotFoundError:
        raise DatasetError(
            f"{repository}: there is no such folder, and no such dataset on the Hub that this token may see"
        ) from None
    except hub_errors.HfHubHTTPError as error:
        raise DatasetError(f"{repository} cannot be read: {_reason(error, secrets)}") from None
    return str(info.sha)


class _Patience:
    """How long a server asked to wait: what one request is told goes for its neighbours too."""

    def __init__(self) -> None:
        self._until = 0.0
        self._waited = 0.0
        self._said = False
        self.answered = False

    def rest(self) -> None:
        """Wait as long as any request was asked to."""
        while (left := self._until - time.monotonic()) > 0:
            time.sleep(left)

    def wait(self, seconds: float, what: str, reason: str) -> None:
        """Wait, and say so once it is ten seconds in all; waits of neighbours at the same time are one."""
        until = time.monotonic() + seconds
        added = max(0.0, until - max(self._until, until - seconds))
        self._until = max(self._until, until)
        if self._waited + added >= _QUIET and not self._said:
            self._said = True
            said = "%s: waited %.0f s so far, and waits %.0f s more: %s"
            logging.getLogger(__name__).warning(said, what, self._waited, added, reason)
        self._waited += added
        self.rest()


_QUIET: Final = 10.0
"""Seconds of waiting that nobody is told of."""


@functools.lru_cache(maxsize=64)
def _patience(_server: str, _environment: int) -> _Patience:
    return _Patience()


def _patiently(
    read: Callable[[], _Read],
    what: str,
    known: tuple[type[Exception], ...] = (),
    *,
    patience: _Patience,
    secrets: frozenset[str] = frozenset(),
) -> _Read:
    """Try again, later and later, what servers and connections refuse for a while.

    Args:
        read: What may fail.
        what: What is read, for the message.
        known: Errors that the caller has better words for.
        patience: Shared by all that read from the same server.
        secrets: What no message may hold.

    Raises:
        DatasetError: It fails for good, or too often.
        FileNotFoundError: As ``read``, and so are the errors that are known.
    """
    attempt, asked, begun = 0, 0.0, time.monotonic()
    while True:
        attempt += 1
        patience.rest()
        try:
            data = read()
        except (FileNotFoundError, DatasetError):
            patience.answered = True
            raise
        except Exception as error:
            patience.answered = patience.answered or _status(error) is not None
            # a connection that was cut is opened again at once
            seconds = 0.0 if _status(error) is None and attempt == 1 else _wait(error, attempt)
            asked += seconds
            tired = time.monotonic() - begun > _PATIENCE_WITH_STRANGERS
            most = _ATTEMPTS if patience.answered else attempt if tired else _ATTEMPTS_OF_STRANGERS
            if attempt >= most or asked > _PATIENCE or not _may_pass(error):
                if isinstance(error, known):
                    raise
                tried = f" after {attempt} attempts" if attempt > 1 else ""
                long = f"; the server asks for {seconds:.0f} s more: try again then" if asked > _PATIENCE else ""
                said = f"{what} cannot be read{tried}: {_reason(error, secrets)}{long}"
                raise DatasetError(_without_secrets(said, secrets)) from None  # whose own words may hold a token
            if seconds:
                patience.wait(seconds, _without_secrets(what, secrets), _reason(error, secrets))
        else:
            patience.answered = True
            return data


_SECRET_NAMES: Final = re.compile("(?i)token|secret|password|key|auth|cookie|credential|sas")
_SECRETS: Final = re.compile(
    r"""(?ix) \bhf_\w+ | (?<=bearer\s)[^\s"',}]+ | (?<=basic\s)[\w+/=]{8,} | (?<=://)[^/\s@]+(?=@)
    | (?<=[?&]) (?:[\w-]*(?:signature|token|secret|password|credential|key|sig)[\w-]*) = [^&\s"']+"""
)
"""What looks like a token of the Hub, a header of a request, or credentials in an address."""


def _secrets(options: tuple[tuple[str, Any], ...]) -> frozenset[str]:
    """Values of options that are secret, and the token that is logged in."""

    def inside(name: str, value: Any, secret: bool) -> Iterator[str]:
        secret = secret or bool(_SECRET_NAMES.search(name))
        if isinstance(value, Mapping):
            for key, item in value.items():
                yield from inside(str(key), item, secret)
        elif secret and isinstance(value, str) and len(value) > 3:
            yield value

    found = {value for name, item in options for value in inside(name, item, secret=False)}
    if any(name == "token" for name, _ in options):
        found.add(huggingface_hub.get_token() or "")
    return frozenset(found - {""})


def _without_secrets(text: str, secrets: frozenset[str] = frozenset()) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _SECRETS.sub("***", text)


def redacted(text: str) -> str:
    """A text that a server may have had a part in, without secrets: of the environment, logged in, or such by look."""
    found = {value for name, value in os.environ.items() if _SECRET_VARIABLES.search(name)}
    found.add(huggingface_hub.get_token() or "")
    return _without_secrets(text, frozenset(secret for secret in found if len(secret) > 3))


_SECRET_VARIABLES: Final = re.compile(
    "(?i)^(AWS|AZURE|HF|HUGGING_?FACE)_.*(TOKEN|SECRET|PASSWORD|KEY|CONNECTION_STRING)|IDENTIFIER_KEY$"
)
"""Environment variables whose values are secret."""


def _status(error: BaseException) -> int | None:
    """HTTP status of an error of any client: httpx, aiohttp, requests, botocore; of s3fs the cause has it."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if isinstance(response, Mapping):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")  # type: ignore[no-any-return]
    return getattr(error, "status", None) or getattr(response, "status_code", None)


def _may_pass(error: Exception) -> bool:
    status = _status(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    # clients of servers have errors of their own for what breaks off
    strange = type(error).__name__ == "ParamValidationError"  # of botocore: a bucket that cannot be called so
    return not (isinstance(error, _LASTING) or credentials_wanted(error) or strange)


def credentials_wanted(error: BaseException) -> str:
    """How to give the credentials that a client of a store did not find; nothing for any other error."""
    kind = type(error)
    if kind.__module__.split(".")[0] not in ("botocore", "google") or not _OF_CREDENTIALS.search(kind.__name__):
        return ""
    return _KEYS_OF_S3 if kind.__module__.startswith("botocore") else _KEYS_OF_GOOGLE


_OF_CREDENTIALS: Final = re.compile("Credential|Profile|Token")
"""In the names of errors that say so."""
_KEYS_OF_S3: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a bucket that is public, FSSPEC_S3_ANON=true"
)
_KEYS_OF_GOOGLE: Final = "set GOOGLE_APPLICATION_CREDENTIALS, or run 'gcloud auth application-default login'"
_GATED: Final = "it is gated; ask for access on its page, and log in with 'hf auth login' or give a token"
_STRANGER: Final = "the Hub knows no such token; log in with 'hf auth login', or set HF_TOKEN"


def _reason(error: BaseException, secrets: frozenset[str] = frozenset()) -> str:
    """What went wrong, and where it is known what to do about it: a line without secrets, whatever a server says."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    if headers.get("X-Error-Code") == "GatedRepo":  # the Hub shows what a gated repository is, but not its files
        return _GATED
    if headers.get("X-Error-Message") == "Invalid credentials in Authorization header":
        return _STRANGER
    said = " ".join("".join(sign if sign.isprintable() else " " for sign in str(error)).split())
    said = _without_secrets(said, secrets)
    shown = said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]} ..."
    advice = f"; {wanted}" if (wanted := credentials_wanted(error)) else ""
    return f"{type(error).__name__}: {shown}{advice}" if said else f"{type(error).__name__}{advice}"


_LONGEST_REASON: Final = 400
"""Characters of what a server says that a message repeats."""


def _wait(error: Exception, attempt: int) -> float:
    """Seconds to wait: what the server asks for, else twice as long each time, up to a few seconds."""
    headers = getattr(error, "headers", None) or getattr(getattr(error, "response", None), "headers", None) or {}
    heard = {str(name).lower(): str(value) for name, value in headers.items()}
    if (asked := heard.get("retry-after", "").strip()).isdecimal():
        return float(asked)
    if window := _NOTHING_LEFT.search(heard.get("ratelimit", "")):
        return float(window[1])
    return min(_FIRST_WAIT * 2.0 ** min(attempt - 1 - (_status(error) is None), 10), _LONGEST_WAIT)


_NOTHING_LEFT: Final = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
"""Of a RateLimit header: no request is left, and the seconds until the next window, as the Hub has it."""


class _Span(typing.NamedTuple):
    """Bytes of a shard: from ``start`` up to but not including ``end``."""

    start: int
    end: int


def _merged(spans: Sequence[_Span], gap: int, largest: int) -> Iterator[tuple[_Span, list[_Span]]]:
    """Neighbouring spans as one read, where no more than ``gap`` unwanted bytes lie between them."""
    held: list[_Span] = []
    for span in spans:
        if held and (span.start - held[-1].end > gap or span.end - held[0].start > largest):
            yield _Span(held[0].start, held[-1].end), held
            held = []
        held.append(span)
    if held:
        yield _Span(held[0].start, held[-1].end), held


class _Ahead:
    """What was read of a shard beyond a piece, for the piece after it: a request costs as much as many samples do."""

    def __init__(self) -> None:
        self._held = (0, b"")  # one value, so that threads never see half of it
        self._last: int | None = None

    def follows(self, start: int, stop: int | None) -> bool:
        """Whether samples from ``start`` to ``stop`` come right after those of the last call, as without shuffling.

        Nodes take every n-th piece, workers take neighbours: who does not read on need not read ahead.
        """
        last, self._last = self._last, stop
        return stop is not None and last == start

    def put(self, start: int, data: bytes) -> None:
        """Keep bytes from ``start`` on, instead of what was kept."""
        self._held = (start, data)

    def take(self, span: _Span) -> bytes:
        """The beginning of a span, as far as it is here."""
        start, data = self._held
        return data[span.start - start : span.end - start] if span.start >= start else b""


def _end_ahead(start: int, end: int, after: Sequence[_Span], gap: int) -> int:
    """Up to where to read from ``start``: to ``end``, and over neighbours as long as the read stays small."""
    for span in after:
        if not end <= span.start <= end + gap or span.end - start > _AHEAD:
            break
        end = span.end
    return end


_AHEAD: Final = 2**20
"""Bytes of a read that goes beyond its piece; 48 pieces of a small shard are a few reads then."""


def _read_spans(
    place: _Place, shard: str, spans: Sequence[_Span], after: Sequence[_Span], ahead: _Ahead
) -> Iterator[bytes]:
    """The bytes of each span, in order; the next read runs while the last one is used.

    Args:
        place: Of the shard.
        shard: Its path.
        spans: What is read.
        after: What is likely to be read next, by the next call, as far as it follows.
        ahead: What the last call has read of it.
    """
    if place.local:
        with Path(place.path(shard)).open("rb") as file:
            for whole, parts in _merged(spans, gap=1 << 14, largest=1 << 22):
                file.seek(whole.start)
                yield from _parts(_complete(file.read(whole.end - whole.start), whole, shard), whole, parts)
        return
    with futures.ThreadPoolExecutor(1) as next_one, contextlib.closing(_Remote(place, shard, ahead)) as remote:
        waiting: collections.deque[tuple[Future[bytes], _Span, list[_Span]]] = collections.deque()
        try:
            for whole, parts in _merged(spans, gap=1 << 16, largest=1 << 23):
                further = after if parts[-1] is spans[-1] else ()
                waiting.append((next_one.submit(remote.fetch, whole, further), whole, parts))
                if len(waiting) > 1:
                    data, read, inside = waiting.popleft()
                    yield from _parts(data.result(), read, inside)
            for data, read, inside in waiting:
                yield from _parts(data.result(), read, inside)
        finally:
            for data, _, _ in waiting:
                data.cancel()


def _parts(data: bytes, whole: _Span, parts: Sequence[_Span]) -> Iterator[bytes]:
    for part in parts:
        yield data[part.start - whole.start : part.end - whole.start]


def _complete(data: bytes, wanted: _Span, shard: str) -> bytes:
    if len(data) != wanted.end - wanted.start:
        raise DatasetError(
            f"{shard} ends at byte {wanted.start + len(data)}, its index says {wanted.end} or more: it is truncated "
            "or was replaced by another; fetch it again, or write its index anew with 'sa-med2d index OUT'"
        )
    return data


class _Remote:
    """A shard on a server, read by ranges."""

    def __init__(self, place: _Place, shard: str, ahead: _Ahead) -> None:
        self._place, self._shard, self._ahead, self._file = place, shard, ahead, None

    def fetch(self, span: _Span, after: Sequence[_Span]) -> bytes:
        """A range; where a connection breaks, only what is missing is asked for again."""
        pieces = [self._ahead.take(span)]
        missing = span.start + len(pieces[0])
        if missing == span.end:
            return pieces[0]
        end = _end_ahead(missing, span.end, after, gap=1 << 16)

        def more() -> bytes:
            try:
                while (start := span.start + sum(map(len, pieces))) < end:
                    piece = self._read(_Span(start, end))
                    if not piece:
                        break
                    pieces.append(piece)
            except BaseException:
                self.close()
                raise
            return b"".join(pieces)

        data = self._place.patiently(more, self._shard)
        size = span.end - span.start
        if end > span.end:
            self._ahead.put(span.end, data[size:])
        return _complete(data[:size], span, self._shard)

    def _read(self, span: _Span) -> bytes:
        if self._place.protocol == "hf":
            return _from_hub(self._place, self._shard, span)
        file = self._opened()
        file.seek(span.start)
        return bytes(file.read(span.end - span.start))

    def _opened(self) -> Any:
        if self._file is None:
            path = self._place.path(self._shard)
            self._file = self._place.file_system().open(path, "rb", cache_type="none")
        return self._file

    def close(self) -> None:
        """Close the connection, so that the next read opens another."""
        if self._file is not None:
            self._file.close()
            self._file = None


# --- which shards there are -------------------------------------------------------------------------------------------
# The card of a dataset promises shards by patterns, of which config, split, sources, licences and modalities choose
# some, and a share of the patients of a split some more. What the card promises and is not there is an error.


@dataclass(frozen=True)
class _Shard:
    """A shard of the split that is read.

    Attributes:
        path: Below the root.
        stamp: Changes when the file does, so that `datasets` builds its cache anew; see `_Place.glob`.
        patients: Who of it is wanted; None for all.
    """

    path: str
    stamp: str
    patients: tuple[str, ...] | None = None


class _Part(typing.NamedTuple):
    """A split, or the patients of it from one percentage to another."""

    split: str
    start: float = 0.0
    stop: float = 100.0


@dataclass(frozen=True)
class _Scope:
    """Which shards are asked for. Attributes: see `load`."""

    place: _Place
    config: str | None
    parts: tuple[_Part, ...]
    wanted: _Wanted

    @classmethod
    def of(cls, place: _Place, config: str | None, split: str, wanted: _Wanted) -> _Scope:
        """As ``config`` and ``split`` of `load` say."""
        return cls(place, config, _parts_of(place, config, split), wanted)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(dict.fromkeys(part.split for part in self.parts))

    @property
    def name(self) -> str:
        """What `datasets` calls it, which has its own rules for percentages."""
        return "_".join(self.splits)


_PART: Final = re.compile(r"(\w+)(?:\[(-?\d+(?:\.\d+)?%)?:(-?\d+(?:\.\d+)?%)?\])?")


def _parts_of(place: _Place, config: str | None, split: str) -> tuple[_Part, ...]:
    """What ``split`` of `load` says.

    Raises:
        DatasetError: It says nothing that there is, or some patients twice.
    """
    entry = _config(place, config)
    name, known = entry["config_name"], [files["split"] for files in entry["data_files"]]
    parts: list[_Part] = []
    for text in split.split("+") if isinstance(split, str) else [""]:
        match = _PART.fullmatch(text.strip())
        if match is None or any(abs(_percent(edge)) > 100 for edge in match.groups()[1:]):
            raise DatasetError(
                f"split is {split!r:.80}, expected names such as 'train', 'train+validation', 'all', or a share of the "
                "patients such as 'train[:10%]'"
            )
        start, stop = _percent(match[2]), 100.0 if match[3] is None else _percent(match[3])
        start, stop = (edge + 100 if edge < 0 else edge for edge in (start, stop))  # which count from the end
        names = known if match[1] == "all" else [match[1]]
        if match[1] not in (*known, "all"):
            raise DatasetError(f"config {name!r} of {place.name} has no split {match[1]!r}; it has {', '.join(known)}")
        for one in names:
            if any(part.split == one and start < part.stop and part.start < stop for part in parts):
                raise DatasetError(f"split is {split!r}, which names patients of {one!r} twice")
            parts.append(_Part(one, start, stop))
    return tuple(parts)


def _percent(text: str | None) -> float:
    return float((text or "0").rstrip("%"))


def _shards(scope: _Scope) -> list[_Shard]:
    """The shards of the splits in the order of their paths, which say modality, licence and source.

    Raises:
        DatasetError: There is no such config, split or value.
        _PartialDownloadError: The card promises what is not there.
    """
    _refuse_strangers(scope, scope.wanted.modalities, "modalities")
    found = _paths(scope)
    held = {path.split("/")[_Wanted.OF_PATHS["modalities"]] for paths in found.values() for path in paths}
    _refuse_unknown("modalities", scope.wanted.modalities, held, scope.place.name)
    return [
        shard
        for split, paths in found.items()
        for shard in _of_patients(scope, split, [_Shard(path, stamp) for path, stamp in paths.items()])
    ]


def _promised_modalities(scope: _Scope) -> list[str]:
    """Modalities that the card promises of a config; an asterisk where it does not name them."""
    name = _config(scope.place, scope.config)["config_name"]
    part = _Wanted.OF_PATHS["modalities"]
    return sorted({glob.split("/")[part] for split in scope.splits for glob in _promised(scope.place, split)[name]})


def _refuse_strangers(scope: _Scope, asked: Sequence[str] | None, name: str) -> None:
    """Refuse modalities that the card does not promise."""
    known = _promised_modalities(scope)
    strangers = [one for one in asked or () if not any(fnmatch.fnmatchcase(one, pattern) for pattern in known)]
    _refuse_unknown(name, strangers, known, scope.place.name)


def _paths(scope: _Scope) -> dict[str, dict[str, str]]:
    """Split -> shards of the sources and licences that are asked for, as `_held_of`; one of the splits has them."""
    found = {split: _held_of(scope, split) for split in scope.splits}
    for name in ("sources", "licenses"):
        asked, part = getattr(scope.wanted, name), _Wanted.OF_PATHS[name]
        if asked is not None:
            held = {path.split("/")[part] for paths in found.values() for path in paths}
            _refuse_unknown(name, asked, held, scope.place.name)
            found = {
                split: {path: stamp for path, stamp in paths.items() if path.split("/")[part] in asked}
                for split, paths in found.items()
            }
    return found


def _held_of(scope: _Scope, split: str) -> dict[str, str]:
    """Paths of the shards of one split, sorted, and what changes when they do."""
    place, name = scope.place, _config(scope.place, scope.config)["config_name"]
    globs = _promised(place, split)
    modalities = scope.wanted.modalities
    promised = [glob for glob in globs[name] if modalities is None or _may_match(glob, "modalities", modalities)]
    held = {glob: place.glob(glob) for glob in promised}
    found = dict(sorted({path: stamp for paths in held.values() for path, stamp in paths.items()}.items()))
    lower, wanted = scope.wanted.licenses, scope.wanted.sources
    missing = [glob for glob in promised if not held[glob] and not (lower and not _may_match(glob, "licenses", lower))]
    part = _Wanted.OF_PATHS["sources"]
    all_there = wanted is not None and {path.split("/")[part] for path in found}.issuperset(wanted)
    if missing and not all_there:
        whole = [other for other, of_it in globs.items() if all(fnmatch.filter(found, glob) for glob in of_it)]
        promise = f"{place.name}: its card promises split {split!r} of config {name!r}"
        raise _PartialDownloadError(f"{promise}, but there is no {_advice(place, missing, whole)}")
    if modalities is None:
        return found
    part = _Wanted.OF_PATHS["modalities"]
    return {path: stamp for path, stamp in found.items() if path.split("/")[part] in modalities}


def _of_patients(scope: _Scope, split: str, shards: Sequence[_Shard]) -> list[_Shard]:
    """Those of the shards of a split that hold some of the patients who are asked for, with their names.

    Patients are ordered by a hash of their names alone, so that whoever stands in several sources is taken in all.
    """
    parts = [part for part in scope.parts if part.split == split]
    if parts == [_Part(split)]:
        return list(shards)
    tables = _of_each(scope.place, lambda shard: _read_index(scope.place, shard.path, ["patient"]), shards)
    held = [set(table["patient"].to_pylist()) for table in tables]
    ordered = sorted(set().union(*held), key=lambda name: (hashlib.sha256(name.encode()).digest(), name))
    ends = [[int(len(ordered) * edge / 100 + 0.5) for edge in part[1:]] for part in parts]
    wanted = {name for start, stop in ends for name in ordered[start:stop]}
    if not wanted:
        shares = ", ".join(f"[{part.start:g}%:{part.stop:g}%]" for part in parts)
        raise DatasetError(f"{scope.place.name}: {shares} of the {len(ordered)} patients of split {split!r} is nobody")
    narrowed = [
        dataclasses.replace(shard, patients=tuple(sorted(own & wanted)))
        for shard, own in zip(shards, held, strict=True)
    ]
    return [shard for shard in narrowed if shard.patients]


class _PartialDownloadError(DatasetError):
    """The card promises files that are not there."""


def _promised(place: _Place, split: str) -> dict[str, list[str]]:
    """Config that has a split -> patterns of its shards, each of one modality where the card names these elsewhere."""
    globs = {
        entry["config_name"]: [files["path"]] if isinstance(files["path"], str) else files["path"]
        for entry in _card_configs(place)
        for files in entry["data_files"]
        if files["split"] == split
    }
    every = {glob for listed in globs.values() for glob in listed}
    return {
        name: sorted({one for glob in listed for one in _of_one_modality(glob, every)})
        for name, listed in globs.items()
    }


def _of_one_modality(glob: str, every: Iterable[str]) -> list[str]:
    """Patterns of the card that say what one of any modality promises, else the pattern itself.

    >>> _of_one_modality("data/*/mit/*/train-*.tar", ["data/*/mit/*/train-*.tar", "data/ct/mit/*/train-*.tar"])
    ['data/ct/mit/*/train-*.tar']
    """
    if "*" not in glob.split("/")[1]:
        return [glob]
    narrower = {one for one in every if "*" not in one.split("/")[1] and fnmatch.fnmatchcase(one, glob)}
    return sorted(narrower) or [glob]


def _may_match(glob: str, part: str, values: Iterable[str]) -> bool:
    """Whether a pattern of shards may match one of some modalities, licences or sources."""
    return any(fnmatch.fnmatchcase(value, glob.split("/")[_Wanted.OF_PATHS[part]]) for value in values)


def _advice(place: _Place, missing: Sequence[str], whole: Sequence[str]) -> str:
    """What is missing and what to do, after "there is no".

    Args:
        place: Where it is missing.
        missing: Patterns of shards.
        whole: Configs that are there.
    """
    further = f" and {len(missing) - _MOST_PATTERNS} more" if len(missing) > _MOST_PATTERNS else ""
    said = f"file {', '.join(missing[:_MOST_PATTERNS])}{further}"
    if not place.local:
        return f"{said}; not all of the dataset arrived there"
    endings = [glob.removeprefix(f"{DATA}/").removesuffix(".tar") for glob in missing]
    if further:
        modalities = sorted({ending.split("/")[0] for ending in endings})
        fetched = [f"{kind}/{modality}/*" for modality in modalities for kind in (DATA, INDEX)]
    else:
        fetched = [f"{DATA}/{ending}.tar" for ending in endings] + [f"{INDEX}/{ending}.parquet" for ending in endings]
    rest = f", or load what is there: {_some(whole)}" if whole else ""
    return f"{said}; it was downloaded in part: fetch the rest with allow_patterns={fetched}{rest}"


_MOST_PATTERNS: Final = 3
"""Patterns that advice gives one by one."""


def _stamp(place: _Place, shard: str) -> str:
    if not place.local:
        return ""
    state = Path(place.path(shard)).stat()
    return f"{state.st_size}-{state.st_mtime_ns}"


def _config(place: _Place, config: str | None) -> dict[str, Any]:
    configs = {entry["config_name"]: entry for entry in _card_configs(place)}
    if config is None:
        config = next((name for name, entry in configs.items() if entry.get("default")), None)
    if config not in configs:
        raise DatasetError(f"no config {config!r} in {place.name}; it has {', '.join(configs) or 'none'}")
    return configs[config]


def _card_configs(place: _Place) -> list[dict[str, Any]]:
    if place.local and Path(place.root).is_file():
        raise DatasetError(
            f"{place.name} is a file; expected the folder of a built dataset, which 'sa-med2d build' writes"
        )
    try:
        if place.local and not Path(place.path(CARD)).exists():  # also where what should be a folder above is a file
            raise FileNotFoundError
        # what a commit holds never changes, and a request is what the first sample waits for
        data = _card_of_commit(place, place.environment) if place.protocol == "hf" else place.read(CARD)
    except FileNotFoundError:
        raise DatasetError(f"{place.name} is no built dataset: it has no {CARD}; 'sa-med2d build' writes one") from None
    try:
        return _configs_in(data)
    except DatasetError as error:
        raise DatasetError(
            f"{place.name}: {CARD}: {error}; it is cut short, damaged or no card of a built dataset: fetch it again"
        ) from None


@functools.lru_cache(maxsize=16)
def _card_of_commit(place: _Place, _environment: int) -> bytes:
    return place.read(CARD)


@functools.lru_cache(maxsize=16)
def _configs_in(data: bytes) -> list[dict[str, Any]]:
    """The configs of a card, after a look at what of them is used; kept, as one `load` asks for them several times."""
    if len(data) > _LARGEST_CARD:
        raise DatasetError(f"expected at most {_LARGEST_CARD:,} bytes, got {len(data):,}")
    try:
        head = re.match(r"---[ \t]*\n(.*?\n)---[ \t]*(\n|\Z)", data.decode().replace("\r\n", "\n"), re.DOTALL)
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        listed = None if head is None else yaml.load(head[1], loader)  # a safe one
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise DatasetError(f"expected UTF-8 that starts with YAML, got {_reason(error)}") from None
    if head is None:
        raise DatasetError(
            f"expected YAML between two lines '---' that lists configs, it has none in {len(data)} bytes"
        )
    configs = listed.get("configs") if isinstance(listed, dict) else None
    if not isinstance(configs, list):
        raise DatasetError(f"configs: expected a list, got {configs!r:.80}")
    configs = [entry for entry in configs if not (isinstance(entry, dict) and entry.get("config_name") == PREVIEW)]
    for at, entry in enumerate(configs):
        if not isinstance(entry, dict) or not isinstance(entry.get("config_name"), str):
            raise DatasetError(f"configs[{at}]: config_name: expected a name, got {entry!r:.80}")
        files = entry.get("data_files")
        if not isinstance(files, list) or not all(isinstance(one, dict) for one in files):
            raise DatasetError(f"configs[{at}]: data_files: expected a list of splits, got {files!r:.80}")
        for one in files:
            paths = one.get("path")
            patterns = paths if isinstance(paths, list) else [paths]
            if not isinstance(one.get("split"), str) or not all(_is_pattern(pattern) for pattern in patterns):
                raise DatasetError(
                    f"configs[{at}]: data_files: expected a split and paths {DATA}/modality/licence/source/name.tar, "
                    f"got {one!r:.120}"
                )
    return configs


_LARGEST_CARD: Final = 2**24


def _is_pattern(path: Any) -> bool:
    parts = path.split("/") if isinstance(path, str) else []
    return (
        len(parts) == 5 and parts[0] == DATA and parts[-1].endswith(".tar") and not {"", ".", "..", "**"} & set(parts)
    )


# --- choosing samples by the index ------------------------------------------------------------------------------------
# An index, a Parquet file, has a row for each sample of its shard. Filters are evaluated on it, and what is left is
# dealt into pieces for nodes and workers. An index may be anybody's, so it is checked before it is believed.

_SURVEY_THREADS: Final = 8
_DEAL: Final = 48
"""Pieces come in multiples of this, so that 2, 3, 4, 6, 8, 12, 16, 24 and 48 nodes or workers get equally many."""
_PIECE: Final = 256
"""Samples of a piece: what a node or worker is dealt, and what is read again at most when it resumes."""
_BLOCK: Final = 16
"""Neighbours that a shuffle leaves together until they are mixed with others in a piece: they are one read."""
_MANY_SHARDS: Final = 512
"""From here on a piece is a whole shard, unless the index must be read anyway."""


@dataclass(frozen=True)
class _Wanted:
    """Which samples and masks are wanted; None for all. Attributes: see `load`, `Where`, and ``ranges``: of volumes."""

    labels: tuple[str, ...] | None = None
    organs: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    min_area: int | None = None
    submodalities: tuple[str, ...] | None = None
    planes: tuple[str, ...] | None = None
    raters: tuple[str, ...] | None = None
    patients: tuple[str, ...] | None = None
    cases: tuple[str, ...] | None = None
    modalities: tuple[str, ...] | None = None
    licenses: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    view: Masks | Semantic | Clip | str = "image"
    ranges: bool = False

    OF_MASKS: typing.ClassVar = {"labels": "label", "organs": "organ", "groups": "group"}
    OF_SAMPLES: typing.ClassVar = {"submodalities": "submodality", "planes": "plane", "raters": "rater"}
    OF_CASES: typing.ClassVar = {"patients": "patient", "cases": "case"}
    """Columns of many values, which are read where somebody asks."""
    OF_PATHS: typing.ClassVar = {"modalities": 1, "licenses": 2, "sources": 3}
    """Which part of the path of a shard says it."""

    @classmethod
    def of(cls, *, where: Where | None = None, min_area: int | None = None, **listed: Sequence[str] | None) -> _Wanted:
        """What the arguments of `load` ask for."""
        _refuse_below("min_area", 0 if min_area is None else min_area, 0)
        _refuse_unknown("filter", listed, _FILTERS, "select")
        asked: dict[str, Any] = {name: _listed(name, values) for name, values in listed.items()}
        if asked.get("licenses") is not None:
            asked["licenses"] = tuple(name.lower() for name in asked["licenses"])
        return cls(min_area=min_area, **asked, **vars(_where_of(where)))

    @property
    def stacked(self) -> bool:
        """Whether the slices of a volume are read together."""
        return _is_stacked(self.view)

    @functools.cached_property
    def over_masks(self) -> bool:
        """Whether anything about masks is asked."""
        return self.min_area is not None or any(getattr(self, name) is not None for name in self.OF_MASKS)

    @property
    def over_samples(self) -> bool:
        """Whether anything about samples is asked."""
        return any(getattr(self, name) is not None for name in (*self.OF_SAMPLES, *self.OF_CASES))

    @property
    def columns(self) -> dict[str, str]:
        """Filter over samples -> column of the index."""
        asked = {name: field for name, field in self.OF_CASES.items() if getattr(self, name) is not None}
        return self.OF_SAMPLES | asked

    def __str__(self) -> str:
        names = [field.name for field in fields(self) if field.name not in (*self.OF_PATHS, "view", "ranges")]
        named = {name: value for name in names if (value := getattr(self, name)) is not None}
        return " and ".join(
            f"{name} {', '.join(value) if isinstance(value, tuple) else value}" for name, value in named.items()
        )

    def keeps(self, mask: Mapping[str, Any]) -> bool:
        """Whether a mask is wanted."""
        return (self.min_area is None or mask["area"] >= self.min_area) and all(
            (wanted := getattr(self, name)) is None or mask[field] in wanted for name, field in self.OF_MASKS.items()
        )


_FILTERS: Final = ("labels", "organs", "groups", "sources", "licenses", "submodalities", "planes")
"""Arguments of `load` that list names; `Where` has the others."""


@dataclass(frozen=True)
class _Chosen:
    """The wanted samples of a shard, in its order.

    Attributes:
        keys: Of the samples.
        places: (samples, 6) offset and size of image, label map and metadata.
        values: Column of a filter -> values that the shard holds, wanted or not.
        labels: Class name -> number of wanted samples with a wanted mask of it.
        masks: (samples,) number of wanted masks of each.
        rows: Number of rows that the view makes of them.
        each: (samples,) how many of these are of each, where it makes rows of single samples.
        largest: Area of the largest mask, wanted or not.
        stacks: Slice numbers of each stack that they are dealt in; None where each is dealt alone.
        ranges: Lowest and highest source value of the volume of each, as far as it is in the dataset; None where nobody
            asks.
        ahead: What was read of them too early.
    """

    keys: list[str]
    places: npt.NDArray[np.int64]
    values: dict[str, set[str | None]]
    labels: collections.Counter[str]
    masks: npt.NDArray[np.int64]
    rows: int
    each: npt.NDArray[np.int64]
    largest: int
    stacks: list[list[int]] | None
    ranges: list[tuple[float, float]] | None = None
    ahead: _Ahead = dataclasses.field(default_factory=_Ahead, repr=False, compare=False)

    @property
    def dealt(self) -> int:
        """How many samples or stacks there are to deal."""
        return len(self.keys if self.stacks is None else self.stacks)

    def samples(self, start: int, stop: int | None) -> tuple[int, int | None]:
        """From which sample up to which some of what is dealt reaches."""
        if self.stacks is None:
            return start, stop
        ends = list(itertools.accumulate(map(len, self.stacks), initial=0))
        return ends[start], None if stop is None else ends[stop]


@functools.lru_cache(maxsize=8)
def _chosen(place: _Place, shard: _Shard, wanted: _Wanted, environment: int) -> _Chosen:
    """Evaluate the filters on the index of a shard."""
    drawn = isinstance(wanted.view, Masks) and wanted.view.negatives > 0
    texts = {*wanted.columns.values(), *(() if shard.patients is None else ["patient"])}
    table = _read_index(place, shard.path, sorted(texts), _ABSENCE if drawn else (), _RANGE if wanted.ranges else ())
    values: dict[str, set[str | None]] = {}
    rows = np.ones(table.num_rows, np.bool_) if shard.patients is None else _is_in(table["patient"], shard.patients)
    for name, field in wanted.columns.items():
        values[name] = set(pc.unique(table[field]).to_pylist())
        rows &= _is_in(table[field], getattr(wanted, name))
    lists = table["masks"].chunk(0) if table.num_rows else pa.array([], table["masks"].type)
    masks, owner = lists.flatten(), pc.list_parent_indices(lists).to_numpy()
    good = np.ones(len(masks), np.bool_)
    for name, field in _Wanted.OF_MASKS.items():
        column = pc.struct_field(masks, field)
        values[name] = set(pc.unique(column).to_pylist())
        good &= _is_in(column, getattr(wanted, name))
    areas = pc.struct_field(masks, "area").to_numpy(zero_copy_only=False)
    if wanted.min_area is not None:
        good &= areas >= wanted.min_area
    names, empty = np.array(pc.struct_field(masks, "label")), np.zeros(table.num_rows, np.int64)
    shows = (np.bincount(owner[good], minlength=table.num_rows) > 0) | (not wanted.over_masks)
    if drawn:
        classes = _source_classes(place, shard.path, shard.stamp, environment)
        pairs = zip(owner.tolist(), names.tolist(), strict=True)
        empty = _count_negatives(table, pairs, wanted, classes)
        for name, field in _Wanted.OF_MASKS.items():  # what no mask of the shard is of has negatives too
            values[name].update(entry[field] for entry in (classes or {}).values())
    stacks = None
    if wanted.stacked:
        try:
            rows, stacks = _stacks(table["key"].to_pylist(), rows, shows, wanted)
        except DatasetError as error:
            raise DatasetError(f"{place.name}: {shard.path}: {error}; 'sa-med2d build' writes them so") from None
    else:
        rows &= shows | (empty > 0)
    good &= rows[owner]
    shown = set(zip(owner[good].tolist(), names[good].tolist(), strict=True))
    masks_of = np.bincount(owner[good], minlength=table.num_rows)
    each = masks_of + empty if isinstance(wanted.view, Masks) else rows
    count = int(each[rows].sum()) if stacks is None else len(stacks)
    if isinstance(wanted.view, Clip):
        count = sum(len(wanted.view.runs(numbers)) for numbers in stacks or ())
    ranges = list(itertools.compress(_ranges(table), rows.tolist())) if wanted.ranges else None
    table = table.filter(pa.array(rows))
    places = np.stack([table[column].to_numpy() for column in PLACES], axis=1)
    try:
        _refuse_places(places, table["key"])
    except DatasetError as error:
        again = place.command("index")
        raise DatasetError(f"{place.name}: the index of {shard.path}: {error}; {again} writes it again") from None
    labels, each = collections.Counter(label for _, label in shown), each[rows].astype(np.int64)
    masks_of, largest, keys = masks_of[rows], int(areas.max(initial=0)), table["key"].to_pylist()
    return _Chosen(keys, places, values, labels, masks_of, count, each, largest, stacks, ranges)


_RANGE: Final = ("intensity.min", "intensity.max")
"""Columns of the index that say which source values a slice has."""


def _ranges(table: Any) -> list[tuple[float, float]]:
    """Lowest and highest source value of the volume of each sample, whose slices lie in one shard."""
    found: dict[str, tuple[float, float]] = {}
    volumes = [key.rpartition("--")[0] for key in table["key"].to_pylist()]
    for volume, low, high in zip(volumes, *(table[name].to_pylist() for name in _RANGE), strict=True):
        held = found.get(volume, (low, high))
        found[volume] = min(held[0], low), max(held[1], high)
    return [found[volume] for volume in volumes]


_SLICE_KEY: Final = re.compile(r"(.*--[xyz])_(\d{4,9})")


def _stacks(
    keys: Sequence[str], rows: npt.NDArray[np.bool_], shows: npt.NDArray[np.bool_], wanted: _Wanted
) -> tuple[npt.NDArray[np.bool_], list[list[int]]]:
    """The slices of each image along an axis: the first that it has, or all whose planes are named.

    A stack is wanted as a whole, where any of its slices shows what is wanted.

    Returns:
        Which samples are wanted, and the slice numbers of each stack, both in the order of the shard.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for at, match in enumerate(map(_SLICE_KEY.fullmatch, keys)):
        if rows[at] and match is not None:  # pictures are in no stack
            found.setdefault(match[1], []).append((at, int(match[2])))
    taken: dict[str, str] = {}
    for name in sorted(found):
        taken.setdefault(name if wanted.planes is not None else name[:-1], name)
    kept, stacks = np.zeros(len(keys), np.bool_), []
    for name in (name for name in found if name in taken.values()):
        places = [at for at, _ in found[name]]
        if shows[places].any():
            kept[places] = True
            stacks.append((places, [number for _, number in found[name]]))
    if [at for places, _ in stacks for at in places] != np.flatnonzero(kept).tolist():
        raise DatasetError("expected the slices of a case one after another, which volumes and clips need")
    return kept, [numbers for _, numbers in stacks]


def _refuse_places(places: npt.NDArray[np.int64], keys: Any) -> None:
    """Refuse members that lie before the start of their shard, far apart, or are too large to be read."""
    if not len(places):
        return
    starts, sizes = places[:, ::2], places[:, 1::2]
    wrong = np.zeros(len(places), np.bool_)
    wrong |= (places < 0).any(axis=1) | (starts > _LARGEST_SHARD).any(axis=1) | (sizes > MEMORY_LIMIT).any(axis=1)
    sound = np.where(wrong[:, None], 0, places)
    wrong |= (sound[:, ::2] + sound[:, 1::2]).max(axis=1) - sound[:, ::2].min(axis=1) > MEMORY_LIMIT
    if wrong.any():
        at = int(wrong.argmax())
        got = ", ".join(f"{name} {value}" for name, value in zip(PLACES, places[at].tolist(), strict=True))
        raise DatasetError(
            f"{keys[at].as_py()}: expected members that lie within {MEMORY_LIMIT:,} bytes of each other, got {got}"
        )


_LARGEST_SHARD: Final = 2**50


def _read_index(
    place: _Place, shard: str, texts: Sequence[str], lists: Sequence[str] = (), numbers: Sequence[str] = ()
) -> Any:
    """The columns of a shard's index that filters and reading need.

    Args:
        place: Of the shard.
        shard: Its path.
        texts: Columns of texts.
        lists: Columns of lists of texts.
        numbers: Columns of numbers.
    """
    index = f"{INDEX}/{shard.removeprefix(f'{DATA}/').removesuffix('.tar')}.parquet"
    repeated = ["key", *texts, *(f"{_MASK}.{field}" for field in _Wanted.OF_MASKS.values())]
    where = place.path(index)
    try:
        data = place.read(index)
        held = pq.ParquetFile(io.BytesIO(data))
        repeated = [name for name in repeated if name != _RATER or name in held.schema_arrow.names]
        columns = [*repeated, *PLACES, f"{_MASK}.area", *(f"{name}.list.element" for name in lists), *numbers]
        _refuse_unfolding(held, columns)
        # a long text that repeats is kept once
        file = pq.ParquetFile(io.BytesIO(data), read_dictionary=repeated)
        tables, size = [_with_plain_texts(file.schema_arrow.empty_table(), texts, lists, numbers)], 0
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
            tables.append(_with_plain_texts(pa.Table.from_batches([batch]), texts, lists, numbers))
            size += tables[-1].nbytes
            _refuse_large(size, "unpacked it")
        return pa.concat_tables(tables).combine_chunks()
    except FileNotFoundError:
        raise DatasetError(
            f"{where} is missing; where the folder was downloaded in part fetch {INDEX}/{shard.split('/')[1]}/* too, "
            f"else {place.command('index')} writes it again"
        ) from None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        reason, again = _reason_in_file(error), place.command("index")
        raise DatasetError(f"{where} is damaged: {reason}; {again} writes it again") from None


_MASK: Final = "masks.list.element"
_RATER: Final = "rater"
"""Column that is null in most rows, and that indexes of schema 1 have not."""
_MOST_ROWS: Final = 2**20
"""Of the index of one shard: a shard of 3 GiB cannot hold more samples."""
_ROWS_AT_ONCE: Final = 8192
_LONGEST_TEXT: Final = 4096


def _reason_in_file(error: Exception) -> str:
    return str(error) if isinstance(error, DatasetError) else _reason(error)


def _refuse_unfolding(file: Any, columns: Sequence[str]) -> None:
    """Refuse a Parquet file of too many rows by its footer, and one of other columns.

    The footer is asked for nothing about single columns: where that is damaged, pyarrow ends the process.
    """
    rows = file.metadata.num_rows
    if not 0 <= rows <= _MOST_ROWS:
        raise DatasetError(f"num_rows: expected at most {_MOST_ROWS:,}, got {rows:,}")
    held = {file.schema.column(at).path for at in range(len(file.schema.names))}
    for name in columns:
        if name not in held:
            raise DatasetError(f"{name}: expected a column of this name, got {', '.join(sorted(held))[:200]}")


def _with_plain_texts(table: Any, texts: Sequence[str], further: Sequence[str], numbers: Sequence[str]) -> Any:
    """The table as `_chosen` wants it, after a look at types, missing values and the length of texts."""
    table.validate(full=True)
    text = pa.string()
    mask = pa.struct([*((field, text) for field in _Wanted.OF_MASKS.values()), ("area", pa.int64())])
    kinds = {"key": text, **dict.fromkeys(texts, text), **dict.fromkeys(PLACES, pa.int64())}
    columns = {}
    for name, kind in kinds.items():
        column = table[name] if name != _RATER or name in table.column_names else pa.nulls(len(table), text)
        _refuse_long_texts(name, column)
        if column.null_count and name != _RATER:
            raise DatasetError(f"{name}: expected a value in each row, got {column.null_count:,} rows without one")
        columns[name] = column.cast(kind)
    lists = table["masks"].combine_chunks() if table.num_rows else pa.array([], pa.list_(mask))
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    for name in _Wanted.OF_MASKS.values():
        _refuse_long_texts(f"masks.{name}", pc.struct_field(lists.flatten(), name))
    columns["masks"] = lists.cast(pa.list_(mask))
    for name in further:
        column, *fields_of = name.split(".")
        held = table[column].combine_chunks()
        held = held.chunk(0) if isinstance(held, pa.ChunkedArray) and held.num_chunks else held
        held = pc.struct_field(held, fields_of) if fields_of else held
        columns[name] = held.cast(pa.list_(text))
    for name in numbers:
        column, field = name.split(".")
        columns[name] = pc.struct_field(table[column], field).cast(pa.float64())
        if columns[name].null_count:
            raise DatasetError(f"{name}: expected a number in each row, got {columns[name].null_count:,} without one")
    return pa.table(columns)


def _refuse_long_texts(name: str, column: Any) -> None:
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        if pa.types.is_dictionary(chunk.type):
            longest = pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0
            if longest > _LONGEST_TEXT:
                raise DatasetError(f"{name}: expected texts of at most {_LONGEST_TEXT} bytes, got one of {longest:,}")


def _is_in(column: Any, asked: Sequence[str] | None) -> npt.NDArray[np.bool_]:
    """Which values of an Arrow column are asked for; all where nothing is."""
    if asked is None:
        return np.ones(len(column), np.bool_)
    return np.asarray(pc.is_in(column, pa.array(asked, pa.string())))


@dataclass(frozen=True)
class _Survey:
    """What the indexes of all shards say together.

    Attributes:
        counts: What each shard has to deal, samples or stacks.
        labels: Class name -> number of wanted samples that show it.
        rows: Number of rows that the view makes of them.
        values: Filter -> values that the shards hold, wanted or not.
        largest: Area of the largest mask, wanted or not.
    """

    counts: list[int]
    labels: dict[str, int]
    rows: int
    values: dict[str, set[str]]
    largest: int


def _survey(place: _Place, shards: Sequence[_Shard], wanted: _Wanted) -> _Survey:
    """Read all indexes."""
    return _survey_of(_chosen_in(place, shards, wanted))


def _chosen_in(place: _Place, shards: Sequence[_Shard], wanted: _Wanted) -> Iterator[_Chosen]:
    """`_chosen` of each shard, in order."""
    environment = place.environment
    return _of_each(place, lambda shard: _chosen(place, shard, wanted, environment), shards)


def _of_each(place: _Place, ask: Callable[[_Shard], Any], shards: Iterable[_Shard]) -> Iterator[Any]:
    """What is asked of each shard, in order; a server is asked for several at a time."""
    with futures.ThreadPoolExecutor(1 if place.local else _SURVEY_THREADS) as threads:
        yield from threads.map(ask, shards)


def _survey_of(chosen: Iterable[_Chosen]) -> _Survey:
    held: dict[str, set[str]] = collections.defaultdict(set)
    counts, labels, rows, largest = [], collections.Counter[str](), 0, 0
    for found in chosen:
        counts.append(found.dealt)
        labels += found.labels
        rows += found.rows
        largest = max(largest, found.largest)
        for name, values in found.values.items():
            held[name] |= {value for value in values if value is not None}
    return _Survey(counts, dict(labels), rows, dict(held), largest)


@dataclass(frozen=True)
class Where:
    """Further filters of `load`, over what is seldom named.

    Attributes:
        modalities: Only these of a config of several.
        patients: Only these patients, by the names that ``patient`` has.
        cases: Only these cases, by the names that ``case`` has.
        raters: Only masks of these raters, by `Metadata.rater`; sources with one set of masks have none.
    """

    modalities: Sequence[str] | None = None
    patients: Sequence[str] | None = None
    cases: Sequence[str] | None = None
    raters: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _listed(field.name, getattr(self, field.name)))


def _where_of(where: object) -> Where:
    _refuse_other("where", where, Where | None, "Where(...)")
    return typing.cast("Where | None", where) or Where()


class _NoMatchError(DatasetError):
    """No image of the split has all that is wanted; another split may."""


def _refuse_what_nothing_has(reading: _Reading, survey: _Survey) -> None:
    """Refuse names and areas that no mask of the split has, and classes that no image of it shows."""
    wanted, where, held = reading.wanted, reading.place.name, survey.values
    for name, values in held.items():
        _refuse_unknown(name, getattr(wanted, name), values, where)
    if wanted.min_area is not None and wanted.min_area > survey.largest:
        raise _NoMatchError(
            f"{where}: no mask of {wanted.min_area} pixels here, which min_area asks for; the largest has "
            f"{survey.largest}"
        )
    if (wanted.over_masks or wanted.over_samples) and not any(survey.counts):
        raise _NoMatchError(f"{where}: no image here has {wanted} at once, though some have each")
    if wanted.stacked and not any(survey.counts):
        raise _NoMatchError(f"{where}: no image here is a slice of a volume, which volumes and clips are made of")
    if isinstance(wanted.view, Clip) and not survey.rows:
        raise _NoMatchError(
            f"{where}: no volume here has {wanted.view.span} neighbouring slices, which {wanted.view} needs"
        )
    shown, view = held.get("labels", set()), wanted.view
    if isinstance(view, Semantic) and view.classes is not None:
        _refuse_unknown("classes", view.classes, shown.union(LABELS), where)
        if shown.isdisjoint(view.classes):
            raise _UnknownValueError(
                f"{where}: no image here shows one of the classes {', '.join(view.classes)}; there are "
                f"{_some(list(shown))}",
                "classes",
                view.classes,
            )
    if isinstance(view, Semantic) and isinstance(view.overlap, tuple):
        _refuse_unknown("overlap", view.overlap, {"small", "large"}.union(shown, LABELS), where)


@dataclass(frozen=True)
class _Piece:
    """What is dealt as a whole: some wanted samples in their order.

    Attributes:
        runs: Shard, number of its first wanted sample in the piece, number of the one behind the last (None: all).
    """

    runs: tuple[_Run, ...]


_Run = tuple[_Shard, int, int | None]


def _pieces(
    shards: Sequence[_Shard], counts: Sequence[int] | None, seed: int | None, *, stacked: bool = False
) -> list[_Piece]:
    """Deal samples into pieces of equal size, stacks one by one, or shards where their sizes are not known."""
    if counts is None:
        return [_Piece(((shard, 0, None),)) for shard in shards]
    whole = [(shard, 0, count) for shard, count in zip(shards, counts, strict=True)]
    size, block = (1, 1) if stacked else (_PIECE, _BLOCK)
    if seed is None:
        return list(_cut(whole, sum(counts), size))
    blocks = [
        (shard, start, min(start + block, count)) for shard, _, count in whole for start in range(0, count, block)
    ]
    mixed = np.random.default_rng(seed).permutation(len(blocks))
    return list(_cut([blocks[at] for at in mixed], sum(counts), size))


def _cut(runs: Iterable[tuple[_Shard, int, int]], total: int, size: int) -> Iterator[_Piece]:
    number = min(total, _DEAL * -(-total // (_DEAL * size)))
    ends = iter([total * (at + 1) // number for at in range(number)])
    held: list[_Run] = []
    done, end = 0, next(ends, 0)
    for shard, first, last in runs:
        start = first
        while start < last:
            stop = min(last, start + end - done)
            held.append((shard, start, stop))
            done += stop - start
            start = stop
            if done == end:
                yield _Piece(tuple(held))
                held, end = [], next(ends, 0)


def _other_splits(scope: _Scope) -> Iterator[tuple[str, list[_Shard]]]:
    """The splits of a config that are not asked for as a whole, and their shards of what else is asked for."""
    for files in _config(scope.place, scope.config)["data_files"]:
        other = files["split"]
        if _Part(other) in scope.parts:
            continue
        try:
            shards = _shards(dataclasses.replace(scope, parts=(_Part(other),)))
        except DatasetError:  # it has no such source or licence, or was not downloaded
            continue
        if shards:
            yield other, shards


def _splits_with(others: Iterable[tuple[str, list[_Shard]]], place: _Place, unknown: _UnknownValueError) -> str:
    """Which other splits have one of the values, in words; empty for none."""
    found = []
    for other, shards in others:
        part = _Wanted.OF_PATHS.get(unknown.name)
        if part is not None:
            held = {shard.path.split("/")[part] for shard in shards}
        else:
            kind = "labels" if unknown.name in ("classes", "overlap") else unknown.name
            patients, cases = (unknown.values if name == kind else None for name in _Wanted.OF_CASES)
            held = _survey(place, shards, _Wanted(patients=patients, cases=cases)).values.get(kind, set())
        if not held.isdisjoint(unknown.values):
            found.append(f"split {other!r} has {'it' if len(unknown.values) == 1 else 'one'}")
    return ", ".join(found)


def _splits_that_match(others: Iterable[tuple[str, list[_Shard]]], place: _Place, wanted: _Wanted) -> str:
    """How many images, or clips, of other splits have all that is wanted, in words; empty for none."""
    clips = isinstance(wanted.view, Clip)
    surveys = {other: _survey(place, shards, wanted) for other, shards in others}
    counts = {other: survey.rows if clips else sum(survey.counts) for other, survey in surveys.items()}
    return ", ".join(f"split {other!r} has {count:,} such" for other, count in counts.items() if count)


# --- views ------------------------------------------------------------------------------------------------------------
# What a row is: options that belong together are one object each.

ViewName = Literal["image", "mask", "semantic", "volume", "clip"]
Overlap = Literal["small", "large"]
IGNORE: Final = 255
"""Value of a semantic map where the image may show a class that is asked for, but nobody looked for it."""


@dataclass(frozen=True)
class Masks:
    """A view: a row per mask, ``view="mask"``, and if asked rows of empty masks, which are true negatives.

    Attributes:
        negatives: At most so many empty masks an image: of classes that its source annotates and that it does not show,
            among those that ``labels``, ``organs`` and ``groups`` of `load` name, else among all. Images that show
            none of these come too then.
        seed: Of the draw among them, which the image's key decides; another one for another epoch.
    """

    negatives: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("negatives", "seed"):
            _refuse_below(name, getattr(self, name), 0)

    def drawn(self, key: str, labels: Iterable[str]) -> list[str]:
        """Which of the labels an image has empty masks of."""
        ranked = sorted(labels, key=lambda label: hashlib.sha256(f"{self.seed}\0{key}\0{label}".encode()).digest())
        return ranked[: self.negatives]


@dataclass(frozen=True)
class Semantic:
    """A view: a row per image with a class map, ``view="semantic"``.

    Attributes:
        classes: Names of the classes 1, 2 ..., all others being background; default: `LABELS`.
        overlap: Which class wins where masks overlap: that of the smaller mask, of the larger, or the first of these
            names.
        ignore: Where the source of an image does not annotate all of the classes, or not in this case, what shows none
            of them is 255: not background, but not known. Losses leave it out as ``ignore_index=255``.
    """

    classes: Sequence[str] | None = None
    overlap: Overlap | Sequence[str] = "small"
    ignore: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", _listed("classes", self.classes))
        _refuse_other("ignore", self.ignore, bool, "True or False")
        if self.overlap not in ("small", "large"):
            object.__setattr__(self, "overlap", _listed("overlap", self.overlap) or ())
        names = LABELS if self.classes is None else self.classes
        twice = [name for name, count in collections.Counter(names).items() if count > 1]
        if twice:
            raise DatasetError(f"classes names {twice[0]!r} twice, but a class has one number in a semantic map")
        for name in self.overlap if isinstance(self.overlap, tuple) and self.classes is not None else ():
            if name not in names:
                raise DatasetError(f"overlap names {name!r}, which is none of the classes {', '.join(names)}")
        if self.ignore and len(names) >= IGNORE:
            raise DatasetError(f"ignore gives {IGNORE} to what is not annotated: name at most {IGNORE - 1} classes")


@dataclass(frozen=True)
class Clip:
    """A view: rows of neighbouring slices of a volume, ``view="clip"``, as video models and 2.5D nets take them.

    Slices that are not in the dataset, such as those without a mask, end a run of neighbours. A run that is too short
    for a clip gives none; the last clip of a run ends with it. With a size, see `Output`, `collate` makes batches.

    Attributes:
        length: Slices of a clip.
        stride: From one slice of a clip to the next; 1 for neighbours.
        step: From the first slice of a clip to that of the next; default: clips do not overlap. 1 gives every slice
            its neighbours.
    """

    length: int = 8
    stride: int = 1
    step: int | None = None

    def __post_init__(self) -> None:
        for name in ("length", "stride", "step"):
            _refuse_below(name, 1 if getattr(self, name) is None else getattr(self, name), 1)

    @property
    def span(self) -> int:
        """Neighbouring slices that a clip reaches over."""
        return (self.length - 1) * self.stride + 1

    def runs(self, numbers: Sequence[int]) -> list[range]:
        """Places of the slices of each clip among ascending slice numbers.

        >>> Clip(2).runs([4, 5, 6, 9])
        [range(0, 2), range(1, 3)]
        """
        gaps = [at for at in range(1, len(numbers)) if numbers[at] != numbers[at - 1] + 1]
        found: list[range] = []
        for first, end in itertools.pairwise([0, *gaps, len(numbers)]):
            last = end - self.span
            starts = [*range(first, last, self.step or self.length * self.stride), last] if last >= first else []
            found += [range(at, at + self.span, self.stride) for at in starts]
        return found


View = ViewName | Masks | Semantic | Clip
_OPTIONS: Final[dict[str, type[Masks | Semantic | Clip]]] = {"mask": Masks, "semantic": Semantic, "clip": Clip}


def _view_of(view: object) -> Any:
    """A view with its options; ``image`` and ``volume`` have none."""
    if isinstance(view, tuple(_OPTIONS.values())):
        return view
    _check_choice("view", view, typing.get_args(ViewName), " or Masks(...) or Semantic(...) or Clip(...)")
    return _OPTIONS[str(view)]() if view in _OPTIONS else view


def _is_stacked(view: Any) -> bool:
    """Whether rows are volumes or clips."""
    return view == "volume" or isinstance(view, Clip)


# --- what a source annotates ------------------------------------------------------------------------------------------
# The descriptions of sources say which classes they looked for, so that what is absent differs from what nobody drew.

_ABSENCE: Final = ("dropped.labels", "not_annotated")
"""Lists of the index: labels of classes that a sample may show without a mask."""


@functools.lru_cache(maxsize=512)
def _source_classes(place: _Place, shard: str, _stamp: str, _environment: int) -> dict[str, dict[str, Any]] | None:
    """The classes that the source of a shard annotates, by their labels; None where nothing says it."""
    source = shard.split("/")[_Wanted.OF_PATHS["sources"]]
    for folder in DESCRIPTIONS[: 1 if place.protocol == "hf" else 2]:
        path = f"{folder}/{source}.json"
        try:
            record = _parsed(place.read(path), f"{place.name}: {path}")
        except FileNotFoundError:
            continue
        record = record.get("source", record) if isinstance(record, dict) else {}
        record = record if isinstance(record, dict) else {}
        classes = record.get("classes")
        if record.get("repacked") is not None:
            return None  # the release tells no class from what it left out
        if not isinstance(classes, list) or not all(_is_class(entry) for entry in classes):
            raise DatasetError(f"{place.name}: {path}: classes: expected a list of classes, got {classes!r:.80}")
        return {entry["label"]: {"phrase": "", **entry} for entry in classes}
    return None


@functools.lru_cache(maxsize=64)
def _phrases(place: _Place, shard: str, stamp: str) -> dict[str, str]:
    """Class -> what it is in plain English, as far as the source of a shard says it."""
    classes = _source_classes(place, shard, stamp, place.environment) or {}
    return {label: entry["phrase"] or label.replace("_", " ") for label, entry in classes.items()}


def _is_class(entry: Any) -> bool:
    texts = ("label", "class_id", "group")
    known = isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in texts)
    known = known and isinstance(entry.get("phrase", ""), str | None)
    return known and isinstance(entry.get("organ", 0), str | None)


def _annotated(classes: Mapping[str, Any] | None, record: Mapping[str, Any]) -> list[str] | None:
    """Classes that somebody looked for in an image, in the order of its source; None where nothing says it."""
    if classes is None or "labels" not in record.get("dropped", ()):
        return None
    elsewhere = record["not_annotated"]
    return [label for label in classes if label not in elsewhere] if elsewhere else list(classes)


def _absent(annotated: Sequence[str] | None, record: Mapping[str, Any]) -> list[str] | None:
    """Classes that somebody looked for in an image and that it does not show, not even in parts too small to keep."""
    shown = {entry["label"] for entry in record["masks"]}.union(record.get("dropped", {}).get("labels", ()))
    return None if annotated is None else [label for label in annotated if label not in shown]


def _negatives(
    wanted: _Wanted, classes: Mapping[str, dict[str, Any]] | None, key: str, absent: Iterable[str] | None
) -> list[dict[str, Any]]:
    """Empty masks of absent classes that are wanted."""
    if not isinstance(wanted.view, Masks) or not wanted.view.negatives or classes is None or absent is None:
        return []
    asked = dataclasses.replace(wanted, min_area=None)
    labels = wanted.view.drawn(key, (label for label in absent if asked.keeps(classes[label])))
    names = ("label", "class_id", "organ", "group")
    chosen = [{name: classes[label][name] for name in names} for label in labels]
    return [{"id": 0, "layer": 0, **one, "instance": 0, "bbox": [0] * 4, "area": 0} for one in chosen]


def _count_negatives(
    table: Any, shown: Iterable[tuple[int, str]], wanted: _Wanted, classes: Mapping[str, dict[str, Any]] | None
) -> npt.NDArray[np.int64]:
    """How many empty masks the samples of an index have, of which pairs of number and label say what each shows."""
    asked = dataclasses.replace(wanted, min_area=None)
    names = {label for label, entry in (classes or {}).items() if asked.keeps(entry)}
    held: list[set[str]] = [set() for _ in range(table.num_rows)]
    for at, label in shown:
        held[at].add(label)
    for column in _ABSENCE:
        for at, labels in enumerate(table[column].to_pylist()):
            held[at].update(labels or ())
    most = wanted.view.negatives if isinstance(wanted.view, Masks) else 0
    return np.array([min(most, len(names - labels)) for labels in held], np.int64)


# --- size, window and scale -------------------------------------------------------------------------------------------

WINDOWS: Final[Mapping[str, tuple[float, float]]] = types.MappingProxyType(
    {
        "abdomen": (50.0, 400.0),
        "bone": (400.0, 1800.0),
        "brain": (40.0, 80.0),
        "liver": (30.0, 150.0),
        "lung": (-600.0, 1500.0),
        "mediastinum": (50.0, 350.0),
        "soft_tissue": (40.0, 400.0),
        "spine": (50.0, 250.0),
        "stroke": (40.0, 40.0),
        "temporal_bone": (600.0, 2800.0),
    }
)
"""Windows of CT by name: centre and width in HU. They are those of https://radiopaedia.org/articles/windowing-ct, and
``soft_tissue`` is that of MedSAM (pre_CT_MR.py of bowang-lab/MedSAM)."""
RANGES: Final = ("slice", "volume")
"""What ``window`` may be besides: from the lowest to the highest value of the slice or of the volume."""
CT_NUMBERS: Final = (-1024.0, 3071.0)
"""HU that a scanner can mean; a range of a CT in HU ends there, as in ``docs/contract.md``."""
_AIR: Final = -900.0
"""A CT is in HU where its lowest value is this or less."""

_IMAGENET: Final = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
NORMALISATIONS: Final[Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]] = types.MappingProxyType(
    {"imagenet": _IMAGENET, "sam": _IMAGENET, "sam_med2d": _IMAGENET}
)
"""Mean and deviation of red, green and blue of 0 to 255 that a model was trained with. All are those of ImageNet:
torchvision (transforms/_presets.py) has 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225 of 0 to 1; SAM (modeling/sam.py of
facebookresearch/segment-anything) and SAM-Med2D (DataLoader.py of OpenGVLab/SAM-Med2D) have these very numbers."""

Resize = Literal["pad", "stretch", "crop"]


@dataclass(frozen=True)
class Output:
    """Images and masks as a network takes them, ``decode=Output(...)``.

    With a size, rows of single masks and of class maps have the same columns and shapes, whatever the config:
    what the default collate of torch makes batches of. Lists of changing length are left out of them (``masks``,
    ``absent``, ``not_annotated``, ``dropped``), and what is not known is NaN, -1 or an empty text instead of null. Rows
    of images and of clips keep everything; `collate` makes batches of them. ``height``, ``width``, ``spacing``,
    ``affine``, boxes, points and areas are those of the new size, ``original_size`` is (height, width) before.

    Each slice of a volume or clip is made as an image is, but its values are those of the source, float32, where there
    is no window and no normalisation; what is padded is their lowest then.

    Attributes:
        size: Height and width, or one number for both; None for sizes as they are.
        resize: ``pad``: the longer side fits, and the rest, right and below, is 0, after normalisation too, as SAM does
            it. ``stretch``: both sides fit. ``crop``: the shorter side fits, and the middle is taken; masks that lie
            outside of it are left out. Slices are resized alike, and none is made between them.
        masks: How masks are resized. ``nearest``: by nearest neighbour. ``area``: a pixel is of the mask that covers
            most of it, if only in part, so that vessels and other thin things stay whole, and all gets wider by up to a
            pixel. A mask that would vanish keeps the pixel that it covers most.
        window: For sources built ``lossless``: centre and width in the units of the source, a name of `WINDOWS`, or
            ``slice`` or ``volume`` for their own range (of the volume's slices that are in the dataset); images are
            uint8 then. ``slice`` leaves what was built in 8 bit as it is, ``volume`` what was built by volume or is a
            picture, so that all of a config come alike.
        normalise: A name of `NORMALISATIONS`: images are float32, (pixel - mean) / deviation.
        channels: 1 or 3; None for 3 where there is a size or a normalisation, else as stored.
        kind: ``numpy``: images are (H, W) or (H, W, 3), ``torch``: (1, H, W) or (3, H, W); of volumes and clips after
            Z, as (Z, 1, H, W). As tensors class maps are int64, label maps of volumes and clips int32.
        threads: Of a stream: so many threads decode the next pictures while a row is used, where there are no workers
            of a DataLoader. What a shuffle buffer holds is decoded then. Needs `datasets` 5.
    """

    size: int | tuple[int, int] | None = None
    resize: Resize = "pad"
    masks: Literal["nearest", "area"] = "nearest"
    window: tuple[float, float] | str | None = None
    normalise: str | None = None
    channels: Literal[1, 3] | None = None
    kind: Literal["numpy", "torch"] = "numpy"
    threads: int = 1

    def __post_init__(self) -> None:
        _refuse_below("threads", self.threads, 1)
        if self.size is not None:
            sides = self.size if isinstance(self.size, Sequence) else (self.size, self.size)
            if len(sides) != 2 or not all(type(side) is int and 1 <= side <= _LARGEST_SIDE for side in sides):
                raise DatasetError(
                    f"size is {self.size!r}, expected a whole number from 1 to {_LARGEST_SIDE}, or (height, width)"
                )
            object.__setattr__(self, "size", tuple(sides))
        for name, known in (("resize", Resize), ("masks", Literal["nearest", "area"]), ("kind", ArrayKind)):
            _check_choice(name, getattr(self, name), typing.get_args(known))
        if isinstance(self.window, str):
            _refuse_unknown("window", [self.window], [*WINDOWS, *RANGES], "Output")
        elif self.window is not None:
            window: tuple[Any, ...] = tuple(self.window) if isinstance(self.window, Sequence) else ()
            if len(window) != 2 or not all(map(_is_number, window)) or not window[1] > 0:
                raise DatasetError(
                    f"window is {self.window!r}, expected (centre, width) with a width above 0, or a name"
                )
            object.__setattr__(self, "window", window)
        if self.normalise is not None:
            _refuse_unknown("normalise", [self.normalise], NORMALISATIONS, "Output")
        if self.channels not in (None, 1, 3) or (self.normalise is not None and self.channels == 1):
            wanted = "3, which normalise is for" if self.normalise is not None else "1 or 3"
            raise DatasetError(f"channels is {self.channels!r}, expected {wanted}")

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width."""
        return typing.cast("tuple[int, int] | None", self.size)

    def fit(self, stored: tuple[int, int]) -> _Fit | None:
        """How images of a height and width are fitted into the size, where there is one."""
        return None if self.sides is None else _fit(stored, self.sides, self.resize)

    def shown(self, pixels: npt.NDArray[Any]) -> Any:
        """An image, uint8 or uint16, in its size, channels and scale."""
        fit = self.fit(pixels.shape[:2])
        return self.finished(self.scaled(pixels, fit), fit)

    def scaled(self, pixels: npt.NDArray[Any], fit: _Fit | None) -> npt.NDArray[Any]:
        """An image in its size, without padding: what the size decides, and a cache keeps."""
        if pixels.ndim == 3 and self.channels == 1:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        return pixels if fit is None else fit.image(pixels)

    def channels_of(self, pixels: npt.NDArray[Any]) -> int:
        """How many channels an image has at the end."""
        equal = self.size is not None or self.normalise is not None
        return self.channels or (3 if equal else 1 if pixels.ndim == 2 else pixels.shape[2])

    def toned(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A scaled image in its channels and scale, without padding."""
        if pixels.ndim == 2 and self.channels_of(pixels) == 3:
            pixels = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_GRAY2RGB)
        if self.normalise is not None:
            mean, deviation = (np.array(numbers, np.float32) for numbers in NORMALISATIONS[self.normalise])
            pixels = (pixels.astype(np.float32) - mean) / deviation
        return pixels

    def finished(self, pixels: npt.NDArray[Any], fit: _Fit | None) -> Any:
        """A scaled image in its channels and scale, padded, as an array or tensor."""
        pixels = self.toned(pixels)
        if fit is not None:
            pixels = fit.padded(pixels)
        if self.kind == "numpy":
            return pixels
        return _tensor(pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


ArrayKind = Literal["numpy", "torch"]
_LARGEST_SIDE: Final = 2**14


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(typing.cast("float", value)) < float("inf")


def _tensor(array: npt.NDArray[Any]) -> Any:
    """The array as a tensor; numbers of 16 bit, which torch hardly knows, are wider there."""
    torch = importlib.import_module("torch")
    wider = array.astype(np.int32) if array.dtype == np.uint16 else array
    return torch.from_numpy(np.ascontiguousarray(wider))


class _Fit(typing.NamedTuple):
    """How an image is fitted into a size.

    Attributes:
        size: Rows and columns that it is fitted into.
        scaled: Rows and columns of the whole image when it is scaled.
        start: Row and column of it where the size begins, above 0 for a crop.
        stored: Rows and columns before.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    start: tuple[int, int]
    stored: tuple[int, int]

    def image(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The scaled image without padding: by area where it shrinks, bilinear where it grows."""
        shrunk = tuple(map(min, self.scaled, self.stored))
        if shrunk != self.stored:
            pixels = cv2.resize(pixels, shrunk[::-1], interpolation=cv2.INTER_AREA)
        if self.scaled != shrunk:
            pixels = cv2.resize(pixels, self.scaled[::-1], interpolation=cv2.INTER_LINEAR)
        return self.cropped(pixels)

    def cropped(self, scaled: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What of a scaled image lies within the size."""
        (top, left), (height, width) = self.start, self.size
        return scaled[top : top + height, left : left + width]

    def padded(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The same with zeros to the right and below."""
        if pixels.shape[:2] == self.size:
            return np.ascontiguousarray(pixels)
        whole = np.zeros((*self.size, *pixels.shape[2:]), pixels.dtype)
        whole[: pixels.shape[0], : pixels.shape[1]] = pixels
        return whole

    def layer(self, layer: npt.NDArray[Any], ids: Iterable[int], rule: str) -> npt.NDArray[Any]:
        """A layer of a label map, of which the ids are wanted."""
        if rule == "nearest" or any(new > old for new, old in zip(self.scaled, self.stored, strict=True)):
            fitted = self.nearest(layer)
        else:
            fitted, most = np.zeros(self.scaled, layer.dtype), np.zeros(self.scaled, np.float32)
            for number in ids:
                cover = cv2.resize(
                    (layer == number).astype(np.float32), self.scaled[::-1], interpolation=cv2.INTER_AREA
                )
                fitted[cover > most] = number
                np.maximum(most, cover, out=most)
        for number, place in self.vanished(layer, fitted, ids):
            fitted[place] = number
        return self.padded(self.cropped(fitted))

    def nearest(self, layer: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The scaled layer by nearest neighbour."""
        if self.scaled == self.stored:
            return layer
        return cv2.resize(layer, self.scaled[::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    def vanished(
        self, layer: npt.NDArray[Any], fitted: npt.NDArray[Any], ids: Iterable[int]
    ) -> list[tuple[int, tuple[int, int]]]:
        """Ids that a scaled layer lacks, and the row and column in it that each of them covers most."""
        if all(new >= old for new, old in zip(self.scaled, self.stored, strict=True)):
            return []  # every pixel has one of its own
        held = np.bincount(fitted.ravel(), minlength=65536 if layer.dtype == np.uint16 else 256)
        lost = []
        for number in (number for number in ids if not held[number]):
            places = [
                np.int64((2 * at + 1) * new) // (2 * old)
                for at, new, old in zip(np.nonzero(layer == number), self.scaled, self.stored, strict=True)
            ]
            found, counts = np.unique(places[0] * self.scaled[1] + places[1], return_counts=True)
            if found.size:
                lost.append((number, divmod(int(found[counts.argmax()]), self.scaled[1])))
        return lost

    @property
    def keeps_places(self) -> bool:
        """Whether every pixel stays where it was."""
        return self.scaled == self.stored and all(map(operator.ge, self.size, self.stored))

    def region(self, bbox: Sequence[int]) -> tuple[slice, slice]:
        """Rows and columns where a mask lies that had this box, and a pixel around them."""
        x, y, width, height = bbox
        spans = []
        for axis, (first, side) in enumerate(((y, height), (x, width))):
            new, old = self.scaled[axis], self.stored[axis]
            edges = first * new // old - 1, -(-(first + side) * new // old) + 1
            spans.append(slice(*(min(max(0, edge - self.start[axis]), self.size[axis]) for edge in edges)))
        return spans[0], spans[1]


@functools.lru_cache(maxsize=256)
def _fit(stored: tuple[int, int], size: tuple[int, int], resize: Resize) -> _Fit:
    if resize == "stretch":
        return _Fit(size, size, (0, 0), stored)
    factors = [new / old for new, old in zip(size, stored, strict=True)]
    factor = min(factors) if resize == "pad" else max(factors)
    scaled = [max(1, int(old * factor + 0.5)) for old in stored]
    if resize == "pad":
        return _Fit(size, (min(scaled[0], size[0]), min(scaled[1], size[1])), (0, 0), stored)
    rows, columns = max(scaled[0], size[0]), max(scaled[1], size[1])
    return _Fit(size, (rows, columns), ((rows - size[0]) // 2, (columns - size[1]) // 2), stored)


@functools.lru_cache(maxsize=16)
def _fitted_layers(
    png: bytes, height: int, output: Output, parts: tuple[tuple[int, int], ...]
) -> npt.NDArray[np.uint8 | np.uint16]:
    """The layers of a label map in the size of the output, (layers, H, W); parts are layer and id of what is wanted."""
    layers = split_layers(_decoded_once(png), height)
    fit = _fit(layers.shape[1:], output.sides or layers.shape[1:], output.resize)
    return np.stack(
        [
            fit.layer(layer, [number for of, number in parts if of == at], output.masks)
            for at, layer in enumerate(layers)
        ]
    )


def _window_of(output: Output, record: Mapping[str, Any], volume: tuple[float, float]) -> tuple[float, float] | None:
    """Source values that become 0 and 255; None where pixels stay as they are.

    Args:
        output: Says the window.
        record: Metadata of the sample.
        volume: Lowest and highest source value of the slices of its volume.
    """
    scale = record["intensity"]
    if scale["scaling"] != "lossless":
        if _has_window(output.window, scale["scaling"]):
            return None
        raise DatasetError(
            f"{record['key']}: window {output.window!r} needs the values of the source, but {record['source']} was "
            f"built with scaling {scale['scaling']!r}; build it with intensity.mode = 'lossless', or leave window out"
        )
    if output.window is None:
        if output.normalise is not None:
            raise DatasetError(
                f"{record['key']}: normalise is for 8 bit, but {record['source']} was built 'lossless' in 16 bit; say "
                "which values become 0 to 255 with window"
            )
        return None
    if output.window in RANGES:
        low, high = (scale["min"], scale["max"]) if output.window == "slice" else volume
        if record["modality"] == "ct" and scale["intercept"] <= _AIR:
            low, high = max(low, CT_NUMBERS[0]), min(high, CT_NUMBERS[1])
        return low, high
    centre, width = WINDOWS[output.window] if isinstance(output.window, str) else output.window
    return centre - width / 2, centre + width / 2


def _has_window(window: tuple[float, float] | str | None, scaling: str) -> bool:
    """Whether images that were built with a scaling can be shown in a window, see `Output`."""
    as_stored = window in (None, "slice") or (window == "volume" and scaling in ("volume", "none"))
    return scaling == "lossless" or as_stored


@functools.lru_cache(maxsize=64)
def _levels(slope: float, intercept: float, low: float, high: float) -> npt.NDArray[np.uint8]:
    """``round((value - low) / (high - low) * 255)``, clipped, of the values of each pixel of 16 bit."""
    values = slope * np.arange(65536.0) + intercept
    return np.clip(np.rint((values - low) / max(high - low, 1e-9) * 255), 0, 255).astype(np.uint8)


def _windowed(pixels: npt.NDArray[Any], stored: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Pixels in their window, if any; what is stored of an image says it, see `FittedPixels`."""
    if stored["low"] is None:
        return pixels
    return np.take(_levels(*(stored[name] for name in ("slope", "intercept", "low", "high"))), pixels)


# --- columns ----------------------------------------------------------------------------------------------------------
# Features of rows. A column keeps files until a row is taken out, so that a shuffle buffer holds no pixels.

Decode = Literal["numpy", "torch", "pil", "bytes"]


def _output_of(decode: object, view: Any) -> Output | None:
    """What is more than to decode; volumes and clips always are."""
    if isinstance(decode, Output):
        return decode
    _check_choice("decode", decode, typing.get_args(Decode), " or Output(...)")
    stacked = _is_stacked(view)
    if stacked and decode not in typing.get_args(ArrayKind):
        raise DatasetError(f"decode is {decode!r}, expected 'numpy', 'torch' or Output(...) for volumes and clips")
    return Output(kind=typing.cast("ArrayKind", decode)) if stacked or decode == "torch" else None


def features(
    view: Literal["stock"] | View = "stock", decode: Decode | Output = "numpy", prompts: Prompts | None = None
) -> datasets.Features:
    """Features of a dataset of samples.

    Args:
        view: ``stock`` for the columns that the WebDataset reader of `datasets` yields from our shards; else see
            `load`.
        decode: See `load`.
        prompts: See `load`.
    """
    record = metadata_types()
    text = datasets.Value("string")
    if view == "stock":
        pictures = {"png": datasets.Image(), "mask.png": datasets.Image()}
        return datasets.Features({**pictures, "json": _as_features(record), "__key__": text, "__url__": text})
    _register_columns()
    chosen = _view_of(view)
    output = _output_of(decode, chosen)
    if output is not None and _is_stacked(chosen):
        pictures = {"image": StackedPixels(output), "mask": StackedMask(output)}
        return _row_features({**pictures, **_as_features(_stack_types(output))})
    if isinstance(chosen, Masks):
        record = {**{name: kind for name, kind in record.items() if name != "masks"}, **record["masks"][0]}
    record["absent"] = ["string"]
    for name, (of_many, kind_of_prompt) in ({} if prompts is None else prompts.columns).items():
        record |= {name: kind_of_prompt} if isinstance(chosen, Masks) else {of_many: [kind_of_prompt]}
    kind_of_map = "" if chosen == "image" else _kind_of_map(chosen)
    rough = {"coarse": CoarseMask(output)} if prompts is not None and prompts.coarse else {}
    if output is not None:
        record |= {} if output.size is None else {"original_size": ["int64"]}
        pictures = {
            "image": FittedPixels(output, isinstance(chosen, Masks)),
            "mask": FittedMask(output, kind_of_map),
            **rough,
        }
        batched = _batched(chosen, output)
        kept = {name: kind for name, kind in record.items() if not (batched and name in _RAGGED)}
        arrays = {
            name: NumberArray(output.kind, _ARRAYS[name], 2 if name in ("points", "scribble") else 1)
            for name in kept
            if batched and name in _ARRAYS
        }
        return _row_features({**pictures, **_as_features(kept), **arrays})
    kind = typing.cast("Decode", decode)
    image = PngPixels(kind, shared=isinstance(chosen, Masks))
    mask = PaintedMask(kind, kind_of_map) if kind_of_map else PngPixels(kind)
    return _row_features({"image": image, "mask": mask, **rough, **_as_features(record)})


def _batched(view: Any, output: Output | None) -> bool:
    """Whether rows are such that the default collate of torch makes batches of them."""
    return output is not None and output.size is not None and isinstance(view, Masks | Semantic)


_RAGGED: Final = frozenset({"masks", "absent", "not_annotated", "dropped"})
"""Columns whose lists differ in length."""
_ARRAYS: Final = {
    "spacing": "float32",
    "origin": "float32",
    "direction": "float32",
    "original_size": "int64",
    "bbox": "int64",
    "box": "float32",
    "points": "float32",
    "scribble": "float32",
    "point_labels": "int64",
}
"""Columns of lists of numbers of one length, and what they are as arrays."""
_UNKNOWN: Final[Mapping[str, Any]] = types.MappingProxyType(
    {
        "index": -1,
        "slices": -1,
        "stored_axes": "",
        "rater": "",
        "spacing": [float("nan")] * 2,
        "slice_spacing": float("nan"),
        "origin": [float("nan")] * 3,
        "direction": [float("nan")] * 9,
        "official_split": False,
    }
)
"""What stands for null in rows that batches are made of."""


def _row_features(columns: Mapping[str, Any]) -> datasets.Features:
    """Features of the rows that `_rows` makes."""
    return _class_of_row_features()(datasets.Features(columns))


@functools.cache
def _class_of_row_features() -> type[datasets.Features]:
    class RowFeatures(datasets.Features):  # type: ignore[misc]
        """Features of rows whose plain values are already what they should be, so that nobody walks them.

        `datasets` visits each value of each row three times, which costs more than decoding the pictures. Once a
        column is set anew, these are features like all others.
        """

        def __init__(self, columns: Mapping[str, Any]) -> None:
            super().__init__(columns)
            self.pictures = [name for name, feature in columns.items() if isinstance(feature, _DECODED)]

        def encode_example(self, example: Mapping[str, Any]) -> dict[str, Any]:
            return {name: example.get(name) for name in self}

        def decode_example(self, example: Mapping[str, Any], token_per_repo_id: object = None) -> dict[str, Any]:  # noqa: ARG002
            row = dict(example)
            for name in self.pictures:
                value = row.get(name)
                if value is not None:
                    try:
                        row[name] = self[name].decode_example(value)
                    except DatasetError as error:
                        raise DatasetError(f"{row.get('key', 'a row')}: {name}: {error}") from None
            return row

        def __setitem__(self, name: str, feature: Any) -> None:
            made_anew = feature != self.get(name)
            super().__setitem__(name, feature)
            if made_anew:
                self.__class__ = datasets.Features

        def __reduce__(self) -> tuple[Any, tuple[dict[str, Any]]]:
            return _row_features, (dict(self),)

    return RowFeatures


def _as_features(described: Any) -> Any:
    """What `metadata_types` says, in the words of `datasets`."""
    if isinstance(described, dict):
        return {name: _as_features(item) for name, item in described.items()}
    if isinstance(described, list):
        return [_as_features(described[0])]
    return datasets.Value(described)


@functools.cache
def _register_columns() -> None:
    """Tell `datasets` of our columns, so that it can read them back from its cache."""
    with warnings.catch_warnings(action="ignore"):  # it says that this may change
        for kind in _DECODED:
            datasets.features.features.register_feature(kind, kind.__name__)


@dataclass(kw_only=True)
class _Column:
    """A column of ours. Arrow keeps what it is given, of the type that a call says; rows show what is made of that when
    they are taken out, and not before: a shuffle buffer holds files.
    """  # noqa: D205

    id: str | None = dataclasses.field(default=None, repr=False)
    _type: str = dataclasses.field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        self._type = type(self).__name__
        output = getattr(self, "output", None)
        if isinstance(output, Mapping):  # as `datasets` keeps it
            vars(self)["output"] = Output(**output)

    def encode_example(self, value: Any) -> Any:
        """What Arrow keeps."""
        return value

    def decode_example(self, value: Any, token_per_repo_id: object = None) -> Any:  # noqa: ARG002 - its interface
        """What a row shows."""
        return value.shown.result() if isinstance(value, _Started) else self._shown(value)

    def _shown(self, value: Any) -> Any:
        raise NotImplementedError


class _Started(dict[str, Any]):
    """What a column keeps, of which a thread already makes what its row shows."""

    def __init__(self, kept: Mapping[str, Any], shown: Future[Any]) -> None:
        super().__init__(kept)
        self.shown = shown

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return dict, (dict(self),)  # where it is copied to it is made there


@dataclass
class PngPixels(_Column):
    """A column of PNG files.

    Attributes:
        kind: See ``decode`` of `load`.
        shared: Neighbouring rows have the same picture, which is decoded once.
    """

    kind: str = "numpy"
    shared: bool = False

    def __call__(self) -> Any:
        return pa.binary()

    def _shown(self, value: bytes) -> Any:
        if self.kind == "bytes":
            return value
        return _as_picture(_decoded_once(value).copy() if self.shared else decode_png(value), self.kind)


@dataclass
class PaintedMask(_Column):
    """A column of masks that are painted from a label map, (H, W); a picture of a mask of two values has 0 and 255.

    Kept as the label map's PNG, the value of what nothing is painted over, and a list of what to paint, in order:
    layer, id and value.

    Attributes:
        kind: See ``decode`` of `load`.
        dtype: Of the array: ``bool``, ``uint8`` or ``uint16``.
    """

    kind: str = "numpy"
    dtype: str = "bool"

    def __call__(self) -> Any:
        parts = pa.list_(pa.list_(pa.int64()))
        return pa.struct([("png", pa.binary()), ("height", pa.int64()), ("ground", pa.int64()), ("parts", parts)])

    def _shown(self, value: dict[str, Any]) -> Any:
        layers = split_layers(_decoded_once(value["png"]), value["height"])
        painted = _paint(layers, value["ground"], value["parts"], self.dtype)
        if self.kind == "numpy":
            return painted
        shown = painted.view(np.uint8) * np.uint8(255) if self.dtype == "bool" else painted
        return cv2.imencode(".png", shown)[1].tobytes() if self.kind == "bytes" else _as_picture(shown, self.kind)


@dataclass
class FittedPixels(_Column):
    """A column of images that get size, window and scale of an `Output`.

    Kept as the PNG, its slope and intercept, and the source values that become 0 and 255, null for none.

    Attributes:
        output: See `Output`.
        shared: Neighbouring rows have the same picture, which is decoded once.
    """

    output: Output
    shared: bool = False

    def __call__(self) -> Any:
        scales = [(name, pa.float64()) for name in ("slope", "intercept", "low", "high")]
        return pa.struct([("png", pa.binary()), *scales])

    def _shown(self, value: dict[str, Any]) -> Any:
        if isinstance(value["png"], Fitted):
            return value["png"].finished(self.output)
        pixels = _windowed(_decoded_once(value["png"]) if self.shared else decode_png(value["png"]), value)
        return self.output.shown(pixels.copy() if self.shared and value["low"] is None else pixels)


@dataclass
class FittedMask(_Column):
    """A column of masks that are resized as an `Output` says, and painted. Kept as `PaintedMask` is.

    Attributes:
        output: See `Output`.
        dtype: Of what is painted: ``bool``, ``uint8`` or ``uint16``; empty for the label map itself, (layers * H, W).
    """

    output: Output
    dtype: str = ""

    def __call__(self) -> Any:
        return PaintedMask()()

    def _shown(self, value: dict[str, Any]) -> Any:
        layers = _shown_layers(self.output, value["png"], value["height"], value["parts"])
        numpy = self.output.kind == "numpy"
        if not self.dtype:
            of_row = isinstance(value["png"], Fitted) and value["png"].lost  # else others have the array too
            shown = layers.reshape(-1, layers.shape[2]) if of_row else layers.reshape(-1, layers.shape[2]).copy()
        else:
            kind = self.dtype if numpy or self.dtype == "bool" else "int64"
            shown = _paint(layers, value["ground"], value["parts"], kind)
        return shown if numpy else _tensor(shown)


@dataclass
class CoarseMask(_Column):
    """A column of rough masks, which prompts are, (H, W) bool. Kept as `PaintedMask` is, and how each is changed."""

    output: Output | None = None

    def __call__(self) -> Any:
        return pa.struct([*PaintedMask()(), ("change", pa.list_(pa.int64()))])

    def _shown(self, value: dict[str, Any]) -> Any:
        layers = _shown_layers(self.output, value["png"], value["height"], value["parts"])
        rough = _coarsened(_paint(layers, 0, value["parts"], "bool"), value["change"])
        return rough if self.output is None or self.output.kind == "numpy" else _tensor(rough)


def _shown_layers(
    output: Output | None, png: bytes | Fitted, height: int, parts: Iterable[Sequence[int]]
) -> npt.NDArray[np.uint8 | np.uint16]:
    """The layers of a label map as rows show them, (layers, H, W); parts begin with layer and id of what is wanted."""
    if isinstance(png, Fitted):
        return png.shown(parts)
    if output is None or output.size is None:
        return split_layers(_decoded_once(png), height)
    return _fitted_layers(png, height, output, tuple((part[0], part[1]) for part in parts))


@dataclass
class NumberArray(_Column):
    """A column of nested lists of numbers, all of one shape, that are shown as arrays or tensors.

    Attributes:
        kind: See `Output`.
        dtype: Of the array.
        axes: How deep the lists are nested.
    """

    kind: str = "numpy"
    dtype: str = "float32"
    axes: int = 1

    def __call__(self) -> Any:
        held = pa.float64() if self.dtype.startswith("f") else pa.int64()
        for _ in range(self.axes):
            held = pa.list_(held)
        return held

    def _shown(self, value: Any) -> Any:
        array = np.array(value, self.dtype)
        return array if self.kind == "numpy" else _tensor(array)


@dataclass
class StackedPixels(_Column):
    """A column of slices that become one array, (slices, H, W) or (slices, H, W, 3); tensors have channels before H.

    Kept as `FittedPixels` keeps images, with the place of each. What is not there has the lowest value of what is.

    Attributes:
        output: See `Output`.
    """

    output: Output

    def __call__(self) -> Any:
        slices = pa.list_(FittedPixels(self.output)())
        return pa.struct([("slices", slices), ("at", pa.list_(pa.int64())), ("depth", pa.int64())])

    def _shown(self, value: dict[str, Any]) -> Any:
        output, depth, tensors = self.output, value["depth"], self.output.kind == "torch"
        slices = [_windowed(decode_png(one["png"]), one) for one in value["slices"]]
        fit, channels = output.fit(slices[0].shape[:2]), max(map(output.channels_of, slices))
        height, width = slices[0].shape[:2] if fit is None else fit.size
        exact = output.window is None and output.normalise is None
        kinds = [np.dtype(np.float32)] if exact or output.normalise else [pixels.dtype for pixels in slices]
        dtype = max(kinds, key=lambda kind: kind.itemsize)
        _refuse_large_volume(dtype.itemsize * depth * channels * height * width, f"a volume of {dtype}")
        held = np.zeros((depth, channels, height, width) if tensors else (depth, height, width, channels), dtype)
        values, low = np.moveaxis(held, 1, -1) if tensors else held, []
        for at, pixels, one in zip(value["at"], slices, value["slices"], strict=True):
            scale = [np.float32(one[name]) for name in ("slope", "intercept")]
            levels = np.multiply(pixels, scale[0], dtype=np.float32) + scale[1] if exact else pixels
            low.append(levels.min())
            shown = output.toned(output.scaled(levels, fit))
            values[at, : shown.shape[0], : shown.shape[1]] = np.atleast_3d(shown)
        rows, columns = shown.shape[:2]
        missing = np.ones(depth, np.bool_)
        missing[value["at"]] = False
        values[missing, :rows, :columns] = np.atleast_3d(output.toned(np.full((1, 1), min(low))))
        if exact:
            values[:, rows:] = values[:, :, columns:] = min(low)
        return _tensor(held) if tensors else held[..., 0] if channels == 1 else held


@dataclass
class StackedMask(_Column):
    """A column of label maps that become one with ids of whole objects: (slices, layers * H, W) uint16; int32 tensors.

    Kept as PNG files with the place of each, and lists of what to paint: layer and id in the slice, then id and layer
    of the object.

    Attributes:
        output: See `Output`.
    """

    output: Output

    def __call__(self) -> Any:
        number = pa.int64()
        parts = pa.list_(pa.list_(pa.list_(number)))
        sizes = [(name, number) for name in ("depth", "height", "width", "layers")]
        return pa.struct([("pngs", pa.list_(pa.binary())), ("at", pa.list_(number)), *sizes, ("parts", parts)])

    def _shown(self, value: dict[str, Any]) -> Any:
        height, width = self.output.sides or (value["height"], value["width"])
        shape, numpy = (value["depth"], value["layers"] * height, width), self.output.kind == "numpy"
        dtype = np.dtype(np.uint16 if numpy else np.int32)
        _refuse_large_volume(dtype.itemsize * math.prod(shape), "a label map of a volume")
        painted = np.zeros(shape, dtype)
        for at, png, parts in zip(value["at"], value["pngs"], value["parts"], strict=True):
            objects = _painted_objects(self.output, png, value["height"], parts, value["layers"])
            painted[at] = objects.reshape(-1, width)
        return painted if numpy else _tensor(painted)


def _painted_objects(
    output: Output, png: bytes | Fitted, height: int, parts: Sequence[Sequence[int]], count: int
) -> npt.NDArray[np.uint16]:
    """A slice with the ids of whole objects in their layers, of which there are so many, (layers, H, W)."""
    layers = _shown_layers(output, png, height, parts)
    painted = np.zeros((count, *layers.shape[1:]), np.uint16)
    for layer in range(count):
        inside = [part[:3] for part in parts if part[3] == layer]
        if inside:
            painted[layer] = _paint(layers, 0, inside, "uint16")
    return painted


def _refuse_large_volume(size: int, what: str) -> None:
    _refuse_large(size, what, "it is damaged, or too large: take clips of it", 4 * MEMORY_LIMIT)


_DECODED: Final = (
    PngPixels,
    PaintedMask,
    FittedPixels,
    FittedMask,
    CoarseMask,
    NumberArray,
    StackedPixels,
    StackedMask,
)
"""Columns of ours, whose values become what a row shows when it is taken."""


def _kind_of_map(view: Masks | Semantic) -> str:
    if isinstance(view, Masks):
        return "bool"
    return "uint8" if len(LABELS if view.classes is None else view.classes) < 256 else "uint16"


@functools.lru_cache(maxsize=8)
def _decoded_once(data: bytes) -> npt.NDArray[Any]:
    return decode_png(data)


def _as_picture(pixels: npt.NDArray[Any], kind: str) -> Any:
    if kind == "numpy":
        return pixels
    return Image.fromarray(pixels)


def _paint(layers: npt.NDArray[Any], ground: int, parts: Sequence[Sequence[int]], dtype: str) -> npt.NDArray[Any]:
    """Masks painted over each other in the order given; (H, W).

    Args:
        layers: (layers, H, W).
        ground: Value of what nothing is painted over.
        parts: Layer, id and value of each.
        dtype: Of what is painted.
    """
    size = 65536 if layers.dtype == np.uint16 else 256
    tables = {layer: np.full(size, ground, dtype) for layer, *_ in parts}
    for layer, number, value in parts:
        tables[layer][number] = value
    if len(tables) == 1:
        [(layer, table)] = tables.items()
        found: npt.NDArray[Any] = np.take(table, layers[layer])
        return found
    painted = np.full(layers.shape[1:], ground, dtype)
    for layer, number, value in parts:
        painted[layers[layer] == number] = value
    return painted


# --- prompts ----------------------------------------------------------------------------------------------------------
# Boxes, points, lines, rough masks and texts, drawn for each mask; and the next click for a prediction.


TEMPLATES: Final = ("{phrase}", "{phrase} in {modality}", "the {phrase}", "segment the {phrase} in this {modality}")
"""Texts of `Prompts`: ``{phrase}`` is the class in plain English, ``{modality}`` what kind of image it is."""
_MODALITY_WORDS: Final[Mapping[str, str]] = types.MappingProxyType(
    {"ct": "CT", "mr": "MRI", "pet": "PET", "x_ray": "X-ray", "oct": "OCT", "fundus_photography": "fundus photograph"}
)


@dataclass(frozen=True)
class Prompts:
    """What a promptable model such as SAM is trained with, drawn anew for each mask and always alike for one seed.

    Adds the columns ``boxes`` (x and y of the first corner, then of the last, in pixels), ``points`` (x, y) and
    ``point_labels`` (1: on the mask, 0: beside it, -1: there was no room for this point), and what is asked for of
    ``scribbles`` and ``texts``; in the view ``mask`` ``box``, ``points``, ``point_labels``, ``scribble``, ``text`` and
    ``coarse`` of that mask alone. For the click after the first see `next_click`.

    Attributes:
        jitter: Largest shift of each side of a box, in parts of the box's width or height.
        positive: Points on the mask, no two of them the same.
        negative: Points beside it, within its box enlarged by half to each side, no two of them the same.
        seed: Another one for another epoch.
        scribble: Points (x, y) of a line on the mask, which goes on straight as long as it can.
        coarse: A rough mask, in the view ``mask`` alone: grown or shrunk, and shifted, by up to this share of the
            square root of its area.
        texts: Templates, of which each mask gets one: True for `TEMPLATES`.
    """

    jitter: float = 0.0
    positive: int = 1
    negative: int = 0
    seed: int = 0
    scribble: int = 0
    coarse: float = 0.0
    texts: Sequence[str] | bool = False

    def __post_init__(self) -> None:
        for name in ("jitter", "coarse"):
            share = getattr(self, name)
            if not isinstance(share, int | float) or not 0 <= share < float("inf"):
                raise DatasetError(f"{name} of the prompts is {share!r:.80}, expected a number from 0 on")
        for name in ("positive", "negative", "seed", "scribble"):
            _refuse_below(f"{name} of the prompts", getattr(self, name), 0)
        if isinstance(self.texts, bool):
            listed: tuple[str, ...] = TEMPLATES if self.texts else ()
        else:
            listed = _listed("texts", self.texts, "texts, True or False") or ()
        for template in listed:
            try:
                template.format(phrase="", modality="")
            except (KeyError, IndexError, ValueError, AttributeError, TypeError):
                raise DatasetError(
                    f"texts holds {template!r}, expected a text with {{phrase}} and {{modality}} at most"
                ) from None
        object.__setattr__(self, "texts", listed)

    @property
    def columns(self) -> dict[str, tuple[str, Any]]:
        """Column of a row of one mask -> the same of a row of many, and its type."""
        found: dict[str, tuple[str, Any]] = {
            "box": ("boxes", ["float64"]),
            "points": ("points", [["float64"]]),
            "point_labels": ("point_labels", ["int64"]),
        }
        if self.scribble:
            found["scribble"] = ("scribbles", [["float64"]])
        if self.texts:
            found["text"] = ("texts", "string")
        return found

    def draw(
        self, key: str, mask: Mapping[str, Any], layers: npt.NDArray[Any], phrase: str = "", modality: str = ""
    ) -> dict[str, Any]:
        """The prompts of one mask, by their columns.

        Args:
            key: Of the sample.
            mask: Entry of its masks.
            layers: (layers, H, W).
            phrase: What it shows.
            modality: Of the image.
        """
        digest = hashlib.sha256(f"{self.seed}\0{key}\0{mask['layer']}\0{mask['id']}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        x, y, width, height = mask["bbox"]
        layer = layers[mask["layer"]]
        drawn: dict[str, Any] = {"point_labels": [1] * self.positive + [0] * self.negative}
        if not mask["id"]:  # a negative: no point is on it, all are beside it
            points = _draw_points(rng, np.ones(layer.shape, np.bool_), (0, 0), self.negative)
            drawn |= {"box": [0.0] * 4, "points": [[-1.0, -1.0]] * self.positive + points}
            inside = np.zeros((0, 0), np.bool_)
        else:
            inside = layer[y : y + height, x : x + width] == mask["id"]
            around = np.s_[
                max(0, y - height // 2 - 1) : y + height + height // 2 + 1,
                max(0, x - width // 2 - 1) : x + width + width // 2 + 1,
            ]
            outside = layer[around] != mask["id"]
            points = _draw_points(rng, inside, (x, y), self.positive)
            points += _draw_points(rng, outside, (around[1].start, around[0].start), self.negative)
            drawn |= {"points": points, "box": self._box(rng, mask["bbox"], layer.shape)}
        drawn["point_labels"] = [
            label if point[0] >= 0 else -1 for point, label in zip(drawn["points"], drawn["point_labels"], strict=True)
        ]
        if self.scribble:
            drawn["scribble"] = _draw_scribble(rng, inside, (x, y), self.scribble)
        if self.coarse:
            reach = self.coarse * mask["area"] ** 0.5
            drawn["coarse"] = [round(change) for change in rng.uniform(-reach, reach, 3).tolist()]
        if self.texts:
            words = _MODALITY_WORDS.get(modality, modality.replace("_", " "))
            templates = typing.cast("tuple[str, ...]", self.texts)
            drawn["text"] = templates[int(rng.integers(len(templates)))].format(phrase=phrase, modality=words)
        return drawn

    def _box(self, rng: np.random.Generator, bbox: Sequence[int], shape: tuple[int, ...]) -> list[float]:
        x, y, width, height = bbox
        sides = np.array([width, height] * 2, float)
        box = np.array([x, y, x + width, y + height], float) + rng.uniform(-self.jitter, self.jitter, 4) * sides
        limits = np.array([shape[1], shape[0]] * 2, float)
        low, high = np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])
        return np.clip(np.concatenate([low, high]), 0, limits).tolist()  # type: ignore[no-any-return]


def _draw_points(
    rng: np.random.Generator, where: npt.NDArray[np.bool_], origin: tuple[int, int], count: int
) -> list[list[float]]:
    """Centres of random pixels, x and y, each once; (-1, -1) where there are no more."""
    if not count:
        return []
    free = np.flatnonzero(where)
    rows, columns = np.divmod(rng.choice(free, min(count, free.size), replace=False), max(1, where.shape[1]))
    found = [[origin[0] + x + 0.5, origin[1] + y + 0.5] for y, x in zip(rows.tolist(), columns.tolist(), strict=True)]
    return found + [[-1.0, -1.0]] * (count - len(found))


def _draw_scribble(
    rng: np.random.Generator, where: npt.NDArray[np.bool_], origin: tuple[int, int], count: int
) -> list[list[float]]:
    """Points of a line that stays on a mask, x and y: a random walk that turns no more than it must."""
    [start] = _draw_points(rng, where, (0, 0), 1)
    if start[0] < 0:
        return [start] * count
    at, heading = np.array(start), rng.uniform(0, 2 * np.pi)
    length = max(1.0, 1.5 * float(np.count_nonzero(where)) ** 0.5 / count)
    points = [at]
    turns = np.array([0, 0.4, -0.4, 0.8, -0.8, 1.6, -1.6, 2.4, -2.4, np.pi])
    shares = np.linspace(0, 1, int(2 * length) + 2)[1:, np.newaxis]
    while len(points) < count:
        for turn in turns + rng.normal(0, 0.2):
            way = at + shares * length * [np.cos(heading + turn), np.sin(heading + turn)]
            columns, rows = np.floor(way).astype(int).T
            within = way.min() >= 0 and columns.max() < where.shape[1] and rows.max() < where.shape[0]
            if within and where[rows, columns].all():
                at, heading = way[-1], heading + turn
                break
        points.append(at)  # where it was, if there is no way on
    return [[origin[0] + x, origin[1] + y] for x, y in np.array(points).tolist()]


def next_click(mask: Any, prediction: Any, *, how: Literal["random", "centre"] = "random", seed: int = 0) -> Any:
    """The next point of interactive training: where the prediction is wrong.

    ``random``: a random pixel of all that are wrong, as SAM (arXiv 2304.02643, appendix A), SAM-Med2D
    (``select_random_points`` in its utils.py) and SAM 2 (``uniform``) are trained. ``centre``: the pixel that lies
    farthest from the border of its wrong region, as SAM 2 (``center`` in modeling/sam2_utils.py) and RITM evaluate.

    Args:
        mask: The truth, (H, W) or (..., H, W) bool; array or tensor.
        prediction: Of the same shape: bool, or logits, which say yes above 0; of probabilities ``p > 0.5``.
        how: See above.
        seed: Of the draw; another one for each round.

    Returns:
        Points (..., 2), x and y of the centre of a pixel, float32; and labels (...,) int64: 1 where the mask was
        missed, 0 where the prediction is too much, -1 and the point (-1, -1) where nothing is wrong. Tensors for
        tensors.
    """
    _check_choice("how", how, ("random", "centre"))
    _refuse_below("seed", seed, 0)
    held = []
    for name, given in (("mask", mask), ("prediction", prediction)):
        try:  # a tensor is compared before it is an array: NumPy has no bfloat16
            array = np.asarray((given.detach() > 0).cpu() if hasattr(given, "detach") else given)
        except ValueError:  # lists of unlike length
            raise DatasetError(f"the {name} is no array; expected (H, W) or (..., H, W)") from None
        held.append(array)
        if array.dtype.kind not in "biuf":
            raise DatasetError(f"the {name} holds {array.dtype}, expected bool or numbers")
    truth, found = (array > 0 for array in held)
    if truth.shape != found.shape or truth.ndim < 2:
        raise DatasetError(f"the prediction is {found.shape}, expected the shape of the mask, {truth.shape}")
    rng = np.random.default_rng(seed)
    points = np.full((*truth.shape[:-2], 2), -1, np.float32)
    labels = np.full(truth.shape[:-2], -1, np.int64)
    for at in np.ndindex(truth.shape[:-2]):
        wrong = truth[at] != found[at]
        if not wrong.any():
            continue
        if how == "random":
            place = int(rng.choice(np.flatnonzero(wrong)))
        else:  # missed and too much are regions of their own
            depths = [
                cv2.distanceTransform(np.pad(part, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
                for part in (wrong & found[at], wrong & truth[at])  # of equals the first
            ]
            place = int(max(depths, key=np.max)[1:-1, 1:-1].argmax())
        row, column = divmod(place, wrong.shape[1])
        points[at], labels[at] = (column + 0.5, row + 0.5), truth[at][row, column]
    return (points, labels) if not hasattr(mask, "detach") else (_tensor(points), _tensor(labels))


def _coarsened(mask: npt.NDArray[np.bool_], change: Sequence[int]) -> npt.NDArray[np.bool_]:
    """A mask that is grown (or shrunk, below 0) and shifted to the right and down, by pixels."""
    grown, right, down = change
    side = 2 * abs(grown) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    rough = (cv2.dilate if grown > 0 else cv2.erode)(mask.astype(np.uint8), kernel)
    rough = rough if rough.any() else mask.astype(np.uint8)
    shifted = cv2.warpAffine(
        rough, np.array([[1.0, 0, right], [0, 1, down]]), mask.shape[::-1], flags=cv2.INTER_NEAREST
    )
    return (shifted if shifted.any() else rough).astype(np.bool_)


_PROMPTS_OF_IMAGES: Final = frozenset({"boxes", "points", "point_labels", "scribbles", "texts"})


# --- rows -------------------------------------------------------------------------------------------------------------
# From a piece to rows: samples are read, checked against the contract, resized as their `Output` says, and become a row
# per image or per mask.


class _Sample(typing.NamedTuple):
    """A sample as it was read.

    Attributes:
        image: PNG file, or what a cache keeps.
        mask: The same.
        record: Metadata.
        annotated: Classes that somebody looked for in the image.
        volume: Lowest and highest source value of its volume, where that is asked.
        phrases: Class -> what it is in plain English.
    """

    image: bytes | Fitted
    mask: bytes | Fitted
    record: dict[str, Any]
    annotated: list[str] | None
    volume: tuple[float, float] | None = None
    phrases: Mapping[str, str] = types.MappingProxyType({})


@dataclass(frozen=True)
class _Reading:
    """How samples become rows. Attributes: see `load`, and ``repeats``: class name -> how often a sample comes."""

    place: _Place
    wanted: _Wanted
    prompts: Prompts | None = None
    output: Output | None = None
    shuffle: int | None = None
    repeats: tuple[tuple[str, float], ...] = ()


def _keep_freed_memory() -> None:
    """Let the C library keep memory that arrays free for the next arrays, up to 64 MB at the end of its heap.

    What it gives back to the system comes again page by page, which takes longer than to copy an image into it. What it
    keeps it learns from the largest block that was freed, up to 32 MB (``mallopt(3)``, M_MMAP_THRESHOLD). No page of
    this block is ever touched, and C libraries without such a rule do as before.
    """
    np.empty(_MEASURE, np.uint8)


_MEASURE: Final = (1 << 25) - (1 << 13)
"""Bytes: below 32 MB with what the library adds for itself."""


def _rows(pieces: Sequence[_Piece], reading: _Reading) -> Iterator[dict[str, Any]]:
    """What `load` hands to `datasets`: rows whose pictures are files."""
    _keep_freed_memory()
    rows = _rows_of_pieces(pieces, reading)
    output = reading.output
    yield from rows if output is None or output.threads == 1 else _decoded_ahead(rows, reading, output)


def _decoded_ahead(rows: Iterable[dict[str, Any]], reading: _Reading, output: Output) -> Iterator[dict[str, Any]]:
    """The same rows, whose pictures threads decode meanwhile.

    It happens here and not where rows are taken out, because `datasets` counts the rows that come from here: a run that
    is resumed misses none.
    """
    pictures = _pictures(reading.wanted.view, output, reading.prompts)
    waiting = collections.deque[dict[str, Any]]()
    with futures.ThreadPoolExecutor(output.threads) as threads:
        try:
            for row in rows:
                for name, column in pictures.items():
                    row[name] = _Started(row[name], threads.submit(column.decode_example, row[name]))
                waiting.append(row)
                if len(waiting) > _AHEAD_OF_THREAD * output.threads:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:  # rows that were given may wait in a buffer, so nothing of theirs is cancelled
            for row, name in itertools.product(waiting, pictures):
                row[name].shown.cancel()


def _refuse_threads(unfit: str | None) -> None:
    """Refuse threads where they could do nothing: beside some argument of `load`, and with an earlier `datasets`."""
    if unfit is not None:
        raise DatasetError(f"threads is for streams of PNG, but load has {unfit}")
    if int(datasets.__version__.split(".")[0]) < 5:
        raise DatasetError(
            f"threads needs datasets 5 or newer, this is {datasets.__version__}, which makes tables of rows before it "
            "decodes them; update it, or leave threads out"
        )


@functools.lru_cache(maxsize=16)
def _pictures(view: View, output: Output, prompts: Prompts | None) -> dict[str, Any]:
    columns = features(view, output, prompts)
    return {name: columns[name] for name in ("image", "mask", "coarse") if name in columns}


_AHEAD_OF_THREAD: Final = 4
"""Rows that wait for each thread, or are decoded and wait to be taken."""


def _rows_of_pieces(pieces: Sequence[_Piece], reading: _Reading) -> Iterator[dict[str, Any]]:
    view = reading.wanted.view
    classes = view.classes if isinstance(view, Semantic) else None
    numbers = {label: number for number, label in enumerate(classes or LABELS, 1)}
    repeats = dict(reading.repeats)
    depths: set[bool] = set()
    for piece in pieces:
        samples = itertools.chain.from_iterable(_samples(reading, *run) for run in piece.runs)
        if reading.wanted.stacked:
            for _, stack in itertools.groupby(samples, key=lambda sample: sample.record["key"].rpartition("_")[0]):
                yield from _rows_of_stack(reading, list(stack))
            continue
        for sample in samples if reading.shuffle is None else _mixed(samples, reading.shuffle):
            _refuse_mixed_depths(depths, reading, sample.record)
            for _ in range(_times(sample.record, repeats) if repeats else 1):
                record = copy.deepcopy(sample.record) if repeats else sample.record
                yield from _rows_of(reading, numbers, sample._replace(record=record))


def _refuse_mixed_depths(depths: set[bool], reading: _Reading, record: Mapping[str, Any]) -> None:
    """Refuse values of 8 and of 16 bit in rows that batches are made of; ``depths`` are those so far."""
    output = reading.output
    if output is None or output.window is not None or not _batched(reading.wanted.view, output):
        return
    depths.add(record["intensity"]["scaling"] == "lossless")
    if len(depths) > 1:
        raise DatasetError(
            f"{record['key']}: some sources here were built 'lossless' in 16 bit, others in 8, which make no batch; "
            "say which values become 0 to 255 with window ('slice' fits all), or name sources of one kind"
        )


def _mixed(samples: Iterable[_Sample], seed: int) -> list[_Sample]:
    """The samples of a piece in random order, which seed and samples alone decide."""
    held = list(samples)
    return [held[at] for at in _order_of(held[0].record["key"], len(held), seed)] if held else []


def _order_of(first: str, count: int, seed: int) -> npt.NDArray[np.int64]:
    """A random order of so many samples, the first of which has this key."""
    digest = hashlib.sha256(first.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")]).permutation(count)


def _samples(reading: _Reading, shard: _Shard, start: int, stop: int | None) -> Iterator[_Sample]:
    """Image, label map and metadata of the wanted samples of a shard."""
    environment = reading.place.environment
    found = _chosen(reading.place, shard, reading.wanted, environment)
    start, stop = found.samples(start, stop)
    places, spans = found.places[start:stop], _spans(found.places[start:stop])
    after = _spans(found.places[stop:][:_PIECE]) if found.ahead.follows(start, stop) else []
    datas = _read_spans(reading.place, shard.path, spans, after, found.ahead)
    ranges = itertools.repeat(None, len(spans)) if found.ranges is None else found.ranges[start:stop]
    for key, row, span, data, volume in zip(found.keys[start:stop], places.tolist(), spans, datas, ranges, strict=True):
        image, mask, text = (data[row[at] - span.start :][: row[at + 1]] for at in (0, 2, 4))
        where = functools.partial("{}: {}: {}.json".format, reading.place.name, shard.path, key)
        pictures = image[:8] == mask[:8] == _PNG_SIGNATURE and text[:1] == b"{"
        record = _parsed(text, where()) if pictures else {}
        if record.get("key") != key:
            raise DatasetError(
                f"{reading.place.name}: {shard.path} does not hold {key} at byte {span.start}, where its index says: "
                "the shard was replaced or damaged, or the index is older; fetch both again, or run "
                f"{reading.place.command('index')}"
            )
        try:
            _refuse_malformed(record, image, mask)
        except DatasetError as error:
            raise DatasetError(f"{where()}: {error}") from None
        yield _sample(reading, shard, (image, mask), record, volume)


def _sample(
    reading: _Reading,
    shard: _Shard,
    pictures: tuple[bytes | Fitted, bytes | Fitted],
    record: dict[str, Any],
    volume: tuple[float, float] | None = None,
) -> _Sample:
    """A sample whose record knows what is absent, and has the wanted masks only."""
    classes = _source_classes(reading.place, shard.path, shard.stamp, reading.place.environment)
    annotated = _annotated(classes, record)
    record["absent"] = _absent(annotated, record)
    if reading.wanted.over_masks:
        record["masks"] = [entry for entry in record["masks"] if reading.wanted.keeps(entry)]
    record["masks"] += _negatives(reading.wanted, classes, record["key"], record["absent"])
    phrases = {} if reading.prompts is None else _phrases(reading.place, shard.path, shard.stamp)
    return _Sample(*pictures, record, annotated, volume, phrases)


def _spans(places: npt.NDArray[np.int64]) -> list[_Span]:
    """From the first to the last byte of each sample."""
    starts, ends = places[:, ::2].min(axis=1), (places[:, ::2] + places[:, 1::2]).max(axis=1)
    return [_Span(*pair) for pair in zip(starts.tolist(), ends.tolist(), strict=True)]


_READABLE_SCHEMAS: Final = (1, 2)
_INT64: Final = range(-(2**63), 2**63)
_IN_WORDS: Final = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a record",
}


@functools.cache
def _json_types(of: type) -> dict[str, tuple[type, ...]]:
    """Field of a metadata dataclass -> what JSON may hold there."""
    kinds: dict[str, tuple[type, ...]] = {"string": (str,), "int64": (int,), "float64": (float, int), "bool": (bool,)}
    optional = {field.name for field in fields(of) if "None" in str(field.type)}
    found = {}
    for name, described in metadata_types(of).items():
        own = kinds[described] if isinstance(described, str) else (type(described),)
        found[name] = (*own, type(None)) if name in optional else own
    return found


@functools.lru_cache(maxsize=1024)
def _wrong_field(of: type, names: tuple[str, ...], kinds: tuple[type, ...]) -> tuple[str, str] | None:
    """First field of another type than it should have, and what was expected; a new field of a later schema is none."""
    held = dict(zip(names, kinds, strict=True))
    for name, allowed in _json_types(of).items():
        missing = name not in held and name in _FIRST_FIELDS[of]
        if missing or held.get(name, allowed[0]) not in allowed:
            return name, " or ".join(_IN_WORDS.get(kind, "null") for kind in allowed)
    return None


_FIRST_FIELDS: Final[dict[type, frozenset[str]]] = {
    Metadata: frozenset(
        """
        key source modality submodality license patient case split plane axis index height width spacing stored_axes
        schema intensity image_file masks
        """.split()  # noqa: SIM905 - names are read as text
    ),
    Mask: frozenset(field.name for field in fields(Mask)),
    Intensity: frozenset(field.name for field in fields(Intensity)) - {"clipped"},
    Dropped: frozenset({"masks", "pixels"}),
}
"""Fields of schema 1, which every sample has."""


def _refuse_wrong_types(of: type, values: Mapping[str, Any]) -> None:
    wrong = _wrong_field(of, tuple(values), tuple(map(type, values.values())))
    if wrong is not None:
        name, expected = wrong
        got = repr(values[name])[:80] if name in values else "nothing"
        raise DatasetError(f"{name}: expected {expected}, got {got}")


def _refuse_malformed(record: dict[str, Any], image: bytes, mask: bytes) -> None:
    """Check what a sample's metadata says, and that its pictures have the size it says, before they are decoded."""
    _refuse_wrong_types(Metadata, record)
    if record["schema"] not in _READABLE_SCHEMAS:
        raise DatasetError(
            f"schema: expected {' or '.join(map(str, _READABLE_SCHEMAS))}, got {record['schema']}: it was built by a "
            "later release; update sa-med2d-20m"
        )
    _refuse_wrong_parts(record)
    height, width = _png_size(image)
    rows, columns = _png_size(mask)
    if (record["height"], record["width"]) != (height, width) or not width * height:
        raise DatasetError(
            f"height and width: expected those of its image, {height} x {width}, got "
            f"{record['height']!r:.80} x {record['width']!r:.80}"
        )
    if columns != width or rows % height or not rows:
        raise DatasetError(f"its label map is {rows} x {columns}, expected layers of {height} x {width} pixels")
    largest = 255 if mask[24:25] == b"\x08" else 65535
    held = record["masks"]
    for at, entry in enumerate(held):
        try:
            _refuse_malformed_mask(entry, (rows // height, height, width), largest)
        except DatasetError as error:
            raise DatasetError(f"masks[{at}]: {error}") from None
    different = len({(entry["layer"], entry["id"]) for entry in held})
    if different != len(held):
        raise DatasetError(f"masks: expected each id once in its layer, got {len(held)} masks with {different} of them")


def _refuse_wrong_parts(record: Mapping[str, Any]) -> None:
    """Check the parts of fields that have some, and what does not fit into 64 bit; schema 1 has fewer fields."""
    dropped = record.get("dropped", _NOTHING_DROPPED)
    for name, of, values in (("intensity", Intensity, record["intensity"]), ("dropped", Dropped, dropped)):
        try:
            _refuse_wrong_types(of, values)
        except DatasetError as error:
            raise DatasetError(f"{name}: {error}") from None
    counted = {name: record.get(name) for name in ("index", "slices")}
    counted["intensity.clipped"] = record["intensity"].get("clipped")
    for name, count in (counted | {f"dropped.{name}": dropped[name] for name in ("masks", "pixels")}).items():
        if count is not None and count not in _INT64:
            raise DatasetError(f"{name}: expected a number of 64 bit, got one of {count.bit_length()} bit")
    for name, (amount, in_words) in _NUMBERS.items():
        numbers = record.get(name)
        if numbers is not None and (len(numbers) != amount or any(type(one) not in (int, float) for one in numbers)):
            raise DatasetError(f"{name}: expected {in_words} numbers or null, got {numbers!r:.80}")
    for name, listed in (("not_annotated", record.get("not_annotated")), ("dropped.labels", dropped.get("labels"))):
        if any(type(label) is not str for label in listed or ()):
            raise DatasetError(f"{name}: expected a list of labels, got {listed!r:.80}")


def _refuse_malformed_mask(entry: Any, shape: tuple[int, int, int], largest: int) -> None:
    """Of each mask of each row: a call costs more than a check."""
    if type(entry) is not dict:
        raise DatasetError(f"expected the fields of a mask, got {entry!r:.80}")
    if _wrong_field(Mask, tuple(entry), tuple(map(type, entry.values()))) is not None:
        _refuse_wrong_types(Mask, entry)
    if list(map(type, entry["bbox"])) != _BOX or min(entry["bbox"]) < 0:
        raise DatasetError(f"bbox: expected four whole numbers from 0 on, got {entry['bbox']!r:.80}")
    x, y, width, height = entry["bbox"]
    if not (x + width <= shape[2] and y + height <= shape[1] and 0 <= entry["layer"] < shape[0]):
        _refuse_outside(entry, shape)
    if not 0 < entry["id"] <= largest:
        raise DatasetError(f"id: expected 1 to {largest}, got {entry['id']!r:.80}")
    if not 0 < entry["area"] <= width * height:
        raise DatasetError(f"area: expected 1 to what its bbox holds, {entry['bbox']}, got {entry['area']!r:.80}")
    if not 0 <= entry["instance"] < 2**63:
        raise DatasetError(f"instance: expected 0 or more, in 64 bit, got {entry['instance']!r:.80}")


_BOX: Final = [int] * 4
_NOTHING_DROPPED: Final = {"masks": 0, "pixels": 0}
_NUMBERS: Final = {"spacing": (2, "two"), "origin": (3, "three"), "direction": (9, "nine")}
"""Field -> how many numbers it has, and the same in words."""


def _png_size(data: bytes) -> tuple[int, int]:
    """Height and width by the header."""
    width, height = struct.unpack(">II", data[16:24].ljust(8, b"\0"))
    return height, width


def _times(record: Mapping[str, Any], repeats: Mapping[str, float]) -> int:
    """How often a sample comes: as often as its rarest class asks, the fraction by chance that its key decides."""
    factor = max((repeats[entry["label"]] for entry in record["masks"] if entry["area"]), default=1.0)
    chance = int.from_bytes(hashlib.sha256(record["key"].encode()).digest()[:8], "big") / 2**64
    return int(factor) + (chance < factor % 1)


def _rows_of(reading: _Reading, numbers: Mapping[str, int], sample: _Sample) -> Iterator[dict[str, Any]]:
    view, output, record = reading.wanted.view, reading.output, sample.record
    image: Any = sample.image if output is None else _stored_image(output, sample)
    label_map: Any = sample.mask
    if isinstance(view, Semantic):
        label_map = _semantic(view, numbers, sample)
    elif output is not None and view == "image":
        finished = isinstance(sample.mask, Fitted) and not sample.mask.lost
        parts = [] if finished else [[entry["layer"], entry["id"], entry["id"]] for entry in record["masks"]]
        label_map = {"png": sample.mask, "height": record["height"], "ground": 0, "parts": parts}
    fit = None if output is None else output.fit(_size(record))
    own = {} if fit is None else _resized(record, fit)
    finish = _without_nulls if _batched(view, output) else dict
    if isinstance(view, Masks):
        for entry in record.pop("masks"):
            parts = [[entry["layer"], entry["id"], 1]] if entry["area"] else []
            painted = {"png": sample.mask, "height": record["height"], "ground": 0, "parts": parts}
            shown, asked = _seen(reading, sample, fit, [entry])
            if not shown:
                continue
            drawn = asked[0] if asked else {}
            if "coarse" in drawn:
                drawn["coarse"] = {**painted, "change": drawn["coarse"]}
            spacing = record["spacing"] and list(record["spacing"])
            apart = {"intensity": dict(record["intensity"]), "spacing": spacing}
            yield finish({"image": image, "mask": painted, **record, **apart, **own, **shown[0], **drawn})
        return
    shown, asked = _seen(reading, sample, fit, record["masks"])
    columns = {} if reading.prompts is None else reading.prompts.columns
    drawn = {of_many: [one[name] for one in asked] for name, (of_many, _) in columns.items()}
    if len(shown) < len(record["masks"]):
        own["dropped"] = _with_vanished(record, shown)
    yield finish({"image": image, "mask": label_map, **record, **own, "masks": shown, **drawn})


def _size(record: Mapping[str, Any]) -> tuple[int, int]:
    return record["height"], record["width"]


def _stored_image(output: Output, sample: _Sample) -> dict[str, Any]:
    """What a column of `FittedPixels` keeps of an image."""
    scale = sample.record["intensity"]
    window = _window_of(output, sample.record, sample.volume or (scale["min"], scale["max"]))
    low, high = window or (None, None)
    return {
        "png": sample.image,
        "slope": float(scale["slope"]),
        "intercept": float(scale["intercept"]),
        "low": low,
        "high": high,
    }


def _resized(record: Mapping[str, Any], fit: _Fit) -> dict[str, Any]:
    """Fields of a sample that another size changes."""
    own: dict[str, Any] = {"height": fit.size[0], "width": fit.size[1], "original_size": list(fit.stored)}
    if record["spacing"] is not None:
        sides = zip(record["spacing"], fit.stored, fit.scaled, strict=True)
        own["spacing"] = [spacing * old / new for spacing, old, new in sides]
    return own


def _seen(
    reading: _Reading, sample: _Sample, fit: _Fit | None, entries: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Masks as rows show them, and what prompts draw for each, or nothing."""
    if fit is None and reading.prompts is None:
        return entries, []
    parts = ((entry["layer"], entry["id"]) for entry in entries if entry["area"])
    layers = _shown_layers(reading.output, sample.mask, sample.record["height"], parts)
    refitted = sample.mask.refitted if isinstance(sample.mask, Fitted) else _refitted
    shown = entries if fit is None else refitted(entries, layers, fit)
    if reading.prompts is None:
        return shown, []
    key, modality = sample.record["key"], sample.record["modality"]
    phrases = [sample.phrases.get(entry["label"]) or entry["label"].replace("_", " ") for entry in shown]
    return shown, [
        reading.prompts.draw(key, entry, layers, phrase, modality) for entry, phrase in zip(shown, phrases, strict=True)
    ]


def _refitted(entries: Iterable[Mapping[str, Any]], layers: npt.NDArray[Any], fit: _Fit) -> list[dict[str, Any]]:
    """Masks with their boxes and areas in another size, without those of which nothing is left."""
    if fit.keeps_places:
        return [dict(entry) for entry in entries]
    shown = []
    for entry in entries:
        box = _fitted_box(entry, layers, fit) if entry["area"] else [*entry["bbox"], 0]
        if box[4] or not entry["area"]:
            shown.append({**entry, "bbox": box[:4], "area": box[4]})
    return shown


def _fitted_box(entry: Mapping[str, Any], layers: npt.NDArray[Any], fit: _Fit) -> list[int]:
    """Box and area of a mask in another size: x, y, width, height and pixels; all 0 where nothing of it is left."""
    region = fit.region(entry["bbox"])
    found = (layers[entry["layer"]][region] == entry["id"]).astype(np.uint8)
    area = int(np.count_nonzero(found))
    if not area:
        return [0] * 5
    left, top, width, height = cv2.boundingRect(found)
    return [region[1].start + left, region[0].start + top, width, height, area]


def _with_vanished(record: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the area rule and another size left out together."""
    left = {(entry["layer"], entry["id"]) for entry in shown}
    gone = [entry for entry in record["masks"] if (entry["layer"], entry["id"]) not in left]
    dropped = record.get("dropped", _NOTHING_DROPPED)
    labels = dict.fromkeys([*dropped.get("labels", ()), *(entry["label"] for entry in gone)])
    return {
        "masks": dropped["masks"] + len(gone),
        "pixels": dropped["pixels"] + sum(entry["area"] for entry in gone),
        "labels": list(labels),
    }


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in row.items() if value is not None and name not in _RAGGED}
    clipped = {"clipped": 0} if "clipped" not in row["intensity"] else {}
    unknown = _UNKNOWN if "organ" not in row else {**_UNKNOWN, "organ": ""}  # which rows of single masks have
    return {**unknown, **known, "intensity": {**row["intensity"], **clipped}}


def collate(rows: Sequence[Mapping[str, Any]], *, masks: bool = True) -> dict[str, Any]:
    """A batch of rows of any view, for ``DataLoader(..., collate_fn=collate)``.

    What has one shape in all rows is stacked, and other values are lists. Of rows of images and of clips the masks are
    stacked too, those of all images one after another.

    Args:
        rows: Of `load`, with images of one size.
        masks: Take rows apart into single masks where they have a label map and a list of masks; False for rows of
            class maps that have such a list.

    Returns:
        Column -> (B, ...) array, or tensor where images are tensors; or a list of B values. Where rows are taken apart,
        ``mask`` is (N, H, W) bool with the N masks of all images, or (N, Z, H, W) with those of all clips, ``owner``
        (N,) int64 says which image of the batch each belongs to, ``masks`` lists their N entries, and ``boxes``,
        ``points`` and ``point_labels`` have N rows.

    Raises:
        DatasetError: There is no row, images differ in size or type, or a label map is none.
    """
    if not rows:
        raise DatasetError("a batch needs at least one row, got none")
    for row in rows:
        if not isinstance(row, Mapping) or not hasattr(row.get("image"), "shape"):
            raise DatasetError(f"a batch is made of rows of load with arrays or tensors, got {row!r:.80}")
        if row.keys() != rows[0].keys():
            raise DatasetError(
                f"rows of a batch differ in columns: {', '.join(sorted(row))}, and {', '.join(sorted(rows[0]))}"
            )
    shapes = sorted({tuple(row["image"].shape) for row in rows})
    if len(shapes) > 1:
        advice = "load them with decode=Output(size=...)" + ", as clips" * ("indices" in rows[0])
        raise DatasetError(f"images of a batch differ in size: {', '.join(map(str, shapes))}; {advice}")
    types_of = sorted({str(row["image"].dtype) for row in rows})
    if len(types_of) > 1:
        raise DatasetError(
            f"images of a batch differ in type: {', '.join(types_of)}; some sources were built 'lossless' in 16 bit: "
            "load them with decode=Output(window=...)"
        )
    tensors = hasattr(rows[0]["image"], "detach")
    batch = {name: _stacked([row[name] for row in rows], tensors) for name in rows[0]}
    if masks and isinstance(rows[0].get("masks"), list):
        stacks = [decode_masks(row) for row in rows]
        batch["mask"] = _as_kind(np.concatenate(stacks), tensors)
        batch["owner"] = _as_kind(np.repeat(np.arange(len(rows)), [len(stack) for stack in stacks]), tensors)
        batch["masks"] = [entry for row in rows for entry in row["masks"]]
        for name in _PROMPTS_OF_IMAGES & batch.keys():
            batch[name] = _stacked([value for row in rows for value in row[name]], tensors)
    return batch


def _stacked(values: list[Any], tensors: bool) -> Any:
    """Numbers and arrays of one shape as one array or tensor; else the values."""
    arrays = [value.numpy() if hasattr(value, "detach") else value for value in values]
    if any(value is None or isinstance(value, str | dict) for value in arrays):
        return values
    try:
        stack = np.stack([np.asarray(value) for value in arrays])
    except ValueError:  # they differ in shape
        return values
    if stack.dtype.kind not in "biuf" or not stack.size:
        return values
    return _as_kind(stack.astype(np.float32) if stack.dtype == np.float64 else stack, tensors)


def _as_kind(array: npt.NDArray[Any], tensors: bool) -> Any:
    return _tensor(array) if tensors else array


def _semantic(view: Semantic, numbers: Mapping[str, int], sample: _Sample) -> dict[str, Any]:
    """What to paint for a class map: whoever wins an overlap comes last."""
    record, ground = sample.record, 0
    if view.ignore:
        if sample.annotated is None:
            files = " or ".join(f"{folder}/{record['source']}.json" for folder in DESCRIPTIONS)
            raise DatasetError(
                f"{record['key']}: nothing says which classes its source annotates, which ignore asks for: there is no "
                f"{files}, or the sample is of an earlier schema"
            )
        ground = 0 if numbers.keys() <= set(sample.annotated) else IGNORE
    entries = [entry for entry in record["masks"] if entry["label"] in numbers]
    if view.classes is None and len(entries) < len(record["masks"]):
        unknown = next(entry["label"] for entry in record["masks"] if entry["label"] not in numbers)
        raise DatasetError(
            f"{record['key']}: {unknown!r} is no class of the vocabulary, so it has no number in a semantic map; name "
            "the classes that you want with Semantic(classes=[...])"
        )
    if isinstance(view.overlap, tuple):
        rank = {label: -at for at, label in enumerate(view.overlap)}
        entries.sort(key=lambda entry: (rank.get(entry["label"], -len(rank)), -entry["area"], entry["id"]))
    else:
        sign = -1 if view.overlap == "small" else 1
        entries.sort(key=lambda entry: (sign * entry["area"], entry["id"]))
    parts = [[entry["layer"], entry["id"], numbers[entry["label"]]] for entry in entries]
    return {"png": sample.mask, "height": record["height"], "ground": ground, "parts": parts}


# --- volumes and clips ------------------------------------------------------------------------------------------------
# The slices of an image along an axis as one row. Objects get one number through all slices.

_NOT_OF_STACKS: Final = {"index", "intensity", "masks"}
"""Fields of `Metadata` that each slice has for itself."""


def _stack_types(output: Output) -> dict[str, Any]:
    record = {name: kind for name, kind in metadata_types().items() if name not in _NOT_OF_STACKS}
    mask = {name: kind for name, kind in metadata_types(Mask).items() if name not in ("instance", "bbox")}
    own = {
        "indices": ["int64"],
        "affine": [["float64"]],
        "absent": ["string"],
        "masks": [{**mask, "slices": ["int64"]}],
    }
    return {**record, **own, **({} if output.size is None else {"original_size": ["int64"]})}


def _rows_of_stack(reading: _Reading, stack: list[_Sample]) -> Iterator[dict[str, Any]]:
    """A volume, or its clips, of the slices of one image along one axis."""
    stack.sort(key=lambda sample: sample.record["index"])
    records = [sample.record for sample in stack]
    numbers = [record["index"] for record in records]
    slices = records[0].get("slices") or numbers[-1] + 1
    different = len({(record["height"], record["width"], record.get("slices")) for record in records}) > 1
    if different or len(set(numbers)) < len(numbers) or not 0 <= numbers[0] <= numbers[-1] < slices:
        raise DatasetError(f"{records[0]['key']}: expected slices of one volume, of one size and each once")
    linked, view = _linked(stack), reading.wanted.view
    for run in view.runs(numbers) if isinstance(view, Clip) else [range(len(stack))]:
        yield _stack_row(reading, stack, run, linked, slices)


def _stack_row(
    reading: _Reading,
    stack: Sequence[_Sample],
    run: range,
    linked: tuple[Sequence[Sequence[int]], Mapping[int, int]],
    slices: int,
) -> dict[str, Any]:
    """The row of some slices of a stack, by their places in it; ``linked`` is what `_linked` says of all."""
    view, output = reading.wanted.view, reading.output or Output()
    clip = view if isinstance(view, Clip) else None
    depth = slices if clip is None else clip.length
    objects, layers = linked
    chosen = [stack[at] for at in run]
    records = [sample.record for sample in chosen]
    first = records[0]
    indices = [record["index"] for record in records]
    places = indices if clip is None else list(range(depth))
    shared = copy.deepcopy({name: value for name, value in first.items() if name not in _NOT_OF_STACKS})
    key = first["key"].rpartition("_")[0] if clip is None else first["key"]
    labels = dict.fromkeys(label for record in records for label in record.get("dropped", {}).get("labels", ()))
    dropped: dict[str, Any] = {
        name: sum(record.get("dropped", _NOTHING_DROPPED)[name] for record in records) for name in _NOTHING_DROPPED
    }
    dropped["labels"] = list(labels)
    found: dict[int, dict[str, Any]] = {}
    parts: list[list[list[int]]] = []
    for at, record in zip(run, records, strict=True):
        parts.append([])
        for entry, number in zip(record["masks"], objects[at], strict=True):
            parts[-1].append([entry["layer"], entry["id"], number, layers[number]])
            known = {name: entry[name] for name in ("label", "class_id", "organ", "group")}
            own = found.setdefault(
                number, {"id": number, "layer": layers[number], **known, "area": 0, "slices": [record["index"]] * 2}
            )
            own["area"] += entry["area"]
            own["slices"] = [own["slices"][0], record["index"]]
    masks = [found[number] for number in sorted(found)]
    size = {"depth": depth, "height": first["height"], "width": first["width"]}
    size["layers"] = 1 + max((entry["layer"] for entry in masks), default=0)
    fit = output.fit(_size(first))
    if fit is not None:
        shared |= _resized(first, fit)
        painted = (
            _painted_objects(output, sample.mask, first["height"], own, size["layers"])
            for sample, own in zip(chosen, parts, strict=True)
        )
        whole, masks = masks, _measured(masks, zip(indices, painted, strict=True))
        dropped = _with_vanished({"masks": whole, "dropped": dropped}, masks)
    image = {"slices": [_stored_image(output, sample) for sample in chosen], "at": places, "depth": depth}
    mask = {"pngs": [sample.mask for sample in chosen], "at": places, **size, "parts": parts}
    never = [set(record["absent"]) for record in records if record["absent"] is not None]
    absent = [label for label in first["absent"] or () if all(label in one for one in never)]
    return {
        **shared,
        "key": key,
        "image": image,
        "mask": mask,
        "dropped": dropped,
        "indices": indices,
        "affine": _affine(first, 0 if clip is None else indices[0], 1 if clip is None else clip.stride, fit),
        "absent": absent if len(never) == len(records) else None,
        "masks": masks,
    }


def _measured(
    objects: Sequence[dict[str, Any]], slices: Iterable[tuple[int, npt.NDArray[np.uint16]]]
) -> list[dict[str, Any]]:
    """Objects as they are in another size, without those that are lost; slices are pairs: number, what is painted."""
    held: dict[int, tuple[int, int, int]] = {}
    for index, painted in slices:
        counts = np.bincount(painted.ravel())
        for number in np.flatnonzero(counts).tolist():
            area, first, _ = held.get(number, (0, index, index))
            held[number] = area + int(counts[number]), first, index
    kept = [(one, *held[one["id"]]) for one in objects if one["id"] in held]
    return [{**one, "area": area, "slices": [first, last]} for one, area, first, last in kept]


def _affine(record: Mapping[str, Any], index: int, step: int, fit: _Fit | None) -> list[list[float]] | None:
    """From voxel (column, row, slice) to RAS millimetres, 4 x 4: slices from one on, so many apart.

    Rows of coronal and sagittal slices run towards inferior, see ``docs/contract.md``. Of another size, the centre of
    pixel ``i`` lies at ``(start + i + 0.5) * old / new - 0.5`` among the stored ones.
    """
    held: list[Any] = [record.get(name) for name in ("origin", "direction", "spacing", "slice_spacing")]
    if any(value is None for value in held):
        return None
    origin, direction, spacing, slice_spacing = held
    axes = np.reshape(direction, (3, 3))
    column, row, along = {"x": (0, 1, 2), "y": (0, 2, 1), "z": (1, 2, 0)}[record["axis"]]
    steps = np.stack(
        [axes[:, column] * spacing[1], axes[:, row] * spacing[0], axes[:, along] * slice_spacing * step], 1
    )
    first = np.asarray(origin) + axes[:, along] * slice_spacing * index
    if record["axis"] != "x":
        first = first + steps[:, 1] * (record["height"] - 1)
        steps[:, 1] *= -1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, first
    if fit is not None:
        factors, start = np.divide(fit.stored, fit.scaled)[::-1], np.array(fit.start[::-1])
        affine[:3, 3] += affine[:3, :2] @ ((start + 0.5) * factors - 0.5)
        affine[:3, :2] *= factors
    return (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine).tolist()  # type: ignore[no-any-return]


def linked_objects(slices: Iterable[tuple[bytes, dict[str, Any]]]) -> list[list[int]]:
    """Objects of a volume, numbered as in volumes and clips, see `load`.

    Args:
        slices: Label map, a PNG file, and metadata of each slice, in the order of their ``index``.

    Returns:
        For each slice the object of each of its masks; objects count from 1.

    Raises:
        DatasetError: There are more objects than a volume may have.
    """
    return _linked([_Sample(b"", label_map, record, None) for label_map, record in slices])[0]


def _linked(stack: Sequence[_Sample]) -> tuple[list[list[int]], dict[int, int]]:
    """Objects of a volume out of the masks of its slices, alike whatever else is read.

    Two masks of one class in neighbouring slices belong together where they overlap, and one is what the other overlaps
    most (of equals, the first in its slice). So an object may split and merge, but two that only touch stay two.

    Returns:
        The number of the object of each mask of each slice, and the layer of each object. Objects count from 1, by
        class, then by their first slice and their place there; each lies in the first layer where it covers no other.
    """
    owner: dict[tuple[int, int], tuple[int, int]] = {}

    def root(part: tuple[int, int]) -> tuple[int, int]:
        while owner.get(part, part) != part:
            part = owner[part]
        return part

    clashes: list[tuple[tuple[int, int], tuple[int, int]]] = []
    before: list[npt.NDArray[np.int64]] = []
    for at, sample in enumerate(stack):
        layers = _numbered(sample)
        for one, other in itertools.combinations(layers, 2):
            clashes += [((at, first), (at, second)) for first, second, _ in _overlaps(one, other)]
        if at and stack[at - 1].record["index"] + 1 == sample.record["index"]:
            for earlier, later in _belonging(stack[at - 1], before, sample, layers):
                low, high = sorted((root((at - 1, earlier)), root((at, later))))
                owner[high] = low
        before = layers
    parts = [(at, number) for at, sample in enumerate(stack) for number in range(len(sample.record["masks"]))]
    roots = sorted(
        {root(part) for part in parts}, key=lambda part: (stack[part[0]].record["masks"][part[1]]["class_id"], part)
    )
    if len(roots) > _MOST_OBJECTS:
        raise DatasetError(
            f"{stack[0].record['key']}: its volume has {len(roots):,} objects, expected {_MOST_OBJECTS:,}"
        )
    numbers = {part: number for number, part in enumerate(roots, 1)}
    beside: dict[int, set[int]] = collections.defaultdict(set)
    for pair in clashes:
        first, second = sorted(numbers[root(part)] for part in pair)
        beside[second].add(first)
    layer_of: dict[int, int] = {}
    for number in numbers.values():
        taken = {layer_of[other] for other in beside[number] if other != number}
        layer_of[number] = next(layer for layer in itertools.count() if layer not in taken)
    objects = [[numbers[root((at, n))] for n in range(len(sample.record["masks"]))] for at, sample in enumerate(stack)]
    return objects, layer_of


_MOST_OBJECTS: Final = 65535


def _numbered(sample: _Sample) -> list[npt.NDArray[np.int64]]:
    """The layers of a label map with the place of each wanted mask among them, from 1, instead of its id; (H, W)."""
    layers = split_layers(_decoded_once(sample.mask), sample.record["height"])
    tables = [np.zeros(65536 if layers.dtype == np.uint16 else 256, np.int64) for _ in layers]
    for place, entry in enumerate(sample.record["masks"], 1):
        tables[entry["layer"]][entry["id"]] = place
    return [np.take(table, layer) for table, layer in zip(tables, layers, strict=True)]


def _overlaps(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Which masks of two layers share pixels: place of each among the masks of its slice, and how many pixels."""
    both = (one > 0) & (other > 0)
    pairs, counts = np.unique(one[both] << 32 | other[both], return_counts=True)
    shared = zip((pairs >> 32).tolist(), (pairs & (2**32 - 1)).tolist(), counts.tolist(), strict=True)
    return [(first - 1, second - 1, count) for first, second, count in shared]


def _belonging(
    earlier: _Sample, before: Iterable[npt.NDArray[np.int64]], later: _Sample, here: Sequence[npt.NDArray[np.int64]]
) -> list[tuple[int, int]]:
    """Masks of two neighbouring slices that belong together, by their places in each."""
    label = [[entry["class_id"] for entry in sample.record["masks"]] for sample in (earlier, later)]
    shared = collections.Counter[tuple[int, int]]()
    for one in before:
        for other in here:
            shared.update({(a, b): count for a, b, count in _overlaps(one, other) if label[0][a] == label[1][b]})
    ranked = sorted(shared, key=lambda pair: (-shared[pair], pair))
    best = [{pair[side]: pair for pair in reversed(ranked)} for side in (0, 1)]
    return sorted(set(best[0].values()) | set(best[1].values()))


# --- cache ------------------------------------------------------------------------------------------------------------

CACHE: Final = "cache.json"
"""File at the root of a cache that says what it keeps: `CacheSettings`."""
CACHE_FORMAT: Final = 2
"""Number of the layout of a cache. It changes when older ones can no longer be read."""
CACHE_PARTS: Final = ("images.npy", "layers.npy", "masks.npy", "places.npy", "records.jsonl")
"""What a cache has of each shard, ``{stem}.{part}``, before ``{stem}.json``, a `CacheReceipt`, says that it is whole.

Images are (N, H, W) or (N, H, W, 3). Layers are those of all label maps, (L, H, W). Masks are (M, 14) int64, with the
columns `CACHE_COLUMNS`. Places are (N + 1, 4) int64: where the metadata of a sample begins in the shard, where its line
begins in the records, and which layer and which mask are its first. The last line of the records lists the classes.
"""
CACHE_COLUMNS: Final = (
    *("class", "instance", "area"),
    *("x", "y", "width", "height"),
    *("id", "layer", "fitted_x", "fitted_y", "fitted_width", "fitted_height", "fitted_area"),
)
"""Of the masks of a cache: place among the classes of the shard, fields of `Mask`, and box and area in the new size, of
which all are 0 where nothing of the mask is left. As numbers they are read three times as fast as out of JSON."""
CACHE_CLASS: Final = ("label", "class_id", "organ", "group")
"""Fields of `Mask` that the masks of a class have in common."""
_OPENED: Final = 128
"""Shards of a cache that are open at once, four files each: many systems allow 1,024."""


@dataclass(frozen=True)
class CacheSettings:
    """What the images and label maps of a cache have in common. Attributes: see `Output`, and ``format``."""

    size: tuple[int, int]
    resize: Resize = "pad"
    window: tuple[float, float] | str | None = None
    channels: Literal[1] | None = None
    format: int = CACHE_FORMAT

    @property
    def output(self) -> Output:
        """What it keeps."""
        return Output(self.size, self.resize, window=self.window, channels=self.channels)

    def command(self, out: str, folder: str, *more: str) -> str:
        """The command that makes such a cache, or goes on with it, as a shell takes it.

        Args:
            out: Output folder.
            folder: Of the cache.
            more: Further arguments.
        """
        window = self.window
        if isinstance(window, tuple):
            window = ",".join(str(value).removesuffix(".0") for value in window)
        words = ["cache", out, "--size", "{}x{}".format(*self.size)]
        words += [] if self.resize == "pad" else ["--resize", self.resize]
        words += [] if window is None else [f"--window={window}"]  # which may begin with a minus
        words += [] if self.channels is None else ["--grey"]
        return quoted_command(*words, *more, "--to", folder)

    def windows(self, scaling: str) -> bool:
        """Whether images that were built with this scaling can be kept so, see ``window`` of `Output`."""
        return _has_window(self.window, scaling)


@dataclass(frozen=True)
class CacheReceipt:
    """Says that a cache holds a shard, and which.

    Attributes:
        shard: Path of the shard without folder and suffix.
        index: SHA-256 of its index.
        tar: SHA-256 of the shard by the receipt of its build; null where there was none.
        samples: How many it has.
        layers: How many their label maps have together.
        bytes: Of the files that the cache has of it.
    """

    shard: str
    index: str
    tar: str | None
    samples: int
    layers: int
    bytes: int

    def is_of(self, index: str, tar: str | None) -> bool:
        """Whether it is of a shard as it is now, see `cache_stamp`: as far as its hash is known now and was then."""
        return self.index == index and (tar is None or self.tar is None or tar == self.tar)


@dataclass(frozen=True)
class Fitted:
    """A sample as a cache keeps it: decoded, and in the size of an `Output`.

    Attributes:
        image: (H, W) or (H, W, 3), with padding, before normalisation.
        layers: (layers, H, W), by nearest neighbour.
        stored: Height and width before.
        lost: Layer, id, row and column of masks that nearest neighbour loses, and of the pixel that each gets.
        boxes: Of each mask id, layer, x, y, width, height and area, the last five 0 where nothing of it is left.
    """

    image: npt.NDArray[Any]
    layers: npt.NDArray[Any]
    stored: tuple[int, int]
    lost: list[list[int]]
    boxes: list[list[int]]

    def finished(self, output: Output) -> Any:
        """The image as a row shows it, which may be written to."""
        fit = _fit(self.stored, output.sides or self.stored, output.resize)
        rows, columns = fit.size if output.normalise is None else map(min, fit.scaled, fit.size)
        pixels = self.image[:rows, :columns]
        shared = output.normalise is None and (pixels.ndim == 3 or output.channels == 1)
        return output.finished(pixels.copy() if shared else pixels, fit)

    def shown(self, parts: Iterable[Sequence[int]]) -> npt.NDArray[Any]:
        """The layers, of which parts, which begin with layer and id, are wanted."""
        if not self.lost:
            return self.layers
        layers, places = self.layers.copy(), {(at, number): (row, column) for at, number, row, column in self.lost}
        for layer, number, *_ in parts:
            if (layer, number) in places:
                layers[(layer, *places[layer, number])] = number
        return layers

    def refitted(self, entries: list[dict[str, Any]], layers: npt.NDArray[Any], fit: _Fit) -> list[dict[str, Any]]:
        """As `_refitted`; where no mask is lost, without looking, and in place: the entries are of one row."""
        if self.lost:
            return _refitted(entries, layers, fit)
        boxes = self.boxes
        if len(entries) != len(boxes):  # some are not wanted, or are of classes that are absent
            boxes = [self._box_of.get((entry["id"], entry["layer"]), []) for entry in entries]
        shown = []
        for entry, box in zip(entries, boxes, strict=True):
            if not entry["area"]:
                shown.append(entry)
            elif box[6]:
                entry["bbox"], entry["area"] = box[2:6], box[6]
                shown.append(entry)
        return shown

    @functools.cached_property
    def _box_of(self) -> dict[tuple[int, int], list[int]]:
        return {(box[0], box[1]): box for box in self.boxes}


def fitted_samples(out: str | Path, shard: str, settings: CacheSettings) -> Iterator[tuple[dict[str, Any], Fitted]]:
    """The samples of a shard as a cache keeps them, in their order, and their metadata.

    Args:
        out: Folder that was built.
        shard: Path of the shard below it.
        settings: Of the cache.

    Raises:
        DatasetError: As `load`.
    """
    place, output = _place(out, None, None, {}), settings.output
    reading = _Reading(place, _Wanted(ranges=output.window == "volume"), output=output)
    for sample in _samples(reading, _Shard(shard, _stamp(place, shard)), 0, None):
        record = {name: value for name, value in sample.record.items() if name != "absent"}
        yield record, _fitted(output, sample)


def _fitted(output: Output, sample: _Sample) -> Fitted:
    stored, record = _stored_image(output, sample), sample.record
    fit = _fit(_size(record), output.sides or _size(record), output.resize)
    pixels = output.scaled(_windowed(decode_png(stored["png"]), stored), fit)
    kept, lost = [], []
    for at, layer in enumerate(split_layers(decode_png(typing.cast("bytes", sample.mask)), record["height"])):
        scaled = fit.nearest(layer)
        (top, left), (rows, columns) = fit.start, fit.size
        for number, (row, column) in fit.vanished(
            layer, scaled, [e["id"] for e in record["masks"] if e["layer"] == at]
        ):
            if 0 <= row - top < rows and 0 <= column - left < columns:
                lost.append([at, number, row - top, column - left])
        kept.append(fit.padded(fit.cropped(scaled)))
    layers = np.stack(kept)
    boxes = [[entry["id"], entry["layer"], *_fitted_box(entry, layers, fit)] for entry in record["masks"]]
    return Fitted(fit.padded(pixels), layers, fit.stored, lost, boxes)


class _CachedShard(typing.NamedTuple):
    """What a cache has of a shard, see `CACHE_PARTS`."""

    images: npt.NDArray[Any]
    layers: npt.NDArray[Any]
    masks: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    records: mmap.mmap
    classes: list[dict[str, Any]]


class CachedRows:
    """Rows of `load` out of a cache, for a `torch.utils.data.DataLoader` or by number.

    ``rows[7]`` is a row, ``rows[2:5]`` and ``rows[[1, 5, 9]]`` are lists of them; negative numbers count from the end.

    Attributes:
        features: What the columns are.
    """

    def __init__(
        self,
        folder: str,
        settings: CacheSettings,
        shards: Sequence[_Shard],
        dealt: _Dealt,
        described: datasets.Features,
    ) -> None:
        self.features = described
        self._pictures = {name: column for name, column in described.items() if isinstance(column, _DECODED)}
        self._folder, self._root, self._settings = folder, str(Path(folder).absolute()), settings
        self._shards, self._reading = list(shards), dealt.reading
        self._receipts = self._read_receipts()
        view = dealt.reading.wanted.view
        classes = view.classes if isinstance(view, Semantic) else None
        self._numbers = {label: number for number, label in enumerate(classes or LABELS, 1)}
        held, samples, each = [], [], [numbers for _, numbers in dealt.samples]
        for at, (shard, (starts, _)) in enumerate(zip(self._shards, dealt.samples, strict=True)):
            cached = self._opened(at)
            if dealt.reading.output is not None and dealt.reading.output.channels == 1 and cached.images.ndim == 4:
                grey = self._command([shard], dataclasses.replace(settings, channels=1), f"{folder}-grey")
                raise DatasetError(
                    f"{folder} holds {shard.path} in colour, and channels is 1; {grey} makes one in grey"
                )
            held.append(np.full(len(starts), at, np.int32))
            samples.append(np.searchsorted(cached.places[:-1, 0], starts).astype(np.int32))
            if not np.array_equal(cached.places[samples[-1], 0], starts):
                raise self._damaged(at, DatasetError("expected the samples of the index, got others"))
        empty = [np.zeros(0, np.int32)]
        self._held, self._samples = np.concatenate(held or empty), np.concatenate(samples or empty)
        order = self._order(dealt, [len(numbers) for numbers in held])
        self._held, self._samples = self._held[order], self._samples[order]
        self._ends = np.cumsum(np.concatenate(each or empty)[order]) if isinstance(view, Masks) else None

    def __len__(self) -> int:
        return len(self._held) if self._ends is None else int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, number: Any) -> Any:
        if type(number) is int:
            return self._row(number)
        if isinstance(number, slice):
            number = range(*number.indices(len(self)))
        elif hasattr(number, "tolist"):  # of NumPy or torch
            number = number.tolist()
        if isinstance(number, Sequence) and not isinstance(number, str | bytes):
            return [self[one] for one in number]
        if isinstance(number, bool) or not hasattr(number, "__index__"):
            raise DatasetError(
                f"rows[{number!r:.80}] is no row; expected a number, rows[7], or several, rows[2:5] or rows[[1, 5]]; a "
                "column is that of a row, rows[7]['image']"
            )
        return self._row(operator.index(number))

    def _row(self, number: int) -> dict[str, Any]:
        at = number + (len(self) if number < 0 else 0)
        if not 0 <= at < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        within = 0
        if self._ends is not None:
            sample = int(np.searchsorted(self._ends, at, side="right"))
            within, at = at - (int(self._ends[sample - 1]) if sample else 0), sample
        return next(self._rows(at, within))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return itertools.chain.from_iterable(map(self._rows, range(len(self._held))))

    def _rows(self, at: int, first: int = 0) -> Iterator[dict[str, Any]]:
        record, fitted = self._sample(at)
        held = int(self._held[at])
        try:
            sample = _sample(self._reading, self._shards[held], (fitted, fitted), record)
            rows = _rows_of(self._reading, self._numbers, sample)
            for row in itertools.islice(rows, first, None) if first else rows:
                yield self._shown(row)
        except DatasetError:
            raise
        except (LookupError, TypeError, ValueError) as error:  # numbers that lead nowhere, fields that are not there
            raise self._damaged(held, error) from error

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = {name: row.get(name) for name in self.features}
        for name, picture in self._pictures.items():
            shown[name] = picture.decode_example(shown[name])
        return shown

    def _sample(self, at: int) -> tuple[dict[str, Any], Fitted]:
        """Metadata and pixels of a sample."""
        held = int(self._held[at])
        cached = self._opened(held)
        try:
            return _sample_of_cache(cached, int(self._samples[at]))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(held, error) from None

    def _opened(self, at: int) -> _CachedShard:
        try:
            return _opened_cache(self._root, self._receipts[at], self._settings)
        except Exception as error:  # of a header that is no Python NumPy raises what the tokenizer does
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):  # such as too many open files
                stem = self._receipts[at].shard
                raise DatasetError(f"{self._folder}: {stem} cannot be opened: {_reason_in_file(error)}") from None
            raise self._damaged(at, error) from None

    def _damaged(self, at: int, error: Exception) -> DatasetError:
        """What is said of a shard of a cache whose files are not what they should be."""
        path, reason = Path(self._folder, f"{self._receipts[at].shard}.json"), _reason_in_file(error)
        again = self._command([self._shards[at]])
        return DatasetError(f"{path}: its other files are damaged: {reason}; delete it, and run {again} again")

    def _read_receipts(self) -> list[CacheReceipt]:
        """The receipts of the shards in the cache.

        Raises:
            DatasetError: It does not hold all of them as they are.
        """
        place = self._reading.place
        found = list(_of_each(place, lambda shard: _cache_receipt(self._folder, place, shard), self._shards))
        wrong = [(shard, one) for shard, one in zip(self._shards, found, strict=True) if isinstance(one, str)]
        if wrong:
            others = f", nor {len(wrong) - 1} other shards as they are" if len(wrong) > 1 else ""
            again = self._command([shard for shard, _ in wrong])
            raise DatasetError(f"{self._folder} {wrong[0][1]} {wrong[0][0].path}{others}; run {again} again")
        return [one for one in found if isinstance(one, CacheReceipt)]

    def _command(self, shards: Sequence[_Shard], settings: CacheSettings | None = None, to: str = "") -> str:
        """The command that writes shards into the cache, or into another with other settings."""
        place, named = self._reading.place, [shard.path.split("/") for shard in shards]
        asked = {"--source": {parts[3] for parts in named}, "--split": {parts[4].partition("-")[0] for parts in named}}
        more = [word for option, values in asked.items() for value in sorted(values) for word in (option, value)]
        command = (settings or self._settings).command(place.folder, to or self._folder, *more)
        return command if place.local else f"{command}, with {place.name} downloaded to OUT,"

    def _order(self, dealt: _Dealt, counts: Sequence[int]) -> Any:
        """Places of the samples in the order in which they come, which is that of the rows without a cache."""
        if dealt.reading.shuffle is None:
            return slice(None)
        ends = itertools.accumulate(counts, initial=0)
        first = {shard.path: start for shard, start in zip(self._shards, ends, strict=False)}
        mixed = [np.zeros(0, np.int64)]
        for piece in dealt.pieces:
            runs = [first[shard.path] + np.arange(start, stop) for shard, start, stop in piece.runs]
            places = np.concatenate(runs)
            mixed.append(places[_order_of(self._sample(int(places[0]))[0]["key"], len(places), dealt.reading.shuffle)])
        return np.concatenate(mixed)


def _sample_of_cache(cached: _CachedShard, sample: int) -> tuple[dict[str, Any], Fitted]:
    """Metadata and pixels of a sample of a shard, by its number there."""
    (_, start, layer, mask), (_, end, last_layer, last_mask) = cached.places[sample : sample + 2].tolist()
    line = _parsed(cached.records[start:end], CACHE_PARTS[4])
    record, image, layers = line["metadata"], cached.images[sample], cached.layers[layer:last_layer]
    if line["types"] != [image.itemsize, layers.itemsize]:  # a shard may hold wider ones besides
        image, layers = (pixels.astype(f"u{size}") for pixels, size in zip((image, layers), line["types"], strict=True))
    columns = cached.masks[mask:last_mask]
    record["masks"], boxes = [], columns[:, 7:].tolist()
    rows = zip(columns[:, :3].tolist(), columns[:, 3:7].tolist(), boxes, strict=True)
    for (of, instance, area), bbox, box in rows:
        entry = cached.classes[of].copy()
        entry["id"], entry["layer"], entry["instance"] = box[0], box[1], instance
        entry["bbox"], entry["area"] = bbox, area
        record["masks"].append(entry)
    return record, Fitted(image, layers, _size(record), line["lost"], boxes)


def _settings_of_cache(folder: str | Path, path: str | Path, decode: Decode | Output) -> CacheSettings:
    """What a cache keeps.

    Raises:
        DatasetError: There is none; the message says how to make what is asked for.
    """
    try:
        return cache_settings(Path(folder, CACHE).read_bytes(), f"{folder}/{CACHE}")
    except NotADirectoryError:
        raise DatasetError(f"{folder} is no cache: a file is where its folder should be") from None
    except FileNotFoundError:
        asked = decode if isinstance(decode, Output) else Output()
        channels: Literal[1] | None = 1 if asked.channels == 1 else None
        settings = CacheSettings(asked.sides or (512, 512), asked.resize, asked.window, channels)
        command = settings.command(str(path) if Path(str(path)).is_dir() else "OUT", str(folder))
        raise DatasetError(f"{folder} is no cache: it has no {CACHE}; {command} makes one") from None
    except OSError as error:
        raise DatasetError(f"{folder}/{CACHE} cannot be read: {_reason_in_file(error)}") from None


def _decode_of_cache(folder: str | Path, settings: CacheSettings, decode: Decode | Output) -> Output:
    """What is asked of a cache, which must keep it; by default what it keeps.

    Raises:
        DatasetError: It keeps something else.
    """
    if not isinstance(decode, Output):
        _check_choice("decode", decode, typing.get_args(ArrayKind))
        return dataclasses.replace(settings.output, kind=typing.cast("ArrayKind", decode))
    for name, value in {**dataclasses.asdict(settings), "masks": "nearest"}.items():
        asked = getattr(decode, name, value)
        if asked != value and not (name == "channels" and value is None):
            raise DatasetError(f"{folder} keeps {name} {value!r}, and decode asks for {name} {asked!r}")
    return decode


def cache_settings(data: bytes, where: str) -> CacheSettings:
    """The settings of a cache.

    Raises:
        DatasetError: They are none that this version knows; the message begins with ``where``.
    """
    advice = "delete its folder, and make the cache anew: 'sa-med2d cache OUT --size SIZE --to DIR'"
    try:
        record = _parsed(data, where)
    except DatasetError as error:
        raise DatasetError(f"{error}; {advice}") from None
    if not isinstance(record, dict) or record.get("format") != CACHE_FORMAT:
        raise DatasetError(f"{where} is not of a cache that this version reads; {advice}")
    try:
        window = record["window"]
        record |= {"size": tuple(record["size"]), "window": tuple(window) if isinstance(window, list) else window}
        settings = CacheSettings(**record)
        settings.output  # noqa: B018 - it refuses what is none
    except (DatasetError, KeyError, TypeError) as error:
        raise DatasetError(f"{where} is damaged: {_reason_in_file(error)}; {advice}") from None
    return settings


def cache_receipt(data: bytes) -> CacheReceipt:
    """A receipt as it stands on disk.

    Raises:
        DatasetError: It is none.
    """
    record, kinds = _parsed(data, "receipt"), typing.get_type_hints(CacheReceipt)
    if not isinstance(record, dict) or set(record) != set(kinds):
        raise DatasetError(f"expected {', '.join(kinds)}, got {record!r:.80}")
    for name, kind in kinds.items():
        _refuse_other(name, record[name], kind, getattr(kind, "__name__", str(kind)))
    return CacheReceipt(**record)


def _refuse_uncached(view: Any, output: Output | None, balance: float | None) -> None:
    if _is_stacked(view):
        raise DatasetError("a cache has images one by one, but view gives volumes or clips; leave cache out")
    if balance is not None:
        raise DatasetError("balance is for streams; with a cache give the DataLoader a WeightedRandomSampler")
    if isinstance(view, Masks) and output is not None and output.resize == "crop":
        raise DatasetError(
            "rows of single masks have no numbers where resize='crop' leaves some out; take view='image'"
        )


def cache_stamp(read: Callable[[str], bytes], shard: str, *, local: bool = True) -> tuple[str, str | None]:
    """SHA-256 of the index of a shard, and of the shard by the receipt of its build, if that is there.

    Args:
        read: Gives a file below the root.
        shard: Path of the shard.
        local: Whether there may be such a receipt.
    """
    stem = shard.removeprefix(f"{DATA}/").removesuffix(".tar")
    tar = None
    if local:
        try:
            receipt = _parsed(read(f"build/receipts/{stem}.json"), f"the receipt of {shard}")
            tar = receipt.get("sha256") if isinstance(receipt, dict) else None
        except FileNotFoundError:
            pass
    return hashlib.sha256(read(f"{INDEX}/{stem}.parquet")).hexdigest(), tar


def _cache_receipt(folder: str, place: _Place, shard: _Shard) -> CacheReceipt | str:
    """The receipt of a shard in a cache; or what the cache does, if it does not hold the shard as it is."""
    stem = shard.path.removeprefix(f"{DATA}/").removesuffix(".tar")
    try:
        receipt = cache_receipt(Path(folder, f"{stem}.json").read_bytes())
    except FileNotFoundError:
        return "does not hold"
    except (DatasetError, OSError) as error:
        return f"has a damaged receipt ({_reason_in_file(error)}) of"
    stamp = cache_stamp(place.read, shard.path, local=place.local)
    return receipt if receipt.shard == stem and receipt.is_of(*stamp) else "holds an earlier"


@functools.lru_cache(maxsize=_OPENED)
def _opened_cache(folder: str, receipt: CacheReceipt, settings: CacheSettings) -> _CachedShard:
    """What a cache has of a shard; who asks says what is wrong where it cannot be opened."""
    _keep_freed_memory()
    size = settings.size
    paths = [Path(folder, f"{receipt.shard}.{part}") for part in CACHE_PARTS]
    images, layers, masks = (np.load(path, mmap_mode="r").view(np.ndarray) for path in paths[:3])
    places = np.load(paths[3])
    with paths[4].open("rb") as file:
        records = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    counts = (images.shape[:3], layers.shape, masks.shape, places.shape)
    numbers = (len(masks), len(CACHE_COLUMNS))
    expected = (receipt.samples, *size), (receipt.layers, *size), numbers, (receipt.samples + 1, 4)
    ends = [0, 0, 0, min(int(places[-1, 1]), len(records)), len(layers), len(masks)]
    ordered = places[[0, -1], 1:].ravel().tolist() == ends and (np.diff(places[:, 1:], axis=0) >= 0).all()
    if counts != expected or not ordered:
        raise DatasetError(f"expected arrays of {expected}, got {counts}, or places that are not in order")
    classes = _parsed(records[places[-1, 1] :], CACHE_PARTS[4])
    whole = [{field.name: known.get(field.name) for field in fields(Mask)} for known in classes]
    return _CachedShard(images, layers, masks, places, records, whole)


# --- loading ----------------------------------------------------------------------------------------------------------
# `load` puts the parts together; `interleave` mixes what it gives by modality.


def load(
    path: str | Path,
    config: str | None = None,
    *,
    split: str = "train",
    streaming: bool = True,
    view: View = "image",
    labels: Sequence[str] | None = None,
    organs: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    min_area: int | None = None,
    sources: Sequence[str] | None = None,
    licenses: Sequence[str] | None = None,
    submodalities: Sequence[str] | None = None,
    planes: Sequence[str] | None = None,
    where: Where | None = None,
    decode: Decode | Output = "numpy",
    prompts: Prompts | None = None,
    balance: float | None = None,
    shuffle: int | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    cache: str | Path | None = None,
) -> datasets.IterableDataset | datasets.Dataset:
    """Load one split of one config.

    Filters are evaluated on the index: shards without a match are never opened, and of the others only matching samples
    are read. A value that nothing has is an error that names near ones, or the split that has it.

    Args:
        path: Folder that `sa-med2d build` wrote, repository of the Hugging Face Hub (``org/name``), or any address that
            fsspec knows (``s3://bucket/folder``, ``https://host/folder``).
        config: ``ct``, ``mr-commercial``, ``all-permissive`` ...; default: the card's default config. A folder that is
            not published also has ``ct-local`` ... and ``all-local``, which hold all that was built there.
        split: ``train``, ``validation`` or ``test``; ``all``; several, ``train+validation``; or a share of their
            patients, ``train[:10%]``, of whom ``train[10%:]`` are the others.
        streaming: Read the shards as they are (True), or copy them to the cache of `datasets` first (False).
        view: ``image``: a row per image; ``mask`` is the label map, (layers * H, W), see `decode_masks`. ``mask``, or
            `Masks`: a row per mask; ``mask`` is that mask alone, (H, W) bool, and the fields of `Mask` stand beside
            those of `Metadata`. ``semantic``, or `Semantic`: a row per image; ``mask`` is a class map, (H, W) uint8, or
            uint16 beyond 255 classes; 0 is background. ``volume``: a row per image and axis, the first that it has or
            each of ``planes``; ``clip``, or `Clip`: a row per run of its slices. ``image`` is (Z, H, W) float32, the
            values of the source, unless an `Output` says more, ``mask`` (Z, layers * H, W) uint16 with the ids of
            ``masks``, which are objects of the whole volume, and ``affine`` leads from (column, row, slice) to RAS mm.
        labels: Only masks of these classes, and images that have one.
        organs: Only masks of these organs, and images that have one.
        groups: Only masks of these groups, and images that have one.
        min_area: Only masks of at least so many pixels, and images that have one.
        sources: Only these source datasets.
        licenses: Only these licences (SPDX, in any case).
        submodalities: Only these sub-modalities.
        planes: Only these of ``axial``, ``coronal``, ``sagittal``, ``2d``, ``unknown``.
        where: Only these modalities, patients, cases or raters, see `Where`.
        decode: What images and masks come as: ``numpy`` for arrays, ``torch`` for tensors, ``pil`` for pictures,
            ``bytes`` for PNG files (not of volumes and clips); or `Output` for a size, a window or a normalisation.
        prompts: Add boxes and points, see `Prompts`.
        balance: Show images of rare classes more often: a class that less than this share of the images shows comes
            ``sqrt(balance / share)`` times as often (repeat factor sampling, arXiv 1908.03195).
        shuffle: Seed of a random order, another one for another epoch: blocks of 16 neighbours from all shards are
            mixed, 256 samples at a time. A resumed run misses no row, unlike after ``IterableDataset.shuffle``.
        revision: Branch, tag or commit of a repository; it is read as it is now, whatever is published meanwhile.
        token: Of the Hub; default: the one that is logged in.
        storage_options: For fsspec.
        cache: Folder that `sa-med2d cache` wrote: images and label maps come from there, decoded and in its size.
            ``decode`` may be left out, or asks for what the cache keeps: its size, resize and window.

    Returns:
        `CachedRows` where there is a cache. Else a dataset with the columns ``image`` (H, W) or (H, W, 3), ``mask``,
        the fields of `Metadata` and ``absent``: labels of classes that the source annotates and the image does not
        show, or null where that is not known. It shuffles, resumes by its state, and is dealt to nodes and DataLoader
        workers in pieces of up to 256 samples, or volume by volume. It has a length, also streamed, unless ``balance``
        repeats images or there are 512 shards and no filter over masks, planes, raters or sub-modalities.

    Raises:
        DatasetError: There is no such dataset, config, split or filter value; the message lists those that exist.
            While reading: a shard is not what its index says, or metadata breaks the contract. Cards, indexes and
            shards may be anybody's: what would take more than `MEMORY_LIMIT` bytes is refused before it does.
    """
    if cache is not None:
        _refuse_other("cache", cache, str | os.PathLike, "the path of a folder")
        settings = _settings_of_cache(cache, path, decode)
        decode = _decode_of_cache(cache, settings, decode)
    _refuse_other("streaming", streaming, bool, "True or False")
    _refuse_other("prompts", prompts, Prompts | None, "Prompts(...)")
    chosen = _view_of(view)
    output = _output_of(decode, chosen)
    if cache is not None:
        _refuse_uncached(chosen, output, balance)
    if output is not None and output.threads > 1:
        _refuse_threads("cache" if cache is not None else None if streaming else "streaming=False")
    _check_balance(balance)
    _refuse_below("shuffle", 0 if shuffle is None else shuffle, 0)
    place = _place(path, revision, token, storage_options or {})
    wanted = _Wanted.of(
        labels=labels,
        organs=organs,
        groups=groups,
        min_area=min_area,
        sources=sources,
        licenses=licenses,
        submodalities=submodalities,
        planes=planes,
        where=where,
    )
    wanted = dataclasses.replace(wanted, view=chosen, ranges=output is not None and output.window == "volume")
    scope = _Scope.of(place, config, split, wanted)
    if prompts is not None and prompts.coarse and not isinstance(chosen, Masks):
        raise DatasetError("coarse masks are prompts of single masks: view='mask' has them")
    if wanted.stacked and (prompts is not None or balance is not None):
        name = "prompts" if balance is None else "balance"
        raise DatasetError(f"{name} is for images one by one, but view gives volumes or clips")
    reading = _Reading(place, wanted, prompts, output, shuffle)
    try:
        shards = _shards(scope)
        dealt = _dealt(shards, reading, balance, numbered=cache is not None)
    except _UnknownValueError as error:
        others = _splits_with(_other_splits(scope), place, error)
        if others:
            values = ", ".join(map(repr, error.values))
            raise DatasetError(f"{place.name}: split {split!r} has no {error.name} {values}; {others}") from None
        raise
    except _NoMatchError as error:
        others = _splits_that_match(_other_splits(scope), place, wanted)
        raise DatasetError(f"{error}, in split {split!r}; {others or 'no other split has such an image'}") from None
    described = features(chosen, decode, prompts)
    if cache is not None:
        return typing.cast("Any", CachedRows(str(cache), settings, shards, dealt, described))
    if not dealt.pieces and not streaming:  # which `datasets` cannot make from a generator
        return datasets.Dataset.from_dict({name: [] for name in described}, described, split=scope.name)
    make = datasets.IterableDataset if streaming else datasets.Dataset
    arguments = {"pieces": dealt.pieces or [_Piece(())], "reading": dealt.reading}
    rows = make.from_generator(_rows, features=described, gen_kwargs=arguments, split=datasets.NamedSplit(scope.name))
    return _with_length(rows, dealt.rows) if streaming and dealt.rows is not None else rows


class _Dealt(typing.NamedTuple):
    """The pieces of a split, the reading with what the survey says, and the number of rows where it is known.

    Where rows are numbered, also where the metadata of each wanted sample of a shard begin, and how many rows it gives.
    """

    pieces: list[_Piece]
    reading: _Reading
    rows: int | None
    samples: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = ()


def _dealt(shards: Sequence[_Shard], reading: _Reading, balance: float | None, *, numbered: bool = False) -> _Dealt:
    wanted = reading.wanted
    counted = balance is not None or reading.shuffle is not None or len(shards) < _MANY_SHARDS
    view = wanted.view
    named = wanted.stacked or (
        isinstance(view, Semantic) and (view.classes is not None or view.overlap not in ("small", "large"))
    )
    named = named or any(shard.patients is not None for shard in shards)
    if not (wanted.over_masks or wanted.over_samples or counted or named or numbered):
        return _Dealt(_pieces(shards, None, None), reading, None)
    samples: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []

    def seen() -> Iterator[_Chosen]:
        for chosen in _chosen_in(reading.place, shards, wanted):
            if numbered:
                samples.append((chosen.places[:, 4].copy(), chosen.each))
            yield chosen

    survey = _survey_of(seen())
    _refuse_what_nothing_has(reading, survey)
    rows = survey.rows
    if balance is not None:
        reading = dataclasses.replace(reading, repeats=_repeats(survey, balance))
    pieces = _pieces(shards, survey.counts, reading.shuffle, stacked=wanted.stacked) if rows else []
    uncertain = balance is not None or (
        isinstance(view, Masks) and reading.output is not None and reading.output.resize == "crop"
    )
    return _Dealt(pieces, reading, None if uncertain else rows, samples)


def _with_length(rows: datasets.IterableDataset, count: int) -> datasets.IterableDataset:
    rows.info.splits = datasets.SplitDict({str(rows.split): datasets.SplitInfo(str(rows.split), num_examples=count)})
    rows.__class__ = sys.modules[__name__].SizedDataset
    return rows


def _sized_dataset() -> type:
    """The class `SizedDataset`, made when it is asked for, as `SAMed2D20M` is."""

    class SizedDataset(datasets.IterableDataset):  # type: ignore[misc]
        """What `load` streams where the index knows how much it is; what is made of it is an `IterableDataset`."""

        def __len__(self) -> int:
            return int(self.info.splits[str(self.split)].num_examples)

    SizedDataset.__qualname__ = "SizedDataset"
    return SizedDataset


def interleave(
    path: str | Path,
    config: str | None = None,
    *,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    **options: Any,
) -> datasets.IterableDataset:
    """Mix modalities by weight, so that CT and MR, which are 99 % of the images, do not drown the others.

    Every image of every modality comes at least once in an epoch; modalities with few images come round again.

    Args:
        path: See `load`.
        config: Of all modalities: ``all``, ``all-commercial``, ``all-permissive`` or ``all-local``.
        weights: Modality -> weight; those that are not named are left out. Default: all alike.
        seed: Of the order in which modalities come.
        options: Further arguments of `load`; ``balance`` weighs rare classes within each modality.

    Raises:
        DatasetError: As `load`, and for a modality that the config does not hold.
    """
    if options.get("cache") is not None:
        raise DatasetError("interleave mixes streams; with a cache give the DataLoader a WeightedRandomSampler")
    place = _place(path, options.get("revision"), options.get("token"), options.get("storage_options") or {})
    name = _config(place, config)["config_name"]
    if name.split("-")[0] != "all":
        raise DatasetError(
            f"config is {name!r}, expected all, all-commercial, all-permissive or all-local: it mixes modalities"
        )
    asked = _where_of(options.get("where"))
    _refuse_other("weights", weights, Mapping | None, "weights by the names of modalities")
    _refuse_below("seed", seed, 0)
    weighed = asked.modalities if weights is None else [modality for modality, weight in weights.items() if weight]
    wanted = _Wanted.of(sources=options.get("sources"), licenses=options.get("licenses"))
    wanted = dataclasses.replace(wanted, modalities=None if weighed is None else tuple(weighed))
    scope = _Scope.of(place, name, options.get("split", "train"), wanted)
    _refuse_strangers(scope, tuple(weights or ()), "modality")
    held = sorted({path.split("/")[1] for paths in _paths(scope).values() for path in paths})
    _refuse_unknown("modality", wanted.modalities, held, place.name)  # of the sources and licences that are asked for
    for modality, weight in (weights or {}).items():
        if type(weight) not in (int, float) or not 0 <= weight < float("inf"):
            raise DatasetError(f"the weight of {modality} is {weight!r}, expected a number from 0 on")
    chosen = [modality for modality in held if weights is None or weights.get(modality)]
    if not chosen:
        raise DatasetError(f"weights leave no modality; {place.name} holds {', '.join(_promised_modalities(scope))}")
    options |= {"streaming": True, "where": dataclasses.replace(asked, modalities=None)}
    streams = [load(path, modality + name.removeprefix("all"), **options) for modality in chosen]
    shares = np.array([1.0 if weights is None else weights[modality] for modality in chosen])
    return datasets.interleave_datasets(
        streams, probabilities=(shares / shares.sum()).tolist(), seed=seed, stopping_strategy="all_exhausted"
    )


def _repeats(survey: _Survey, balance: float) -> tuple[tuple[str, float], ...]:
    total = max(1, sum(survey.counts))
    return tuple((label, max(1.0, (balance * total / count) ** 0.5)) for label, count in sorted(survey.labels.items()))


# --- samples for programs ---------------------------------------------------------------------------------------------
# The same samples for programs that are no training loop, such as exports: files and metadata, shard by shard.


@dataclass(frozen=True)
class ShardPart:
    """What is wanted of a shard.

    Attributes:
        path: Of the shard, below the root of the dataset; its parts are ``data``, modality, licence, source and name.
        samples: Number of wanted samples.
        masks: Number of their wanted masks.
        bytes: Of their images and label maps, as stored.
        cases: Number, within the part, of the first sample of each case, in order.
        masks_before: Number of wanted masks before each of these samples.
        labels: Class names of wanted masks, sorted.
        submodalities: Sub-modalities of the shard, wanted or not, sorted.
        digest: Sha256 of the keys and places of the wanted samples: other samples have another.
    """

    path: str
    samples: int
    masks: int
    bytes: int
    cases: tuple[int, ...]
    masks_before: tuple[int, ...]
    labels: tuple[str, ...]
    submodalities: tuple[str, ...]
    digest: str

    @property
    def split(self) -> str:
        """The split of all its samples."""
        return self.path.rsplit("/", 1)[-1].partition("-")[0]

    @property
    def modality(self) -> str:
        """The modality of all its samples."""
        return self.path.split("/")[_Wanted.OF_PATHS["modalities"]]

    @property
    def source(self) -> str:
        """The source of all its samples."""
        return self.path.split("/")[_Wanted.OF_PATHS["sources"]]

    @property
    def license(self) -> str:
        """The licence of all its samples, in lower case."""
        return self.path.split("/")[_Wanted.OF_PATHS["licenses"]]


@dataclass(frozen=True)
class Selection:
    """The wanted samples of a dataset, shard by shard: what programs use that are no training loop, see `select`.

    Attributes:
        name: The dataset, as the caller names it.
        parts: Shards with wanted samples, in the order of their paths.
        labels: Class name -> number of wanted samples that show it in a wanted mask.
        config: The config that it is of.
        widest: The config of the same card that holds most.
        left_out: Where no config was named: paths of shards of the wanted splits, sources and licences that only the
            widest has. Whether samples of them fit is not known.
    """

    name: str
    parts: tuple[ShardPart, ...]
    labels: Mapping[str, int]
    config: str
    widest: str
    left_out: tuple[str, ...]
    _reading: _Reading = dataclasses.field(repr=False)
    _shards: tuple[_Shard, ...] = dataclasses.field(repr=False)

    def samples(
        self, part: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[bytes, bytes, dict[str, Any]]]:
        """Read wanted samples of a part: image and label map as PNG files, and the metadata with the wanted masks.

        Args:
            part: Number of the part.
            start: Number of the first sample within the part.
            stop: Number of the sample behind the last; None for all.

        Raises:
            DatasetError: As `load` while reading.
        """
        for sample in _samples(self._reading, self._shards[part], start, stop):
            image, mask = sample.image, sample.mask
            assert isinstance(image, bytes)  # it is read from a shard, never from a cache
            assert isinstance(mask, bytes)
            yield image, mask, sample.record

    def read(self, path: str) -> bytes:
        """A file of the dataset.

        Args:
            path: Below its root.

        Raises:
            FileNotFoundError: It is not there.
            DatasetError: It cannot be read.
        """
        return self._reading.place.read(path)


def select(
    path: str | Path,
    config: str | None = None,
    *,
    splits: Sequence[str] | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **filters: Any,
) -> Selection:
    """Find the wanted samples of one split or several by their indexes; no sample is read yet.

    Args:
        path: See `load`, as all that is not here.
        config: See `load`.
        splits: Some of ``train``, ``validation`` and ``test``; default: all that the config has.
        revision: See `load`.
        token: See `load`.
        storage_options: See `load`.
        filters: Those of `load`, from ``labels`` to ``where``.

    Raises:
        DatasetError: There is no such dataset, config, split or filter value in any of the splits.
    """
    place, wanted = _place(path, revision, token, storage_options or {}), _Wanted.of(**filters)
    asked = "+".join(dict.fromkeys(_listed("splits", splits) or ("all",)))
    name = _config(place, config)["config_name"]

    def beyond_of(taken: Iterable[_Shard]) -> _Beyond:
        return _Beyond(name, ()) if config else _beyond(place, name, asked, wanted, taken)

    try:
        shards = sorted(_shards(_Scope.of(place, name, asked, wanted)), key=lambda shard: shard.path)
    except _UnknownValueError as error:
        raise beyond_of(()).told(error, name) from None
    beyond = beyond_of(shards)
    reading = _Reading(place, wanted)
    parts: list[ShardPart] = []

    def seen() -> Iterator[_Chosen]:
        for shard, chosen in zip(shards, _chosen_in(place, shards, wanted), strict=True):
            parts.append(_part(shard.path, chosen))
            yield chosen

    survey = _survey_of(seen())
    try:
        _refuse_what_nothing_has(reading, survey)
    except DatasetError as error:
        raise beyond.told(error, name) from None
    held = [(part, shard) for part, shard in zip(parts, shards, strict=True) if part.samples]
    return Selection(
        place.name,
        tuple(part for part, _ in held),
        dict(sorted(survey.labels.items())),
        name,
        beyond.config,
        beyond.paths,
        reading,
        tuple(shard for _, shard in held),
    )


@dataclass(frozen=True)
class _Beyond:
    """What a card's widest config holds of what is asked for, and the config that was taken does not.

    Attributes:
        config: Name of the widest: of a folder ``all-local``, of a published card ``all``.
        paths: Of the shards.
    """

    config: str
    paths: tuple[str, ...]

    def told(self, error: DatasetError, taken: str) -> DatasetError:
        """An error that also says that the default, which was taken, is not all that is there."""
        if not self.paths:
            return error
        return DatasetError(f"{error}; this is the config {taken!r}, the default, and {self.config!r} holds more")


def _beyond(place: _Place, config: str, asked: str, wanted: _Wanted, taken: Iterable[_Shard]) -> _Beyond:
    """What the widest config holds beside the shards that the config has."""
    names = [entry["config_name"] for entry in _card_configs(place)]
    widest = next((name for name in (config_name("all", LOCAL), "all") if name in names), config)
    if widest == config:
        return _Beyond(config, ())
    try:
        held = {shard.path for shard in _shards(_Scope.of(place, widest, asked, wanted))}
    except DatasetError:  # it has nothing of the kind
        held = set()
    return _Beyond(widest, tuple(sorted(held - {shard.path for shard in taken})))


def _part(path: str, chosen: _Chosen) -> ShardPart:
    cases = [key.split("--")[1:3] for key in chosen.keys]
    firsts = [at for at, case in enumerate(cases) if at == 0 or case != cases[at - 1]]
    before = np.concatenate([[0], np.cumsum(chosen.masks)])
    digest = hashlib.sha256("\n".join(chosen.keys).encode())
    digest.update(np.ascontiguousarray(chosen.places, "<i8").tobytes())
    return ShardPart(
        path,
        len(chosen.keys),
        int(before[-1]),
        int(chosen.places[:, [1, 3]].sum()),
        tuple(firsts),
        tuple(before[firsts].tolist()),
        tuple(sorted(chosen.labels)),
        tuple(sorted(value for value in chosen.values["submodalities"] if value is not None)),
        digest.hexdigest(),
    )


# --- the loading script of `datasets` 3.x -----------------------------------------------------------------------------
# A class that `load_dataset("sa_med2d_20m.py", ...)` finds.


def _builder() -> type:
    """The class `SAMed2D20M`, made when it is asked for: it needs `datasets`, which writing shards need not."""

    @dataclass
    class Config(datasets.BuilderConfig):  # type: ignore[misc]
        """A config, with the view and the decoding of `load`; ``data_dir`` is its path."""

        view: ViewName = "image"
        decode: Decode | Output = "numpy"

    class SAMed2D20M(datasets.GeneratorBasedBuilder):  # type: ignore[misc]
        """A built dataset as `datasets` 3.x loads it: ``load_dataset("sa_med2d_20m.py", "ct", data_dir="OUT")``.

        Further arguments are ``view`` and ``decode``; filters are those of `load`, which works with 3.x too.
        """

        VERSION = datasets.Version(f"{SCHEMA}.0.0")
        BUILDER_CONFIG_CLASS = Config
        BUILDER_CONFIGS = [  # noqa: RUF012
            Config(name=name, version=datasets.Version(f"{SCHEMA}.0.0")) for name in (*CONFIGS, *LOCAL_CONFIGS)
        ]
        DEFAULT_CONFIG_NAME = DEFAULT_CONFIG

        def _info(self) -> Any:
            return datasets.DatasetInfo(features=features(self.config.view, self.config.decode))

        def _split_generators(self, _: Any) -> list[Any]:
            if self.config.data_dir is None:
                raise DatasetError("data_dir is missing: the folder or repository that holds README.md and data/")
            place = _place(self.config.data_dir, None, None, {})
            view = _view_of(self.config.view)
            output = _output_of(self.config.decode, view)
            ranges = output is not None and output.window == "volume"
            reading = _Reading(place, _Wanted(view=view, ranges=ranges), output=output)
            generators = []
            for split in (files["split"] for files in _config(place, self.config.name)["data_files"]):
                pieces = _dealt(_shards(_Scope.of(place, self.config.name, split, _Wanted())), reading, None).pieces
                generators.append(datasets.SplitGenerator(split, gen_kwargs={"pieces": pieces, "reading": reading}))
            return generators

        def _generate_examples(
            self, pieces: Sequence[_Piece], reading: _Reading
        ) -> Iterator[tuple[str, dict[str, Any]]]:
            for number, row in enumerate(_rows(pieces, reading)):
                yield f"{number:09d}", row

    SAMed2D20M.__qualname__ = "SAMed2D20M"
    return SAMed2D20M


def __getattr__(name: str) -> Any:
    make = {"SAMed2D20M": _builder, "SizedDataset": _sized_dataset}.get(name)
    if make is not None:
        globals()[name] = make()
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "datasets" in sys.modules:  # `datasets` 3.x looks for the class among what is there already
    SAMed2D20M = _builder()
