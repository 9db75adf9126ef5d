"""Time and memory of a whole evaluation, as ratios to the bare blocked matrix product and to peers.

    python benchmarks/evaluation.py [--size cub|sop|N] [--device cpu|cuda] [--noise X] [--rounds N] [--only NAME ...]

Embeddings are class centres plus noise on the unit sphere: `cub` 5,924 x 512 in 100 classes, `sop` 60,502 x 512 in
11,316 classes of 2 to 12, another N alike in N / 5 classes. --noise 2 gives R@1 of about .8 at SOP size; with --noise
1000 images find nothing, as in an untrained network.

product  the bare matrix product: rows.split(1024) @ rows.T, nothing looked at
loop     the 1,001 nearest of each row by product and top-k, then a loop in Python over the queries; `loop nmi` with
         20 rounds of faiss' k-means and scikit-learn's NMI
pml      pytorch-metric-learning's AccuracyCalculator: P@1, R-precision, MAP@R and MRR, among as many neighbours as the
         largest class has rows; `pml all ranks`: MAP and MRR over all ranks, as mAP and mrr are here (not at SOP size)
ours     evaluate(); every line names what it computes, `nmi` with k-means

Each competitor runs in a process of its own, one after the other, --rounds times, and medians are compared. Memory: the
most that the process held beyond what it held with the embeddings alone, in MiB.
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
from utilities.cells import markdown  # noqa: E402

SIZES = {"cub": (5_924, 100), "sop": (60_502, 11_316)}
BASIC = ["e_recall@1", "e_recall@10", "mAP_r", "r_precision", "mrr"]
DEEP = [*BASIC, "e_recall@100", "e_recall@1000"]
PML = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank")


def embeddings(size: int, classes: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows (N, 512) and labels (N,); few classes are of equal size, many of 2 to 12 rows."""
    rng = np.random.RandomState(0)
    counts = np.full(classes, max(2, min(size // classes, 2) if size // classes < 12 else size // classes))
    while (left := size - counts.sum()) > 0:
        np.add.at(counts, rng.randint(0, classes, left), 1)
        counts = np.minimum(counts, 12) if size < 12 * classes else counts
    generator = torch.Generator().manual_seed(0)
    label = torch.from_numpy(np.repeat(np.arange(classes), counts))[torch.randperm(size, generator=generator)]
    rows = torch.randn(classes, 512, generator=generator)[label] + noise * torch.randn(size, 512, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1), label


def product(rows, label):
    """The bare blocked matrix product."""
    for part in rows.split(1024):
        part @ rows.T


def loop(rows, label):
    """Recall, MAP@R, R-precision and MRR of one query after the other."""
    k = min(1001, len(rows) - 1)
    near = torch.cat([(part @ rows.T).topk(k + 1).indices[:, 1:] for part in rows.split(1024)])
    near, label = near.cpu().numpy(), label.cpu().numpy()
    size, values = np.bincount(label), []
    for i, y in enumerate(label):
        hit, r = label[near[i]] == y, size[y] - 1
        first = hit.argmax() + 1 if hit.any() else np.inf
        precision = hit[:r].cumsum() / np.arange(1, r + 1)
        values.append([hit[:k].any() for k in (1, 10, 100, 1000)] + [(precision * hit[:r]).sum() / r, hit[:r].mean(),
                                                                      1 / first])
    return np.mean(values, 0)


def loop_nmi(rows, label):
    """The same, then 20 rounds of faiss k-means and scikit-learn's NMI, as the base framework."""
    import faiss
    from sklearn.metrics import normalized_mutual_info_score
    values, data = loop(rows, label), rows.cpu().numpy()
    clustering = faiss.Kmeans(data.shape[1], len(label.unique()), niter=20, seed=0, max_points_per_centroid=10**6)
    clustering.train(data)
    return values, normalized_mutual_info_score(label.cpu().numpy(), clustering.index.search(data, 1)[1][:, 0])


def accuracy_calculator(include, k="max_bin_count"):
    """The library's calculator of these metrics, as a competitor."""
    def run(rows, label):
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
        return AccuracyCalculator(include=include, k=k, device=rows.device).get_accuracy(rows, label)
    return run


def ours(metrics):
    """evaluate() of these metrics, as a competitor."""
    return lambda rows, label: evaluate(rows, label, metrics)


COMPETITORS = {
    "product": product, "loop": loop, "loop nmi": loop_nmi,
    "pml": accuracy_calculator(PML), "pml nmi": accuracy_calculator((*PML, "NMI")),
    "pml all ranks": accuracy_calculator(("mean_average_precision", "mean_reciprocal_rank"), k=None),
    "ours R@1,10 mAP_r r_precision mrr": ours(BASIC), "ours with R@100,1000": ours(DEEP),
    "ours with mAP, mAP_1000": ours([*DEEP, "mAP", "mAP_1000"]), "ours with nmi": ours([*DEEP, "nmi"]),
    "ours R@1,10 mAP_r r_precision": ours(BASIC[:-1]),
}


def held(field: str) -> float:
    """MiB of memory that the process holds (VmRSS) or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measure(name: str, size: int, classes: int, noise: float, device: str) -> dict:
    """Seconds and MiB of one competitor, after a first call on few rows (all rows where that takes seconds)."""
    rows, label = (part.to(device) for part in embeddings(size, classes, noise))
    COMPETITORS[name](*((rows, label) if size < 10_000 else (rows[:2000], label[:2000] % 400)))
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")                                  # the peak starts from here
    wait()
    before, held_before, start = held("VmRSS"), torch.cuda.memory_allocated(), time.perf_counter()
    COMPETITORS[name](rows, label)
    wait()
    seconds = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated() - held_before if device == "cuda" else 0
    return {"seconds": seconds, "memory": memory / 2**20 if device == "cuda" else held("VmHWM") - before}


def table(found: dict[str, list[dict]]) -> str:
    """Medians as ratios."""
    seconds = {name: statistics.median(run["seconds"] for run in runs) for name, runs in found.items()}
    rows = {}
    for name, runs in found.items():
        rows[name] = {"seconds": f"{seconds[name]:.2f}", "MiB": f"{max(run['memory'] for run in runs):.0f}"}
        rows[name] |= {f"/ {other}": f"{seconds[name] / seconds[other]:.2f}"
                       for other in ("product", "pml", "pml nmi", "pml all ranks", "loop", "loop nmi")
                       if other in seconds}
    return markdown(rows)


def main() -> None:
    """Run every competitor in its own process, in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="cub", help="cub, sop, or a number of rows")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--noise", type=float, default=2.0, help="standard deviation around the class centres")
    parser.add_argument("--rounds", type=int, default=0, help="turns; 0: 5, or 1 from 30,000 rows on")
    parser.add_argument("--only", nargs="+", choices=COMPETITORS, help="competitors; default: all that are affordable")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    opt = parser.parse_args()
    size, classes = SIZES.get(opt.size) or (int(opt.size), max(1, int(opt.size) // 5))
    if opt.child:
        print(json.dumps(measure(opt.child, size, classes, opt.noise, opt.device)))
        return
    names = opt.only or [name for name in COMPETITORS if name != "pml all ranks" or size < 10_000]
    found = {name: [] for name in names}
    for _ in range(opt.rounds or (1 if size >= 30_000 else 5)):
        for name in names:
            command = [sys.executable, __file__, "--size", opt.size, "--device", opt.device, "--noise", str(opt.noise),
                       "--child", name]
            found[name].append(json.loads(subprocess.run(command, capture_output=True, text=True,
                                                         check=True).stdout.splitlines()[-1]))
    print(f"{size:,} x 512, {classes:,} classes, noise {opt.noise:g}, {opt.device}, {torch.get_num_threads()} threads")
    print(table(found))


if __name__ == "__main__":
    main()
