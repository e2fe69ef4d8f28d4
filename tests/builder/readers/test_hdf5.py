"""HDF5 files: an array as it is stored, by its name, with groups on the way to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from builder.errors import CaseError
from builder.readers.files import read_header, read_image
from builder.readers.image import Picture, Volume
from builder.readers.rules import DEFAULT_RULES, ReadRules

VOLUME = np.arange(120, dtype=np.float64).reshape(10, 3, 4)


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        (VOLUME, Volume),
        (VOLUME[0].astype(np.uint8), Picture),
        (np.arange(36, dtype=np.uint8).reshape(3, 4, 3), Picture),
        (VOLUME > 50, Volume),
    ],
)
def test_an_array_keeps_the_order_of_its_sides(tmp_path: Path, stored: Any, kind: type) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("case/image", data=stored, compression="gzip")
        file["spacing"] = np.ones((2, 2))
    image = read_image(tmp_path, "a.h5", ReadRules(variable="case/image"))
    assert isinstance(image, kind)
    assert np.array_equal(image.array, stored)
    colours = stored.shape == (3, 4, 3)
    assert read_header(tmp_path, "a.h5", ReadRules(variable="case.image")).shape == stored.shape[: 2 if colours else 3]


def test_which_array_is_meant_must_be_said(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["t1"], file["t2"] = VOLUME, VOLUME
        file["name"] = "a text"
    with pytest.raises(CaseError, match=r"it holds 3 arrays \(name, t1, t2\); say which with files\.variables"):
        read_image(tmp_path, "a.hdf5", DEFAULT_RULES)
    with pytest.raises(CaseError, match=r"it has no array 'flair', which files\.variables names"):
        read_image(tmp_path, "a.hdf5", ReadRules(variable="flair"))
    with pytest.raises(CaseError, match="expected whole or real numbers"):
        read_image(tmp_path, "a.hdf5", ReadRules(variable="name"))
    with pytest.raises(CaseError, match=r"limits\.pixels in the recipe"):
        read_image(tmp_path, "a.hdf5", ReadRules(variable="t1", pixels=100))


def test_what_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no such thing" * 100)
    with pytest.raises(CaseError, match="damaged: HDF5 cannot read it"):
        read_image(tmp_path, "a.h5", DEFAULT_RULES)
