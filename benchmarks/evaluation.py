"""Time and memory of a whole evaluation, as ratios to the bare matrix product and to peers.

    python benchmarks/evaluation.py [--size cub|sop|N] [--device cpu|cuda] [--noise X] [--rounds N]
                                    [--only NAME ...]

Embeddings are class centres plus noise on the unit sphere: `cub` 5,924 x 512 in 100 classes, `sop`
60,502 x 512 in 11,316 classes of 2 to 12, another N alike in N / 5 classes. --noise 2 gives R@1 of
about .8 at SOP size; with --noise 1000 images find nothing, as in an untrained network.

product  the bare matrix product: rows.split(1024) @ rows.T, nothing looked at
loop     the 1,001 nearest of each row by product and top-k, then a loop in Python over the queries;
         `loop nmi` with 20 rounds of faiss' k-means and scikit-learn's NMI
pml      pytorch-metric-learning's AccuracyCalculator: P@1, R-precision, MAP@R and MRR, among as many
         neighbours as the largest class has rows; `pml all ranks`: MAP and MRR over all ranks, as
         mAP and mrr are here (not at SOP size)
ours     evaluate(); every line names what it computes, `nmi` with k-means
kmeans   our k-means alone; `kmeans faiss`: 20 rounds of faiss' with its other defaults

Each competitor runs in a process of its own, one after the other, --rounds times, and medians are
compared. Memory: the most that the process held beyond the embeddings alone, in MiB.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from evaluation import evaluate  # noqa: E402
from evaluation.metrics.kmeans import kmeans  # noqa: E402
from utilities.cells import markdown  # noqa: E402
from utilities.text import counted

SIZES = {"cub": (5_924, 100), "sop": (60_502, 11_316)}
LARGE = 30_000  # rows from which on a call takes long
BASIC = ["e_recall@1", "e_recall@10", "mAP_r", "r_precision", "mrr"]
DEEP = [*BASIC, "e_recall@100", "e_recall@1000"]
PML = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank")
PEERS = ("product", "pml", "pml nmi", "pml all ranks", "loop", "loop nmi", "kmeans faiss")


def class_sizes(size: int, classes: int) -> np.ndarray:
    """Rows of each class: few classes are of equal size, many of 2 to 12 rows."""
    rng = np.random.RandomState(0)
    small = size < 12 * classes
    counts = np.full(classes, 2 if small else size // classes)
    while counts.sum() < size:
        np.add.at(counts, rng.randint(0, classes, size - counts.sum()), 1)
        if small:
            counts = np.minimum(counts, 12)
    return counts


def embeddings(size: int, classes: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows (N, 512) and labels (N,)."""
    generator = torch.Generator().manual_seed(0)
    label = torch.from_numpy(np.repeat(np.arange(classes), class_sizes(size, classes)))
    label = label[torch.randperm(size, generator=generator)]
    centre = torch.randn(classes, 512, generator=generator)
    rows = centre[label] + noise * torch.randn(size, 512, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1), label


def product(rows, label):
    """The bare blocked matrix product."""
    for part in rows.split(1024):
        part @ rows.T


def loop(rows, label):
    """Recall, MAP@R, R-precision and MRR of one query after the other."""
    k = min(1001, len(rows) - 1)
    near = [(part @ rows.T).topk(k + 1).indices[:, 1:] for part in rows.split(1024)]
    near = torch.cat(near).cpu().numpy()
    label = label.cpu().numpy()
    size = np.bincount(label)
    values = []
    for i, y in enumerate(label):
        hit = label[near[i]] == y
        r = size[y] - 1
        first = hit.argmax() + 1 if hit.any() else np.inf
        precision = hit[:r].cumsum() / np.arange(1, r + 1)
        recalls = [hit[:k].any() for k in (1, 10, 100, 1000)]
        values.append([*recalls, (precision * hit[:r]).sum() / r, hit[:r].mean(), 1 / first])
    return np.mean(values, 0)


def faiss_kmeans(rows, label):
    """20 rounds of faiss' k-means."""
    import faiss
    data = rows.cpu().numpy()
    clustering = faiss.Kmeans(data.shape[1], len(label.unique()), niter=20, seed=0)
    clustering.train(data)
    _, cluster = clustering.index.search(data, 1)
    return cluster[:, 0]


def loop_nmi(rows, label):
    """The loop, then faiss' k-means and scikit-learn's NMI, as the base framework."""
    from sklearn.metrics import normalized_mutual_info_score
    values = loop(rows, label)
    cluster = faiss_kmeans(rows, label)
    return values, normalized_mutual_info_score(label.cpu().numpy(), cluster)


def accuracy_calculator(include, k="max_bin_count"):
    """The library's calculator of these metrics, as a competitor."""
    def run(rows, label):
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
        calculator = AccuracyCalculator(include=include, k=k, device=rows.device)
        return calculator.get_accuracy(rows, label)
    return run


def ours(*metrics):
    """evaluate() of these metrics, as a competitor."""
    return lambda rows, label: evaluate(rows, label, metrics)


COMPETITORS = {
    "product": product,
    "loop": loop,
    "loop nmi": loop_nmi,
    "pml": accuracy_calculator(PML),
    "pml nmi": accuracy_calculator((*PML, "NMI")),
    "pml all ranks": accuracy_calculator(("mean_average_precision", "mean_reciprocal_rank"), None),
    "ours R@1,10 mAP_r r_precision mrr": ours(*BASIC),
    "ours with R@100,1000": ours(*DEEP),
    "ours with mAP, mAP_1000": ours(*DEEP, "mAP", "mAP_1000"),
    "ours with nmi": ours(*DEEP, "nmi"),
    "kmeans": lambda rows, label: kmeans(rows, len(label.unique())),
    "kmeans faiss": faiss_kmeans,
}


def held(field: str) -> float:
    """MiB of memory that the process holds (VmRSS) or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(field))
    return int(line.split()[1]) / 1024


def measure(name: str, size: int, classes: int, noise: float, device: str) -> dict:
    """Seconds and MiB of one competitor, after a first call on few rows (where all rows take
    seconds) or on all."""
    run = COMPETITORS[name]
    rows, label = embeddings(size, classes, noise)
    rows = rows.to(device)
    label = label.to(device)
    few = size if size < 10_000 else 2000
    run(rows[:few], label[:few] if few == size else label[:few] % 400)
    on_gpu = device == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    # the peak starts from here
    Path("/proc/self/clear_refs").write_text("5")
    before = torch.cuda.memory_allocated() / 2**20 if on_gpu else held("VmRSS")
    start = time.perf_counter()
    run(rows, label)
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else held("VmHWM")
    return {"seconds": seconds, "memory": peak - before}


def table(found: dict[str, list[dict]]) -> str:
    """Medians as ratios."""
    seconds = {}
    for name, runs in found.items():
        seconds[name] = statistics.median(run["seconds"] for run in runs)
    peers = [peer for peer in PEERS if peer in seconds]
    rows = {}
    for name, runs in found.items():
        memory = max(run["memory"] for run in runs)
        rows[name] = {"seconds": f"{seconds[name]:.2f}", "MiB": f"{memory:.0f}"}
        for peer in peers:
            rows[name][f"/ {peer}"] = f"{seconds[name] / seconds[peer]:.2f}"
    return markdown(rows)


def build_parser() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--size", default="cub", help="cub, sop, or a number of rows")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--noise", type=float, default=2.0, help="standard deviation around the class centres")
    add("--rounds", type=int, default=0, help="turns; 0: 5, or 1 from 30,000 rows on")
    add("--only", nargs="+", choices=COMPETITORS,
        help="competitors; default: all that are affordable")
    add("--child", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Run every competitor in its own process, in turns, and print the table."""
    opt = build_parser().parse_args()
    if opt.size in SIZES:
        size, classes = SIZES[opt.size]
    else:
        size = int(opt.size)
        classes = max(1, size // 5)
    if opt.child:
        print(json.dumps(measure(opt.child, size, classes, opt.noise, opt.device)))
        return
    affordable = [name for name in COMPETITORS if name != "pml all ranks" or size < 10_000]
    found = {name: [] for name in opt.only or affordable}
    rounds = opt.rounds or (1 if size >= LARGE else 5)
    for name in list(found) * rounds:
        command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name].append(json.loads(run.stdout.splitlines()[-1]))
    print(f"{size:,} x 512, {counted(classes, 'class')}, noise {opt.noise:g}, {opt.device}, "
          f"{torch.get_num_threads()} threads")
    print(table(found))


if __name__ == "__main__":
    main()
