"""The volume that the benchmarks share: the MNI152 template with its tissue maps, as the package nilearn ships it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from builder.convert import convert
from builder.demo import demo_folder
from builder.options import Options
from builder.plan import SourcePlan, plan_source
from builder.recipe import load_recipe
from sa_med2d_20m import decode_png


@pytest.fixture(scope="module")
def plan() -> Iterator[SourcePlan]:
    pytest.importorskip("nilearn", reason="the benchmarks read a volume out of nilearn")
    with demo_folder() as raw:
        yield plan_source(load_recipe("MNI152"), raw / "MNI152", bytes, shard_size=Options.shard_size)


@pytest.fixture(scope="module")
def files(plan: SourcePlan) -> list[Path]:
    (task,) = plan.tasks
    return [plan.source.root / path for path in task.cases[0].paths]


@pytest.fixture(scope="module")
def pictures(plan: SourcePlan) -> list[npt.NDArray[np.uint8]]:
    """The very images and label maps that the conversion writes, decoded."""
    samples = convert(plan.tasks[0].cases[0], plan.source).samples
    return [decode_png(data) for sample in samples for data in (sample.image, sample.label_map)]  # type: ignore[misc]
