"""A case: the files that are converted together."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ImageFile:
    """An image of a case.

    Attributes:
        path: Below the source's root.
        submodality: As it goes into the key.
        channel: Number of the volume within a 4D file, or None.
        shown: How the path is written where others read it; None for the path itself.
        members: The files of a DICOM series that the path, one of them, stands for; empty where the path says all. Not
            part of the settings of a case: their content is.
    """

    path: str
    submodality: str
    channel: int | None = None
    shown: str | None = None
    members: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class MaskFile:
    """A mask file of a case.

    Attributes:
        path: Below the source's root.
        label: What ``{label}`` captured, or what the recipe calls this layer of the file, or None.
        rater: Who drew it: what ``{rater}`` captured, or what the recipe calls this layer of the file; None where all
            masks of a case belong together.
        layer: Number of the layer that is meant of a file that holds several masks, or None.
        members: As in `ImageFile`.
    """

    path: str
    label: str | None
    rater: str | None = None
    layer: int | None = None
    members: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Case:
    """One or several images that share masks.

    Attributes:
        name: Unique within the source.
        patient: The unit of the split.
        split: ``train``, ``validation`` or ``test``.
        images: Ordered by sub-modality.
        masks: Ordered by path.
        official_split: Whether the source itself says which split.
        frame: Number of the volume within 4D files where frames are cases, or None.
        shown: Path and how it is written where others read it, for the paths that are not shown as they are.
        rater: Whose masks these are, as the metadata say it; None where the source has one set of masks.
        vote: How the masks of several raters become one: ``majority`` or ``union``; None where they are of one.
    """

    name: str
    patient: str
    split: str
    images: tuple[ImageFile, ...]
    masks: tuple[MaskFile, ...]
    official_split: bool = False
    frame: int | None = None
    shown: tuple[tuple[str, str], ...] = ()
    rater: str | None = None
    vote: str | None = None

    @property
    def paths(self) -> list[str]:
        """All its files below the source's root, each once."""
        return list(dict.fromkeys([*(image.path for image in self.images), *(mask.path for mask in self.masks)]))

    def members(self, path: str) -> tuple[str, ...]:
        """The files of the series that one of its paths stands for; empty where the path says all."""
        files: tuple[ImageFile | MaskFile, ...] = (*self.images, *self.masks)
        return next((file.members for file in files if file.path == path), ())
