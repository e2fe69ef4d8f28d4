"""How large a gallery of a thousand CT slices is, and how soon it shows the first: see README.md beside this file.

``pytest tests/benchmarks/test_gallery.py -m slow -rP``.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
import pytest

from builder.command_line import main
from tests.support.browser import chromium, watched

FIRST = """
new MutationObserver(() => {
    const image = document.querySelector(".tile img");
    if (image && !window.begun) {
        window.begun = true;
        image.decode().then(() => requestAnimationFrame(() => { window.shownAfter = performance.now(); }));
    }
}).observe(document, { subtree: true, childList: true });
"""
RECIPE = """
name = "Slices"
title = "Slices of one CT, moved"
license = "CC-BY-4.0"
license_evidence = "https://example.org/license"
modality = "ct"
[files]
image = "images/{case}.png"
mask = "masks/{case}.png"
[labels]
"""


@pytest.mark.slow
def test_a_thousand_slices(tmp_path: Path, corpus: Path) -> None:
    """512 x 512, all masks of TotalSegmentator in them, each slice in fifty places and two windows."""
    folder = corpus / "totalsegmentator-dicom"
    files = [pydicom.dcmread(path) for path in (folder / "example_ct_dicom").iterdir()]
    files.sort(key=lambda file: float(file.ImagePositionPatient[2]))
    masks = np.asarray(nibabel.load(folder / "example_seg_dicom.nii.gz").dataobj).astype(np.uint8)  # type: ignore[attr-defined]
    for name in ("images", "masks"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    for number in range(1000):
        turn, at = divmod(number, len(files))
        units = files[at].pixel_array.astype(float) - 1024
        low, high = (-160, 240) if turn % 2 else (units.min(), units.max())
        grey = np.clip((units - low) / (high - low) * 255, 0, 255).astype(np.uint8)
        for name, pixels in (("images", grey), ("masks", masks[:, :, at].T)):
            moved = np.ascontiguousarray(np.roll(pixels, (7 * turn, 5 * turn), (0, 1)))
            cv2.imwrite(str(tmp_path / "raw" / name / f"{number:04d}.png"), moved)
    values = [int(value) for value in np.unique(masks) if value]
    # what they are called does not matter to a page
    recipe = RECIPE + "".join(f'{value} = "structure_{value}"\n' for value in values)
    (tmp_path / "Slices.toml").write_text(recipe)
    arguments = ("--raw", tmp_path / "raw", "--out", tmp_path / "out", "--workers", "1")
    assert main([str(one) for one in ("build", tmp_path / "Slices.toml", *arguments)]) == 0
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "out"), "--html", str(page)]) == 0
    megabytes = page.stat().st_size / 1e6
    with chromium() as browser:
        seen = watched(browser).page
        seen.add_init_script(FIRST)
        seen.goto(page.as_uri())
        seconds = seen.evaluate("window.shownAfter") / 1000
    print(f"1,000 slices: {megabytes:.1f} MB, first picture after {seconds:.2f} s")  # noqa: T201 - shown by pytest -rP
    assert megabytes < 40
