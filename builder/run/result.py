"""What a build made of each source: the table that it prints, and the document of ``sa-med2d build --json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from builder.run.build import Summary, unknown_classes
from builder.run.copies import Decisions
from builder.run.plan import SourcePlan
from shards.license import refusal
from shards.receipt import Quarantined, summed


@dataclass(frozen=True)
class SourceResult:
    """What was built of a source; its fields are the keys of ``docs/command-line.md``."""

    name: str
    license: str
    not_publishable: str | None
    shards: int
    cases: int
    samples: int
    masks: int
    bytes: int
    dropped: dict[str, int]
    flagged: dict[str, int]
    quarantined: tuple[Quarantined, ...]
    bad_masks: tuple[Quarantined, ...]
    without_sample: tuple[str, ...]
    images_without_mask: tuple[str, ...]
    masks_without_image: tuple[str, ...]
    left_out: tuple[str, ...]
    copies: tuple[str, ...]
    duplicates: dict[str, tuple[str, ...]]
    regrouped: dict[str, str]
    unknown_classes: tuple[str, ...]


def source_result(plan: SourcePlan, summary: Summary) -> SourceResult:
    """What a build made of one of its sources."""
    recipe, discovery = plan.source.recipe, plan.discovery
    decisions = summary.decisions.get(recipe.name, Decisions())
    own = [receipt for receipt in summary.receipts if receipt.id.source == recipe.name]
    return SourceResult(
        name=recipe.name,
        license=recipe.license,
        not_publishable=refusal(recipe.license, recipe.license_evidence, recipe.access),
        shards=len(own) if any(receipt.samples for receipt in own) else 0,  # a source that gives nothing leaves none
        cases=sum(len(receipt.cases) for receipt in own),
        samples=sum(receipt.samples for receipt in own),
        masks=sum(receipt.masks for receipt in own),
        bytes=sum(receipt.bytes for receipt in own),
        dropped=summed(receipt.dropped for receipt in own),
        flagged=summed(receipt.flagged for receipt in own),
        quarantined=summary.quarantined.get(recipe.name, ()),
        bad_masks=tuple(bad for receipt in own for piece in receipt.pieces for bad in piece.bad_masks),
        without_sample=summary.without_sample[recipe.name],
        images_without_mask=discovery.images_without_mask,
        masks_without_image=discovery.masks_without_image,
        left_out=discovery.left_out,
        copies=discovery.copies,
        duplicates={case: one.of for case, one in decisions.left_out.items()},
        regrouped=dict(decisions.splits),
        unknown_classes=tuple(unknown_classes(plan)),
    )


def result_of(summary: Summary) -> dict[str, Any]:
    """A summary as JSON."""
    return {
        "sources": [asdict(source_result(plan, summary)) for plan in summary.plans],
        "overlaps": [asdict(overlap) for overlap in summary.overlaps],
        "removed": [f"data/{stem}.tar" for stem in summary.removed],
        "configs": [config.name for config in summary.configs],
    }
