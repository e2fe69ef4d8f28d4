"""The front matter of the card: configs, features and sizes in YAML, as stock `datasets` and the Hub read them.

The Hub takes a card of limited size, and most of it is configs. So equal lists are written once and referred to after
that, and a glob covers all modalities where it can.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import yaml

from sa_med2d_20m import DATA, MEMBERS, PREVIEW, SPLITS, metadata_types
from shards.documents import LICENSES
from shards.license_names import OTHER, hub_licenses
from shards.receipt import Receipt

if TYPE_CHECKING:
    from shards.card import Config

_SIZES: Final = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
PREVIEW_MEMBERS: Final = ("jpg", "overlay.jpg", "json")
"""Extensions of the members of a sample of the preview, in their order."""
_WIDTH: Final = 110
"""Characters of a line."""


def front_matter(receipts: Collection[Receipt], listed: Sequence[Config], *, preview: bool = False) -> str:
    """The YAML between the two lines ``---``.

    Args:
        receipts: Of all shards that the card is about.
        listed: Its configs, the default first.
        preview: Whether there is a preview beside them, for viewers.
    """
    samples = sum(receipt.samples for receipt in receipts)
    licenses = hub_licenses({receipt.license for receipt in receipts})
    every = {receipt.id.glob for receipt in receipts}
    lists = _Lists()
    record: dict[str, Any] = {
        "pretty_name": "SA-Med2D-20M, rebuilt in the open",
        "license": licenses[0] if len(licenses) == 1 else licenses,
        **({"license_name": "per-source"} if OTHER in licenses else {}),
        "license_link": LICENSES,
        "task_categories": ["image-segmentation", "mask-generation"],
        "tags": ["medical", "webdataset", *sorted({receipt.id.modality for receipt in receipts})],
        "size_categories": [next((name for limit, name in _SIZES if samples < limit), "10M<n<100M")],
        "configs": [
            {
                "config_name": config.name,
                **({"default": True} if config is listed[0] else {}),
                "data_files": lists.once(
                    [{"split": split, "path": merged(globs, every)} for split, globs in config.files.items()]
                ),
            }
            for config in listed
        ],
        "dataset_info": _dataset_info(listed, lists),
    }
    if preview:
        files = [{"split": SPLITS[0], "path": f"{PREVIEW}/*.tar"}]
        record["configs"].append({"config_name": PREVIEW, "data_files": files})
        record["dataset_info"].append({"config_name": PREVIEW, "features": _features(PREVIEW_MEMBERS)})
    # of nested lists only the innermost go into one line, which is shorter than a line for each word
    return yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=None)


class _Lists:
    """Lists that YAML writes once: it does so for one object that stands in several places.

    None of them is within another, for readers of YAML that refuse references in references.
    """

    def __init__(self) -> None:
        self._seen: dict[str, list[Any]] = {}

    def once(self, items: list[Any]) -> list[Any]:
        """The first list that was equal to this one."""
        return self._seen.setdefault(repr(items), items)


def merged(globs: Iterable[str], every: Collection[str]) -> list[str]:
    """Globs that match the same shards and are fewer: one for all modalities where each of them is wanted.

    Args:
        globs: As `shards.paths.ShardId.glob` gives them.
        every: The globs of all shards that there are.

    >>> merged(["data/ct/mit/*/train-*.tar", "data/mr/mit/*/train-*.tar"],
    ...        {"data/ct/mit/*/train-*.tar", "data/mr/mit/*/train-*.tar", "data/mr/cc0-1.0/*/train-*.tar"})
    ['data/*/mit/*/train-*.tar']
    """
    wanted = set(globs)
    alike: dict[str, set[str]] = defaultdict(set)
    for glob in every:
        alike[_of_any_modality(glob)].add(glob)
    wide = {glob: _of_any_modality(glob) for glob in wanted}
    return sorted({wide[glob] if _is_wider(alike[wide[glob]], wanted) else glob for glob in wanted})


def _of_any_modality(glob: str) -> str:
    return "/".join([DATA, "*", *glob.split("/")[2:]])


def _is_wider(alike: Collection[str], wanted: Collection[str]) -> bool:
    return len(alike) > 1 and all(glob in wanted for glob in alike)


def _dataset_info(listed: Sequence[Config], lists: _Lists) -> list[dict[str, Any]]:
    """Features and sizes of each config, in the form that `datasets` reads out of a card."""
    columns = _features(MEMBERS)
    return [
        {
            "config_name": config.name,
            "features": columns,
            "splits": lists.once(
                [
                    {"name": split, "num_bytes": config.bytes[split], "num_examples": config.samples[split]}
                    for split in config.files
                ]
            ),
            "download_size": sum(config.bytes.values()),
            "dataset_size": sum(config.bytes.values()),
        }
        for config in listed
    ]


def _features(members: Sequence[str]) -> list[dict[str, Any]]:
    """The columns that the WebDataset reader of `datasets` yields: `sa_med2d_20m.features` as a card spells them."""
    pictures = [{"name": member, "dtype": "image"} for member in members[:2]]
    texts = [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
    return [*pictures, {"name": "json", **_feature(metadata_types())}, *texts]


def _feature(described: Any) -> dict[str, Any]:
    if isinstance(described, dict):
        return {"struct": [{"name": name, **_feature(item)} for name, item in described.items()]}
    if isinstance(described, list):
        inner = _feature(described[0])
        return {"list": next(iter(inner.values()))}
    return {"dtype": described}
