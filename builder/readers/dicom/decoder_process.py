"""A process of its own for a decoder that may end the process on damaged data, which no ``except`` catches.

GDCM does so on some damaged JPEG and JPEG-LS data. The process is started with the first frame that needs it, and anew
after it was lost. What decoders write to the terminal ends here.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, SecondaryCaptureImageStorage, generate_uid

from builder.errors import TransientError

ITK: Final = "itk"
"""Not a plug-in of pydicom: SimpleITK, whose GDCM decodes JPEG of 12 bit, which pydicom's plug-ins refuse."""
LONGEST: Final = 120.0
"""Seconds that one frame may take."""


class DecoderLostError(TransientError):
    """The decoder ended its process, or did not come to an end; the message says so in words."""


@dataclass(frozen=True)
class CompressedFrame:
    """One frame and what its decoder must know.

    Attributes:
        syntax: UID of its transfer syntax.
        values: Keyword -> value of the Image Pixel module.
        data: The codestream.
        plugin: pydicom's name of the plug-in to use, or `ITK`.
    """

    syntax: str
    values: Mapping[str, Any]
    data: bytes
    plugin: str


_running: tuple[BaseProcess, Connection] | None = None


def decode_apart(frame: CompressedFrame) -> npt.NDArray[Any]:
    """Decode a frame in another process.

    Raises:
        DecoderLostError: See there.
        ValueError: The plug-in says that it cannot decode it.
    """
    _, pipe = _started()
    try:
        pipe.send(frame)
        if not pipe.poll(LONGEST):
            raise DecoderLostError(f"damaged: its pixels are not decoded after {LONGEST:.0f} s; fetch it again")
        decoded = pipe.recv()
    except (EOFError, OSError):
        _stop()
        raise DecoderLostError("damaged: its compressed pixels crash the decoder; fetch it again") from None
    except DecoderLostError:
        _stop()
        raise
    if decoded is None:
        raise ValueError("the plug-in cannot decode the frame")
    return decoded  # type: ignore[no-any-return]


def _started() -> tuple[BaseProcess, Connection]:
    global _running  # noqa: PLW0603 - one process of this kind for each worker
    if _running is None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, name="decoder", args=(theirs,), daemon=True)
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        _running = process, ours
    return _running


def _stop() -> None:
    global _running  # noqa: PLW0603 - as above
    if _running is not None:
        process, pipe = _running
        process.kill()
        process.join()
        pipe.close()
        _running = None


def _serve(pipe: Connection) -> None:
    """Decode frames until the other end is closed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for terminal in (1, 2):
        os.dup2(nowhere, terminal)
    while True:
        try:
            frame = pipe.recv()
        except EOFError:
            return
        try:
            decoded = _decode(frame)
        except Exception:  # plug-ins raise nearly anything, and some of it cannot be sent
            decoded = None
        pipe.send(decoded)


def _decode(frame: CompressedFrame) -> npt.NDArray[Any] | None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(frame.syntax)
    for keyword, value in frame.values.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = encapsulate([frame.data])
    return _by_itk(dataset) if frame.plugin == ITK else pixel_array(dataset, decoding_plugin=frame.plugin)


def _by_itk(dataset: Dataset) -> npt.NDArray[Any]:
    """Decode a single frame of grey, which ITK wants as a whole file."""
    import SimpleITK  # noqa: PLC0415 - half a second that few images need

    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO"))[0])
