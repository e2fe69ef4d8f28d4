"""Trees and zips that are shaped like the release of SA-Med2D-20M, written without any code of ours."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

TOP = "SAMed2Dv1"
ZIP = "SA-Med2D-16M.zip"

Pixels = npt.NDArray[np.uint8]


def png(pixels: npt.NDArray[np.uint8 | np.uint16], *, rgb: bool = False) -> bytes:
    """A PNG by Pillow; a grey picture with three equal channels where ``rgb`` is set, as the release has it."""
    if rgb and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def texture(seed: int, height: int = 40, width: int = 50) -> Pixels:
    """A grey picture."""
    noise = np.random.default_rng(seed).integers(0, 255, (height // 5 + 1, width // 5 + 1), np.uint8)
    return np.ascontiguousarray(np.kron(noise, np.ones((5, 5), np.uint8))[:height, :width])


def box(top: int, left: int, height: int, width: int, *, of: tuple[int, int] = (40, 50), value: int = 255) -> Pixels:
    """A mask of one rectangle."""
    mask = np.zeros(of, np.uint8)
    mask[top : top + height, left : left + width] = value
    return mask


MAPPING: Mapping[str, Mapping[str, str]] = {
    "ACDC": {"right_ventricle": "0000", "myocardium": "0001", "left_ventricle": "0002", "whole": "0003"},
    "MSD_Liver": {"liver": "0001", "liver_tumor": "0002", "union_liver_liver_tumor": "0003", "my_odd_thing": "0004"},
    "covid_19_ct_cxr": {"lung_left": "0000", "lung_right": "0001"},
    "Nowhere": {"spleen": "0000"},
}


def good_files() -> dict[str, bytes]:
    """A release with nothing to repair: two volumes, two sub-modalities, pictures, colour, overlaps, no mask, dots."""
    files: dict[str, bytes] = {}

    def add(name: str, image: Pixels, masks: Mapping[str, Pixels]) -> None:
        files[f"images/{name}.png"] = png(image, rgb=True)
        files.update({f"masks/{name}--{end}.png": png(mask) for end, mask in masks.items()})

    for frame in ("patient001_frame01", "patient001_frame12", "patient002_frame01"):
        for index in range(3):
            seed = zlib.crc32(frame.encode()) % 1000 + index
            masks = {"0000_000": box(5, 5, 10, 10), "0002_000": box(20, 20, 6, 9), "0002_002": box(30, 2, 4, 4)}
            add(f"mr_00--ACDC--{frame}--x_{index + 6:04d}", texture(seed), masks)
    for axis, (height, width) in {"x": (30, 40), "y": (24, 40), "z": (24, 30)}.items():
        for index in (3, 11):
            masks = {
                "0001_000": box(2, 2, 20, 20, of=(height, width)),
                "0002_000": box(8, 8, 5, 5, of=(height, width)),
                "0003_000": box(10, 20, 5, 5, of=(height, width)),
            }
            add(f"ct_00--MSD_Liver--liver_0--{axis}_{index:04d}", texture(index, height, width), masks)
    add("ct_00--MSD_Liver--1.3.6.1-a.b--z_10281", texture(7), {"0004_000": box(1, 1, 8, 8)})
    add(
        "x_ray--covid_19_ct_cxr--16660_5_1--2d_none",
        texture(8),
        {"0000_000": box(1, 1, 8, 8), "0001_000": box(4, 4, 9, 9)},
    )
    add("dermoscopy_00--Nowhere--lone--2d_none", texture(9), {})
    colour = np.dstack([texture(1), texture(2), texture(3)])
    files["images/dermoscopy_00--Nowhere--colour--2d_none.png"] = png(colour)
    files["masks/dermoscopy_00--Nowhere--colour--2d_none--0000_000.png"] = png(box(3, 3, 9, 9))
    return files


def with_json(files: Mapping[str, bytes], mapping: Mapping[str, Mapping[str, str]] = MAPPING) -> dict[str, bytes]:
    """Files with the two lists that the release has."""
    index = {
        image: sorted(
            mask for mask in files if mask.startswith(f"masks/{image.removeprefix('images/').removesuffix('.png')}--")
        )
        for image in sorted(files)
        if image.startswith("images/")
    }
    return {
        **files,
        "SAMed2D_v1.json": json.dumps(index).encode(),
        "SAMed2D_v1_class_mapping_id.json": json.dumps(mapping).encode(),
    }


def write_tree(root: Path, files: Mapping[str, bytes]) -> Path:
    """An unpacked release below ``root``; gives its top folder."""
    for name, data in files.items():
        path = root / TOP / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root / TOP


def zip_tool(tree: Path, target: Path, *, split: str | None = None) -> Path | None:
    """Zip a tree by Info-ZIP, split where asked; None where the tool is not there."""
    tool = shutil.which("zip")
    if tool is None:
        return None
    options = ["-s", split] if split else []
    subprocess.run([tool, "-q", "-r", *options, target, tree.name], cwd=tree.parent, check=True)
    return target


@dataclass(frozen=True)
class Member:
    """A member of a zip as it is written, with what may be wrong with it.

    Attributes:
        name: In both headers.
        data: Its content.
        stored: Whether it is not compressed.
        local_name: In the header in front of it, where that differs.
        size: That the directory says, where it is wrong.
        packed: Likewise, of its packed bytes.
        crc32: Likewise.
        address: Likewise.
        flags: Of both headers.
    """

    name: str
    data: bytes
    stored: bool = False
    local_name: str | None = None
    size: int | None = None
    packed: int | None = None
    crc32: int | None = None
    address: int | None = None
    flags: int = 0


def zip_bytes(members: Iterable[Member], *, zip64: bool = False, part: int | None = None) -> list[bytes]:
    """Write a zip as PKWARE's APPNOTE says, by hand, in parts of a size where ``part`` is given.

    Args:
        members: Its members.
        zip64: Whether sizes, addresses and the end are in zip64 form, however small.
        part: Bytes of a part; None for one whole zip. The first begins with the mark of a split archive.

    Returns:
        The parts; the last one is that called .zip.
    """
    stream = bytearray(b"PK\x07\x08" if part else b"")

    def place(address: int) -> tuple[int, int]:
        return divmod(address, part) if part else (0, address)

    entries: list[bytes] = []
    for member in members:
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = member.data if member.stored else packer.compress(member.data) + packer.flush()
        crc = zlib.crc32(member.data) if member.crc32 is None else member.crc32
        size = len(member.data) if member.size is None else member.size
        method, own = 0 if member.stored else 8, len(stream)
        local = (member.local_name or member.name).encode()
        head = (20, member.flags, method, 0, 0, zlib.crc32(member.data), len(packed), len(member.data), len(local), 4)
        stream += struct.pack("<4s5H3I2H", b"PK\x03\x04", *head) + local + b"\xfe\xca\0\0" + packed
        disk, offset = place(own if member.address is None else member.address)
        name, wide = member.name.encode(), b""
        sizes = (len(packed) if member.packed is None else member.packed, size)
        if zip64:
            wide = struct.pack("<2H3QI", 1, 28, size, sizes[0], offset, disk)
            sizes, offset, disk = (2**32 - 1, 2**32 - 1), 2**32 - 1, 2**16 - 1
        fields = (20, 45, member.flags, method, 0, 0, crc, *sizes, len(name), len(wide), 0, disk, 0, 0, offset)
        entries.append(struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *fields) + name + wide)
    begin, directory = len(stream), b"".join(entries)
    stream += directory
    (disk, offset), count = place(begin), len(entries)
    if zip64:
        own_disk, own_offset = place(len(stream))
        here = place(len(stream) + 56 + 20)[0]
        record = (44, 45, 45, here, disk, count, count, len(directory), offset)
        stream += struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", *record)
        stream += struct.pack("<4sIQI", b"PK\x06\x07", own_disk, own_offset, here + 1)
        stream += struct.pack("<4s4H2IH", b"PK\x05\x06", *(2**16 - 1,) * 4, *(2**32 - 1,) * 2, 0)
    else:
        here = place(len(stream))[0]
        stream += struct.pack("<4s4H2IH", b"PK\x05\x06", here, disk, count, count, len(directory), offset, 0)
    if part is None:
        return [bytes(stream)]
    return [bytes(stream[start : start + part]) for start in range(0, len(stream), part)]


def sparse_split(folder: Path, files: Mapping[str, bytes], part: int) -> Path:
    """A split zip64 of two parts, the first of any size, with nothing but a hole in the middle.

    Of the files one half lies at its beginning; the first of the other half begins 50 bytes before its end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    members = [(f"{TOP}/{name}".encode(), data) for name, data in files.items()]
    half, address, entries = len(members) // 2, 4, []
    with (folder / ZIP).with_suffix(".z01").open("wb") as first, (folder / ZIP).open("wb") as last:
        first.write(b"PK\x07\x08")
        first.truncate(part)

        def write(data: bytes) -> None:
            nonlocal address
            if address < part:
                first.seek(address)
                first.write(data[: part - address])
            last.write(data[max(0, part - address) :])
            address += len(data)

        for number, (name, data) in enumerate(members):
            address = part - 50 if number == half else address
            disk, offset = divmod(address, part)
            wide = struct.pack("<2H3QI", 1, 28, len(data), len(data), offset, disk)
            head = (45, 0, 0, 0, 0, zlib.crc32(data))
            entries.append(
                struct.pack(
                    "<4s6H3I5H2I",
                    b"PK\x01\x02",
                    45,
                    *head,
                    *(2**32 - 1,) * 2,
                    len(name),
                    32,
                    0,
                    2**16 - 1,
                    0,
                    0,
                    2**32 - 1,
                )
                + name
                + wide
            )
            write(struct.pack("<4s5H3I2H", b"PK\x03\x04", *head, len(data), len(data), len(name), 0) + name + data)
        begin, directory, count = address - part, b"".join(entries), len(entries)
        write(directory)
        end = address - part
        write(struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 1, 1, count, count, len(directory), begin))
        write(struct.pack("<4sIQI", b"PK\x06\x07", 1, end, 2))
        write(struct.pack("<4s4H2IH", b"PK\x05\x06", *(2**16 - 1,) * 4, *(2**32 - 1,) * 2, 0))
    return folder / ZIP


def members_of(files: Mapping[str, bytes], *, top: str = TOP) -> list[Member]:
    """The files of a release as members; every third is stored."""
    prefix = f"{top}/" if top else ""
    return [
        Member(f"{prefix}{name}", data, stored=number % 3 == 0) for number, (name, data) in enumerate(files.items())
    ]


def write_zip(folder: Path, parts: Sequence[bytes], name: str = ZIP) -> Path:
    """Write the parts of a zip under their names; gives that of the last."""
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / name
    for number, data in enumerate(parts[:-1], 1):
        last.with_suffix(f".z{number:02d}").write_bytes(data)
    last.write_bytes(parts[-1])
    return last


def _layers(sample: Mapping[str, bytes], height: int) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(sample["mask.png"]))).reshape(
        -1, height, Image.open(io.BytesIO(sample["png"])).width
    )


def given_back(samples: Iterable[Mapping[str, bytes]], names: Mapping[str, str] | None = None) -> dict[str, Pixels]:
    """The release's files as shards hold them: path -> pixels, images with three channels, masks of 0 and 255.

    Args:
        samples: Members of samples by ending.
        names: Class id -> name in the paths of masks, for the older naming; None for that of the release.
    """
    found: dict[str, Pixels] = {}
    for sample in samples:
        about = json.loads(sample["json"])
        image = np.asarray(Image.open(io.BytesIO(sample["png"])).convert("RGB"))
        found[about["image_file"]] = image
        layers = _layers(sample, about["height"])
        stem = about["image_file"].removeprefix("images/").removesuffix(".png")
        for mask in about["masks"]:
            end = f"--{mask['class_id']}" if names is None else f"_{names[mask['class_id']]}"
            pixels = (layers[mask["layer"]] == mask["id"]).astype(np.uint8) * np.uint8(255)
            found[f"masks/{stem}{end}_{mask['instance']:03d}.png"] = pixels
    return found


def decoded(files: Mapping[str, bytes]) -> dict[str, Pixels]:
    """The pictures of a release: path -> pixels as Pillow gives them, images with three channels."""
    return {
        name: np.asarray(Image.open(io.BytesIO(data)).convert("RGB" if name.startswith("images/") else "L"))
        for name, data in files.items()
        if name.endswith(".png")
    }


def differing(one: Mapping[str, Pixels], other: Mapping[str, Pixels]) -> list[str]:
    """Paths that only one of two has, and those whose pixels differ."""
    both = one.keys() & other.keys()
    return sorted((one.keys() ^ other.keys()) | {name for name in both if not np.array_equal(one[name], other[name])})
