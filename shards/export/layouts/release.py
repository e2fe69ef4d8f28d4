"""The layout ``release``: folders, names and JSON files of SA-Med2D-20M as it was released.

Names, from the card of the release: ``images/{modality_sub-modality}--{dataset name}--{ori name}--{slice}.png``, and
``masks/`` with ``--{class id}_{instance}`` in four and three digits. ``SAMed2D_v1.json`` maps each image to its masks,
``SAMed2D_v1_class_mapping_id.json`` dataset and class name to class id.
"""

from __future__ import annotations

import json
from typing import Final

from shards.export.layout import Gathered, Layout, Unit, member, write_json_list
from shards.export.names import image_name
from shards.export.pictures import mask_png, three_channel_png
from shards.export.sample import Sample

_INDEX: Final = "SAMed2D_v1.json"
_MAPPING: Final = "SAMed2D_v1_class_mapping_id.json"


class Release(Layout):
    """The folder that the release calls ``SAMed2Dv1``."""

    def add(self, sample: Sample, unit: Unit) -> None:
        """See `Layout`."""
        name, source = image_name(sample.record), sample.record["source"]
        unit.file(f"images/{name}.png", three_channel_png(sample))
        masks = []
        for entry, mask in sample.masks():
            masks.append(f"masks/{name}--{entry['class_id']}_{entry['instance']:03d}.png")
            unit.file(masks[-1], mask_png(mask))
            unit.note("classes", [source, entry["class_id"], entry["label"]])
        if masks:
            unit.entry("index", member(f"images/{name}.png", masks))
        else:
            unit.count("without_mask")

    def finish(self, gathered: Gathered) -> list[str]:
        """See `Layout`."""
        with gathered.open(_INDEX) as file:
            file.write(b"{")
            write_json_list(file, gathered.lines("index"))
            file.write(b"}\n")
        with gathered.open(_MAPPING) as file:
            file.write(json.dumps(self._mapping(gathered), indent=1, ensure_ascii=False).encode() + b"\n")
        empty = int(gathered.counted("without_mask"))
        if not empty:
            return []
        return [f"{empty:,} images without a mask are in images, and not in {_INDEX}, which lists none without one"]

    def _mapping(self, gathered: Gathered) -> dict[str, dict[str, str]]:
        """Source -> class name -> class id: what the dataset says of its sources, and what the masks say."""
        mapping: dict[str, dict[str, str]] = {}
        seen = gathered.notes("classes")
        for source in self.overview.labels_of:
            about = self.overview.sources.get(source)
            own = {} if about is None else {one.label: one.class_id for one in about.classes}
            for name, class_id, label in seen:
                if name == source and class_id not in own.values():
                    own[label] = class_id
            mapping[source] = dict(sorted(own.items(), key=lambda item: item[1]))
        return mapping
