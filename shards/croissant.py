"""``croissant.json`` of a repository: what it holds, in the vocabulary of MLCommons Croissant.

Croissant 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec.html) and its extension for responsible AI
(https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html). A config is a record set over the index of its
shards, which says of each sample in which shard it lies, and at which offset.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sa_med2d_20m import DATA, INDEX, PLACES, metadata_types
from shards import citation
from shards.console import plural
from shards.license import spdx_page
from shards.receipt import Receipt

if TYPE_CHECKING:
    from shards.card import Config
    from shards.description import SourceDescription

CROISSANT: Final = "croissant.json"

_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""As the specification gives it."""
_REPOSITORY: Final = "repository"
_TYPES: Final = {"string": "sc:Text", "int64": "sc:Integer", "float64": "sc:Float", "bool": "sc:Boolean"}
_RESPONSIBLE: Final = {
    "rai:dataCollection": "Public medical segmentation datasets, as their authors published them; SOURCES.md names "
    "each with how to cite it.",
    "rai:dataPreprocessingProtocol": [
        "Volumes are brought to LPS axes without resampling and cut into slices along three axes; each slice is scaled "
        "to 8 bit as its metadata says (intensity); masks are split into 8-connected objects.",
        "Slices whose shorter edge is less than half the longer one, slices of one value, slices without a mask and "
        "objects below the area rule are left out; what was left out is counted in the metadata and in SOURCES.md.",
    ],
    "rai:dataAnnotationProtocol": "The sources' own: drawn by experts in some, by models in others. A class that a "
    "source does not annotate is not marked where it is visible.",
    "rai:dataLimitations": [
        "Not for clinical use.",
        "Sources share patients with one another where SOURCES.md or the builder's list of overlaps says so.",
        "Spacing is unknown for pictures and where a source does not say it.",
    ],
    "rai:dataBiases": "Modalities, organs and classes are far from balanced, and most images are slices of CT and MR; "
    "age, sex and origin of patients are as unknown as in the sources.",
    "rai:personalSensitiveInformation": "Images of patients whom the sources de-identified. Patient identifiers of "
    "DICOM are replaced by keyed hashes, and no attribute that could name a person is copied. "
    "Pixels are not searched for burned-in text or for faces.",
    "rai:dataUseCases": "Training and evaluation of medical image segmentation.",
    "rai:dataReleaseMaintenancePlan": "A source is withdrawn as a whole when whoever holds rights in it asks for that.",
}


def croissant(
    receipts: Collection[Receipt],
    sources: Mapping[str, SourceDescription],
    listed: Sequence[Config],
    repository: str,
) -> bytes:
    """The file; the same arguments give the same bytes.

    Args:
        receipts: Of all shards of the repository.
        sources: What is known of their sources.
        listed: The configs of its card.
        repository: Its name on the Hub.
    """
    images, masks = (sum(getattr(receipt, name) for receipt in receipts) for name in ("samples", "masks"))
    licenses = {receipt.id.source: receipt.license for receipt in receipts}
    address = f"https://huggingface.co/datasets/{repository}"
    record = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": repository.rsplit("/", 1)[-1],
        "description": f"SA-Med2D-20M, rebuilt in the open: {plural(images, 'medical image')} with "
        f"{plural(masks, 'mask')} from {plural(len(licenses), 'source dataset')}, "
        "as WebDataset shards. Each image is under the licence of its source.",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "url": address,
        "license": sorted({_license(name, sources.get(source)) for source, name in licenses.items()}),
        "citeAs": f"{citation.own_bibtex(repository)}\n{citation.bibtex()}",
        "keywords": ["medical", "segmentation", *sorted({receipt.id.modality for receipt in receipts})],
        "isBasedOn": [_source(sources[name], licenses[name]) for name in sorted(licenses) if name in sources],
        **_RESPONSIBLE,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": _REPOSITORY,
                "name": _REPOSITORY,
                "description": "The repository on the Hub.",
                "contentUrl": address,
                "encodingFormat": "git+https",
                # a repository has no checksum; this address says what stands in its place
                "sha256": "https://github.com/mlcommons/croissant/issues/80",
            },
            *(files for config in listed for files in _file_sets(config)),
        ],
        "recordSet": [_record_set(config) for config in listed],
    }
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _license(name: str, source: SourceDescription | None) -> str:
    """An address of a licence: SPDX's where it is one of theirs, else where its terms were read."""
    return spdx_page(name) or (source.license_evidence if source else None) or name


def _source(source: SourceDescription, license_id: str) -> dict[str, Any]:
    return {
        "@type": "sc:Dataset",
        "name": source.title,
        "alternateName": source.name,
        "url": source.homepage,
        "license": _license(license_id, source),
        "citation": source.citation,
    }


def _file_sets(config: Config) -> list[dict[str, Any]]:
    """The shards of a config, and the index over them."""
    globs = sorted({glob for of_split in config.files.values() for glob in of_split})
    indexes = [f"{INDEX}/{glob.removeprefix(f'{DATA}/').removesuffix('.tar')}.parquet" for glob in globs]
    return [
        _files(f"{config.name}-shards", globs, "application/x-tar", f"Shards of the config {config.name}."),
        _files(f"{config.name}-index", indexes, "application/x-parquet", "Which sample lies where in these shards."),
    ]


def _files(name: str, globs: Sequence[str], encoding: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": description,
        "containedIn": {"@id": _REPOSITORY},
        "encodingFormat": encoding,
        "includes": globs,
    }


def _record_set(config: Config) -> dict[str, Any]:
    described = {**metadata_types(), "shard": "string", **dict.fromkeys(PLACES, "int64")}
    return {
        "@type": "cr:RecordSet",
        "@id": config.name,
        "name": config.name,
        "description": f"The images of the config {config.name}, with the shard and the place of each member.",
        "field": list(_fields(config.name, f"{config.name}-index", described)),
    }


def _fields(
    parent: str, files: str, described: Mapping[str, Any], column: str | None = None
) -> Iterable[dict[str, Any]]:
    """The fields of a record, and those within a column that holds records."""
    for name, kind in described.items():
        known = f"{parent}/{name}"
        field: dict[str, Any] = {"@type": "cr:Field", "@id": known, "name": known}
        inner = kind[0] if isinstance(kind, list) else kind
        if isinstance(kind, list):
            field["repeated"] = True
        if isinstance(inner, dict):
            yield {**field, "subField": list(_fields(known, files, inner, column=name))}
            continue
        extract: dict[str, Any] = {"fileSet": {"@id": files}, "extract": {"column": column or name}}
        if column is not None:
            extract["transform"] = {"jsonPath": name}
        yield {**field, "dataType": _TYPES[inner], "source": extract}
