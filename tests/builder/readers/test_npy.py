"""NumPy's files: their values and sides, those that are damaged or of another kind, and a source of them."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from builder.errors import CaseError
from builder.readers.files import read_header, read_image
from builder.readers.image import Picture, Volume, VolumeSeries
from builder.readers.rules import DEFAULT_RULES, ReadRules
from tests.support.command import Command
from tests.support.output import members
from tests.support.series import decode
from tests.support.sources import RECIPE

VALUES = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)


@pytest.mark.parametrize(
    ("array", "kind", "shape"),
    [
        (VALUES[0, :, :, 0], Picture, (4, 5)),
        (VALUES[0, :, :, :1], Picture, (4, 5)),
        (VALUES[0].astype(np.uint8), Picture, (4, 5)),
        (VALUES[..., 0].astype(">i2"), Volume, (2, 4, 5)),
        (VALUES.astype(np.uint8), Volume, (2, 4, 5)),
        (np.moveaxis(VALUES, -1, 0), VolumeSeries, (3, 2, 4, 5)),
        (VALUES[..., 0] > 7, Volume, (2, 4, 5)),
        (VALUES[..., 0].astype(np.float16), Volume, (2, 4, 5)),
        (np.asfortranarray(VALUES[..., 0]), Volume, (2, 4, 5)),
    ],
)
def test_sides_and_values(tmp_path: Path, array: npt.NDArray[Any], kind: type, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "plain.npz", array)
    np.savez_compressed(tmp_path / "packed.npz", only=array)
    for name in ("a.npy", "plain.npz", "packed.npz"):
        image = read_image(tmp_path, name, DEFAULT_RULES)
        assert isinstance(image, kind)
        assert np.array_equal(image.array, array.reshape(image.array.shape))
        assert image.array.dtype.isnative
        assert image.array.dtype.kind in "iuf"
        header = read_header(tmp_path, name, DEFAULT_RULES)
        assert header.shape == shape
        assert not header.placed


class Trap:
    """What runs when a pickle is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('a pickle was read')",)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([[Trap()]]), "its values are of type object, expected whole or real numbers"),
        (np.zeros((3, 3), complex), "its values are of type complex128"),
        (np.zeros((3, 3), [("a", "u1"), ("b", "u1")]), "expected whole or real numbers"),
        (np.array([["text"]]), "expected whole or real numbers"),
        (np.zeros(9), "its array is 9, expected 2, 3 or 4 sides"),
        (np.float64(1), "its array is a single value"),
        (np.zeros((3, 0)), "its array is 3 x 0"),
    ],
)
def test_what_is_no_image_is_refused_and_never_unpickled(tmp_path: Path, array: Any, reason: str) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(CaseError, match=reason):
            read_image(tmp_path, name, DEFAULT_RULES)


def test_a_bare_pickle_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CaseError, match=r"damaged: it has no header of \.npy"):
        read_image(tmp_path, "a.npy", DEFAULT_RULES)


def npy(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_lengths_and_check_sums(tmp_path: Path) -> None:
    whole = npy(VALUES[0, :, :, 0])
    for content, reason in (
        (whole[:-1], "truncated: its values are 159 bytes, its header says 160"),
        (whole + b"?", "damaged, or several arrays in one .npy"),
        (whole + whole, "damaged, or several arrays in one .npy"),
        (whole[:20], r"damaged: it has no header of \.npy"),
        (whole.replace(b"(4, 5)", b"(4,-5)"), "side below 0"),
    ):
        (tmp_path / "a.npy").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("a.npy", content)
        for name in ("a.npy", "a.npz"):
            with pytest.raises(CaseError, match=reason):
                read_image(tmp_path, name, DEFAULT_RULES)
    np.savez_compressed(tmp_path / "a.npz", np.random.default_rng(0).integers(0, 99, (40, 40)))
    good = (tmp_path / "a.npz").read_bytes()
    for share in (0.2, 0.5, 0.8):
        at = int(share * len(good))
        for bad in (good[:at], good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :]):
            (tmp_path / "a.npz").write_bytes(bad)
            with pytest.raises(CaseError, match="damaged"):
                read_image(tmp_path, "a.npz", DEFAULT_RULES)


def test_one_of_several_arrays_must_be_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", img=VALUES[0, :, :, 0], label=VALUES[0, :, :, 1])
    with pytest.raises(CaseError, match=r"it holds 2 arrays \(img, label\); say which with files\.variables"):
        read_image(tmp_path, "a.npz", DEFAULT_RULES)
    with pytest.raises(CaseError, match=r"it has no array 'mask', which files\.variables names; it holds img, label"):
        read_image(tmp_path, "a.npz", ReadRules(variable="mask"))
    assert np.array_equal(read_image(tmp_path, "a.npz", ReadRules(variable="label")).array, VALUES[0, :, :, 1])


def test_image_and_mask_of_one_file(sa_med2d: Command, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 80), np.uint8)
    mask = np.zeros((64, 80), np.uint8)
    mask[10:40, 20:60] = 2
    (tmp_path / "raw").mkdir()
    np.savez(tmp_path / "raw/a.npz", img=image, label=mask)
    np.savez(tmp_path / "raw/b.npz", img=image)
    recipe = tmp_path / "Packed.toml"
    text = RECIPE.format(name="Packed", license="MIT", modality="mr")
    text = text.replace("images/{case}.nii.gz", "{case}.npz").replace("labels/{case}.nii.gz", "{case}.npz")
    recipe.write_text(text.replace("[labels]", 'variables = { image = "img", mask = "label" }\n[labels]'))
    ran = sa_med2d("build", recipe, "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert ran.code == 3
    assert "b: b.npz: read: it has no array 'label'" in ran.err
    found = dict(members(tmp_path / "out"))
    assert np.array_equal(decode(found["mr_00--Packed--a--2d_none.png"]), image)
    described = json.loads(found["mr_00--Packed--a--2d_none.json"])
    assert [(one["label"], one["area"]) for one in described["masks"]] == [("spleen", 30 * 40)]
    checked = sa_med2d("sources", "check", recipe, "--raw", tmp_path / "raw")
    assert "1,200" in checked.out + checked.err
