"""The embedder as an ONNX graph: what ONNX has no operation for is computed beforehand, and the file is compared with
the network by onnxruntime."""
import copy
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from architectures.network import Network
from flows.base import Flow
from flows.linear import InvertibleLinear
from utilities.errors import RunError, in_brief
from utilities.optional import installed, require

INPUT, OUTPUT = "image", "embedding"
TOLERANCE = 1e-4          # how far an embedding of the file may be from the network's, in any dimension
FREE = {0: "N", 2: "H", 3: "W"}   # axes of the input
BATCHES = (1, 7)          # sizes that are compared
STRIDE = 64               # pixels added to the side for a comparison at another size


class FoldedLinear(Flow):
    """The inverse of an InvertibleLinear as one matrix; ONNX solves no triangular systems."""

    def __init__(self, linear: InvertibleLinear):
        super().__init__()
        exact = copy.deepcopy(linear).double()
        identity = torch.eye(len(exact.log_s), dtype=torch.float64)
        self.register_buffer("matrix", exact.inverse(identity)[0].T.float().contiguous())          # (C, C) = W^-1

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z -> W^-1 z at every position; its log-determinant is not asked for and left out."""
        x = (self.matrix @ z.transpose(0, 1).flatten(1)).unflatten(1, z.shape[:1] + z.shape[2:])      # (C, B, ...)
        return x.transpose(0, 1), z.new_zeros(z.shape[0])                             # (B, C, ...)


class Embedder(nn.Module):
    """Images (N, 3, H, W), normalised, to unit rows (N, D) in operations that ONNX has.

    In its copy of the network the flow holds inverse matrices, and the draws of `mean` are constants. (`sample` draws
    by an image's index, which no file can know.)
    """

    def __init__(self, network: Network):
        super().__init__()
        self.network = copy.deepcopy(network).eval().cpu()
        for name, module in list(self.network.named_modules()):
            if isinstance(module, InvertibleLinear):
                self.network.set_submodule(name, FoldedLinear(module))
        memory = self.network.memory
        if memory is not None and memory.decoding == "mean":
            noise = memory.draws(network.embed_dim, torch.device("cpu"))           # (S, D)
            memory.draws = lambda dim, device: noise

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, D)."""
        return self.network.embed(image)


def write_onnx(network: Network, side: int, path: Path) -> list[str | int]:
    """Write the file; returns the shape that it takes, names standing for free sizes.

    Height and width are free where the network allows it, else `side` (pixels) each; the batch is always free.
    """
    require("--format onnx", "onnx", "onnxscript")
    embedder = Embedder(network).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")                                            # of the exporter about itself
        try:
            traced, names = _trace(embedder, side, FREE), FREE
        except Exception:   # its errors are of many types; a network that is built for one size is the usual reason
            names = {0: "N"}
        try:
            traced = _trace(embedder, side, names) if names is not FREE else traced
            program = torch.onnx.export(traced, dynamo=True, verbose=False, input_names=[INPUT],
                                        output_names=[OUTPUT], dynamic_shapes={"image": names})
        except Exception as error:
            raise RunError(f"This network cannot be exported to ONNX ({in_brief(innermost(error))}); pass "
                           "--format safetensors.") from error
    program.save(str(path), external_data=False)
    return [names.get(axis, size) for axis, size in enumerate((0, 3, side, side))]


def _trace(embedder: Embedder, side: int, free: Iterable[int]) -> torch.export.ExportedProgram:
    """The graph of the embedder, in which the axes in `free` have any size."""
    shape = dict.fromkeys(free, torch.export.Dim.DYNAMIC)
    graph = torch.export.export(embedder, (torch.zeros(2, 3, side, side),), dynamic_shapes={"image": shape})
    return graph.run_decompositions({torch.ops.aten.adaptive_max_pool2d.default: _global_maximum})


def _global_maximum(x: Tensor, output_size: list[int]) -> tuple[Tensor, Tensor]:
    """adaptive_max_pool2d to one value a channel, which PyTorch 2.11 cannot export; nobody asks for where it was."""
    if list(output_size) != [1, 1]:
        return NotImplemented
    values = x.amax((2, 3), keepdim=True)                                          # (N, C, 1, 1)
    return values, torch.zeros_like(values, dtype=torch.long)


def innermost(error: BaseException) -> BaseException:
    """The cause that no other error caused."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def compare(network: Network, path: Path, shape: Sequence[str | int], side: int) -> float | None:
    """The largest difference between an embedding by onnxruntime and by the network, for random images in batches of
    each size, and of another side where it is free; None where onnxruntime is not installed. A RunError above
    TOLERANCE."""
    if not installed("onnxruntime"):
        return None
    sides = [side, side + STRIDE] if isinstance(shape[2], str) else [side]
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(n, 3, pixels, pixels, generator=generator) for n in BATCHES for pixels in sides]
    worst = torch.stack([(run_onnx(path, image) - network.embed(image)).abs().max() for image in images]).max().item()
    if not worst <= TOLERANCE:
        raise RunError(f"The embeddings of the exported file are {worst:.1e} from the network's, more than "
                       f"{TOLERANCE:g}; pass --format safetensors.")
    return worst


def run_onnx(path: Path, image: Tensor) -> Tensor:
    """The embeddings of images (N, 3, H, W) by onnxruntime, (N, D)."""
    import onnxruntime
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0])
