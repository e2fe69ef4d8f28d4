"""What the benchmarks share: the MNI152 template with its tissue maps, as the package nilearn ships it, and the corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from builder.commands.demo import demo_folder
from builder.conversion.convert import convert
from builder.run.options import Options
from builder.run.plan import SourcePlan, plan_source
from builder.sources.load import load_recipe
from sa_med2d_20m import decode_png
from tests.support.places import CORPUS_SETS, RECIPES


@pytest.fixture(scope="module")
def plan(request: pytest.FixtureRequest) -> Iterator[SourcePlan]:
    """The MNI152 template, or the set that a test names."""
    name = getattr(request, "param", "MNI152")
    if name in CORPUS_SETS:
        folder = request.getfixturevalue("corpus") / CORPUS_SETS[name]
        yield plan_source(load_recipe(str(RECIPES / f"{name}.toml")), folder, bytes, shard_size=Options.shard_size)
        return
    pytest.importorskip("nilearn", reason="the benchmarks read a volume out of nilearn")
    with demo_folder() as raw:
        yield plan_source(load_recipe(name), raw / name, bytes, shard_size=Options.shard_size)


@pytest.fixture(scope="module")
def files(plan: SourcePlan) -> list[Path]:
    return [plan.source.root / path for task in plan.shards[0].cases for path in task.case.paths]


@pytest.fixture(scope="module")
def pictures(plan: SourcePlan) -> list[npt.NDArray[np.uint8]]:
    """The very images and label maps that the conversion writes, decoded."""
    samples = [sample for task in plan.shards[0].cases for sample in convert(task.case, plan.source).samples]
    return [decode_png(data) for sample in samples for data in (sample.image, sample.label_map)]  # type: ignore[misc]
