"""The vocabulary: what each class is, and which spellings of sources mean it."""

from __future__ import annotations

import re
import time
import tomllib
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr import _concepts_dict

from builder.sources.vocabulary import GROUPS, LATERALITY, ORGANS, Term, Vocabulary, vocabulary
from sa_med2d_20m import LABELS
from tests.support.totalsegmentator import CLASSES

TERMS = vocabulary().terms


def found(name: str) -> str | None:
    term = vocabulary().find(name)
    return term.label if term else None


# --- what a class is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "organ", "group"),
    [
        ("liver", "liver", "abdomen"),
        ("kidney_left", "kidney", "abdomen"),
        ("rib_left_9", "rib", "thorax"),
        ("adrenal_gland_right", None, "abdomen"),
        ("liver_tumor", "liver", "lesion"),
        ("vestibular_schwannoma", "brain", "lesion"),
        # by level, and by place
        ("vertebrae_C7", "vertebrae", "head_and_neck"),
        ("vertebrae_T9", "vertebrae", "thorax"),
        ("vertebrae_L1", "vertebrae", "abdomen"),
        ("sacrum", "vertebrae", "pelvis"),
        ("abdominal_aorta", "aorta", "abdomen"),
        ("rectum", "intestine", "pelvis"),
        ("cervical_esophagus", "esophagus", "head_and_neck"),
        ("aortic_dissection", "aorta", "lesion"),
        # normal anatomy, cells and instruments are no lesions
        ("brain_growth", "brain", "head_and_neck"),
        ("optic_cup", "eye", "head_and_neck"),
        ("aorta_false_lumen", "aorta", "thorax"),
        ("mediastinal_lymph_node", None, "thorax"),
        ("neoplastic_cell", None, "other"),
        ("hip_implant", "hip", "pelvis"),
        ("trocar", None, "other"),
    ],
)
def test_a_class_has_organ_and_group(name: str, organ: str | None, group: str) -> None:
    term = vocabulary().find(name)
    assert term is not None
    assert (term.label, term.organ, term.group) == (name, organ, group)


def test_organs_and_groups_are_those_of_the_original() -> None:
    assert (len(ORGANS), len(GROUPS)) == (31, 6)
    assert {term.organ for term in TERMS} == {*ORGANS, None}
    assert {term.group for term in TERMS} == set(GROUPS)


def test_a_lesion_has_the_group_of_lesions() -> None:
    """And what has it is none of the classes that TotalSegmentator calls anatomical structures."""
    diseased = re.compile(r"_(lesion|tumor|cancer|cyst|hemorrhage|edema|scar|embolism|nodule|fracture|metastasis)$")
    assert [term.label for term in TERMS if diseased.search(term.label) and term.group != "lesion"] == []
    structures = [name for task in ("total_v1", "total", "total_v3", "total_mr") for name in CLASSES[task]]
    lesions = {name for name in structures if (term := vocabulary().find(name)) and term.group == "lesion"}
    assert lesions == {"kidney_cyst_left", "kidney_cyst_right"}


@pytest.mark.parametrize("organ", ["lung", "liver", "pancreatic", "colon", "prostate", "breast", "kidney", "gastric"])
def test_lesion_tumor_and_cancer_are_three_classes(organ: str) -> None:
    labels = [found(f"{organ}_{kind}") for kind in ("lesion", "tumor", "cancer")]
    assert [label for label in labels if label] == [
        f"{organ}_{kind}" for kind, label in zip(("lesion", "tumor", "cancer"), labels, strict=True) if label
    ]


@pytest.mark.parametrize(
    ("label", "phrase"),
    [
        ("kidney_left", "left kidney"),
        ("kidney", "kidney"),
        ("rib_right_3", "right third rib"),
        ("heart_atrium_left", "left atrium of the heart"),
        ("lung_middle_lobe_right", "middle lobe of the right lung"),
        ("autochthon_right", "right deep muscle of the back"),
        ("brain_enhancing_tumor", "enhancing part of the brain tumor"),
        ("tooth_11", "upper right central incisor"),
        ("lung_upper_lobe_left", "upper lobe of the left lung"),
        ("lung_upper_lobe", "upper lobe of the lung"),
        ("vertebrae_T12", "twelfth thoracic vertebra"),
    ],
)
def test_a_class_has_a_phrase(label: str, phrase: str) -> None:
    term = vocabulary().find(label)
    assert term is not None
    assert (term.label, term.phrase) == (label, phrase)


def test_phrases_are_plain_text_and_tell_classes_apart() -> None:
    assert [term.label for term in TERMS if not re.fullmatch(r"[A-Za-z0-9'-]+( [A-Za-z0-9'-]+)*", term.phrase)] == []
    assert [phrase for phrase, count in Counter(term.phrase for term in TERMS).items() if count > 1] == []
    assert [term.label for term in TERMS if term.side and term.side not in term.phrase.split()] == []


def test_labels_are_snake_case() -> None:
    """Vertebrae keep the capital letter that TotalSegmentator gives their level."""
    assert [term.label for term in TERMS if not re.fullmatch(r"[a-z0-9]+(_([a-z0-9]+|[CTLS]\d+))*", term.label)] == []


# --- codes ------------------------------------------------------------------------------------------------------------

_VERHOEFF = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)
_D5 = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip


def check_digit_holds(code: str) -> bool:
    """The last digit of a SNOMED CT identifier checks the others by Verhoeff's scheme (release file specification, 5.5)."""
    check = 0
    for place, digit in enumerate(reversed(code)):
        check = int(_D5[check][int(_VERHOEFF[place % 8][int(digit)])])
    return check == 0


def test_codes_are_codes_of_snomed_ct() -> None:
    codes = {code for term in TERMS for code in (term.snomed, term.site) if code} | set(LATERALITY.values())
    assert len(codes) > 250
    assert [code for code in codes if not check_digit_holds(code)] == []
    assert not check_digit_holds("64033008")


def test_codes_stand_where_the_file_says() -> None:
    """In DICOM's context groups as pydicom has them, or with the entries that the head of the file names."""
    concepts: dict[str, Any] = _concepts_dict.concepts
    dicom = {code for word in concepts["SCT"].values() for code in word}
    head = files("builder").joinpath("vocabulary.toml").read_text().split("\n[", 1)[0].replace("\n#", "")
    elsewhere = {term.label for term in TERMS if not {term.snomed, term.site} - {None} <= dicom}
    bases = {re.sub(r"_(left|right)(?=_|$)", "", label) for label in elsewhere}
    named = {
        *(f"rib_{number}" for number in range(1, 13)),
        *(f"gluteus_{name}" for name in ("maximus", "medius", "minimus")),
    }
    assert [label for label in sorted(bases - named) if label not in head] == []
    assert {"64033007", "10200004", "39607008"} <= dicom


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ("kidney_left", "64033007"),
        ("heart_atrium_left", "82471001"),
        ("subclavian_artery_left", "36765005"),  # TotalSegmentator's table has that of the right one
        ("gluteus_minimus", "75297007"),  # and here that of the medius
        ("liver_segment_4", "277958008"),
        ("vertebrae_C1", "14806007"),
        ("tooth_11", "422653006"),
        ("hip", None),
    ],
)
def test_a_class_has_its_code(label: str, code: str | None) -> None:
    term = vocabulary().find(label)
    assert term is not None
    assert (term.label, term.snomed) == (label, code)


@pytest.mark.parametrize(
    ("label", "laterality"),
    [
        ("kidney_left", LATERALITY["left"]),
        ("rib_right_4", LATERALITY["right"]),
        ("kidney", None),
        ("heart_atrium_left", None),  # its code is that of the left atrium
        ("lung_middle_lobe_right", None),
        ("cerebrum_left", None),  # no code, no laterality
    ],
)
def test_a_side_is_coded_where_the_code_does_not_say_it(label: str, laterality: str | None) -> None:
    term = vocabulary().find(label)
    assert term is not None
    assert (term.label, term.laterality) == (label, laterality)


def test_a_code_with_place_and_side_is_one_class() -> None:
    coded = Counter((term.snomed, term.site, term.laterality) for term in TERMS if term.snomed)
    assert [code for code, count in coded.items() if count > 1] == []


# --- spellings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("LeftKidney", "kidney_left"),
        ("KidneyL", "kidney_left"),
        ("LKidney", "kidney_left"),
        ("Kidney_L", "kidney_left"),
        ("Lt kidney", "kidney_left"),
        ("kidneys, left", "kidney_left"),
        ("Kidney/Left", "kidney_left"),
        ("Kidney (left)", "kidney_left"),
        ("RIGHT-KIDNEY", "kidney_right"),
        ("Kidneys", "kidney"),
        ("SpinalCord", "spinal_cord"),
        ("OpticNerve_R", "optic_nerve_right"),
        ("right lung upper lobe", "lung_upper_lobe_right"),
        ("3rd rib, left", "rib_left_3"),
        ("Rib 3 L", "rib_left_3"),
        ("LeftAtrium", "heart_atrium_left"),
        ("Right ventricle", "heart_ventricle_right"),
        ("oesophagus", "esophagus"),
        ("\u00d6sophagus", "esophagus"),
        ("O\u0308sophagus", "esophagus"),
        ("liver tumour", "liver_tumor"),
        ("retinal haemorrhages", "retinal_hemorrhage"),
        ("ischaemic stroke lesion", "ischemic_stroke_lesion"),
        ("gray matter", "grey_matter"),
        ("optic disk", "optic_disc"),
        ("coeliac trunk", "celiac_trunk"),
        ("foetal head", "fetal_head"),
        ("prostate/uterus", "prostate_or_uterus"),
        ("portal vein & splenic vein", "portal_vein_and_splenic_vein"),
        ("Couinaud segment IV", "liver_segment_4"),
        ("GTVp", "gross_tumor_volume_primary"),
        ("vertebraeT12", "vertebrae_T12"),
        ("T12 vertebra", "vertebrae_T12"),
        ("coronary artery", "coronary_arteries"),
        ("nuclei", "nucleus"),
    ],
)
def test_spellings_of_sources_resolve(name: str, label: str) -> None:
    assert found(name) == label


@pytest.mark.parametrize(
    "name",
    [
        # a word that means another thing in another organ
        "ventricle", "atrium", "vessel", "true_lumen", "false_lumen", "annulus", "tumor_core", "whole_tumor", "edema",
        "enhancing_tumor", "necrotic_core", "cavity", "scar", "infarction", "anterior", "LV", "RV", "GM", "OR", "CST",
        "L1", "S1", "C1", "T1", "bridge", "crown", "implant",
        # two sides, the same side twice, a side of what has none, a side in the middle
        "Left_Atrium_R", "left kidney right", "left_kidney_left", "LeftKidneyL", "Liver_L", "spleen left", "rib_L_3",
        # numbers that are not one number
        "vertebrae_T1_1", "rib_left_1_2", "rib_left_13", "vertebrae_T0",
        "", " ", "_", "/", "l", "left", "right left", "organ_aorta_T264", "\u809d",
    ],
)  # fmt: skip
def test_what_means_no_class_resolves_to_none(name: str) -> None:
    assert found(name) is None


def styles(words: list[str]) -> list[str]:
    """Ways to write words."""
    capital = "".join(word[:1].upper() + word[1:] for word in words)
    return ["_".join(words), " ".join(words), "-".join(words), "/".join(words), " ".join(words).upper(), capital]


@given(st.sampled_from(TERMS), st.integers(0, 5), st.integers(0, 6), st.booleans())
def test_a_label_resolves_however_its_words_and_side_are_written(
    term: Term, style: int, place: int, british: bool
) -> None:
    label = term.label
    words = label.split("_")
    sides = [word for word in words if word in ("left", "right")]
    if len(sides) == 1:
        rest, side = [word for word in words if word != sides[0]], sides[0]
        written = [
            [*rest, side], [side, *rest], [*rest, side[0].upper()], [side[0].upper(), *rest],
            [*rest, side.capitalize()], [side.upper(), *rest], [*rest[:-1], f"{rest[-1]}s,", side],
        ][place]  # fmt: skip
        if rest[-1][-1] in "isxy0123456789" and place == 6:  # brachii has no plural
            written = words
    else:
        written = words
    name = styles(written)[style]
    if british:
        name = name.replace("tumor", "tumour").replace("esoph", "oesoph").replace("edema", "oedema")
    assert found(name) == label


@given(
    st.sampled_from([term for term in TERMS if term.side]), st.sampled_from(["{} {}", "{1}_{0}", "{1}, {0}", "{}_{}"])
)
def test_a_label_with_the_other_side_too_resolves_to_none(term: Term, form: str) -> None:
    side, label = term.side, term.label
    if side in label.split("_"):
        other = {"left": "right", "right": "left"}[side]
        assert found(form.format(label, other)) is None
        assert found(form.format(label, other[0].upper())) is None


def test_no_slip_of_a_letter_gives_another_class() -> None:
    for term in TERMS:
        letters = [at for at, letter in enumerate(term.label) if not letter.isdigit()]
        for at in letters:
            without = term.label[:at] + term.label[at + 1 :]
            assert found(without) in (None, term.label), (term.label, without)


@given(st.text(max_size=30))
def test_any_text_is_looked_up_without_a_fault(name: str) -> None:
    label = found(name)
    assert label is None or label in LABELS


# --- names of sources -------------------------------------------------------------------------------------------------

NAMED_BY_THE_RECIPE = {
    "ventricle": "brain_ventricles",
    "styloid_process_left": "styloid_process_of_temporal_bone_left",
    "styloid_process_right": "styloid_process_of_temporal_bone_right",
    "annulus": "aortic_annulus",
    "bridge": "dental_bridge",
    "crown": "dental_crown",
    "implant": "dental_implant",
}
"""Names of TotalSegmentator that mean something else elsewhere, so that a recipe has to name their class."""


@pytest.mark.parametrize("task", CLASSES)
def test_classes_of_totalsegmentator_resolve(task: str) -> None:
    assert [name for name in CLASSES[task] if found(NAMED_BY_THE_RECIPE.get(name, name)) is None] == []
    assert [name for name in CLASSES[task] if name in NAMED_BY_THE_RECIPE and found(name) is not None] == []


def test_totalsegmentator_has_as_many_classes_as_it_says() -> None:
    """104 in version 1, 117 in version 2, and L6 in place of S1 in version 3."""
    assert len(CLASSES["total_v1"]) == 104
    assert CLASSES["total_v3"] == ["vertebrae_L6"]
    assert not set(CLASSES["total_v1"]) & set(CLASSES["total"])


OF_SOURCES = """
    right ventricle: heart_ventricle_right; myocardium: heart_myocardium; left ventricle cavity: heart_ventricle_left;
    whole-ventricle: heart_ventricle; bladder: urinary_bladder; prostate_or_uterus: prostate_or_uterus;
    left atrium cavity: heart_atrium_left; left atrium wall: left_atrial_wall; carotid vessel wall: carotid_vessel_wall;
    OR_left: optic_radiation_left; CST_right: corticospinal_tract_right; pulmonary embolism: pulmonary_embolism;
    COVID lesion: covid_lesion; clavicle: clavicula; lumbar vertebra: lumbar_vertebrae;
    intracranial hemorrhage: intracranial_hemorrhage; vestibular schwannoma: vestibular_schwannoma;
    no_reflow: no_reflow; foot ulcer wound: foot_ulcer; blood pool: heart_blood_pool;
    ventricular myocardium: ventricular_myocardium; optic disc: optic_disc; kidney tumor: kidney_tumor;
    lung nodule: lung_nodule; multiple sclerosis lesion: multiple_sclerosis_lesion;
    peripheral zone: prostate_peripheral_zone; transition zone: prostate_transition_zone; hepatic vessel: hepatic_vessel;
    colon cancer: colon_cancer; lungs: lung; prostate cancer lesion: prostate_cancer; brain growth: brain_growth;
    brachial plexus nerve: brachial_plexus; tumor lesion: tumor; robotic instruments: surgical_instrument;
    skin lesion: skin_lesion; caudate nucleus: caudate_nucleus; renal artery: renal_arteries; renal vein: renal_vein;
    posterior hippocampus: hippocampus_posterior; LV blood pool: ; white matter hyperintensity: white_matter_hyperintensity;
    CSF: cerebrospinal_fluid; coronary calcium: coronary_calcification; skull defect implant: skull_implant;
    brainstem: brainstem; chiasm: optic_chiasm; optic nerves: optic_nerve; parotids: parotid_gland;
    submandibulars: submandibular_gland; rib fracture: rib_fracture; IRF: intraretinal_fluid; SRF: subretinal_fluid;
    PED: pigment_epithelial_detachment; soft tissue sarcoma: soft_tissue_sarcoma; aortic vessel tree: aortic_vessel_tree;
    cerebral artery: cerebral_artery; inferior alveolar nerve: inferior_alveolar_nerve; Epithelial: epithelial_cell;
    Lymphocyte: lymphocyte; neoplastic polyps: neoplastic_polyp; non-neoplastic polyps: non_neoplastic_polyp;
    bipolar: bipolar_forceps; hook: electrocautery_hook; clipper: clipper; specimen-bag: specimen_bag;
    trocars: trocar; gall-bladder: gallbladder; adrenals: adrenal_gland; bones: bone; pubic symphysis: pubic_symphysis;
    fetal head: fetal_head; Cone photoreceptors: cone_photoreceptor; Prostate cancer: prostate_cancer;
    Adrenocortical Carcinoma: adrenocortical_carcinoma; Hypoxic-ischemic Encephalopathy: hypoxic_ischemic_lesion;
    Glioblastoma multiforme: glioblastoma; Fundus blood vessels: retinal_vessel; Corneal Nerve: corneal_nerve;
    Colorectal adenocarcinoma: colorectal_adenocarcinoma; Thyroid Nodule: thyroid_nodule;
    Enlarged Perivascular Spaces (EPVS): ; Intervertebral disc: intervertebral_discs; Mitral valve: mitral_valve;
    Mitochondria: mitochondria; Melanoma: melanoma; Pleural effusion: pleural_effusion; chest cavity: thoracic_cavity;
    Lung Cancer: lung_cancer; spinal canal: spinal_canal; Coronary Arteries: coronary_arteries
"""


def test_labels_that_sources_name_resolve() -> None:
    pairs = [pair.split(":") for pair in " ".join(OF_SOURCES.split()).split(";")]
    assert {name.strip(): found(name) or "" for name, _ in pairs} == {
        name.strip(): label.strip() for name, label in pairs
    }


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[abdomen.liver]\nliver = { synonyms = ["hepar"] }\nhepar = {}', "'hepar' belongs to liver and hepar"),
        (
            '[abdomen.liver]\nliver = { synonyms = ["tumour"] }\n[lesion.none]\ntumors = {}',
            "'tumors' belongs to liver and",
        ),
        ("[abdomen.livr]\nliver = {}", r"\[abdomen.livr\]: unknown group or organ"),
        ("[belly.liver]\nliver = {}", r"\[belly.liver\]: unknown group or organ"),
        ('[abdomen.liver]\nliver = { synonym = ["hepar"] }', "liver: unknown key synonym"),
    ],
)
def test_vocabulary_refuses_what_is_wrong_in_the_file(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Vocabulary(text)


def test_no_synonym_stands_there_twice() -> None:
    """A synonym that another name of its entry gives already is left out."""
    text = files("builder").joinpath("vocabulary.toml").read_text()
    for organs in tomllib.loads(text).values():
        for entries in organs.values():
            for label, entry in entries.items():
                for name in entry.get("synonyms", ()):
                    others = [label, *(other for other in entry["synonyms"] if other != name)]
                    alone = Vocabulary(f"[other.none]\nclass_of_a_test = {{ synonyms = {others} }}".replace("'", '"'))
                    assert alone.find(name) is None, f"{label}: {name}"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("gallblader", "gallbladder"),
        ("vertebre_T12", "vertebrae_T12"),
        # words that no class alone owns
        ("edema", "brain_edema"),
        ("true lumen", "aorta_true_lumen"),
        ("tumor_core", "brain_tumor_core"),
        ("L5", "vertebrae_L5"),
    ],
)
def test_near_names_are_offered(name: str, near: str) -> None:
    assert near in vocabulary().near(name)
    assert len(vocabulary().near(name)) <= 3


@pytest.mark.parametrize("name", ["", "_", "zzzz zzzz"])
def test_nothing_is_near_nothing(name: str) -> None:
    assert vocabulary().near(name) == []


def test_vocabulary_is_read_fast() -> None:
    """Measured: 0.03 s of processor time; every worker of a build reads it."""
    text = files("builder").joinpath("vocabulary.toml").read_text()
    times = []
    for _ in range(3):
        begin = time.process_time()
        Vocabulary(text)
        times.append(time.process_time() - begin)
    assert min(times) < 0.15
