"""Names as the original release has them; what was imported from it gets its own names back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from shards.description import SourceDescription
from shards.export.names import is_plain
from shards.key import SampleKey

_WITHOUT_SUBMODALITY: Final = ("x_ray", "fundus_photography")
"""Modalities that the release writes without ``_00``."""
_OLDER: Final = "sam-med2d"
"""Naming of the data that came with the code of SAM-Med2D: classes by name."""


class ReleaseNames:
    """Names of the images, masks and classes of one source.

    Args:
        source: What is known of it, or None.
    """

    def __init__(self, source: SourceDescription | None) -> None:
        self._imported = None if source is None else source.repacked
        classes = () if source is None else source.classes
        self._classes = {one.class_id: one.original or one.label for one in classes}

    def image(self, record: Mapping[str, Any]) -> str:
        """Name of an image, without folder and ending.

        Of what was imported it is the name that the image had there; else it is the key, with the name of the case as
        it is where that can be the name of a file.

        Args:
            record: The metadata.
        """
        if self._imported is not None:
            return PurePosixPath(record["image_file"]).stem
        key = SampleKey.parse(record["key"])
        bare = key.submodality == "00" and key.modality in _WITHOUT_SUBMODALITY
        tag = key.modality if bare else f"{key.modality}_{key.submodality}"
        _, source, case, place = record["key"].split("--")
        return "--".join((tag, source, key.case if _is_written(key.case) else case, place))

    def mask(self, image: str, entry: Mapping[str, Any]) -> str:
        """Name of a mask, without folder and ending.

        Args:
            image: Name of its image.
            entry: Its metadata.
        """
        if self._imported is not None and self._imported.naming == _OLDER:
            return self.older_mask(image, entry)
        return f"{image}--{entry['class_id']}_{entry['instance']:03d}"

    def older_mask(self, image: str, entry: Mapping[str, Any]) -> str:
        """The same in the naming of SAM-Med2D's own data, by the name of the class."""
        return f"{image}_{self.class_name(entry['class_id'], entry['label'])}_{entry['instance']:03d}"

    def class_name(self, class_id: str, label: str) -> str:
        """Name of a class: what was imported has it as it was there."""
        return self._classes.get(class_id, label)

    def classes(self) -> dict[str, str]:
        """Class id -> name of each class that the dataset describes."""
        return dict(self._classes)


def _is_written(case: str) -> bool:
    """Whether the name of a case stands in a name as it is; the others are escaped, and alone hold a percent sign."""
    return is_plain(case) and "--" not in case and "%" not in case and not case.startswith("-") and case[-1:] != "-"


def names_of_sources(sources: Mapping[str, SourceDescription], names: Mapping[str, Any]) -> dict[str, ReleaseNames]:
    """Source -> its names.

    Args:
        sources: What is known of sources.
        names: All sources, known or not.
    """
    return {name: ReleaseNames(sources.get(name)) for name in names}
