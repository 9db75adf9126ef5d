"""Time, tensor operations and memory of every criterion with its miner, as ratios to peers.

    python benchmarks/criteria.py [--loss NAMES] [--bs B ...] [--embed_dim D ...] [--rounds N]
                                  [--parts PARTS]

step     forward + backward of miner and loss on B rows, 4 per class. The peers are the bare matrix
         product x x^T (forward and backward), for some losses the base framework's version, which
         loops in Python over triplets or anchors (looped.py), and pytorch-metric-learning's
         counterpart with its miner. "x loop" and "x pml": how many times as fast as these ours is.
proxies  losses with 11,318 classes at B = 112, D = 512 beside the bare product of rows and proxies.
memory   peak memory of the ranking losses at B = 4,096, 4 per class, D = 512, each in a process of
         its own.

The competitors take turns and medians are compared, since shared machines are noisy. Believe a
ratio under 1.5 only when it comes back. Operation counts do not vary.
"""
import argparse
import itertools
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
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
from benchmarks.evaluation import held  # noqa: E402
from benchmarks.looped import LOOPS, loop_margin  # noqa: E402
from benchmarks.turns import median_seconds, parser_of, seconds_of  # noqa: E402
from recipes import BY_LOSS  # noqa: E402
from utilities.cells import markdown  # noqa: E402
from utilities.text import counted

RANKINGS = ("smoothap", "supap", "recallatk")
MANY_CLASSES = ("softmax", "arcface", "cosface", "proxynca", "proxyanchor")
# Losses of pytorch-metric-learning by our names; those of the second table have a proxy a class.
LIBRARY = {
    "angular": losses.AngularLoss,
    "circle": losses.CircleLoss,
    "contrastive": losses.ContrastiveLoss,
    "histogram": partial(losses.HistogramLoss, n_bins=65),
    "lifted": losses.GeneralizedLiftedStructureLoss,
    "margin": losses.MarginLoss,
    "multisimilarity": partial(losses.MultiSimilarityLoss, 2, 40, 0.5),
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
    "softtriplet": partial(losses.SoftTripleLoss, centers_per_class=2),
}
LIBRARY_MINERS = {
    "contrastive": miners.DistanceWeightedMiner,
    "margin": miners.DistanceWeightedMiner,
    "multisimilarity": partial(miners.MultiSimilarityMiner, 0.1),
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

    def operations(self, x: Tensor, label: Tensor) -> int:
        """Tensor operations of a step."""
        with CountOperations() as counter:
            self.step(x, label)
        return counter.number


PRODUCT = Competitor(lambda x, label: (x @ x.T).square().sum())


def mined(loss: torch.nn.Module, miner: Callable | None) -> Competitor:
    """A loss with its miner, if it has one."""
    parameters = tuple(loss.parameters())
    if miner is None:
        return Competitor(loss, parameters)
    return Competitor(lambda x, label: loss(x, label, miner(x, label)), parameters)


def library(name: str, classes: int, dim: int) -> Competitor | None:
    """pytorch-metric-learning's counterpart of a loss with its miner, where it has one."""
    if name in LIBRARY_PROXIES:
        return mined(LIBRARY_PROXIES[name](classes, dim), None)
    if name not in LIBRARY:
        return None
    miner = LIBRARY_MINERS[name]() if name in LIBRARY_MINERS else None
    return mined(LIBRARY[name](), miner)


def ours(name: str, classes: int, dim: int) -> Competitor:
    """The criterion with its default miner."""
    criterion = criteria.select(name, n_classes=classes, embed_dim=dim)
    if not criterion.needs_triplets:
        return mined(criterion, None)
    miner = batchminer.select(mining_of(name), seed=0)
    miner.second_negative = criterion.needs_quadruplets
    return mined(criterion, miner)


def mining_of(name: str) -> str:
    """The default miner of a loss."""
    return BY_LOSS.get(name, {}).get("batch_mining", "none")


def looped(name: str, classes: int) -> Competitor | None:
    """The version in Python loops, where there is one."""
    if name == "margin":
        beta = torch.full((classes,), 1.2, requires_grad=True)
        return Competitor(partial(loop_margin, beta=beta), (beta,))
    return Competitor(LOOPS[name]) if name in LOOPS else None


def batch(bs: int, dim: int) -> tuple[Tensor, Tensor]:
    """Unit rows, 4 per class, close to their class' direction."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(bs) // 4
    center = torch.randn(bs // 4, dim, generator=generator)[label]
    x = center + 1.5 * torch.randn(bs, dim, generator=generator)
    x = x / x.norm(dim=1, keepdim=True)
    return x.requires_grad_(), label


def medians(
    competitors: dict[str, Competitor | None], x: Tensor, label: Tensor, rounds: int
) -> dict[str, float]:
    """Median seconds of a step of each. A slow one has fewer turns."""
    steps = {}
    for name, competitor in competitors.items():
        if competitor is not None:
            steps[name] = partial(competitor.step, x, label)
    return median_seconds(steps, rounds, at_most=6)


def step_row(name: str, x: Tensor, label: Tensor, rounds: int) -> dict[str, str]:
    """The cells of one loss."""
    classes = len(x) // 4
    dim = x.shape[1]
    competitors = {
        "ours": ours(name, classes, dim),
        "product": PRODUCT,
        "loop": looped(name, classes),
        "pml": library(name, classes, dim),
    }
    seconds = medians(competitors, x, label, rounds)
    cells = {
        "ms": f"{1e3 * seconds['ours']:.2f}",
        "operations": str(competitors["ours"].operations(x, label)),
        "/ product": f"{seconds['ours'] / seconds['product']:.1f}",
    }
    for peer in ("loop", "pml"):
        known = peer in seconds
        cells[f"x {peer}"] = f"{seconds[peer] / seconds['ours']:.1f}" if known else "-"
    pml = competitors["pml"]
    cells["pml operations"] = str(pml.operations(x, label)) if pml else "-"
    return cells


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
    dim = 512
    x, label = batch(112, dim)
    proxies = torch.randn(classes, dim, requires_grad=True)
    rows = {}
    for name in names:
        competitors = {
            "ours": ours(name, classes, dim),
            "pml": library(name, classes, dim),
            "product": Competitor(lambda x, label: (x @ proxies.T).sum(), (proxies,)),
        }
        seconds = medians(competitors, x, label, rounds)
        rows[name] = {
            "ms": f"{1e3 * seconds['ours']:.1f}",
            "/ product": f"{seconds['ours'] / seconds['product']:.2f}",
            "x pml": f"{seconds['pml'] / seconds['ours']:.1f}",
        }
    print(f"\n{counted(classes, 'class')}, B = {len(x)}, D = {dim}\n\n{markdown(rows)}")


def measure_memory(names: list[str]) -> None:
    """Peak memory of the ranking losses on a batch of 4,096, beyond what was held before."""
    rows = {}
    for name in names:
        command = [sys.executable, __file__, "--one_step_of", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        mebibytes, seconds = done.stdout.split()
        rows[name] = {"peak MiB": mebibytes, "s": seconds}
    print(f"\nB = 4096, D = 512, 4 per class, forward + backward\n\n{markdown(rows)}")


def one_step(name: str) -> None:
    """Print the memory (MiB) and time (s) that one forward and backward at B = 4,096 takes."""
    x, label = batch(4096, 512)
    competitor = ours(name, 1024, 512)
    competitor.step(*batch(64, 512))
    before = held("VmHWM")
    seconds = seconds_of(partial(competitor.step, x, label))
    print(f"{held('VmHWM') - before:.0f} {seconds:.2f}")


def run(argv: list[str] | None = None) -> None:
    """Parse the command line and measure."""
    parser = parser_of(
        __doc__,
        bs=[112, 512],
        embed_dim=[128, 512],
        rounds=15,
        parts=["step", "proxies", "memory"],
    )
    names = list(criteria.CRITERIA)
    parser.add_argument("--loss", nargs="+", default=names, choices=names)
    parser.add_argument("--one_step_of", help=argparse.SUPPRESS)
    opt = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    if opt.one_step_of:
        one_step(opt.one_step_of)
        return
    if "step" in opt.parts:
        for bs, dim in itertools.product(opt.bs, opt.embed_dim):
            measure_step(opt.loss, bs, dim, opt.rounds)
    proxy_losses = [name for name in MANY_CLASSES if name in opt.loss]
    if "proxies" in opt.parts and proxy_losses:
        measure_proxies(proxy_losses, opt.rounds)
    rankings = [name for name in RANKINGS if name in opt.loss]
    if "memory" in opt.parts and rankings:
        measure_memory(rankings)


if __name__ == "__main__":
    run()
