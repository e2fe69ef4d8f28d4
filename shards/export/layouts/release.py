"""The layout ``release``: folders, names and JSON files of SA-Med2D-20M as it was released.

Names, from the card of the release: ``images/{modality_sub-modality}--{dataset name}--{ori name}--{slice}.png``, and
``masks/`` with ``--{class id}_{instance}`` in four and three digits. ``SAMed2D_v1.json`` maps each image to its masks,
``SAMed2D_v1_class_mapping_id.json`` dataset and class name to class id.
"""

from __future__ import annotations

import json
from typing import Final

from shards.export.layout import Gathered, Layout, Overview, Unit, member, write_json_list
from shards.export.pictures import mask_png, three_channel_png
from shards.export.release_names import names_of_sources
from shards.export.sample import Sample

_INDEX: Final = "SAMed2D_v1.json"
_MAPPING: Final = "SAMed2D_v1_class_mapping_id.json"


class Release(Layout):
    """The folder that the release calls ``SAMed2Dv1``."""

    def __init__(self, overview: Overview) -> None:
        super().__init__(overview)
        self._names = names_of_sources(overview.sources, overview.labels_of)

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        source = sample.record["source"]
        names = self._names[source]
        name = names.image(sample.record)
        unit.file(f"images/{name}.png", three_channel_png(sample))
        masks = []
        for entry, mask in sample.masks():
            masks.append(f"masks/{names.mask(name, entry)}.png")
            unit.file(masks[-1], mask_png(mask))
            unit.note("classes", [source, entry["class_id"], entry["label"]])
        unit.entry("index", member(f"images/{name}.png", masks))

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        with gathered.open(_INDEX) as file:
            file.write(b"{")
            write_json_list(file, gathered.lines("index"))
            file.write(b"}\n")
        with gathered.open(_MAPPING) as file:
            file.write(json.dumps(self._mapping(gathered), indent=1, ensure_ascii=False).encode() + b"\n")
        return []

    def _mapping(self, gathered: Gathered) -> dict[str, dict[str, str]]:
        """Source -> class name -> class id: what the dataset says of its sources, and what the masks say."""
        mapping: dict[str, dict[str, str]] = {}
        seen = gathered.notes("classes")
        for source, names in self._names.items():
            own = names.classes()
            for of, class_id, label in seen:
                if of == source:
                    own.setdefault(class_id, label)
            mapping[source] = {name: class_id for class_id, name in sorted(own.items())}
        return mapping
