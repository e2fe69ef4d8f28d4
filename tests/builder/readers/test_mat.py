"""MATLAB files of version 5 and 7.3: one array gives one picture, and what leads elsewhere is not followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from builder.errors import CaseError
from builder.readers.files import read_header, read_image
from builder.readers.image import Picture, Volume
from builder.readers.rules import DEFAULT_RULES, ReadRules

PICTURE = np.arange(12, dtype=np.int16).reshape(3, 4)
COLOURS = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
VOLUME = np.arange(120, dtype=np.float64).reshape(3, 4, 10)
"""Rows, columns, slices, as MATLAB has them."""


def write_version73(path: Path, tree: dict[str, Any], **options: Any) -> None:
    """As MATLAB does: axes reversed, structs as groups, the class as an attribute, 512 bytes of its own first."""
    names = {"int16": "int16", "int64": "int64", "uint8": "uint8", "float64": "double"}
    with h5py.File(path, "w", userblock_size=512) as file:

        def write(group: Any, tree: dict[str, Any]) -> None:
            for name, value in tree.items():
                if isinstance(value, dict):
                    write(group.create_group(name), value)
                else:
                    group.create_dataset(name, data=value.T, **options)
                    group[name].attrs["MATLAB_class"] = np.bytes_(names[value.dtype.name])

        write(file, tree)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def write(path: Path, version: str, tree: dict[str, Any]) -> None:
    if version == "7.3":
        write_version73(path, tree, compression="gzip", shuffle=True)
    else:
        scipy.io.savemat(path, tree, do_compression=version == "7")


@pytest.mark.parametrize("version", ["5", "7", "7.3"])
@pytest.mark.parametrize(
    ("stored", "expected", "kind"),
    [(PICTURE, PICTURE, Picture), (COLOURS, COLOURS, Picture), (VOLUME, np.moveaxis(VOLUME, 2, 0), Volume)],
)
def test_every_version_gives_the_same_pixels(
    tmp_path: Path, version: str, stored: npt.NDArray[Any], expected: npt.NDArray[Any], kind: type
) -> None:
    write(tmp_path / "a.mat", version, {"image": stored})
    image = read_image(tmp_path, "a.mat", DEFAULT_RULES)
    assert isinstance(image, kind)
    assert np.array_equal(image.array, expected)
    assert image.array.dtype == stored.dtype
    assert read_header(tmp_path, "a.mat", DEFAULT_RULES).shape == expected.shape[: expected.ndim - (stored is COLOURS)]


@pytest.mark.parametrize("version", ["5", "7", "7.3"])
@pytest.mark.parametrize("variable", ["cjdata.image", "cjdata/image"])
def test_fields_of_structs(tmp_path: Path, version: str, variable: str) -> None:
    write(
        tmp_path / "a.mat",
        version,
        {"cjdata": {"image": PICTURE, "mask": PICTURE > 2 if version != "7.3" else PICTURE}},
    )
    rules = ReadRules(variable=variable)
    assert np.array_equal(read_image(tmp_path, "a.mat", rules).array, PICTURE)
    assert read_header(tmp_path, "a.mat", rules).shape == (3, 4)
    for wrong in ("cjdata", "cjdata.nothing", "other", "cjdata.image.more"):
        with pytest.raises(CaseError, match=r"files\.variables|no whole or real numbers|expected whole"):
            read_image(tmp_path, "a.mat", ReadRules(variable=wrong))


@pytest.mark.parametrize("version", ["5", "7", "7.3"])
def test_limits_come_before_memory(tmp_path: Path, version: str) -> None:
    write(tmp_path / "a.mat", version, {"image": np.zeros((900, 1000))})
    with pytest.raises(CaseError, match=r"limits\.(pixels|bytes) in the recipe"):
        read_image(tmp_path, "a.mat", ReadRules(pixels=1000))
    with pytest.raises(CaseError, match=r"limits\.(pixels|bytes) in the recipe"):
        read_image(tmp_path, "a.mat", ReadRules(bytes=1000))


@pytest.mark.parametrize("version", ["5", "7", "7.3"])
def test_truncated_files_are_refused(tmp_path: Path, version: str) -> None:
    write(tmp_path / "a.mat", version, {"image": np.random.default_rng(0).integers(0, 99, (60, 70))})
    good = (tmp_path / "a.mat").read_bytes()
    for share in (0.005, 0.3, 0.6, 0.99):
        (tmp_path / "a.mat").write_bytes(good[: int(share * len(good))])
        with pytest.raises(CaseError, match=r"damaged|truncated"):
            read_image(tmp_path, "a.mat", DEFAULT_RULES)


def test_check_sums_of_compressed_elements(tmp_path: Path) -> None:
    scipy.io.savemat(
        tmp_path / "a.mat", {"image": np.random.default_rng(0).integers(0, 99, (60, 70))}, do_compression=True
    )
    good = (tmp_path / "a.mat").read_bytes()
    for share in (0.2, 0.5, 0.9):
        at = int(share * len(good))
        (tmp_path / "a.mat").write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        with pytest.raises(CaseError, match=r"damaged|truncated"):
            read_image(tmp_path, "a.mat", DEFAULT_RULES)


def soft_link(file: Any, _secret: Path) -> None:
    file["there"] = np.zeros((4, 4))
    file["image"] = h5py.SoftLink("/there")


def external_link(file: Any, secret: Path) -> None:
    file["image"] = h5py.ExternalLink(str(secret), "image")


def external_storage(file: Any, secret: Path) -> None:
    file.create_dataset("image", (4, 4), "u1", external=[(str(secret), 0, 16)])


def virtual(file: Any, secret: Path) -> None:
    layout = h5py.VirtualLayout((4, 4), "u1")
    layout[:] = h5py.VirtualSource(str(secret), "image", (4, 4))
    file.create_virtual_dataset("image", layout)


@pytest.mark.parametrize("lead", [soft_link, external_link, external_storage, virtual])
def test_what_leads_out_of_the_file_is_refused(tmp_path: Path, lead: Any) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["image"] = np.ones((4, 4), np.uint8)
    (tmp_path / "raw").mkdir()
    with h5py.File(tmp_path / "raw/a.mat", "w") as file:
        lead(file, tmp_path / "secret.h5")
    with pytest.raises(CaseError, match=r"expected (the array itself|them in the file itself)"):
        read_image(tmp_path / "raw", "a.mat", ReadRules(variable="image"))


def test_what_is_no_array_of_numbers(tmp_path: Path) -> None:
    for content in ({"a": "text"}, {"a": np.array([[1, "x"]], object)}, {"a": scipy.sparse.eye(4).tocsc()}):
        scipy.io.savemat(tmp_path / "a.mat", content)
        with pytest.raises(CaseError, match=r"expected|holds no array"):
            read_image(tmp_path, "a.mat", ReadRules(variable="a"))
    scipy.io.savemat(tmp_path / "a.mat", {"a": PICTURE}, format="4")
    with pytest.raises(CaseError, match=r"no MATLAB file of version 5 to 7\.3"):
        read_image(tmp_path, "a.mat", DEFAULT_RULES)
