"""A shard of a plan, built in this process."""

from __future__ import annotations

from pathlib import Path

from builder.run.batch import batches_of
from builder.run.executors.local import LocalExecutor
from builder.run.options import Options
from builder.run.plan import SourcePlan
from builder.run.shard import UnfinishedShards


def build_shard(plan: SourcePlan, out: Path) -> Path:
    """Build the first shard of a source in this process, with index and receipt; returns its tar."""
    first = plan.shards[0]
    with UnfinishedShards(out) as shards:
        shards.open(first, plan.source.recipe.license, {})
        batches = list(batches_of(first.shard, plan.source, first.cases))
        for outcome in LocalExecutor(Options()).run(batches, out):
            shards.add(outcome)
        shards.receipts()
    return out / first.shard.tar
