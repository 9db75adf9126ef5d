"""JPEG files that workers only read, and that the main process decodes on the device, a batch at a time (nvJPEG).

An image travels as its file and the seed of its random choices: from these follow the crops and changes that a worker
would have made. What is no plain JPEG is decoded by the worker, as without this, and travels as pixels.
"""
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from PIL import Image
from torch import Tensor

from datasets.base import Batch
from datasets.decode import decode, read_jpeg
from utilities.errors import UsageError
from utilities.seed import seeded

AT_ONCE = 32                                         # files decoded in one call: their whole pixels take memory
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


class Encoded(NamedTuple):
    """A plain JPEG file (n,), uint8, and the seed of what is to be done with its image."""

    data: Tensor
    seed: int


class Packed(NamedTuple):
    """A batch of B images, of which J are still files.

    data: the files one after the other, uint8; length, seed, place: (J,), bytes of each, its seed, its row in the
    batch; pixels: (B - J, 3, H, W), uint8, of the other rows in their order, or (0,) where J = B.
    """

    data: Tensor
    length: Tensor
    seed: Tensor
    place: Tensor
    pixels: Tensor


def read_encoded(path: Path, seed: int) -> Encoded | None:
    """The file of a plain JPEG that is not cut short; None for any other."""
    jpeg = read_jpeg(path)
    if jpeg is None or jpeg.data.rfind(END_OF_IMAGE) < jpeg.data.rfind(START_OF_SCAN):
        return None
    return Encoded(torch.frombuffer(bytearray(jpeg.data), dtype=torch.uint8), seed)


def stacked(images: Sequence[Tensor]) -> Tensor:
    """Images (3, H, W) as a batch (B, 3, H, W), channels last: as decoders write them and networks read them
    fastest."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def pack(images: Sequence[Tensor | Encoded]) -> Packed:
    """Images of which some are files, for their way to the main process."""
    place = [row for row, image in enumerate(images) if isinstance(image, Encoded)]
    files = [images[row] for row in place]
    others = [image for image in images if not isinstance(image, Encoded)]
    return Packed(torch.cat([file.data for file in files]), torch.tensor([len(file.data) for file in files]),
                  torch.tensor([file.seed for file in files]), torch.tensor(place),
                  stacked(others) if others else torch.empty(0, dtype=torch.uint8))


class DeviceDecoder:
    """Decodes the files of a batch on `device` and takes the crops there; `paths` and `transform` are the data set's.

    A CPU as device gives the pixels that a worker gives where it decodes at full size; those of nvJPEG differ from them
    by rounding.
    """

    def __init__(self, paths: Sequence[Path], transform: Callable[[Tensor], Tensor], device: torch.device | str):
        self.paths, self.transform, self.device = paths, transform, torch.device(device)

    def __call__(self, batch: Batch) -> Batch:
        """The batch with images (B, 3, H, W), uint8, on the device. A damaged file is an ImageError that names it."""
        packed = batch.image
        if isinstance(packed, Tensor):                                             # a batch without a single file
            return batch
        paths = [self.paths[row] for row in batch.index[packed.place].tolist()]
        cut = self._cut(packed.data.split(packed.length.tolist()), paths, packed.seed.tolist())
        ready, files = iter(packed.pixels.to(self.device, non_blocking=True)), set(packed.place.tolist())
        images = [next(cut if row in files else ready) for row in range(len(batch.label))]
        return batch._replace(image=stacked(images))

    def _cut(self, files: Sequence[Tensor], paths: Sequence[Path], seeds: Sequence[int]) -> Iterator[Tensor]:
        """The transformed images (3, H, W), decoded AT_ONCE at a time."""
        for start in range(0, len(files), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            for pixels, seed in zip(self._decoded(files[some], paths[some]), seeds[some]):
                with seeded(seed):
                    image = self.transform(pixels)
                yield image

    def _decoded(self, files: Sequence[Tensor], paths: Sequence[Path]) -> list[Tensor]:
        """The pixels (3, h, w) of each file; by the CPU where one of them is beyond the device, or damaged."""
        try:
            return torchvision.io.decode_jpeg(list(files), mode="RGB", device=self.device)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return [decode(path).to(self.device) for path in paths]


def require_nvjpeg(device: torch.device) -> None:
    """A UsageError where the device cannot decode."""
    version, instead = torchvision.__version__, "pass --decode cpu"
    if device.type != "cuda":
        raise UsageError(f"--decode nvjpeg needs a GPU, and this run computes on the {device.type.upper()}: {instead}.")
    if not hasattr(torchvision.io, "decode_jpeg"):
        raise UsageError(f"--decode nvjpeg: torchvision {version} decodes no images any more; {instead}, or install "
                         "torchvision 0.26 to 0.29.")
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, format="JPEG")
    try:
        torchvision.io.decode_jpeg([torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)], device=device)
    except RuntimeError as error:
        raise UsageError(f"--decode nvjpeg: torchvision {version} cannot decode on this GPU "
                         f"({str(error).splitlines()[0]}); {instead}.") from None
