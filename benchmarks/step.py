"""Time and memory of the method's training step, part by part, beside the backbone's own step.

    python benchmarks/step.py [--networks convnet resnet18 resnet50] [--bs IMAGES] [--rounds N]
                              [--device cpu|cuda] [--only ROW ...] [--before CLONE]
                              [flags of main.py, such as --amp bf16]

The backbone's own step is its forward and backward pass and its optimizer; each further row adds a
part, with its share of the optimizer. The competitors take turns, one step each a round, and the
medians are compared, since shared machines are noisy. Believe a ratio under 1.5 only when it comes
back. Memory is the peak of a step: weights, the optimizer's state, and the most that is allocated
beyond them at once. --before adds the full method of another clone of the project, such as one at
an earlier commit, without its memory.
"""
import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from benchmarks.other_clone import step_of  # noqa: E402
from benchmarks.turns import median_seconds, parser_of, wait  # noqa: E402
from datasets import Batch  # noqa: E402
from parameters import get_options  # noqa: E402
from training.building import (  # noqa: E402
    build_method,
    build_miner,
    build_optimisation,
    prepared_network,
)
from training.large_batch import LargeBatchStep  # noqa: E402
from training.optimisation import Optimisation, Schedule, build_optimizer  # noqa: E402
from utilities.allocator import keep_freed_memory  # noqa: E402
from utilities.cells import markdown  # noqa: E402
from utilities.device import autocast, set_arithmetic  # noqa: E402

NETWORKS = {
    "convnet": ("convnet_normalize", 32),
    "resnet18": ("resnet18_frozen_normalize", 64),
    "resnet50": ("resnet50_frozen_normalize", 224),
}
GRADIENT = "backbone, forward and backward"
BASE = "+ its optimizer"
FULL = "+ memory: the full method"
BEFORE = "the full method before"
PAPER = "as published (--recipe paper)"
UNIFORM = ["--memory", "none", "--pair_weighting", "uniform"]
PLAIN = ["--relation", "none", *UNIFORM]
VARIANTS = {
    "+ criterion (smoothap)": PLAIN,
    "+ relation": UNIFORM,
    "+ policy": ["--memory", "none"],
    FULL: [],
    PAPER: ["--recipe", "paper"],
}
MIB = 2**20
Step = Callable[[], None]


def bare_step(argv: list[str], device: torch.device, optimizes: bool) -> tuple[Step, float]:
    """A step of the backbone along a fixed gradient of its feature map, and the MiB held after it."""
    opt = get_options(argv)
    backbone = training_network(opt, device).backbone
    image = images(opt, device)
    group = {"name": "backbone", "params": list(backbone.parameters()), "lr": opt.lr}
    optimizer = build_optimizer([group], decay=opt.decay)
    take = Optimisation(optimizer, Schedule(opt.scheduler, 100, opt.n_epochs, opt.tau, opt.gamma))
    forward = torch.compile(backbone.forward, dynamic=False) if opt.compile else backbone
    with torch.no_grad():
        gradient = torch.randn_like(backbone(image[:1])).expand(opt.bs, -1, -1, -1)
    gradient = gradient.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with autocast(device, opt.amp):
            features = forward(image)
        features.backward(gradient.to(features.dtype))
        if optimizes:
            take.step(1)
        else:
            backbone.zero_grad()

    step()
    return step, held([backbone], optimizer)


def method_step(argv: list[str], device: torch.device,
                image: torch.Tensor | None = None) -> tuple[Step, float]:
    """A step of the method on fixed random images, or these rows, and the MiB held between steps.
    """
    opt = get_options(argv)
    network = training_network(opt, device)
    method = build_method(opt, network, opt.bs).to(device)
    take = build_optimisation(opt, network, method, epoch_steps=100)
    compute = LargeBatchStep(
        network, method, build_miner(opt), amp=opt.amp, scaler=take.scaler, chunk=opt.accumulate
    )
    index = torch.arange(opt.bs, device=device)
    image = images(opt, device) if image is None else image
    batch = Batch(image, index // opt.samples_per_class, index)

    def step() -> None:
        compute(batch)
        take.step(1)

    step()
    return step, held([network, method], take.optimizer)


def training_network(opt, device: torch.device):
    """The network as `main.run` sets it up, in training mode."""
    torch.manual_seed(0)
    network = prepared_network(opt, device)
    if opt.compile:
        network.compile_backbone()
    return network.train()


def images(opt, device: torch.device) -> torch.Tensor:
    """A batch, (bs, 3, S, S)."""
    return torch.randn(opt.bs, 3, opt.image_size, opt.image_size, device=device)


def held(modules: list[torch.nn.Module], optimizer: torch.optim.Optimizer) -> float:
    """MiB of weights, buffers and the optimizer's state."""
    tensors = []
    for module in modules:
        tensors += [*module.parameters(), *module.buffers()]
    for state in optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    # Parts may share a tensor, which counts once.
    sizes = {tensor.data_ptr(): tensor.nbytes for tensor in tensors}
    return sum(sizes.values()) / MIB


def peak_mib(step: Step, device: torch.device) -> float:
    """The most that a step allocates at once beyond what is there before it (MiB)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        wait()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    events = [event for event in events if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    allocated = itertools.accumulate(event.nbytes() for event in events)
    return max(allocated) / MIB


def table(name: str, opt: argparse.Namespace, more: list[str]) -> str:
    """The measured rows of one network: the backbone's, and of VARIANTS those of `opt.only`."""
    arch, size = NETWORKS[name]
    device = torch.device(opt.device)
    common = ["--arch", arch, "--image_size", str(size), "--bs", str(opt.bs), "--not_pretrained"]
    common += more
    built = {GRADIENT: bare_step(common, device, False), BASE: bare_step(common, device, True)}
    for variant in opt.only:
        built[variant] = method_step([*common, *VARIANTS[variant]], device)
    memory = {variant: kept + peak_mib(step, device) for variant, (step, kept) in built.items()}
    steps = {variant: step for variant, (step, _) in built.items()}
    if opt.before:
        steps[BEFORE] = step_of(opt.before, common, opt.device)
    seconds = median_seconds(steps, opt.rounds)
    rows = {}
    without = 0.0
    for variant, own in seconds.items():
        is_added = variant not in (PAPER, BEFORE)
        rows[variant] = {
            "ms": f"{1e3 * own:.1f}",
            "added ms": f"{1e3 * (own - without):.1f}" if is_added else "-",
            "ratio": f"{own / seconds[BASE]:.2f}",
            "MiB": "-",
            "memory ratio": "-",
        }
        if variant in memory:
            rows[variant]["MiB"] = f"{memory[variant]:.1f}"
            rows[variant]["memory ratio"] = f"{memory[variant] / memory[BASE]:.2f}"
        without = own
    title = f"{arch}, {size} px, batch {opt.bs}, {kind_of(device)}, {opt.rounds} rounds"
    return f"**{title}**\n\n{markdown(rows)}\n"


def kind_of(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def run() -> None:
    """Measure the networks asked for and print their tables."""
    gpu = torch.cuda.is_available()
    parser = parser_of(__doc__, bs=112, rounds=15, device="cuda" if gpu else "cpu")
    usual = ["resnet18", "resnet50"] if gpu else ["convnet", "resnet18"]
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=usual)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--before", metavar="CLONE")
    opt, more = parser.parse_known_args()
    if opt.before and not (Path(opt.before) / "benchmarks").is_dir():
        parser.error(f"--before {opt.before}: no clone of the project is there.")
    set_arithmetic()
    device = torch.device(opt.device)
    if device.type == "cpu":
        keep_freed_memory()  # as in training
    for name in opt.networks:
        print(table(name, opt, more), flush=True)


if __name__ == "__main__":
    run()
