"""Time of a training step of the method, part by part, as a ratio to the backbone's own step in the same run.

    python benchmarks/step.py [--arch NAME] [--image_size PIXELS] [--bs IMAGES] [--rounds N] [--device cpu|cuda]

The competitors take turns, one step each a round, and the medians are compared: shared machines are noisy. Ratios under
1.5 are believed only when they come back.
"""
import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402

import main  # noqa: E402
from datasets import Batch  # noqa: E402
from evaluation.cells import markdown  # noqa: E402
from parameters import get_options  # noqa: E402
from training.step import Differentiator  # noqa: E402

PLAIN = ["--relation", "none", "--memory", "none", "--pair_weighting", "uniform"]
VARIANTS = {
    "backbone, gpw, optimizer": PLAIN,
    "+ learned sharpness": PLAIN[:4],
    "+ relation": ["--memory", "none"],
    "full method (default)": [],
    "full method (paper)": ["--recipe", "paper"],
    "smoothap alone": ["--loss", "smoothap", *PLAIN],
}


def build_step(argv: list[str], device: torch.device):
    """A function that takes one training step on fixed random images."""
    opt = get_options([*argv, "--not_pretrained"])
    torch.manual_seed(0)
    network = main.build_network(opt).to(device, memory_format=torch.channels_last)
    method = main.build_method(opt, network, opt.bs).to(device)
    optimisation, miner = main.build_optimisation(opt, network, method, epoch_steps=100), main.build_miner(opt)
    compute = Differentiator(network, method, miner, amp=opt.amp)
    image = torch.randn(opt.bs, 3, opt.image_size, opt.image_size, device=device)
    index = torch.arange(opt.bs, device=device)
    label = index // opt.samples_per_class

    def step() -> float:
        begin = time.perf_counter()
        compute(Batch(image, label, index))
        optimisation.step(1)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin
    return step


def run() -> None:
    """Measure all variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="convnet_normalize")
    parser.add_argument("--image_size", default="32")
    parser.add_argument("--bs", default="112")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    opt = parser.parse_args()
    common = ["--arch", opt.arch, "--image_size", opt.image_size, "--bs", opt.bs]
    steps = {name: build_step([*common, *flags], torch.device(opt.device)) for name, flags in VARIANTS.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(opt.rounds + 3):
        for name, step in steps.items():
            seconds = step()
            if number >= 3:                                                        # the first ones warm up
                times[name].append(seconds)
    median = {name: statistics.median(values) for name, values in times.items()}
    base = next(iter(median.values()))
    print(f"{opt.arch}, {opt.image_size} px, batch {opt.bs}, {opt.device}, {torch.get_num_threads()} threads")
    print(markdown({name: {"median ms": f"{1e3 * value:.1f}", "ratio": f"{value / base:.2f}"}
                    for name, value in median.items()}))


if __name__ == "__main__":
    run()
