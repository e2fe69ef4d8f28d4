"""What names of files and folders say: which hold masks, and what an image and its mask have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from builder.readers.files import DICOM, FORMATS

_MASK_WORDS: Final = (
    "masks?|labels?|segs?|segmentations?|segmented|gts?|ground_?truths?|annotations?|annots?|anno|manual|lbls?|rois?"
    "|contours?|targets?|delineations?"
)
_IMAGE_WORDS: Final = "images?|imgs?|pictures?|photos?|scans?|data|originals?|orig|volumes?|vols?|inputs?"
_START: Final = r"(?:^|(?<=[^A-Za-z])|(?<=[a-z])(?=[A-Z]))"
_END: Final = r"(?=$|[^A-Za-z]|(?:T[rs]|Train|Val|Test)(?:$|[^a-z]))"


def _word(words: str) -> re.Pattern[str]:
    """A word by itself: between ends, digits and signs, as ``_mask`` and ``mask2d``, not in ``unmasked``."""
    return re.compile(rf"{_START}(?i:{words}){_END}")


_MASK: Final = _word(_MASK_WORDS)
_ROLE: Final = _word(f"{_MASK_WORDS}|{_IMAGE_WORDS}")
OUTLINES: Final = ".xml"
"""Ending of files that hold masks of a picture as outlines, and no picture."""
_ENDINGS: Final = sorted(
    (OUTLINES, *(ending for kind in FORMATS if kind is not DICOM for ending in kind.endings)), key=len
)[::-1]
_SIGNS: Final = "_-. "


@dataclass(frozen=True)
class NamedFile:
    """A file by its name.

    Attributes:
        path: Below the root of the dataset.
        folders: Of the path.
        before: Beginning of the name that says what the file is, such as ``mask_``.
        core: What is left of the name: what an image and its mask have in common.
        after: End of the name that says what the file is, such as ``_mask``.
        ending: Of the name, such as ``.nii.gz``.
    """

    path: str
    folders: tuple[str, ...]
    before: str
    core: str
    after: str
    ending: str

    @property
    def says_mask(self) -> bool:
        """Whether its name, else the innermost folder that says anything, says that it is a mask."""
        if self.ending.lower() == OUTLINES or _MASK.search(f"{self.before}{self.core}{self.after}"):
            return True
        telling = next((folder for folder in reversed(self.folders) if _ROLE.search(folder)), "")
        return _MASK.search(telling) is not None

    @property
    def place(self) -> tuple[str, ...]:
        """Its folders without what says images or masks."""
        return tuple(rest for folder in self.folders if (rest := without_role(folder)))


def ending_of(path: str) -> str | None:
    """The ending of a file of images or masks in the spelling of its path, None for every other file and for DICOM."""
    found = next((ending for ending in _ENDINGS if path.lower().endswith(ending)), None)
    return None if found is None else path[len(path) - len(found) :]


def named_file(path: str) -> NamedFile | None:
    """Take the path of a file of images or masks apart; None for every other file.

    >>> named_file("masks/a_01_mask.png")
    NamedFile(path='masks/a_01_mask.png', folders=('masks',), before='', core='a_01', after='_mask', ending='.png')
    """
    ending = ending_of(path)
    if ending is None:
        return None
    *folders, name = path[: len(path) - len(ending)].split("/")
    before, core, after = "", name, ""
    first = _ROLE.match(core)
    if first and first.end() < len(core):
        before = core[: first.end() + _signs(core[first.end() :])]
        core = core[len(before) :]
    last = next((found for found in _ROLE.finditer(core) if found.end() == len(core)), None)
    if last and last.start() > 0:
        core = core[: last.start()].rstrip(_SIGNS)
        after = name[len(before) + len(core) :]
    if not core:
        before, core, after = "", name, ""
    return NamedFile(path, tuple(folders), before, core, after, ending)


def without_role(folder: str) -> str:
    """A folder's name without what says images or masks.

    >>> without_role("train_masks"), without_role("imagesTr"), without_role("images")
    ('train', 'Tr', '')
    """
    return _ROLE.sub("", folder).strip(_SIGNS)


def _signs(text: str) -> int:
    return len(text) - len(text.lstrip(_SIGNS))
