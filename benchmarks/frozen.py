"""Images a second in training: the whole network, and the new layers on features of a frozen backbone.

    python benchmarks/frozen.py [--arch NAME] [--image_size PIXELS] [--bs IMAGES] [--rounds N]
                                [--threads N]

Steps on random images and features take turns, with SmoothAP alone and with the full method;
medians. What it takes to load images, and to compute the features once, is not in it.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402

from benchmarks.step import PLAIN, images, method_step, training_network  # noqa: E402
from benchmarks.turns import median_seconds, parser_of  # noqa: E402
from parameters import get_options  # noqa: E402
from utilities.allocator import keep_freed_memory  # noqa: E402
from utilities.cells import markdown  # noqa: E402

METHODS = {"SmoothAP": PLAIN, "full method": []}


def main() -> None:
    """Measure, and print the table."""
    opt = parser_of(__doc__, arch="timm.tf_efficientnet_lite0_normalize", image_size=128, bs=112,
                    rounds=5, threads=1).parse_args()
    keep_freed_memory()
    torch.set_num_threads(opt.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    common = ["--arch", opt.arch, "--image_size", str(opt.image_size), "--bs", str(opt.bs),
              "--not_pretrained"]
    options = get_options(common)
    width = training_network(options, device).feature_dim
    inputs = {"trained": images(options, device),
              "frozen": torch.randn(opt.bs, width, device=device)}
    tasks = {}
    for method, flags in METHODS.items():
        for way, rows in inputs.items():
            tasks[method, way] = method_step([*common, *flags], device, rows)[0]
    seconds = median_seconds(tasks, opt.rounds)
    rows = {}
    for method in METHODS:
        trained, frozen = (opt.bs / seconds[method, way] for way in inputs)
        rows[method] = {
            "backbone trained, images/s": f"{trained:,.0f}",
            "backbone frozen, images/s": f"{frozen:,.0f}",
            "ratio": f"{frozen / trained:,.0f}",
        }
    print(markdown(rows))


if __name__ == "__main__":
    main()
