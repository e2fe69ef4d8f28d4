"""What a build made, as plain data: the document that ``sa-med2d build --json`` prints."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from builder.run.build import Summary, unknown_classes
from builder.run.plan import SourcePlan
from shards.license import refusal


def result_of(summary: Summary) -> dict[str, Any]:
    """A summary as JSON; its keys are those of ``docs/command-line.md``."""
    return {
        "sources": [_source(plan, summary) for plan in summary.plans],
        "removed": [f"data/{stem}.tar" for stem in summary.removed],
        "configs": [config.name for config in summary.configs],
    }


def _source(plan: SourcePlan, summary: Summary) -> dict[str, Any]:
    recipe, discovery = plan.source.recipe, plan.discovery
    own = [receipt for receipt in summary.receipts if receipt.id.source == recipe.name]
    return {
        "name": recipe.name,
        "license": recipe.license,
        "not_publishable": refusal(recipe.license, recipe.license_evidence, recipe.access),
        "shards": len(own) if any(receipt.samples for receipt in own) else 0,  # one that gives nothing leaves none
        "cases": sum(len(receipt.cases) for receipt in own),
        "samples": sum(receipt.samples for receipt in own),
        "masks": sum(receipt.masks for receipt in own),
        "bytes": sum(receipt.bytes for receipt in own),
        "dropped": dict(sum((Counter(receipt.dropped) for receipt in own), Counter[str]())),
        "flagged": dict(sum((Counter(receipt.flagged) for receipt in own), Counter[str]())),
        "quarantined": [asdict(entry) for entry in summary.quarantined.get(recipe.name, ())],
        "without_sample": list(summary.without_sample[recipe.name]),
        "images_without_mask": list(discovery.images_without_mask),
        "masks_without_image": list(discovery.masks_without_image),
        "unknown_classes": unknown_classes(plan),
    }
