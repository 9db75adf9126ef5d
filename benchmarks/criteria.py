"""Time, tensor operations and memory of every criterion with its miner, as ratios to peers.

    python benchmarks/criteria.py [--loss NAMES] [--bs B ...] [--embed_dim D ...] [--rounds N]
                                  [--parts PARTS]

step     forward + backward of miner and loss on B rows, 4 per class. The peers are the bare matrix
         product x x^T (forward and backward), a version that loops in Python over the tuples,
         anchors or images (for rankings: one that compares all B x B x B items), and
         pytorch-metric-learning's counterpart with its miner. "x loop" and "x pml": how many times
         as fast as these ours is.
proxies  losses with 11,318 classes at B = 112, D = 512 beside the bare product of rows and proxies.
memory   peak memory of the ranking losses at B = 4,096, 4 per class, D = 512, each in a process of
         its own.

The competitors take turns and medians are compared, since shared machines are noisy. Believe a
ratio under 1.5 only when it comes back. Operation counts do not vary.
"""
import argparse
import itertools
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402
from pytorch_metric_learning import losses, miners  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from tqdm import tqdm  # noqa: E402

import batchminer  # noqa: E402
import criteria  # noqa: E402
from benchmarks.looped import LOOPS, WITH_PARAMETERS  # noqa: E402
from recipes import BY_LOSS  # noqa: E402
from utilities.cells import markdown  # noqa: E402

RANKINGS = ("smoothap", "supap", "recallatk")
MANY_CLASSES = ("softmax", "arcface", "cosface", "proxynca", "proxyanchor")
# Losses of pytorch-metric-learning by our names; those of the second table have a proxy a class.
LIBRARY = {
    "angular": losses.AngularLoss,
    "circle": losses.CircleLoss,
    "contrastive": losses.ContrastiveLoss,
    "histogram": lambda: losses.HistogramLoss(n_bins=65),
    "lifted": losses.GeneralizedLiftedStructureLoss,
    "margin": losses.MarginLoss,
    "multisimilarity": lambda: losses.MultiSimilarityLoss(2, 40, 0.5),
    "npair": losses.NPairsLoss,
    "smoothap": losses.SmoothAPLoss,
    "snr": losses.SignalToNoiseRatioContrastiveLoss,
    "supcon": losses.SupConLoss,
    "triplet": losses.TripletMarginLoss,
}
LIBRARY_PROXIES = {
    "arcface": losses.ArcFaceLoss,
    "cosface": losses.CosFaceLoss,
    "proxyanchor": losses.ProxyAnchorLoss,
    "proxynca": losses.ProxyNCALoss,
    "softmax": losses.NormalizedSoftmaxLoss,
    "softtriplet": lambda *sizes: losses.SoftTripleLoss(*sizes, centers_per_class=2),
}
LIBRARY_MINERS = {
    "contrastive": miners.DistanceWeightedMiner,
    "margin": miners.DistanceWeightedMiner,
    "multisimilarity": lambda: miners.MultiSimilarityMiner(0.1),
    "triplet": miners.DistanceWeightedMiner,
}


class CountOperations(TorchDispatchMode):
    """Counts every tensor operation that is dispatched."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


class Competitor(NamedTuple):
    """A loss of (x (B, D), label (B,)) and what it learns."""

    loss: Callable[[Tensor, Tensor], Tensor]
    parameters: tuple = ()

    def step(self, x: Tensor, label: Tensor) -> None:
        """One forward and backward."""
        torch.autograd.grad(self.loss(x, label), [x, *self.parameters], allow_unused=True)

    def seconds(self, x: Tensor, label: Tensor) -> float:
        """Time of a step."""
        begin = time.perf_counter()
        self.step(x, label)
        return time.perf_counter() - begin

    def operations(self, x: Tensor, label: Tensor) -> int:
        """Tensor operations of a step."""
        with CountOperations() as counter:
            self.step(x, label)
        return counter.number


PRODUCT = Competitor(lambda x, label: (x @ x.T).square().sum())


def library(name: str, classes: int, dim: int) -> Competitor | None:
    """pytorch-metric-learning's counterpart of a loss with its miner, where it has one."""
    if name in LIBRARY_PROXIES:
        loss = LIBRARY_PROXIES[name](classes, dim)
    elif name in LIBRARY:
        loss = LIBRARY[name]()
    else:
        return None
    parameters = tuple(loss.parameters())
    if name not in LIBRARY_MINERS:
        return Competitor(loss, parameters)
    miner = LIBRARY_MINERS[name]()
    return Competitor(lambda x, label: loss(x, label, miner(x, label)), parameters)


def ours(name: str, classes: int, dim: int) -> Competitor:
    """The criterion with its default miner."""
    criterion = criteria.select(name, n_classes=classes, embed_dim=dim)
    parameters = tuple(criterion.parameters())
    if not criterion.needs_triplets:
        return Competitor(criterion, parameters)
    miner = batchminer.select(mining_of(name), seed=0)
    miner.second_negative = criterion.needs_quadruplets
    return Competitor(lambda x, label: criterion(x, label, miner(x, label)), parameters)


def mining_of(name: str) -> str:
    """The default miner of a loss."""
    return BY_LOSS.get(name, {}).get("batch_mining", "none")


def looped(name: str, classes: int, dim: int) -> Competitor | None:
    """The version in Python loops, where there is one."""
    if name in LOOPS:
        return Competitor(LOOPS[name])
    if name not in WITH_PARAMETERS:
        return None
    learned = torch.full((classes,), 1.2) if name == "margin" else torch.randn(classes, dim)
    learned.requires_grad_()
    return Competitor(lambda x, label: WITH_PARAMETERS[name](x, label, learned), (learned,))


def batch(bs: int, dim: int) -> tuple[Tensor, Tensor]:
    """Unit rows, 4 per class, close to their class' direction."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(bs) // 4
    center = torch.randn(bs // 4, dim, generator=generator)[label]
    x = center + 1.5 * torch.randn(bs, dim, generator=generator)
    x = x / x.norm(dim=1, keepdim=True)
    return x.requires_grad_(), label


def medians(
    competitors: dict[str, Competitor], x: Tensor, label: Tensor, rounds: int
) -> dict[str, float]:
    """Median seconds of each; they take turns. A slow one has fewer turns."""
    times: dict[str, list[float]] = {name: [] for name in competitors}
    for turn in range(rounds + 2):
        for name, competitor in competitors.items():
            if turn > 3 and sum(times[name]) > 6:
                continue
            seconds = competitor.seconds(x, label)
            # The first two turns warm up.
            if turn >= 2 or seconds > 1:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def step_row(name: str, x: Tensor, label: Tensor, rounds: int) -> dict[str, str]:
    """The cells of one loss."""
    sizes = (len(x) // 4, x.shape[1])
    own = ours(name, *sizes)
    peers = {"loop": looped(name, *sizes), "pml": library(name, *sizes)}
    peers = {key: peer for key, peer in peers.items() if peer is not None}
    found = medians({"ours": own, "product": PRODUCT, **peers}, x, label, rounds)
    row = {
        "ms": f"{1e3 * found['ours']:.2f}",
        "operations": str(own.operations(x, label)),
        "/ product": f"{found['ours'] / found['product']:.1f}",
        "x loop": "-",
        "x pml": "-",
        "pml operations": "-",
    }
    for key in peers:
        row[f"x {key}"] = f"{found[key] / found['ours']:.1f}"
    if "pml" in peers:
        row["pml operations"] = str(peers["pml"].operations(x, label))
    return row


def measure_step(names: list[str], bs: int, dim: int, rounds: int) -> None:
    """The table of one batch size and dimension."""
    x, label = batch(bs, dim)
    rows = {}
    for name in tqdm(names, desc=f"B {bs} D {dim}", leave=False):
        mining = mining_of(name)
        title = name if mining == "none" else f"{name} + {mining}"
        rows[title] = step_row(name, x, label, rounds)
    print(f"\nB = {bs}, D = {dim}, 4 per class, {torch.get_num_threads()} thread(s)\n")
    print(markdown(rows))


def measure_proxies(names: list[str], rounds: int) -> None:
    """Losses with as many classes as Stanford Online Products, beside their bare matrix product."""
    classes = 11318
    bs = 112
    dim = 512
    x, label = batch(bs, dim)
    rows = {}
    for name in [name for name in MANY_CLASSES if name in names]:
        proxies = torch.randn(classes, dim, requires_grad=True)
        product = Competitor(lambda x, label, p=proxies: (x @ p.T).sum(), (proxies,))
        competitors = {
            "ours": ours(name, classes, dim),
            "pml": library(name, classes, dim),
            "product": product,
        }
        found = medians(competitors, x, label, rounds)
        rows[name] = {
            "ms": f"{1e3 * found['ours']:.1f}",
            "/ product": f"{found['ours'] / found['product']:.2f}",
            "x pml": f"{found['pml'] / found['ours']:.1f}",
        }
    if rows:
        print(f"\n{classes} classes, B = {bs}, D = {dim}\n\n{markdown(rows)}")


def measure_memory(names: list[str]) -> None:
    """Peak memory of the ranking losses on a batch of 4,096, beyond what was held before."""
    rows = {}
    for name in [name for name in RANKINGS if name in names]:
        command = [sys.executable, __file__, "--one_step_of", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        mebibytes, seconds = done.stdout.split()
        rows[name] = {"peak MiB": mebibytes, "s": seconds}
    if rows:
        print(f"\nB = 4096, D = 512, 4 per class, forward + backward\n\n{markdown(rows)}")


def one_step(name: str) -> None:
    """Print the memory (MiB) and time (s) that one forward and backward at B = 4,096 takes."""
    x, label = batch(4096, 512)
    competitor = ours(name, 1024, 512)
    competitor.step(*batch(64, 512))
    before = peak_memory()
    seconds = competitor.seconds(x, label)
    print(peak_memory() - before, f"{seconds:.2f}")


def peak_memory() -> int:
    """Largest resident memory of this process so far, MiB; rusage would also count the parent's."""
    status = Path("/proc/self/status").read_text()
    kib = status.split("VmHWM:")[1].split()[0]
    return int(kib) // 1024


def run(argv: list[str] | None = None) -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = list(criteria.CRITERIA)
    parser.add_argument("--loss", nargs="+", default=names, choices=names)
    parser.add_argument("--bs", type=int, nargs="+", default=[112, 512])
    parser.add_argument("--embed_dim", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--parts", nargs="+", default=["step", "proxies", "memory"])
    parser.add_argument("--one_step_of", help=argparse.SUPPRESS)
    opt = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    if opt.one_step_of:
        one_step(opt.one_step_of)
        return
    if "step" in opt.parts:
        for bs, dim in itertools.product(opt.bs, opt.embed_dim):
            measure_step(opt.loss, bs, dim, opt.rounds)
    if "proxies" in opt.parts:
        measure_proxies(opt.loss, opt.rounds)
    if "memory" in opt.parts:
        measure_memory(opt.loss)


if __name__ == "__main__":
    run()
