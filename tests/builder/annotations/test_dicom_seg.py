"""DICOM SEG onto the grid of its image, on real files and on files of highdicom."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import pydicom.dataset
import pytest
import scipy.ndimage
import SimpleITK
from pydicom.pixels.utils import pack_bits
from pydicom.uid import RLELossless

from builder.annotations import dicom_seg
from builder.annotations.segments import AnnotationRequest
from builder.conversion.orientation import to_lps
from builder.errors import UnreadableError
from builder.readers.image import Picture, Volume
from sa_med2d_20m import decode_masks
from tests.support.command import Command
from tests.support.dicom_masks import (
    AXIAL,
    SHAPE,
    UNIT,
    Bools,
    blobs,
    drawn,
    empty,
    folder,
    save,
    segments_of,
    series,
    write_seg,
)
from tests.support.dicom_source import build
from tests.support.output import members


def painted(out: Path, axis: str) -> int:
    """Mask pixels over all slices along an axis."""
    found, total = dict(members(out)), 0
    for name, data in found.items():
        if name.endswith(".json") and f"--{axis}_" in name:
            masks = decode_masks({"mask.png": found[name.removesuffix("json") + "mask.png"], "json": json.loads(data)})
            total += int(masks.sum())
    return total


def test_breast_seg_builds(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    """42 of the 60 sagittal slices have a frame; its objects are counted by SciPy on the frames as they are stored."""
    text = '[files]\nimage = "{case}/image_dce_pe1/"\nmask = "{case}/mask/1-1.dcm"\n[labels]\nbreast = "breast"\n[masks]\nsegments = true\n'
    ran = build(sa_med2d, tmp_path, corpus / "mirp-breast-mr-seg", text, "mr")
    assert ran.code == 0, ran.err
    keys = [name for name, _ in members(tmp_path / "out") if name.endswith(".json") and "--z_" in name]
    frames = pydicom.dcmread(corpus / "mirp-breast-mr-seg/UCSF-BR-06/mask/1-1.dcm").pixel_array >= 128
    areas = [np.bincount(scipy.ndimage.label(frame, np.ones((3, 3)))[0].ravel())[1:] for frame in frames]
    assert len(keys) == len(frames) == 42
    assert painted(tmp_path / "out", "z") == sum(int(area[area >= 100].sum()) for area in areas)
    record = json.loads(next(data for name, data in members(tmp_path / "out") if name.endswith(".json")))
    assert (record["case"], record["stored_axes"], record["image_file"]) == (
        "UCSF-BR-06",
        "PIR",
        "UCSF-BR-06/image_dce_pe1/",
    )


def test_segment_without_a_class_is_named(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    text = '[files]\nimage = "{case}/image_dce_pe1/"\nmask = "{case}/mask/1-1.dcm"\n[labels]\nlung = "lung"\n[masks]\nsegments = true\n'
    ran = build(sa_med2d, tmp_path, corpus / "mirp-breast-mr-seg", text, "mr")
    assert ran.code == 1
    assert "the file holds Breast, which [labels] does not name (it names lung)" in ran.err


def test_file_without_any_named_segment_gives_no_sample(sa_med2d: Command, corpus: Path, tmp_path: Path) -> None:
    files = '[files]\nimage = "{case}/image_dce_pe1/"\nmask = "{case}/mask/1-1.dcm"\n'
    text = (
        files
        + '[labels]\nlung = "lung"\n[regions]\nchest = ["lung"]\n[masks]\nsegments = true\n[gates]\nunnamed_values = "flag"\n'
    )
    ran = build(sa_med2d, tmp_path, corpus / "mirp-breast-mr-seg", text, "mr")
    assert ran.code == 1, ran.err
    assert "1 case gave no sample, every slice was dropped by a rule: UCSF-BR-06" in ran.err
    assert "error: no sample was made" in ran.err


def test_seg_that_names_no_image_lies_on_its_slices(corpus: Path) -> None:
    case = corpus / "mirp-breast-mr-seg" / "UCSF-BR-06"
    image = folder(case / "image_dce_pe1")
    [breast] = segments_of(dicom_seg, case / "mask" / "1-1.dcm", image)
    assert breast.name == "Breast"
    assert breast.mask.shape == image.array.shape == (256, 256, 60)
    assert breast.mask.sum() == 82527
    assert breast.mask.any(axis=(0, 1)).sum() == 42  # sagittal slices; 18 have no frame
    assert (breast.mask == by_itk(case / "mask" / "1-1.dcm", image)).all()


def by_itk(path: Path, image: Volume) -> Bools:
    """A SEG of one segment, frame by frame resampled onto the image by SimpleITK: another way to the same answer."""
    assert image.affine is not None
    file = pydicom.dcmread(path)
    grid = SimpleITK.GetImageFromArray(np.zeros(image.array.shape, np.uint8))
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    grid.SetSpacing(spacing.tolist())
    grid.SetOrigin(image.affine[:3, 3].tolist())
    grid.SetDirection((image.affine[:3, :3] / spacing).ravel().tolist())
    shared = file.SharedFunctionalGroupsSequence[0]
    rows, columns = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    found = np.zeros(image.array.shape, np.bool_)
    for group, pixels in zip(file.PerFrameFunctionalGroupsSequence, file.pixel_array, strict=True):
        frame = SimpleITK.GetImageFromArray((pixels > 127).astype(np.uint8)[None])
        down, right = shared.PixelMeasuresSequence[0].PixelSpacing
        frame.SetSpacing([float(right), float(down), 1.0])
        frame.SetOrigin([float(value) for value in group.PlanePositionSequence[0].ImagePositionPatient])
        frame.SetDirection(np.stack([rows, columns, np.cross(rows, columns)], axis=1).ravel().tolist())
        placed = SimpleITK.Resample(frame, grid, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
        found |= SimpleITK.GetArrayFromImage(placed) > 0
    return found


CT2 = ("17106", "17136", "17166", "17196")


def ct2_file(corpus: Path, name: str) -> Path:
    return corpus / "highdicom-seg" / "dicomdirtests" / "77654033" / "CT2" / name


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("ct_binary", [127, 256, 255]),
        ("ct_binary_fractional", [127, 256, 255]),
        ("ct_true_fractional", [127, 256, 255]),
    ],
)
def test_seg_of_a_series(corpus: Path, name: str, pixels: list[int]) -> None:
    path = corpus / "highdicom-seg" / "test_files" / f"seg_image_{name}.dcm"
    image = series([ct2_file(corpus, file) for file in CT2[1:]])
    [segment] = segments_of(dicom_seg, path, image)
    assert segment.name == "first segment"
    assert segment.mask.sum(axis=(1, 2)).tolist() == pixels
    assert (segment.mask == by_highdicom(corpus, path, CT2[1:])[..., 0]).all()


def by_highdicom(corpus: Path, path: Path, files: Sequence[str]) -> Bools:
    """Highdicom's own way, by the instances that the SEG names; (slices, rows, columns, segments)."""
    file = highdicom.seg.segread(path)
    uids = [pydicom.dcmread(ct2_file(corpus, name), stop_before_pixels=True).SOPInstanceUID for name in files]
    values = file.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    return np.asarray(values) >= 0.5


def test_seg_with_overlapping_segments_and_a_gap(corpus: Path) -> None:
    path = corpus / "highdicom-seg" / "test_files" / "seg_image_ct_binary_overlap.dcm"
    spaced = np.diag([0.488281, 0.488281, 1.25, 1.0])
    spaced[:3, 3] = (-125.0, -128.100006, -99.480003)
    first, second = segments_of(dicom_seg, path, empty(spaced, (165, 16, 16)))
    expected = by_highdicom(corpus, path, CT2)
    with_frames = [0, 162, 163, 164]  # the other slices of the series are not in the corpus
    for segment, name, channel in ((first, "first segment", 0), (second, "second segment", 1)):
        assert segment.name == name
        assert (segment.mask[with_frames] == expected[..., channel]).all()
        assert segment.mask.sum() == expected[..., channel].sum()
    assert (first.mask & second.mask).any()


def test_slices_that_only_seem_evenly_spaced_are_refused(corpus: Path) -> None:
    """SimpleITK takes the mean distance of these four slices, 68 mm: three lie within a tenth of it."""
    path = corpus / "highdicom-seg" / "test_files" / "seg_image_ct_binary.dcm"
    image = series([ct2_file(corpus, file) for file in CT2])
    with pytest.raises(UnreadableError, match="frames 1 and 2 of the SEG are of the same segment"):
        segments_of(dicom_seg, path, image)


def test_seg_of_one_slice_fits_it_as_a_volume_and_as_a_picture(corpus: Path) -> None:
    files = corpus / "highdicom-seg" / "test_files"
    path = files / "seg_image_ct_binary_single_frame.dcm"
    expected = pydicom.dcmread(path).pixel_array > 0
    volume = series([files / "ct_image.dcm"])
    for image in (volume, Picture(volume.array[0])):
        [segment] = segments_of(dicom_seg, path, image)
        assert segment.mask.shape == (1, 128, 128)
        assert segment.mask.sum() == 1832
        assert (segment.mask[0] == expected).all()


def test_seg_of_a_radiograph(corpus: Path) -> None:
    files = corpus / "highdicom-seg"
    image = Picture(pydicom.dcmread(files / "dicomdirtests" / "77654033" / "CR1" / "6154").pixel_array)
    path = files / "test_files" / "seg_image_cr_binary.dcm"
    [segment] = segments_of(dicom_seg, path, image)
    assert segment.mask.sum() == 151
    assert (segment.mask[0] == (pydicom.dcmread(path).pixel_array > 0)).all()
    with pytest.raises(UnreadableError, match="16 x 16 pixels, its image 20 x 16"):
        segments_of(dicom_seg, path, Picture(np.zeros((20, 16))))
    with pytest.raises(UnreadableError, match="does not say where in the patient"):
        segments_of(dicom_seg, path, empty(UNIT, (1, 16, 16)))


@pytest.mark.parametrize(
    ("name", "segments", "pixels"),
    [
        ("control", 20, 523),
        ("control_labelmap", 20, 523),
        ("control_labelmap_palette_color", 20, 523),
        ("dots", 50, 200),
        ("dots_tiled_full", 50, 200),
        ("numbers", 20, 523),
    ],
)
def test_tiles_of_a_slide_are_put_together(corpus: Path, name: str, segments: int, pixels: int) -> None:
    path = corpus / "highdicom-seg" / "test_files" / f"seg_image_sm_{name}.dcm"
    found = segments_of(dicom_seg, path, Picture(np.zeros((50, 50, 3), np.uint8)))
    expected = highdicom.seg.segread(path).get_total_pixel_matrix(combine_segments=False)
    assert len(found) == segments
    assert sum(int(segment.mask.sum()) for segment in found) == pixels
    assert all(segment.name.startswith("RGB(") for segment in found)
    assert (np.stack([segment.mask[0] for segment in found], axis=-1) == (expected > 0)).all()
    with pytest.raises(UnreadableError, match="50 x 50 pixels, its image 50 x 40"):
        segments_of(dicom_seg, path, Picture(np.zeros((50, 40))))
    with pytest.raises(UnreadableError, match="a tiled SEG of a slide, but its image is a volume"):
        segments_of(dicom_seg, path, empty(UNIT, (1, 50, 50)))


def test_seg_on_other_images_is_refused(corpus: Path) -> None:
    path = corpus / "highdicom-seg" / "test_files" / "seg_image_ct_binary.dcm"
    with pytest.raises(UnreadableError, match=r"frame 1 lie up to [\d.]+ voxels \([\d.]+ mm\) beside"):
        segments_of(dicom_seg, path, folder(corpus / "mirp-breast-mr-seg" / "UCSF-BR-06" / "image_dce_pe1"))
    with pytest.raises(UnreadableError, match="frames 1 and 2 of the SEG are of the same segment"):
        segments_of(dicom_seg, path, Picture(np.zeros((16, 16))))
    with pytest.raises(UnreadableError, match="says nothing of where it lies"):
        segments_of(dicom_seg, path, Volume(np.zeros((3, 16, 16)), None))


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(
    "cosines",
    [
        AXIAL,
        (-1, 0, 0, 0, -1, 0),
        (0, 1, 0, 0, 0, -1),
        (1, 0, 0, 0, 0, -1),
        (0, -1, 0, 1, 0, 0),
        (0.8, 0.6, 0, 0, 0, -1),
    ],
    ids=["axial", "axial prone", "sagittal", "coronal", "rows along y", "oblique"],
)
def test_frames_lie_where_they_were_drawn_in_any_orientation(
    tmp_path: Path, cosines: Sequence[float], back: bool
) -> None:
    written = write_seg(blobs(), cosines=cosines, back=back)
    found = segments_of(dicom_seg, save(written.file, tmp_path / "seg.dcm"), to_lps(written.image))
    for channel, segment in enumerate(found):
        expected = to_lps(Volume(blobs()[..., channel] > 0, written.image.affine))
        assert segment.name == f"segment {channel + 1}"
        assert (segment.mask == expected.array).all()
    assert [int(segment.mask.sum()) for segment in found] == [2 * 4 * 7 + 1, 3 * 5 * 6]
    assert (found[0].mask & found[1].mask).sum() == 2 * 3


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_the_order_of_frames_does_not_matter(tmp_path: Path, kind: str) -> None:
    written = write_seg(blobs() if kind == "BINARY" else blobs().astype(float), kind)
    order = random.Random(0).sample(range(written.file.NumberOfFrames), written.file.NumberOfFrames)
    assert order != sorted(order)
    path = save(written.file, tmp_path / "seg.dcm")
    file = pydicom.dcmread(path)
    frames = file.pixel_array[order]
    file.PerFrameFunctionalGroupsSequence = [file.PerFrameFunctionalGroupsSequence[index] for index in order]
    file.PixelData = pack_bits(frames.ravel()) if kind == "BINARY" else frames.tobytes()
    found = segments_of(dicom_seg, save(file, path), written.image)
    assert (np.stack([segment.mask for segment in found], axis=-1) == (blobs() > 0)).all()


def test_a_fraction_counts_from_the_threshold_on(tmp_path: Path) -> None:
    pixels = np.zeros((*SHAPE, 1))
    pixels[2, 3, :4, 0] = (0.2, 0.4, 0.6, 1.0)
    written = write_seg(pixels, "FRACTIONAL", syntax=RLELossless)
    path = save(written.file, tmp_path / "seg.dcm")
    counts = [
        int(segments_of(dicom_seg, path, written.image, AnnotationRequest(threshold=threshold))[0].mask.sum())
        for threshold in (0.1, 0.2, 0.3, 0.5, 0.6, 0.9, 1.0)
    ]
    assert counts == [4, 4, 3, 2, 2, 1, 1]
    assert segments_of(dicom_seg, path, written.image)[0].mask.sum() == 2
    for threshold in (0.0, 1.1):
        with pytest.raises(ValueError, match="above 0, up to 1"):
            segments_of(dicom_seg, path, written.image, AnnotationRequest(threshold=threshold))
    del written.file.MaximumFractionalValue
    with pytest.raises(UnreadableError, match="without Maximum Fractional Value"):
        segments_of(dicom_seg, save(written.file, path), written.image)


def labels() -> npt.NDArray[np.uint8]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 2:6, 1:8] = 1
    labels[2, 4:6, 3:5] = 3
    return labels


def test_label_map(tmp_path: Path) -> None:
    written = write_seg(labels(), "LABELMAP")
    path = save(written.file, tmp_path / "seg.dcm")
    found = segments_of(dicom_seg, path, written.image)
    assert [(segment.name, int(segment.mask.sum())) for segment in found] == [
        ("segment 1", 2 * 4 * 7 - 4),
        ("segment 2", 0),
        ("segment 3", 4),
    ]
    assert (found[2].mask == (labels() == 3)).all()
    file = pydicom.dcmread(path)
    file.SegmentSequence = [item for item in file.SegmentSequence if item.SegmentNumber != 3]
    with pytest.raises(UnreadableError, match="holds the value 3, but the file describes no such segment"):
        drawn(segments_of(dicom_seg, save(file, path), written.image))


@pytest.mark.parametrize("said", ["label", "code", "nothing"])
def test_background_of_a_label_map_is_no_segment(tmp_path: Path, said: str) -> None:
    """Its padding is another value, so that 0 is described, and no pixel of it belongs to anything."""
    written = write_seg(labels(), "LABELMAP")
    file = pydicom.dcmread(save(written.file, tmp_path / "seg.dcm"))
    zero = copy.deepcopy(file.SegmentSequence[-1])
    zero.SegmentNumber, zero.SegmentLabel = 0, "Background" if said == "label" else "" if said == "nothing" else "rest"
    if said == "code":
        zero.SegmentedPropertyTypeCodeSequence[0].CodeValue = "125040"
    file.SegmentSequence = [zero, *(item for item in file.SegmentSequence if item.SegmentNumber)]
    file.PixelPaddingValue = 255
    found = segments_of(dicom_seg, save(file, tmp_path / "seg.dcm"), written.image)
    assert [segment.name for segment in found] == ["segment 1", "segment 2", "segment 3"]
    assert (found[0].mask == (labels() == 1)).all()


def test_segment_0_of_a_label_map_may_be_an_organ(tmp_path: Path) -> None:
    written = write_seg(labels(), "LABELMAP")
    file = pydicom.dcmread(save(written.file, tmp_path / "seg.dcm"))
    organ = copy.deepcopy(file.SegmentSequence[-1])
    organ.SegmentNumber, organ.SegmentLabel = 0, "liver"
    file.SegmentSequence = [organ, *(item for item in file.SegmentSequence if item.SegmentNumber)]
    file.PixelPaddingValue = 255
    found = segments_of(dicom_seg, save(file, tmp_path / "seg.dcm"), written.image)
    frames = [z for z in range(SHAPE[0]) if labels()[z].any()]  # the file has none for slices without a segment
    assert found[0].name == "liver"
    assert (found[0].mask[frames] == (labels()[frames] == 0)).all()


def shifted(image: Volume, *voxels: float) -> Volume:
    assert image.affine is not None
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ voxels
    return Volume(image.array, affine)


def test_frames_beside_the_voxels_or_outside_the_image_are_refused(tmp_path: Path) -> None:
    written = write_seg(blobs())
    path = save(written.file, tmp_path / "seg.dcm")
    near = segments_of(dicom_seg, path, shifted(written.image, 0.05, -0.05, 0.08))
    assert (near[0].mask == (blobs()[..., 0] > 0)).all()
    with pytest.raises(UnreadableError, match=r"lie up to 0\.30 voxels \(0\.21 mm\) beside"):
        segments_of(dicom_seg, path, shifted(written.image, 0.3, 0, 0))
    with pytest.raises(UnreadableError, match=r"lie up to 0\.50 voxels \(0\.75 mm\) beside"):
        segments_of(dicom_seg, path, shifted(written.image, 0, 0, 0.5))
    for shift in ((3, 0, 0), (0, -2, 0), (0, 0, 2)):
        with pytest.raises(UnreadableError, match=r"frame \d of the SEG lies outside the image"):
            segments_of(dicom_seg, path, shifted(written.image, *shift))
    assert written.image.affine is not None
    coarse = Volume(np.zeros(SHAPE), written.image.affine @ np.diag([2.0, 2.0, 1.0, 1.0]))
    with pytest.raises(UnreadableError, match="its grid is not that of the image"):
        segments_of(dicom_seg, path, coarse)
    larger = Volume(np.zeros((9, 14, 15)), shifted(written.image, -1, -2, -3).affine)
    assert segments_of(dicom_seg, path, larger)[1].mask[3:, 2:12, 1:13].sum() == 90
