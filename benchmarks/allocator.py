"""What it brings and costs on a CPU that freed memory stays with the process.

    python benchmarks/allocator.py [--threads N] [--rounds N] [--repeats N]

Training steps of three networks (forward, backward, optimizer; batch 112) and a ranking of 6,000
embeddings, each in a process of its own with glibc's defaults and with
`utilities.allocator.keep_freed_memory`. The two take turns; medians over all rounds of all
processes. Faults are the pages that the system had to clear, per round; peak is the process's.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks.turns import parser_of, seconds_of  # noqa: E402
from utilities.allocator import keep_freed_memory  # noqa: E402
from utilities.cells import markdown  # noqa: E402

NETWORKS = {
    "convnet, 32 px": ("convnet_normalize", 32),
    "ResNet-18, 64 px": ("resnet18_frozen_normalize", 64),
    "EfficientNet-Lite0, 128 px": ("timm.tf_efficientnet_lite0_normalize", 128),
}
RANKING = "ranking of 6,000 rows"
KEPT = {"glibc's own": False, "kept": True}


def task_of(name: str):
    """A function that does the named work once."""
    if name == RANKING:
        return ranking()
    from benchmarks.step import bare_step

    arch, size = NETWORKS[name]
    flags = ["--arch", arch, "--image_size", str(size), "--bs", "112", "--not_pretrained"]
    return bare_step(flags, torch.device("cpu"), optimizes=True)[0]


def ranking():
    """An evaluation of 6,000 unit rows of 300 classes."""
    from evaluation import evaluate

    label = torch.arange(6000) % 300
    row = torch.nn.functional.normalize(torch.randn(6000, 128), dim=1)
    return lambda: evaluate(row, label, metrics=["e_recall@1", "mAP_r", "nmi"])


def measure(name: str, keep: bool, threads: int, rounds: int) -> dict:
    """Seconds and page faults of each round, and the peak (MiB); in this process."""
    if keep and not keep_freed_memory():
        sys.exit("the C library of this machine has no such setting, or the environment sets it")
    torch.set_num_threads(threads)
    task = task_of(name)
    seconds_of(task)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    seconds = [seconds_of(task) for _ in range(rounds)]
    end = resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": seconds, "faults": (end.ru_minflt - faults) / rounds,
            "peak": end.ru_maxrss / 1024}


def measured_apart(name: str, keep: bool, threads: int, rounds: int) -> dict:
    """The same, in a process of its own."""
    words = [name, str(int(keep)), str(threads), str(rounds)]
    process = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True,
                             env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    if process.returncode:
        sys.exit(process.stderr)
    return json.loads(process.stdout.splitlines()[-1])


def main() -> None:
    """Measure all, and print the table."""
    opt = parser_of(__doc__, threads=1, rounds=5, repeats=3).parse_args()
    tasks = [*NETWORKS, RANKING]
    found = {(name, way): [] for name in tasks for way in KEPT}
    order = list(found) * opt.repeats
    for name, way in tqdm(order, unit="process"):
        found[name, way].append(measured_apart(name, KEPT[way], opt.threads, opt.rounds))
    rows = {}
    for name in tasks:
        before, after = (row_of(found[name, way]) for way in KEPT)
        rows[name] = {f"{key}, {way}": f"{row[key]:,.0f}" for key in before
                      for way, row in zip(KEPT, (before, after))}
        rows[name]["speed-up"] = f"{before['ms'] / after['ms']:.2f}"
    print(markdown(rows))


def row_of(processes: list[dict]) -> dict:
    """Medians over processes."""
    seconds = [second for process in processes for second in process["seconds"]]
    return {
        "ms": 1e3 * statistics.median(seconds),
        "faults": statistics.median(process["faults"] for process in processes),
        "peak MiB": statistics.median(process["peak"] for process in processes),
    }


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in [*NETWORKS, RANKING]:
        name, *numbers = sys.argv[1:]
        print(json.dumps(measure(name, *map(int, numbers))))
    else:
        main()
