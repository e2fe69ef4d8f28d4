"""A source as the conversion of a case needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.readers.rules import ReadRules
from builder.sources.classes import SourceClasses
from builder.sources.recipe import Recipe, mask_rules, read_rules


@dataclass(frozen=True)
class Source:
    """A source as the conversion of a case needs it: its folder, its recipe and its classes.

    Attributes:
        root: Folder of the source.
        recipe: Its recipe.
        classes: Its classes.
    """

    root: Path
    recipe: Recipe
    classes: SourceClasses

    @property
    def read_rules(self) -> ReadRules:
        """What its recipe says about reading."""
        return read_rules(self.recipe)

    def rules_for(self, members: Sequence[str]) -> ReadRules:
        """`read_rules` for the files of a DICOM series, by their paths below the root."""
        return replace(self.read_rules, members=tuple(self.root / member for member in members))

    def image_rules(self, members: Sequence[str], channel: int | None) -> ReadRules:
        """`rules_for` for a channel of an image, which may be an array of its own in its file."""
        return replace(self.rules_for(members), variable=self.recipe.files.variables.of_image(channel))

    def mask_rules(self, members: Sequence[str] = (), layer: int | None = None) -> ReadRules:
        """`rules_for` for a layer of a mask, which may be another array, or half, of a file than the image."""
        files = tuple(self.root / member for member in members)
        variable = self.recipe.files.variables.of_mask(layer)
        return replace(mask_rules(self.recipe), members=files, variable=variable)
