"""The stages of a build at which a case may stop."""

from __future__ import annotations

from typing import Literal

Stage = Literal["match", "read", "grid", "labels", "gate", "convert"]
"""In the order in which a case passes them.

``match`` pairs images and masks, ``read`` reads files, ``grid`` compares their grids, ``labels`` reads classes from
masks, ``gate`` applies the quality gates of the recipe, and ``convert`` makes samples.
"""
