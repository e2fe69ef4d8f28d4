"""Images and masks in the size, window and scale that networks take: beside OpenCV, Pillow, the builder and torch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from builder.command_line import main
from sa_med2d_20m import Clip, DatasetError, Output, Prompts, Semantic, collate, decode_masks, load
from tests.support.resizing import by_hand, by_opencv, by_pillow
from tests.support.shrinking_pictures import write_ct, write_pictures
from tests.support.volumes import ct_like

SIZES = {"wide": (90, 160), "tall": (301, 180), "small": (24, 31)}
"""Height and width of each picture."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coloured pictures of three sizes, and CT built four times: by slice, by volume, by a window and lossless."""
    folder = tmp_path_factory.mktemp("output")
    raw = folder / "raw"
    rules = {
        "BySlice": 'mode = "slice"',
        "ByVolume": 'mode = "volume"',
        "ByWindow": 'mode = "window"\ncenter = 40\nwidth = 400',
        "Exact": 'mode = "lossless"',
    }
    padded = ct_like()
    padded[:, :3] = -2000  # padding, as scanners set it outside of the circle
    recipes = [write_pictures(raw, {case: (*size, 3) for case, size in SIZES.items()})]
    recipes += [write_ct(raw, name, rule, padded, cases=1) for name, rule in rules.items()]
    arguments = ["build", *recipes, "--raw", raw, "--out", folder / "out", "--workers", 1]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


def box_of(mask: npt.NDArray[np.bool_]) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]


@pytest.mark.parametrize("size", [(64, 64), (48, 200), (256, 256)])
@pytest.mark.parametrize("resize", ["pad", "stretch", "crop"])
def test_images_are_fitted_as_opencv_does(out: Path, size: tuple[int, int], resize: Any) -> None:
    stored = {row["key"]: row["image"] for row in load(out, "endoscopy-local")}
    rows = list(load(out, "endoscopy-local", decode=Output(size, resize)))
    assert len(rows) == len(SIZES)
    for row in rows:
        assert np.array_equal(row["image"], by_hand(stored[row["key"]], size, resize, by_opencv))
        assert (row["height"], row["width"]) == size
        assert row["original_size"] == list(stored[row["key"]].shape[:2])


@pytest.mark.parametrize("size", [(64, 64), (256, 256)])
@pytest.mark.parametrize("resize", ["pad", "stretch", "crop"])
def test_masks_are_fitted_as_pillow_does(out: Path, size: tuple[int, int], resize: Any) -> None:
    stored = {(row["key"], row["label"], row["instance"]): row for row in load(out, "endoscopy-local", view="mask")}
    compared, gone = 0, set(stored)
    for row in load(out, "endoscopy-local", view="mask", decode=Output(size, resize)):
        name = (row["key"], row["label"], row["instance"])
        gone.discard(name)
        expected = by_hand(stored[name]["mask"], size, resize, by_pillow)
        if expected.any():
            assert np.array_equal(row["mask"], expected)
            assert row["bbox"].tolist() == box_of(expected)
            compared += 1
        else:  # nearest neighbour loses it: the pixel that it covers is kept
            assert row["mask"].sum() == 1
        assert row["area"] == row["mask"].sum()
    assert compared >= 6
    assert {label for _, label, _ in gone} <= ({"cancer", "vein"} if resize == "crop" else set())


def test_a_mask_that_would_vanish_keeps_the_pixel_that_it_covers(out: Path) -> None:
    rows = list(load(out, "endoscopy-local", view="mask", labels="cancer", decode=Output(32, "stretch")))
    assert [np.argwhere(row["mask"]).tolist() for row in rows if row["original_size"].tolist() != [24, 31]] == [
        [[31, 31]],
        [[31, 31]],
    ]


def test_what_a_crop_leaves_out_is_said(out: Path) -> None:
    rows = {row["case"]: row for row in load(out, "endoscopy-local", decode=Output(24, "crop"))}
    labels = {entry["label"] for entry in rows["wide"]["masks"]}
    assert "cancer" not in labels
    assert "polyp" in labels
    assert "cancer" in rows["wide"]["dropped"]["labels"]
    assert len(decode_masks(rows["wide"])) == len(rows["wide"]["masks"])
    with pytest.raises(TypeError, match="has no len"):
        len(load(out, "endoscopy-local", view="mask", decode=Output(24, "crop")))


@pytest.mark.parametrize("masks", ["nearest", "area"])
def test_label_maps_hold_the_same_masks_as_single_rows(out: Path, masks: Any) -> None:
    output = Output(50, "stretch", masks=masks)
    single: dict[str, list[Any]] = {}
    for row in load(out, "endoscopy-local", view="mask", decode=output):
        single.setdefault(row["key"], []).append(row)
    for row in load(out, "endoscopy-local", decode=output):
        stack = decode_masks(row)
        assert [entry["area"] for entry in row["masks"]] == [int(mask.sum()) for mask in stack]
        assert [entry["bbox"] for entry in row["masks"]] == [box_of(mask) for mask in stack]
        if masks == "nearest":  # by area neighbours in a label map share a pixel, and the larger part has it
            assert np.array_equal(stack, np.stack([one["mask"] for one in single[row["key"]]]))


def test_thin_masks_stay_whole_by_area(out: Path) -> None:
    [stored] = [row for row in load(out, "endoscopy-local", view="mask", labels="vein") if row["case"] == "tall"]
    [row] = [
        row
        for row in load(out, "endoscopy-local", view="mask", labels="vein", decode=Output(40, "stretch", masks="area"))
        if row["case"] == "tall"
    ]
    cover = cv2.resize(stored["mask"].astype(np.float32), (40, 40), interpolation=cv2.INTER_AREA)
    assert np.array_equal(row["mask"], cover > 0)
    assert cv2.connectedComponents(row["mask"].astype(np.uint8), connectivity=8)[0] == 2
    nearest = by_pillow(stored["mask"], 40, 40)  # which loses nearly all of it
    assert nearest.sum() < 0.2 * row["mask"].sum()


def test_spacing_grows_as_pixels_do(out: Path) -> None:
    stored = next(iter(load(out, "ct-local", sources="BySlice", planes="axial")))
    row = next(iter(load(out, "ct-local", sources="BySlice", planes="axial", decode=Output((20, 72), "stretch"))))
    assert stored["image"].shape == (40, 36)
    assert row["spacing"] == [stored["spacing"][0] * 2, stored["spacing"][1] / 2]


def test_normalised_as_sam_was_trained(out: Path) -> None:
    stored = {row["key"]: row["image"] for row in load(out, "endoscopy-local")}
    for name in ("sam", "sam_med2d", "imagenet"):
        for row in load(out, "endoscopy-local", decode=Output(64, normalise=name)):
            pixels = by_hand(stored[row["key"]], (64, 64), "pad", by_opencv).astype(np.float64)
            expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
            rows, columns = (int(side * 64 / max(row["original_size"]) + 0.5) for side in row["original_size"])
            expected[rows:] = expected[:, columns:] = 0  # SAM pads after it has normalised
            assert row["image"].dtype == np.float32
            assert np.allclose(row["image"], expected, atol=1e-5)


@pytest.mark.parametrize("view", ["mask", Semantic(["liver", "spleen", "polyp", "vein"])])
def test_rows_of_every_config_are_alike(out: Path, view: Any) -> None:
    options: dict[str, Any] = {"prompts": Prompts(positive=2, negative=1)} if view == "mask" else {}
    for resize in ("pad", "stretch", "crop"):
        rows = list(load(out, "all-local", view=view, decode=Output(32, resize, window="slice"), **options))
        assert {row["source"] for row in rows} == {"Pictures", "BySlice", "ByVolume", "ByWindow", "Exact"}
        shapes = {
            tuple((name, type(value), getattr(value, "dtype", None), np.shape(value)) for name, value in row.items())
            for row in rows
        }
        assert len(shapes) == 1
        assert not [name for name, value in rows[0].items() if value is None or isinstance(value, list)]


@pytest.mark.parametrize("view", ["mask", Semantic(["liver", "spleen", "polyp", "vein"])])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_default_collate_of_torch_makes_batches(out: Path, view: Any, kind: Any) -> None:
    torch = pytest.importorskip("torch")
    output = Output(32, window="slice", normalise="sam", kind=kind)
    count = 0
    for batch in torch.utils.data.DataLoader(load(out, "all-local", view=view, decode=output, shuffle=1), 8):
        size = len(batch["key"])
        assert batch["image"].shape == ((size, 3, 32, 32) if kind == "torch" else (size, 32, 32, 3))
        assert batch["mask"].shape == (size, 32, 32)
        assert batch["original_size"].shape == (size, 2)
        count += size
    assert count == len(load(out, "all-local", view=view))


@pytest.mark.parametrize("view", ["mask", Semantic(["liver", "polyp"])])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_8_and_16_bit_make_no_batch(out: Path, view: Any, kind: Any) -> None:
    if kind == "torch":
        pytest.importorskip("torch")
    with pytest.raises(DatasetError, match=r"built 'lossless' in 16 bit, others in 8, .* with window"):
        list(load(out, "all-local", view=view, decode=Output(32, kind=kind)))
    exact = list(load(out, "ct-local", view=view, sources="Exact", decode=Output(32)))
    assert {row["image"].dtype for row in exact} == {np.dtype(np.uint16)}
    images = list(load(out, "ct-local", decode=Output(32, kind=kind), planes="axial"))
    with pytest.raises(DatasetError, match=r"differ in type: .* load them with decode=Output\(window=\.\.\.\)"):
        collate(images)
    assert len(collate(list(load(out, "ct-local", decode=Output(32, kind=kind, window="slice"))))["image"]) > 10


def test_tensors_are_those_arrays(out: Path) -> None:
    torch = pytest.importorskip("torch")
    for view in ("image", "mask", Semantic(["polyp", "vein"])):
        arrays = list(load(out, "endoscopy-local", view=view, decode=Output(32)))
        tensors = load(out, "endoscopy-local", view=view, decode=Output(32, kind="torch"))
        for row, array in zip(tensors, arrays, strict=True):
            assert torch.equal(row["image"], torch.from_numpy(array["image"]).permute(2, 0, 1))
            assert np.array_equal(row["mask"].numpy(), array["mask"])
            kinds = {"image": torch.uint8, "mask": torch.bool}
            assert row["mask"].dtype == kinds.get(str(view), torch.int64)
    plain = list(load(out, "endoscopy-local", decode="torch"))
    assert [tuple(row["image"].shape) for row in plain] == [(3, *row["mask"].shape) for row in plain]


def test_collate_puts_ragged_masks_one_after_another(out: Path) -> None:
    rows = list(load(out, "endoscopy-local", decode=Output(48), prompts=Prompts(positive=2)))
    batch = collate(rows)
    stacks = [decode_masks(row) for row in rows]
    assert batch["image"].shape == (3, 48, 48, 3)
    assert np.array_equal(batch["mask"], np.concatenate(stacks))
    assert batch["owner"].tolist() == [at for at, stack in enumerate(stacks) for _ in stack]
    assert batch["boxes"].shape == (len(batch["mask"]), 4)
    assert batch["points"].shape == (len(batch["mask"]), 2, 2)
    for mask, points, entry in zip(batch["mask"], batch["points"], batch["masks"], strict=True):
        assert mask.sum() == entry["area"]
        assert all(mask[int(y), int(x)] for x, y in points if x >= 0)
    assert batch["key"] == [row["key"] for row in rows]
    assert batch["height"].tolist() == [48] * 3


def test_collate_leaves_other_views_as_they_are(out: Path) -> None:
    rows = list(load(out, "endoscopy-local", view="mask", decode=Output(48)))
    assert np.array_equal(collate(rows)["mask"], np.stack([row["mask"] for row in rows]))
    maps = list(load(out, "ct-local", view=Semantic(["liver"]), sources="BySlice", planes="axial"))
    assert np.array_equal(collate(maps, masks=False)["mask"], np.stack([row["mask"] for row in maps]))
    clips = list(load(out, "ct-local", view=Clip(2), sources="BySlice", planes="axial"))
    assert collate(clips)["image"].shape == (len(clips), 2, 40, 36)
    with pytest.raises(DatasetError, match=r"differ in size: \(24, 31, 3\), .*decode=Output\(size=\.\.\.\)"):
        collate(list(load(out, "endoscopy-local")))
    with pytest.raises(DatasetError, match="at least one row"):
        collate([])


def test_channels(out: Path) -> None:
    colour = {row["key"]: row["image"] for row in load(out, "endoscopy-local")}
    for row in load(out, "endoscopy-local", decode=Output(channels=1)):
        grey = np.asarray(PIL.Image.fromarray(colour[row["key"]]).convert("L")).astype(int)
        assert row["image"].ndim == 2
        assert np.abs(row["image"].astype(int) - grey).max() <= 1  # they round luma differently
    row = next(iter(load(out, "ct-local", sources="BySlice", decode=Output(channels=3))))
    stored = next(iter(load(out, "ct-local", sources="BySlice")))
    assert np.array_equal(row["image"], np.stack([stored["image"]] * 3, -1))


def test_a_copy_in_the_cache_has_the_same_rows(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    read = partial(load, out, "all-local", view="mask", decode=Output(32, window="slice"), prompts=Prompts())
    streamed, copied = list(read()), list(read(streaming=False))
    assert len(streamed) == len(copied) > 10
    for one, other in zip(streamed, copied, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in ("image", "mask", "box", "points", "bbox"))


@pytest.mark.parametrize(("window", "source"), [((40, 400), "ByWindow"), ("volume", "ByVolume"), ("slice", "BySlice")])
def test_windows_are_those_of_the_builder(out: Path, window: Any, source: str) -> None:
    exact = {row["index"]: row for row in load(out, "ct-local", sources="Exact", planes="axial")}
    built = {row["index"]: row["image"] for row in load(out, "ct-local", sources=source, planes="axial")}
    rows = list(load(out, "ct-local", sources="Exact", planes="axial", decode=Output(window=window)))
    assert len(rows) == len(built) > 10
    assert {row["image"].dtype for row in exact.values()} == {np.dtype(np.uint16)}
    for row in rows:
        assert row["image"].dtype == np.uint8
        assert np.array_equal(row["image"], built[row["index"]])


def test_named_windows(out: Path) -> None:
    exact = next(iter(load(out, "ct-local", sources="Exact", planes="axial")))
    values = exact["image"] * exact["intensity"]["slope"] + exact["intensity"]["intercept"]
    assert values.min() == -2000
    for name, (low, high) in {"lung": (-1350, 150), "bone": (-500, 1300), "brain": (0, 80)}.items():
        row = next(iter(load(out, "ct-local", sources="Exact", planes="axial", decode=Output(window=name))))
        assert np.array_equal(row["image"], np.clip(np.rint((values - low) / (high - low) * 255), 0, 255))


def test_what_was_not_built_lossless_has_no_window(out: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"'lung' needs the values of the source, but BySlice was built with scaling"
    ):
        list(load(out, "ct-local", sources="BySlice", decode=Output(window="lung")))
    with pytest.raises(DatasetError, match=r"'volume' needs .* but BySlice was built with scaling 'slice'"):
        list(load(out, "ct-local", sources="BySlice", decode=Output(window="volume")))
    with pytest.raises(DatasetError, match=r"Exact was built 'lossless' in 16 bit; say which values .* with window"):
        list(load(out, "ct-local", sources="Exact", decode=Output(normalise="sam")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"size is 0, expected a whole number from 1 to 16384, or \(height, width\)"),
        ({"size": (3, 4, 5)}, r"size is \(3, 4, 5\), expected"),
        ({"resize": "fit"}, "resize is 'fit', expected 'pad' or 'stretch' or 'crop'"),
        ({"masks": "linear"}, "masks is 'linear', expected 'nearest' or 'area'"),
        ({"window": "lungs"}, "no window 'lungs' here; did you mean lung"),
        ({"window": (40, 0)}, r"window is \(40, 0\), expected \(centre, width\) with a width above 0"),
        ({"normalise": "sam2d"}, "no normalise 'sam2d' here; did you mean sam"),
        ({"channels": 4}, "channels is 4, expected 1 or 3"),
        ({"channels": 1, "normalise": "sam"}, "channels is 1, expected 3, which normalise is for"),
        ({"kind": "jax"}, "kind is 'jax', expected 'numpy' or 'torch'"),
        ({"threads": 0}, "threads is 0, expected a whole number from 1"),
        ({"threads": "2"}, "threads is '2', expected a whole number from 1"),
    ],
)
def test_options_are_refused_in_words(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Output(**options)
