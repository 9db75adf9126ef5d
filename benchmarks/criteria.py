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

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn.functional import cross_entropy, relu, softplus  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from tqdm import tqdm  # noqa: E402

import batchminer  # noqa: E402
import criteria  # noqa: E402
from evaluation.cells import markdown  # noqa: E402
from parameters import BY_LOSS  # noqa: E402

RANKINGS = ("smoothap", "supap", "recallatk")
MANY_CLASSES = ("softmax", "arcface", "cosface", "proxynca", "proxyanchor")


class CountOperations(TorchDispatchMode):
    """Counts every tensor operation that is dispatched."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


# ------------------------------------------------------------------------------------- versions that loop in Python


def hinge_pair(a, p, n):
    """Contrastive loss of one triplet."""
    return (a - p).norm() + relu(1 - (a - n).norm())


def hinge_triplet(a, p, n):
    """Triplet loss of one triplet."""
    return relu((a - p).square().sum() - (a - n).square().sum() + 0.2)


def hinge_margin(a, p, n, beta):
    """The two hinges of the margin loss of one triplet."""
    near, far = (((a - other) ** 2).sum().add(1e-8).sqrt() for other in (p, n))
    return torch.stack([relu(near - beta + 0.2), relu(beta - far + 0.2)])


def hinge_snr(a, p, n):
    """SNR loss of one triplet."""
    return relu((a - p).var() / a.var() - (a - n).var() / a.var() + 0.2) + 0.005 * a.sum().abs()


def anchor_gpw(s, same, other):
    """Plain pair loss of one anchor."""
    return s[other].mean() - s[same].mean()


def anchor_multisimilarity(s, same, other):
    """Multi-similarity loss of one anchor with its mining, as in the base framework."""
    near, far = s[same], s[other]
    near, far = near[near - 0.1 < far.max()], far[far + 0.1 > near.min()]
    if not len(near) or not len(far):
        return s.sum() * 0
    return (1 + (-2 * (near - 0.5)).exp().sum()).log() / 2 + (1 + (40 * (far - 0.5)).exp().sum()).log() / 40


def anchor_lifted(s, same, other):
    """Generalised lifted structure of one anchor on unit rows."""
    d = (2 - 2 * s).clamp(min=1e-8).sqrt()
    return relu(d[same].exp().sum().log() + (1 - d[other]).exp().sum().log())


def anchor_npair(s, same, other):
    """N-pair loss of one anchor with one positive."""
    return (1 + (s[other] - s[same][0]).exp().sum()).log()


def anchor_supcon(s, same, other):
    """SupCon of one anchor."""
    s = s / 0.1
    return -(s[same] - torch.cat([s[same], s[other]]).logsumexp(0)).mean()


def anchor_circle(s, same, other):
    """Circle loss of one anchor."""
    near, far = s[same], s[other]
    pull = -80 * relu(1.4 - near.detach()) * (near - 0.6)
    push = 80 * relu(far.detach() + 0.4) * (far - 0.4)
    return softplus(pull.logsumexp(0) + push.logsumexp(0))


def loop_angular(x, label):
    """Angular loss with its N-pair term on unit rows, one anchor with one positive after the other."""
    s, losses, everything = x @ x.T, [], torch.arange(len(x))
    for i in range(len(x)):
        p, other = ((label == label[i]) & (everything != i)).nonzero()[0, 0], label != label[i]
        angular = (1 + (4 * (s[i, other] + s[p, other]) - 4 * s[i, p]).exp().sum()).log()
        losses.append((1 + (s[i, other] - s[i, p]).exp().sum()).log() + 2 * angular)
    return torch.stack(losses).mean()


def loop_quadruplets(x, label):
    """Quadruplet loss, one quadruplet after the other."""
    rows, generator, losses = label.numpy(), np.random.default_rng(0), []
    for i in range(len(rows)):
        p = generator.choice(np.flatnonzero((rows == rows[i]) & (np.arange(len(rows)) != i)))
        n = generator.choice(np.flatnonzero(rows != rows[i]))
        m = generator.choice(np.flatnonzero((rows != rows[i]) & (rows != rows[n])))
        near = (x[i] - x[p]).norm()
        losses.append(relu(near - (x[i] - x[n]).norm() + 0.2) + relu(near - (x[n] - x[m]).norm() + 0.2))
    return torch.stack(losses).mean()


def loop_histogram(x, label):
    """Histogram loss, one node after the other."""
    s, same, upper = x @ x.T, label[:, None] == label, torch.ones(len(x), len(x)).triu(1).bool()
    step, h = 2 / 64, []
    for r in range(65):
        share = relu(1 - (s - (-1 + r * step)).abs() / step)
        h.append([share[mask].sum() / mask.sum() for mask in (same & upper, ~same & upper)])
    positive, negative = (torch.stack(column) for column in zip(*h))
    return (negative * positive.cumsum(0)).sum()


def loop_proxyanchor(x, label, proxies):
    """Proxy-Anchor, one proxy after the other."""
    terms = []
    for k, proxy in enumerate(proxies):
        s, own = 32 * (x @ (proxy / proxy.norm())), label == k
        terms.append((1 + (3.2 - s[own]).exp().sum()).log() + (1 + (s[~own] + 3.2).exp().sum()).log())
    return torch.stack(terms).mean()


def loop_proxynca(x, label, proxies):
    """Proxy-NCA, one image after the other."""
    d = [18 - 18 * (proxies / proxies.norm(dim=1, keepdim=True)) @ row for row in x]
    return torch.stack([row[y] + (-torch.cat([row[:y], row[y + 1:]])).logsumexp(0)
                        for row, y in zip(d, label.tolist())]).mean()


def loop_softtriplet(x, label, proxies):
    """SoftTriple with two centroids a class, one image after the other, without its regulariser."""
    centroids = torch.stack([proxies, proxies.roll(1, 1)], 1)                      # (C, 2, D)
    centroids = centroids / centroids.norm(dim=-1, keepdim=True)
    losses = []
    for row, y in zip(x, label):
        s = centroids @ row                                                        # (C, 2)
        z = 8 * (((s / 0.1).softmax(-1) * s).sum(-1) - 0.01 * torch.nn.functional.one_hot(y, len(s)))
        losses.append(cross_entropy(z[None], y[None]))
    return torch.stack(losses).mean()


def loop_triplets(function, reduce=torch.mean):
    """Mine and compare one triplet after the other, as the base framework does (distances, then numpy draws). What a
    class learns (boundaries, (C,)) comes third, and its entry goes to the function."""
    def run(x, label, learned=None):
        rows, labels, losses = x.detach().numpy(), label.numpy(), []
        d = np.sqrt(np.maximum(2 - 2 * rows @ rows.T, 0)).clip(0.5, 1.99)
        generator = np.random.default_rng(0)
        for i in range(len(rows)):
            q = (2 - rows.shape[1]) * np.log(d[i]) + (3 - rows.shape[1]) / 2 * np.log(1 - d[i] ** 2 / 4)
            q = np.exp(q - q.max()) * (labels != labels[i])
            same = np.flatnonzero((labels == labels[i]) & (np.arange(len(labels)) != i))
            n = generator.choice(len(rows), p=q / q.sum()) if q.sum() > 0 else generator.choice(np.flatnonzero(
                labels != labels[i]))
            own = () if learned is None else (learned[label[i]],)
            losses.append(function(x[i], x[generator.choice(same)], x[n], *own))
        return reduce(torch.stack(losses))
    return run


def loop_anchors(function):
    """One anchor after the other."""
    def run(x, label):
        losses, everything = [], torch.arange(len(x))
        for i in range(len(x)):
            same = (label == label[i]) & (everything != i)
            losses.append(function(x @ x[i], same, label != label[i]))
        return torch.stack(losses).mean()
    return run


def loop_images(transform):
    """Cross-entropy against proxies, one image after the other."""
    def run(x, label, proxies):
        directions = proxies / proxies.norm(dim=1, keepdim=True)
        return torch.stack([cross_entropy(transform(directions @ x[i], label[i])[None], label[i:i + 1])
                            for i in range(len(x))]).mean()
    return run


def arcface_logit(cosine, y):
    """Logits of one image."""
    own = torch.nn.functional.one_hot(y, len(cosine)).bool()
    return 16 * torch.where(own, (cosine.clamp(-0.9999, 0.9999).acos() + 0.5).cos(), cosine)


def cosface_logit(cosine, y):
    """Logits of one image."""
    return 64 * (cosine - 0.35 * torch.nn.functional.one_hot(y, len(cosine)))


def cubic(function):
    """Rankings in the form that compares every item with every item for every query."""
    def run(x, label):
        s = x @ x.T
        itself = torch.eye(len(x), dtype=torch.bool)
        same = (label[:, None] == label) & ~itself
        gap = s[:, None, :] - s[:, :, None]                                        # (B, B, B) s_qj - s_qi
        kept = ~itself[:, None, :] & ~itself                                       # j is neither q nor i
        return function(gap, same, kept)
    return run


def cubic_smoothap(gap, same, kept):
    """One minus smoothed AP, the query left out."""
    g = (gap / 0.01).sigmoid() * kept
    precision = (1 + (g * same[:, None, :]).sum(-1)) / (1 + g.sum(-1))             # (B, B)
    return 1 - ((precision * same).sum(-1) / same.sum(-1)).mean()


def cubic_supap(gap, same, kept):
    """One minus the lower bound of AP: positives by the step itself, negatives by a bound that grows."""
    bound = torch.where(gap > 0.05, 1.4933 + 100 * (gap - 0.05), (gap / 0.01).sigmoid() + 0.5 * (gap >= 0))
    positives = ((gap >= 0) & kept & same[:, None, :]).sum(-1)
    negatives = (bound * (kept & ~same[:, None, :])).sum(-1)
    precision = (1 + positives) / (1 + positives + negatives)                      # (B, B)
    return 1 - ((precision * same).sum(-1) / same.sum(-1)).mean()


def cubic_recall(gap, same, kept):
    """One minus the recall surrogate, k in 1, 2, 4, 8, 16."""
    rank = ((gap / 0.01).sigmoid() * kept).sum(-1)                                 # (B, B)
    return 1 - sum((((k - 1 - rank).sigmoid() * same).sum(-1) / same.sum(-1)).mean() for k in (1, 2, 4, 8, 16)) / 5


LOOPS = {
    "contrastive": loop_triplets(hinge_pair), "triplet": loop_triplets(hinge_triplet),
    "snr": loop_triplets(hinge_snr),
    "gpw": loop_anchors(anchor_gpw), "multisimilarity": loop_anchors(anchor_multisimilarity),
    "lifted": loop_anchors(anchor_lifted), "npair": loop_anchors(anchor_npair), "supcon": loop_anchors(anchor_supcon),
    "circle": loop_anchors(anchor_circle), "angular": loop_angular,
    "quadruplet": loop_quadruplets, "histogram": loop_histogram,
    "smoothap": cubic(cubic_smoothap), "supap": cubic(cubic_supap), "recallatk": cubic(cubic_recall),
}
WITH_PARAMETERS = {                                                                # loops that take what is learned
    "margin": loop_triplets(hinge_margin, lambda hinges: hinges.sum() / (hinges > 0).sum()),
    "softmax": loop_images(lambda cosine, y: cosine / 0.05), "arcface": loop_images(arcface_logit),
    "cosface": loop_images(cosface_logit), "proxynca": loop_proxynca, "proxyanchor": loop_proxyanchor,
    "softtriplet": loop_softtriplet,
}


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


# ----------------------------------------------------------------------------------------------------- measurement


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
