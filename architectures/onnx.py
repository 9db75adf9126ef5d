"""The embedder as an ONNX graph, which onnxruntime compares with the network.

What ONNX has no operation for is computed beforehand.
"""
import copy
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from architectures.network import Network
from flows.base import Flow
from flows.image_layers import InvertibleConvolution
from flows.layers import InvertibleLinear
from utilities.errors import RunError, in_brief
from utilities.optional import installed, require

INPUT = "image"
OUTPUT = "embedding"
# How far an embedding of the file may be from the network's, in any dimension.
TOLERANCE = 1e-4
# Axes of the input that may have any size.
FREE = {0: "N", 2: "H", 3: "W"}
BATCH = {0: "N"}
# For the search of sides that a network takes; for windows that shift, as in Swin, it never ends.
SECONDS = 120
# Batch sizes that are compared, and the pixels added to a side for a comparison at another size: the
# first that the network allows, as patches of 16 or of 14 do.
BATCHES = (1, 7)
STRIDES = (64, 56)


class FoldedLinear(Flow):
    """The inverse of an invertible linear map as one matrix: ONNX solves no systems."""

    def __init__(self, linear: InvertibleLinear | InvertibleConvolution):
        super().__init__()
        if isinstance(linear, InvertibleConvolution):
            inverse = linear.inverse_matrix()  # (C, C)
        else:
            exact = copy.deepcopy(linear).double()
            identity = torch.eye(len(exact.log_s), dtype=torch.float64)
            inverse = exact.inverse(identity)[0].T  # (C, C) = W^-1
        self.register_buffer("matrix", inverse.detach().float().contiguous())

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z -> W^-1 z at every position, (B, C, ...); its log-determinant is left out."""
        columns = z.transpose(0, 1).flatten(1)  # (C, B ...)
        x = (self.matrix @ columns).unflatten(1, z.shape[:1] + z.shape[2:])  # (C, B, ...)
        return x.transpose(0, 1), z.new_zeros(z.shape[0])


class Embedder(nn.Module):
    """Images (N, 3, H, W), normalised, to unit rows (N, D) in operations that ONNX has.

    In its copy of the network the flow holds inverse matrices, and the draws of `mean` are
    constants. (`sample` draws by an image's index, which no file can know.)
    """

    def __init__(self, network: Network):
        super().__init__()
        self.network = copy.deepcopy(network).eval().cpu()
        for name, module in list(self.network.named_modules()):
            if isinstance(module, (InvertibleLinear, InvertibleConvolution)):
                self.network.set_submodule(name, FoldedLinear(module))
        memory = self.network.memory
        if memory is not None and memory.decoding == "mean":
            noise = memory.mean_noise(network.embed_dim, torch.device("cpu"))  # (S, D)
            memory.mean_noise = lambda dim, device: noise

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, D)."""
        return self.network.embed(image)


def write_onnx(network: Network, side: int, path: Path) -> list[str | int]:
    """Write the file; returns the shape that it takes, names standing for free sizes.

    Height and width are free where the network allows it, else `side` (pixels) each; the batch is
    always free.
    """
    require("--format onnx", "onnx", "onnxscript")
    embedder = Embedder(network).eval()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter warns of itself.
        warnings.simplefilter("ignore")
        try:
            graph, names = _trace_freest(embedder, side)
            program = torch.onnx.export(
                graph,
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={"image": names},
            )
        except Exception as error:
            raise RunError(
                f"This network cannot be exported to ONNX ({in_brief(_innermost(error))}); pass "
                "--format safetensors."
            ) from error
    program.save(str(path), external_data=False)
    return [names.get(axis, size) for axis, size in enumerate((0, 3, side, side))]


def _trace_freest(
    embedder: Embedder, side: int
) -> tuple[torch.export.ExportedProgram, dict[int, str]]:
    """The graph with as many free axes as the network allows, and these."""
    over = threading.Event()
    try:
        with at_most(SECONDS, over):
            return _trace(embedder, side, FREE), FREE
    # The errors are of many types, one of them for TimeIsUp; without that, the network is usually
    # built for one size.
    except (Exception, TimeIsUp):
        if over.is_set():
            print(f"Height and width are fixed at {side} pixels: to find what they may be took "
                  f"longer than {SECONDS} s.")
    return _trace(embedder, side, BATCH), BATCH


class TimeIsUp(BaseException):
    """Raised by `at_most`; no Exception, since tracing catches these (and now and then even this)."""


@contextmanager
def at_most(seconds: int, over: threading.Event) -> Iterator[None]:
    """Raise TimeIsUp in the block after so many seconds, and set `over`; nothing where there are
    no such timers.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        over.set()
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, stop)
    # Again each second, for a `finally` may have swallowed it.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _trace(embedder: Embedder, side: int, free: Iterable[int]) -> torch.export.ExportedProgram:
    """The graph of the embedder, in which the axes in `free` have any size."""
    image = torch.zeros(2, 3, side, side)
    shapes = {"image": dict.fromkeys(free, torch.export.Dim.DYNAMIC)}
    graph = torch.export.export(embedder, (image,), dynamic_shapes=shapes)
    return graph.run_decompositions({torch.ops.aten.adaptive_max_pool2d.default: _global_maximum})


def _global_maximum(x: Tensor, output_size: list[int]) -> tuple[Tensor, Tensor]:
    """adaptive_max_pool2d to one value a channel, which PyTorch 2.11 cannot export.

    Nobody reads the positions, the second output.
    """
    if list(output_size) != [1, 1]:
        return NotImplemented
    values = x.amax((2, 3), keepdim=True)  # (N, C, 1, 1)
    return values, torch.zeros_like(values, dtype=torch.long)


def _innermost(error: BaseException) -> BaseException:
    """The cause that no other error caused."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def compare(network: Network, path: Path, shape: Sequence[str | int], side: int) -> float | None:
    """The largest difference between an embedding by onnxruntime and by the network.

    On random images in batches of each size, and of another side where it is free and the network
    allows one. None where onnxruntime is not installed. A RunError above TOLERANCE.
    """
    if not installed("onnxruntime"):
        return None
    sides = [side]
    if isinstance(shape[2], str):
        sides += other_side(network, side)
    generator = torch.Generator().manual_seed(0)
    differences = []
    for n in BATCHES:
        for pixels in sides:
            image = torch.randn(n, 3, pixels, pixels, generator=generator)
            difference = run_onnx(path, image) - network.embed(image)  # (n, D)
            differences.append(difference.abs().max())
    # Unlike Python's, the maximum of torch is NaN where one is NaN.
    worst = torch.stack(differences).max().item()
    if not worst <= TOLERANCE:
        raise RunError(
            f"The embeddings of the exported file are {worst:.1e} from the network's, more than "
            f"{TOLERANCE:g}; pass --format safetensors."
        )
    return worst


def other_side(network: Network, side: int) -> list[int]:
    """Another side than `side` pixels that the network takes, or none."""
    for stride in STRIDES:
        try:
            network.embed(torch.zeros(1, 3, side + stride, side + stride))
        except (AssertionError, RuntimeError, ValueError):
            continue
        return [side + stride]
    return []


def run_onnx(path: Path, image: Tensor) -> Tensor:
    """The embeddings of images (N, 3, H, W) by onnxruntime, (N, D)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0])
