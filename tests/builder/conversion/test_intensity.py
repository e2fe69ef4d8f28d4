"""Source values to pixels: against the formula as anybody would write it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from builder.conversion.intensity import IntensityError, rescale, scaling_of
from builder.readers.image import Picture, Volume, grey_of
from builder.sources.recipe import IntensityRule
from tests.support.command import Command
from tests.support.nifti import read_nifti, write_nifti
from tests.support.output import members
from tests.support.sources import RECIPE
from tests.support.volumes import ct_like, organ_map

DTYPES = st.sampled_from(
    [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.float32, np.float64]
)


def reference(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[Any]:
    return np.round((values.astype(np.float64) - low) / (high - low) * 255)


def arrays(dtype: type) -> st.SearchStrategy[npt.NDArray[Any]]:
    kind: np.dtype[Any] = np.dtype(dtype)
    elements = (
        st.floats(-1e6, 1e6, width=32)
        if kind.kind == "f"
        else st.integers(max(np.iinfo(kind).min, -(2**40)), min(np.iinfo(kind).max, 2**40))
    )
    return hnp.arrays(kind, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=elements)


@given(DTYPES.flatmap(arrays))
@settings(max_examples=300, deadline=None)
def test_slice_scaling_is_the_formula_for_every_dtype(values: npt.NDArray[Any]) -> None:
    scaled = scaling_of(IntensityRule(), Volume(values[np.newaxis], None))(values)
    low, high = float(values.min()), float(values.max())
    if low == high:
        assert scaled is None
        return
    assert scaled is not None
    assert scaled.pixels.dtype == np.uint8
    assert np.array_equal(scaled.pixels, reference(values, low, high))
    assert (scaled.intensity.min, scaled.intensity.max, scaled.intensity.scaling) == (low, high, "slice")


@given(arrays(np.int16), st.integers(-2000, 2000), st.integers(1, 4000))
def test_table_and_direct_computation_agree(values: npt.NDArray[np.int16], low: int, span: int) -> None:
    tiled = np.tile(values, (40, 40))  # large enough for the table
    expected = np.clip(reference(tiled, low, low + span), 0, 255)
    assert np.array_equal(rescale(tiled, low, low + span), expected)
    assert np.array_equal(rescale(tiled.astype(np.float64), low, low + span), expected)


def build(
    sa_med2d: Command,
    tmp_path: Path,
    rule: str,
    image: Path | None = None,
    labels: npt.NDArray[np.uint8] | None = None,
) -> list[tuple[dict[str, Any], Any]]:
    raw = tmp_path / "raw"
    if image is None:
        write_nifti(raw / "images/a.nii.gz", ct_like())
    write_nifti(raw / "labels/a.nii.gz", organ_map() if labels is None else labels)
    recipe = tmp_path / "Rule.toml"
    recipe.write_text(RECIPE.format(name="Rule", license="MIT", modality="ct") + rule)
    ran = sa_med2d("build", recipe, "--raw", raw, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    found = list(members(tmp_path / "out"))
    return [
        (json.loads(record), cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED))
        for (_, image), (_, record) in zip(found[0::3], found[2::3], strict=True)
    ]


def axial(record: dict[str, Any], volume: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    return volume[record["index"]] if record["axis"] == "x" else None


def test_volume_scaling_keeps_slices_comparable(sa_med2d: Command, tmp_path: Path) -> None:
    source = ct_like().astype(float)
    for record, pixels in build(sa_med2d, tmp_path, '[intensity]\nmode = "volume"\n'):
        values = axial(record, source)
        if values is not None:
            assert np.array_equal(pixels, reference(values, source.min(), source.max()))
            assert (record["intensity"]["min"], record["intensity"]["max"]) == (values.min(), values.max())


def padded() -> npt.NDArray[np.int16]:
    """A CT with padding outside of a circle, metal, and an axial slice that is padding but for its mask."""
    image = ct_like()
    y, x = np.mgrid[: image.shape[1], : image.shape[2]]
    outside = np.hypot((y + 0.5) / image.shape[1] - 0.5, (x + 0.5) / image.shape[2] - 0.5) > 0.5
    image[:, outside] = -3024
    image[:, 9, 9] = 9000
    return image


@pytest.mark.parametrize("mode", ["slice", "volume"])
def test_padding_of_a_ct_counts_as_air_and_metal_as_the_highest_number(
    sa_med2d: Command, tmp_path: Path, mode: str
) -> None:
    image, path = padded(), tmp_path / "raw/images/a.nii.gz"
    write_nifti(path, image)
    seen = 0
    for record, pixels in build(sa_med2d, tmp_path, f'[intensity]\nmode = "{mode}"\n', path):
        values = axial(record, image)
        if values is not None:
            whole = np.clip(image if mode == "volume" else values, -1024, 3071)
            assert np.array_equal(pixels, reference(np.clip(values, -1024, 3071), whole.min(), whole.max()))
            intensity = record["intensity"]
            assert (intensity["min"], intensity["max"]) == (-3024, 9000)
            assert (intensity["intercept"], intensity["slope"]) == (-1024, pytest.approx(4095 / 255))
            assert intensity["clipped"] == ((values < -1024) | (values > 3071)).sum()
            assert record["intensity"]["scaling"] == mode
            seen += 1
    assert seen


def levels_of_the_body(
    slices: npt.NDArray[Any], pixels: Sequence[npt.NDArray[Any]], widths: Sequence[float]
) -> list[str]:
    """The numbers of a row of the table in the contract: medians over slices of HU and what they became."""
    found = [
        (len(np.unique(scaled[values >= -500])), len(np.unique(scaled[(values >= -150) & (values <= 250)])), width)
        for values, scaled, width in zip(slices, pixels, widths, strict=True)
    ]
    body, soft, width = np.median(found, axis=0)
    return [f"{body:.0f}", f"{soft:.0f}", f"{width:.1f}"]


def outside_of_circle(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot((y + 0.5) / shape[0] - 0.5, (x + 0.5) / shape[1] - 0.5) > 0.5)


def test_the_grey_levels_of_a_real_body_are_those_of_the_contract(
    corpus: Path, sa_med2d: Command, tmp_path: Path
) -> None:
    """Built from a CT as it came and with padding, beside plain minimum and maximum."""
    series = sitk.ImageSeriesReader()
    folder = str(corpus / "totalsegmentator-dicom/example_ct_dicom")
    series.SetFileNames(series.GetGDCMSeriesFileNames(folder))
    slices = sitk.GetArrayFromImage(series.Execute())
    table = Path(__file__).parents[3].joinpath("docs/contract.md").read_text().split("| HU a level |")[1]
    said = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:6]]
    outside, rows = outside_of_circle(slices.shape[1:]), {}
    both = np.where(np.arange(slices.shape[2]) % 2, -2000, -3024)
    for name, held in (
        ("as it came, -1024 HU", slices),
        ("either padding, clipped as above", np.where(outside, both, slices)),
    ):
        path = tmp_path / "raw/images/a.nii.gz"
        write_nifti(path, held.astype(np.int16))
        made = build(sa_med2d, tmp_path, "", path, np.ones(held.shape, np.uint8))
        assert [record["index"] for record, _ in made] == list(range(20))
        widths = [record["intensity"]["slope"] for record, _ in made]
        rows[name] = levels_of_the_body(slices, [pixels for _, pixels in made], widths)
    for padding in (-2000, -3024):
        held = np.where(outside, padding, slices)
        widths = [(int(values.max()) - int(values.min())) / 255 for values in held]
        plain = [reference(values, values.min(), values.max()) for values in held]
        rows[f"padding of {padding} HU, by minimum and maximum"] = levels_of_the_body(slices, plain, widths)
    assert {name: cells for name, *cells in said} == rows


@pytest.mark.parametrize("slope", [1.0, -1.0, 0.5])
def test_the_range_of_a_ct_is_in_hounsfield_units(slope: float) -> None:
    """Stored values say nothing alone: -2000 with an intercept of -1024 is -3024 HU."""
    wanted = np.array([[[-3024.0, -1000, 40, 1000, 5000]]])
    volume = Volume(((wanted + 1024) / slope).astype(np.int32), None, slope, -1024.0)
    scaled = scaling_of(IntensityRule(), volume, "ct")(volume.array[0])
    assert scaled is not None
    assert np.array_equal(scaled.pixels, reference(np.clip(wanted[0], -1024, 3071), -1024, 3071))
    assert scaled.intensity.clipped == 2


@pytest.mark.parametrize("modality", ["mr", "pet"])
def test_other_modalities_keep_their_range(modality: str) -> None:
    values = np.array([[[-3024, -1000, 40, 5000]]], np.int16)
    scaled = scaling_of(IntensityRule(), Volume(values, None), modality)(values[0])
    assert scaled is not None
    assert np.array_equal(scaled.pixels, reference(values[0], -3024, 5000))
    assert scaled.intensity.clipped == 0


def test_a_ct_on_another_scale_keeps_its_range() -> None:
    """Where nothing is as low as air in HU, 0 may be air, and bone lie above 3071."""
    values = np.array([[[0, 24, 1064, 4095]]], np.int16)
    scaled = scaling_of(IntensityRule(), Volume(values, None), "ct")(values[0])
    assert scaled is not None
    assert np.array_equal(scaled.pixels, reference(values[0], 0, 4095))


def test_a_slice_of_padding_alone_has_one_value() -> None:
    volume = Volume(np.array([[[-3024, -2000]], [[-1000, 40]]], np.int16), None)
    assert scaling_of(IntensityRule(), volume, "ct")(volume.array[0]) is None


def test_window_clips(sa_med2d: Command, tmp_path: Path) -> None:
    for record, pixels in build(sa_med2d, tmp_path, '[intensity]\nmode = "window"\ncenter = -300.0\nwidth = 400.0\n'):
        values = axial(record, ct_like())
        if values is not None:
            assert np.array_equal(pixels, np.clip(reference(values, -500, -100), 0, 255))
            assert record["intensity"]["scaling"] == "window"
            assert record["intensity"]["clipped"] == ((values < -500) | (values > -100)).sum()


def test_lossless_gives_the_source_values_back(sa_med2d: Command, tmp_path: Path) -> None:
    for record, pixels in build(sa_med2d, tmp_path, '[intensity]\nmode = "lossless"\n'):
        assert pixels.dtype == np.uint16
        values = axial(record, ct_like())
        if values is not None:
            scale = record["intensity"]
            assert np.array_equal(scale["slope"] * pixels + scale["intercept"], values)


@pytest.mark.parametrize(("slope", "intercept"), [(2.0, -1024.0), (0.5, 3.25), (-1.0, 100.0)])
def test_header_scaling_is_applied(sa_med2d: Command, tmp_path: Path, slope: float, intercept: float) -> None:
    path = tmp_path / "raw/images/a.nii.gz"
    write_nifti(path, ct_like())
    image = read_nifti(path)
    header = image.header.copy()
    header.set_slope_inter(slope, intercept)
    scaled = nibabel.Nifti1Image(slope * np.asarray(image.dataobj) + intercept, image.affine, header)
    scaled.header.set_data_dtype(np.int16)
    nibabel.save(scaled, path)
    wanted = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(float)
    assert not np.array_equal(wanted, ct_like())
    for record, pixels in build(sa_med2d, tmp_path, '[intensity]\nmode = "lossless"\n', path):
        values = axial(record, wanted)
        if values is not None:
            scale = record["intensity"]
            assert np.allclose(scale["slope"] * pixels + scale["intercept"], values, atol=1e-3)
            assert scale["slope"] > 0
            assert scale["min"] == pytest.approx(values.min(), abs=1e-3)


def test_lossless_refuses_what_does_not_fit() -> None:
    wide = np.array([[[0, 70000]]], np.int32)
    with pytest.raises(IntensityError, match="65536 values, the image spans 70000"):
        scaling_of(IntensityRule(mode="lossless"), Volume(wide, None))
    with pytest.raises(IntensityError, match="whole numbers"):
        scaling_of(IntensityRule(mode="lossless"), Volume(np.array([[[0.5, 1.0]]]), None))


def test_8_bit_pictures_are_kept_exactly() -> None:
    picture = Picture(np.array([[3, 7], [9, 200]], np.uint8))
    scaled = scaling_of(IntensityRule(), picture)(picture.array)
    assert scaled is not None
    assert np.array_equal(scaled.pixels, picture.array)
    assert scaled.intensity.scaling == "none"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(bad: float) -> None:
    values = np.array([[0.0, 1.0, bad]], np.float32)
    with pytest.raises(IntensityError, match="1 NaN or infinite value;"):
        scaling_of(IntensityRule(), Volume(values[np.newaxis], None))(values)


@given(
    st.tuples(st.integers(1, 70), st.integers(1, 9)),
    st.sampled_from([3, 4]),
    st.sampled_from([np.uint8, np.uint16]),
    st.data(),
)
def test_a_picture_is_grey_only_if_all_its_pixels_are(
    size: tuple[int, int], channels: int, dtype: type, data: st.DataObject
) -> None:
    """One pixel of colour anywhere keeps it in colour; a fourth channel is transparency, and says nothing."""
    grey: npt.NDArray[Any] = np.random.default_rng(0).integers(0, 256, size).astype(dtype)
    colours = np.repeat(grey[..., np.newaxis], channels, axis=2)
    colours[..., 3:] = 7
    found = grey_of(colours)
    assert found is not None
    assert np.array_equal(found, grey)
    place = tuple(data.draw(st.integers(0, side - 1)) for side in (*size, 3))
    colours[place] ^= 1
    assert grey_of(colours) is None
