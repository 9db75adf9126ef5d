"""Time and memory of the method's training step, part by part, beside the backbone's own step in the same run.

    python benchmarks/step.py [--networks convnet resnet18 resnet50] [--bs IMAGES] [--rounds N] [--device cpu|cuda]
                              [flags of main.py, such as --amp bf16]

The backbone's own step is its forward and backward pass and its optimizer; each further row adds a part, with what the
optimizer does for it. The competitors take turns, one step each a round, and the medians are compared: shared machines
are noisy. Ratios under 1.5 are believed only when they come back. Memory is what a step holds at its fullest: weights,
the optimizer's state, and the most that is allocated beyond them at once.
"""
import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402
from training.step import Differentiator  # noqa: E402

from datasets import Batch  # noqa: E402
from parameters import get_options  # noqa: E402
from training.building import build_method, build_miner, build_network, build_optimisation  # noqa: E402
from training.optimisation import (  # noqa: E402
    Optimisation,
    Schedule,  # noqa: E402
    build_optimizer,
)
from utilities.cells import markdown  # noqa: E402
from utilities.device import autocast, set_arithmetic  # noqa: E402

NETWORKS = {"convnet": ("convnet_normalize", 32), "resnet18": ("resnet18_frozen_normalize", 64),
            "resnet50": ("resnet50_frozen_normalize", 224)}
GRADIENT, BASE = "backbone, forward and backward", "+ its optimizer"
VARIANTS = {
    "+ criterion (smoothap)": ["--relation", "none", "--memory", "none", "--pair_weighting", "uniform"],
    "+ relation": ["--memory", "none", "--pair_weighting", "uniform"],
    "+ policy": ["--memory", "none"],
    "+ memory: the full method": [],
    "as published (--recipe paper)": ["--recipe", "paper"],
}
MIB = 2**20
Step = Callable[[], None]


def bare_step(argv: list[str], device: torch.device, optimizes: bool) -> tuple[Step, float]:
    """A step of the backbone alone, along a fixed gradient of its feature map, and the MiB held between steps."""
    opt = get_options(argv)
    backbone, image = placed(opt, device).backbone, images(opt, device)
    group = {"name": "backbone", "params": list(backbone.parameters()), "lr": opt.lr}
    take = Optimisation(build_optimizer([group], decay=opt.decay),
                        Schedule(opt.scheduler, 100, opt.n_epochs, opt.tau, opt.gamma))
    with torch.no_grad():
        gradient = torch.randn_like(backbone(image[:1])).expand(opt.bs, -1, -1, -1).contiguous(
            memory_format=torch.channels_last)

    def step() -> None:
        with autocast(device, opt.amp):
            found = backbone(image)
        found.backward(gradient.to(found.dtype))
        if optimizes:
            take.step(1)
        else:
            backbone.zero_grad()
    step()
    return step, held([backbone], take)


def method_step(argv: list[str], device: torch.device) -> tuple[Step, float]:
    """A step of the method on fixed random images, and the MiB held between steps."""
    opt = get_options(argv)
    network = placed(opt, device)
    method = build_method(opt, network, opt.bs).to(device)
    take = build_optimisation(opt, network, method, epoch_steps=100)
    compute = Differentiator(network, method, build_miner(opt), amp=opt.amp, scaler=take.scaler,
                             chunk=opt.accumulate)
    index = torch.arange(opt.bs, device=device)
    batch = Batch(images(opt, device), index // opt.samples_per_class, index)

    def step() -> None:
        compute(batch)
        take.step(1)
    step()
    return step, held([network, method], take)


def placed(opt, device: torch.device):
    """The network as `main.run` sets it up, in training mode."""
    torch.manual_seed(0)
    network = build_network(opt).to(device, memory_format=torch.channels_last)
    if opt.compile:
        network.compile_backbone()
    return network.train()


def images(opt, device: torch.device) -> torch.Tensor:
    """A batch, (bs, 3, S, S)."""
    return torch.randn(opt.bs, 3, opt.image_size, opt.image_size, device=device)


def held(modules: list[torch.nn.Module], take: Optimisation) -> float:
    """MiB of weights, buffers and the optimizer's state."""
    states = [value for state in take.optimizer.state.values() for value in state.values()]
    tensors = [*(p for m in modules for p in m.parameters()), *(b for m in modules for b in m.buffers()),
               *(value for value in states if isinstance(value, torch.Tensor))]
    return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values()) / MIB


def seconds_of(step: Step, device: torch.device) -> float:
    """How long a step takes."""
    begin = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def peak_mib(step: Step, device: torch.device) -> float:
    """The most that a step allocates at once beyond what is there before it (MiB)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    events = sorted((e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"),
                    key=lambda e: e.start_ns())
    now = peak = 0
    for event in events:
        now += event.nbytes()
        peak = max(peak, now)
    return peak / MIB


def table(name: str, bs: int, rounds: int, device: torch.device, more: list[str]) -> str:
    """The measured rows of one network."""
    arch, size = NETWORKS[name]
    common = ["--arch", arch, "--image_size", str(size), "--bs", str(bs), "--not_pretrained", *more]
    built = {GRADIENT: bare_step(common, device, False), BASE: bare_step(common, device, True)}
    built |= {variant: method_step([*common, *flags], device) for variant, flags in VARIANTS.items()}
    memory = {variant: kept + peak_mib(step, device) for variant, (step, kept) in built.items()}
    times: dict[str, list[float]] = {variant: [] for variant in built}
    for number in range(rounds + 2):
        for variant, (step, _) in built.items():
            seconds = seconds_of(step, device)
            if number >= 2:                                                        # the first ones warm up
                times[variant].append(1e3 * seconds)
    median = {variant: statistics.median(values) for variant, values in times.items()}
    rows, before = {}, 0.0
    for variant, ms in median.items():
        added = {} if variant.startswith("as ") else {"added ms": f"{ms - before:.1f}"}
        rows[variant] = {"ms": f"{ms:.1f}"} | added | {"ratio": f"{ms / median[BASE]:.2f}",
                                                       "MiB": f"{memory[variant]:.1f}",
                                                       "memory ratio": f"{memory[variant] / memory[BASE]:.2f}"}
        before = ms
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"**{arch}, {size} px, batch {bs}, {kind}, {rounds} rounds**\n\n{markdown(rows)}\n"


def run() -> None:
    """Measure the networks asked for and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    gpu = torch.cuda.is_available()
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS),
                        default=["resnet18", "resnet50"] if gpu else ["convnet", "resnet18"])
    parser.add_argument("--bs", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    opt, more = parser.parse_known_args()
    set_arithmetic()
    for name in opt.networks:
        print(table(name, opt.bs, opt.rounds, torch.device(opt.device), more), flush=True)


if __name__ == "__main__":
    run()
