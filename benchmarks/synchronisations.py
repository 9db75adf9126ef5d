"""How often the host waits for the GPU in a training step, as the profiler sees it.

    python benchmarks/synchronisations.py [--network convnet|resnet18|resnet50] [--bs IMAGES]
                                          [--steps N] [--device cpu|cuda] [flags of main.py]

Each row is a loss with the parts of its step: network, relation, policy, memory, miner, backward
pass and optimizer, on fixed random images. The numbers are calls a step, in steps after the first
two. docs/training.md, "Waiting for the GPU", says which of them are known. A CPU is waited for by
nobody; there only the operations that read a number or fix a shape are counted.
"""
import collections
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from benchmarks.step import NETWORKS, PLAIN, Step, kind_of, method_step  # noqa: E402
from benchmarks.turns import parser_of, wait  # noqa: E402
from utilities.cells import markdown  # noqa: E402
from utilities.device import set_arithmetic  # noqa: E402

ROWS = {
    "gpw, full method": ["--loss", "gpw"],
    "smoothap, full method": ["--loss", "smoothap"],
    "smoothap": ["--loss", "smoothap", *PLAIN],
    "margin, mined": ["--loss", "margin", "--batch_mining", "distance", *PLAIN],
    "as published": ["--recipe", "paper"],
}
READS = ("aten::_local_scalar_dense", "aten::nonzero")
COPY = "Memcpy DtoH"


def kind_of_wait(event: str) -> str | None:
    """The column of an event of the profiler, or None."""
    if "Synchronize" in event or event in READS:
        return event
    return COPY if event.startswith(COPY) else None


def waits(step: Step, steps: int, on_gpu: bool) -> collections.Counter:
    """Events in so many steps for which the host waits, beside those of the profiler itself."""
    activities = [ProfilerActivity.CPU]
    if on_gpu:
        activities.append(ProfilerActivity.CUDA)
    wait()
    with profile(activities=activities) as found:
        for _ in range(steps):
            step()
    kinds = map(kind_of_wait, (event.name for event in found.events()))
    return collections.Counter(kind for kind in kinds if kind)


def nothing() -> None:
    """A step without work."""


def row(argv: list[str], steps: int, device: torch.device) -> dict[str, str]:
    """Calls a step, by their names."""
    step, _ = method_step(argv, device)
    step()
    on_gpu = device.type == "cuda"
    waits(nothing, 1, on_gpu)
    counts = waits(step, steps, on_gpu)
    counts.subtract(waits(nothing, steps, on_gpu))
    return {name: f"{count / steps:.1f}" for name, count in counts.items() if count > 0}


def run() -> None:
    """Count the waits of each row and print the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = parser_of(__doc__, network="resnet18", bs=112, steps=10, device=device)
    opt, more = parser.parse_known_args()
    arch, size = NETWORKS[opt.network]
    common = ["--arch", arch, "--image_size", str(size), "--bs", str(opt.bs), "--not_pretrained"]
    device = torch.device(opt.device)
    set_arithmetic()
    rows = {}
    for name, flags in ROWS.items():
        rows[name] = row([*common, *flags, *more], opt.steps, device)
    columns = {READS[0]: "0.0"}
    for own in rows.values():
        columns |= dict.fromkeys(own, "0.0")
    cells = {name: columns | own for name, own in rows.items()}
    print(f"{arch}, {size} px, batch {opt.bs}, {kind_of(device)}: calls a step\n")
    print(markdown(cells))


if __name__ == "__main__":
    run()
