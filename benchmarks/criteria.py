"""Time, tensor operations and memory of every criterion with its miner, as ratios to peers in the same run.

    python benchmarks/criteria.py [--loss NAMES] [--bs B ...] [--embed_dim D ...] [--rounds N] [--parts PARTS]

step     forward + backward of miner and loss on B rows, 4 per class, beside the bare matrix product x x^T (forward and
         backward), a version that loops in Python over the tuples, anchors or images (for rankings: the vectorised form
         that compares all B x B x B items), and pytorch-metric-learning's counterpart with its miner. "x loop" and "x
         pml" say how many times as fast as these this one is.
proxies  losses with 11,318 classes at B = 112, D = 512 beside the bare product of rows and proxies.
memory   peak memory of the ranking losses at B = 4,096, 4 per class, D = 512, each in a process of its own.

The competitors take turns and medians are compared: shared machines are noisy. Ratios under 1.5 are believed only when
they come back; operation counts do not vary.
"""
import argparse
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from tqdm import tqdm  # noqa: E402

import batchminer  # noqa: E402
import criteria  # noqa: E402
from benchmarks.looped import LOOPS, WITH_PARAMETERS  # noqa: E402
from parameters import BY_LOSS  # noqa: E402
from utilities.cells import markdown  # noqa: E402

RANKINGS = ("smoothap", "supap", "recallatk")
MANY_CLASSES = ("softmax", "arcface", "cosface", "proxynca", "proxyanchor")


class CountOperations(TorchDispatchMode):
    """Counts every tensor operation that is dispatched."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


def library(name: str, classes: int, dim: int):
    """pytorch-metric-learning's counterpart of a loss: a function of (x, label) and its parameters; or None."""
    from pytorch_metric_learning import losses, miners
    many = {"num_classes": classes, "embedding_size": dim}
    table = {
        "contrastive": lambda: (losses.ContrastiveLoss(), miners.DistanceWeightedMiner()),
        "triplet": lambda: (losses.TripletMarginLoss(), miners.DistanceWeightedMiner()),
        "margin": lambda: (losses.MarginLoss(), miners.DistanceWeightedMiner()),
        "multisimilarity": lambda: (losses.MultiSimilarityLoss(2, 40, 0.5), miners.MultiSimilarityMiner(0.1)),
        "npair": lambda: (losses.NPairsLoss(), None), "angular": lambda: (losses.AngularLoss(), None),
        "lifted": lambda: (losses.GeneralizedLiftedStructureLoss(), None),
        "circle": lambda: (losses.CircleLoss(), None), "supcon": lambda: (losses.SupConLoss(), None),
        "histogram": lambda: (losses.HistogramLoss(n_bins=65), None),
        "snr": lambda: (losses.SignalToNoiseRatioContrastiveLoss(), None),
        "smoothap": lambda: (losses.SmoothAPLoss(), None),
        "softmax": lambda: (losses.NormalizedSoftmaxLoss(**many), None),
        "arcface": lambda: (losses.ArcFaceLoss(**many), None), "cosface": lambda: (losses.CosFaceLoss(**many), None),
        "proxynca": lambda: (losses.ProxyNCALoss(**many), None),
        "proxyanchor": lambda: (losses.ProxyAnchorLoss(**many), None),
        "softtriplet": lambda: (losses.SoftTripleLoss(centers_per_class=2, **many), None),
    }
    if name not in table:
        return None
    loss, miner = table[name]()
    step = (lambda x, label: loss(x, label, miner(x, label))) if miner else loss
    return step, tuple(loss.parameters())


def ours(name: str, classes: int, dim: int):
    """The criterion with its default miner as a function of (x, label), its parameters, and the miner's name."""
    criterion = criteria.select(name, n_classes=classes, embed_dim=dim)
    mining = BY_LOSS.get(name, {}).get("batch_mining", "none")
    miner = batchminer.select(mining, seed=0) if criterion.needs_triplets else None
    if miner:
        miner.second_negative = criterion.needs_quadruplets
    return (lambda x, label: criterion(x, label, miner(x, label) if miner else None)), criterion, mining


def batch(bs: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows, 4 per class, close to their class' direction."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(bs) // 4
    center = torch.randn(bs // 4, dim, generator=generator)[label]
    x = center + 1.5 * torch.randn(bs, dim, generator=generator)
    return (x / x.norm(dim=1, keepdim=True)).requires_grad_(), label


def seconds(function, x, label, parameters=()) -> float:
    """Time of one forward and backward."""
    begin = time.perf_counter()
    torch.autograd.grad(function(x, label), [x, *parameters], allow_unused=True)
    return time.perf_counter() - begin


def operations(function, x, label, parameters=()) -> int:
    """Tensor operations of one forward and backward."""
    with CountOperations() as counter:
        torch.autograd.grad(function(x, label), [x, *parameters], allow_unused=True)
    return counter.number


def medians(competitors: dict, x, label, rounds: int) -> dict[str, float]:
    """Median seconds of each (function, parameters); they take turns. A slow one is asked less often."""
    times: dict[str, list[float]] = {name: [] for name in competitors}
    for number in range(rounds + 2):
        for name, (function, parameters) in competitors.items():
            if number > 3 and sum(times[name]) > 6:
                continue
            value = seconds(function, x, label, parameters)
            if number >= 2 or value > 1:
                times[name].append(value)
    return {name: statistics.median(values) for name, values in times.items()}


def product(x, label):
    """What no pair loss can do without."""
    return (x @ x.T).square().sum()


def measure_step(names: list[str], bs: int, dim: int, rounds: int) -> None:
    """The table of one batch size and dimension."""
    x, label = batch(bs, dim)
    classes, rows = bs // 4, {}
    for name in tqdm(names, desc=f"B {bs} D {dim}", leave=False):
        function, criterion, mining = ours(name, classes, dim)
        competitors = {"ours": (function, tuple(criterion.parameters())), "product": (product, ())}
        if name in LOOPS:
            competitors["loop"] = (LOOPS[name], ())
        if name in WITH_PARAMETERS:
            learned = torch.full((classes,), 1.2) if name == "margin" else torch.randn(classes, dim)
            learned.requires_grad_()
            competitors["loop"] = (lambda a, y, p=learned, f=WITH_PARAMETERS[name]: f(a, y, p), (learned,))
        if (theirs := library(name, classes, dim)) is not None:
            competitors["pml"] = theirs
        found = medians(competitors, x, label, rounds)
        rows[f"{name}" + (f" + {mining}" if criterion.needs_triplets else "")] = {
            "ms": f"{1e3 * found['ours']:.2f}",
            "operations": str(operations(function, x, label, competitors["ours"][1])),
            "/ product": f"{found['ours'] / found['product']:.1f}",
            "x loop": f"{found['loop'] / found['ours']:.1f}" if "loop" in found else "-",
            "x pml": f"{found['pml'] / found['ours']:.1f}" if "pml" in found else "-",
            "pml operations": str(operations(theirs[0], x, label, theirs[1])) if "pml" in found else "-"}
    print(f"\nB = {bs}, D = {dim}, 4 per class, {torch.get_num_threads()} thread(s)\n\n{markdown(rows)}")


def measure_proxies(names: list[str], rounds: int, classes: int = 11318, bs: int = 112, dim: int = 512) -> None:
    """Losses with as many classes as Stanford Online Products, beside their bare matrix product."""
    x, label = batch(bs, dim)
    rows = {}
    for name in [n for n in names if n in MANY_CLASSES]:
        function, criterion, _ = ours(name, classes, dim)
        proxies = torch.randn(classes, dim, requires_grad=True)
        competitors = {"ours": (function, tuple(criterion.parameters())), "pml": library(name, classes, dim),
                       "product": (lambda a, y, p=proxies: (a @ p.T).sum(), (proxies,))}
        found = medians(competitors, x, label, rounds)
        rows[name] = {"ms": f"{1e3 * found['ours']:.1f}", "/ product": f"{found['ours'] / found['product']:.2f}",
                      "x pml": f"{found['pml'] / found['ours']:.1f}"}
    if rows:
        print(f"\n{classes} classes, B = {bs}, D = {dim}\n\n{markdown(rows)}")


def measure_memory(names: list[str]) -> None:
    """Peak memory of the ranking losses on a batch of 4,096, beyond what the process held before."""
    rows = {}
    for name in [n for n in names if n in RANKINGS]:
        command = [sys.executable, __file__, "--one_step_of", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        mebibytes, took = done.stdout.split()
        rows[name] = {"peak MiB": mebibytes, "s": took}
    if rows:
        print(f"\nB = 4096, D = 512, 4 per class, forward + backward\n\n{markdown(rows)}")


def one_step(name: str) -> None:
    """Print the memory (MiB) and time (s) that one forward and backward at B = 4,096 takes."""
    x, label = batch(4096, 512)
    function, _, _ = ours(name, 1024, 512)
    seconds(function, *batch(64, 512))
    before = peak_memory()
    took = seconds(function, x, label)
    print(peak_memory() - before, f"{took:.2f}")


def peak_memory() -> int:
    """Largest resident memory of this process so far, MiB; rusage would also count the parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loss", nargs="+", default=list(criteria.CRITERIA), choices=list(criteria.CRITERIA))
    parser.add_argument("--bs", type=int, nargs="+", default=[112, 512])
    parser.add_argument("--embed_dim", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--parts", nargs="+", default=["step", "proxies", "memory"])
    parser.add_argument("--one_step_of", help=argparse.SUPPRESS)
    opt = parser.parse_args()
    warnings.filterwarnings("ignore")
    if opt.one_step_of:
        one_step(opt.one_step_of)
        return
    if "step" in opt.parts:
        for bs in opt.bs:
            for dim in opt.embed_dim:
                measure_step(opt.loss, bs, dim, opt.rounds)
    if "proxies" in opt.parts:
        measure_proxies(opt.loss, opt.rounds)
    if "memory" in opt.parts:
        measure_memory(opt.loss)


if __name__ == "__main__":
    main()
