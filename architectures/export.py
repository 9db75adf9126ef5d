"""A trained network for use elsewhere: `python -m architectures.export CHECKPOINT --format onnx`.

What is written is the embedder, backbone, projection and memory: an image goes in, a unit row comes
out. A folder holds the weights, `model.safetensors` or `model.onnx`; preprocess.py, which prepares
an image by Pillow and NumPy alone; and model.json: how images are prepared, names and shapes of
input and output, the flags, the metrics of the checkpoint, the classes that it was trained on and
those that it never saw, versions, and checksums.
"""
import math
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import architectures
import datasets
from architectures.backbones.features import width_of
from architectures.exported import DESCRIPTION, WEIGHTS, describe
from architectures.network import Network
from architectures.onnx import INPUT, OUTPUT, compare, other_side, write_onnx
from datasets.transforms import sides
from parameters import MACHINE
from utilities import checkpoint
from utilities.command_line import Parser, command_parser
from utilities.digest import sha256
from utilities.errors import RunError, UsageError, answer, reason
from utilities.files import remove, replacing
from utilities.logger import provenance, write_json
from utilities.metric_names import measured, reported
from utilities.optional import require

# Flags that are not exported.
PRIVATE = MACHINE | {"source_path", "weights", "log_online", "tensorboard", "project", "group"}
# What a user runs to prepare an image, without this program.
PREPROCESS = Path(datasets.__file__).with_name("preprocess.py")
STEPS = (
    "decode to 8-bit RGB, upright; bring the shorter side to `resize` pixels (bilinear with "
    "antialiasing, the longer side rounded down); cut the central square of `crop` pixels; put the "
    "channels in the order of `channels`; divide by 255, multiply by `value_range`; subtract "
    "`mean`, divide by `std`"
)


def load_export(folder: str | Path) -> tuple[Network, dict[str, Any]]:
    """The network of a safetensors export, in evaluation mode, and what its model.json says."""
    network, _ = architectures.restore(folder)
    return network.eval(), describe(folder)


def description(network: Network, state: dict[str, Any], form: str) -> dict[str, Any]:
    """What model.json says of the network in a checkpoint.

    The names and checksums of the files are added when these are written.
    """
    flags = {name: value for name, value in state["options"].items() if name not in PRIVATE}
    decoding = "off"
    if network.memory is not None:
        decoding = network.memory.decoding
        flags["memory_decode"] = decoding
    software = provenance({}, "cpu")
    return {
        "format": form,
        "arch": flags.get("arch"),
        "decoding": decoding,
        "input": {"name": INPUT, "dtype": "float32", "shape": ["N", 3, "H", "W"]},
        "output": {
            "name": OUTPUT,
            "dtype": "float32",
            "shape": ["N", network.embed_dim],
            "unit_rows": True,
        },
        "preprocessing": preprocessing(network, flags),
        "flags": flags,
        "metrics": metrics(state),
        "classes": classes(state),
        "versions": software["versions"],
        "commit": software["commit"],
    }


def preprocessing(network: Network, flags: dict[str, Any]) -> dict[str, Any]:
    """How an image becomes the input, in numbers and in words."""
    size = flags.get("image_size") or network.image_size
    side = sides(size, flags.get("crop_size"), flags.get("augmentation") or "base")
    geometry = {"image_size": size, "resize": side.resize, "crop": side.input}
    return geometry | network.preprocessing | {"steps": STEPS}


def metrics(state: dict[str, Any]) -> dict[str, Any]:
    """The metrics of exactly these weights; None where the checkpoint has none.

    `best`: the metrics by which these weights are the best of their run so far, and on which
    classes that was decided.
    """
    progress = state.get("progress") or {}
    history = state.get("history") or [{}]
    row = history[-1]
    if row.get("step", -1) != progress.get("step"):
        row = {}
    options = state["options"]
    names = reported(options.get("evaluation_metrics", []), options.get("eval_context"))
    splits = {"val": "validation_classes", "test": "test_classes"}
    best = {
        name: splits[entry["chosen_on"]]
        for name, entry in state.get("best", {}).items()
        if entry["epoch"] == row.get("epoch")
    }
    return {
        "test_classes": _finite(measured(row, names)),
        "validation_classes": _finite(measured(row, names, "val_")),
        "epoch": progress.get("epoch"),
        "step": progress.get("step"),
        "best": best,
    }


def _finite(row: dict[str, float]) -> dict | None:
    """The numbers; NaN and infinity, which JSON does not have, are None."""
    return {name: value if math.isfinite(value) else None for name, value in row.items()} or None


def classes(state: dict[str, Any]) -> dict[str, list[str] | None]:
    """The names of the classes by split; None where an older checkpoint does not say."""
    named = state.get("classes") or {}
    trained = named.get("train")
    tested = named.get("test")
    # with --train_on_all they may be the same
    if trained and tested:
        tested = [name for name in tested if name not in set(trained)]
    return {
        "trained_on": trained,
        "validated_on": named.get("val"),
        "never_seen": tested,
    }


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write to, which has its name only when it is whole; none is overwritten."""
    if out.exists():
        raise UsageError(
            f"{out} is there already and is never overwritten; name another folder by --out."
        )
    try:
        with replacing(out) as temporary:
            # Of a call that was killed.
            remove(temporary)
            temporary.mkdir(parents=True)
            yield temporary
    except OSError as error:
        raise RunError(
            f"{out} cannot be written ({reason(error)}); free space, or name another folder by "
            "--out."
        ) from None


def _as_safetensors(network: Network, content: dict[str, Any], path: Path) -> str:
    """The state dict of a network, in a file that holds nothing but tensors."""
    require("--format safetensors", "safetensors")
    from safetensors.torch import save

    side = content["preprocessing"]["crop"]
    if not other_side(network, side):
        content["input"]["shape"] = ["N", 3, side, side]
    # the format refuses tensors that share memory
    tensors = {name: tensor.clone().contiguous() for name, tensor in network.state_dict().items()}
    path.write_bytes(save(tensors))
    return "architectures.export.load_export, evaluation.embed and evaluation.search read it."


def _as_onnx(network: Network, content: dict[str, Any], path: Path) -> str:
    side = content["preprocessing"]["crop"]
    shape = write_onnx(network, side, path)
    worst = compare(network, path, shape, side)
    content["input"]["shape"] = shape
    content["largest_difference"] = worst
    if worst is None:
        return (
            "It was not compared with the network: pip install onnxruntime, and export again."
        )
    return (
        f"Embeddings by onnxruntime are within {worst:.0e} of the network's, for batches of 1 and "
        "of 7."
    )


WRITERS = {"safetensors": _as_safetensors, "onnx": _as_onnx}


def run(opt: Namespace) -> None:
    """Export one checkpoint."""
    path = Path(opt.checkpoint)
    network, options = architectures.restore(path)
    if width_of(options["arch"]):
        raise UsageError(
            f"{path} is a head on features and takes no images, as an exported model does: "
            f"python -m evaluation.embed {path} FILE.npy puts features through it."
        )
    if network.memory is not None and network.memory.decoding == "sample":
        network.memory.decoding = "mode"
        print(
            "--memory_decode sample draws by an image's number, which no file can know: exported "
            "to decode the mode."
        )
    out = Path(opt.out or path.with_name(f"{path.stem}-{opt.format}"))
    content = description(network, checkpoint.load(path), opt.format)
    with new_folder(out) as folder:
        weights = folder / WEIGHTS[opt.format]
        remark = WRITERS[opt.format](network, content, weights)
        size = weights.stat().st_size
        content["weights"] = {"file": weights.name, "bytes": size, "sha256": sha256(weights)}
        content["checkpoint"] = {"file": path.name, "sha256": sha256(path)}
        write_json(folder / DESCRIPTION, content)
        (folder / PREPROCESS.name).write_bytes(PREPROCESS.read_bytes())
    print(
        f"{out}: {weights.name} ({size / 2**20:.1f} MiB), {DESCRIPTION} and {PREPROCESS.name}. "
        f"{remark}"
    )


def build_parser() -> Parser:
    """The flags of the command."""
    description = "Write the embedder of a checkpoint for use elsewhere."
    parser = command_parser("architectures.export", description)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="last.pt or best_*.pt of a run")
    parser.add_argument(
        "--format",
        required=True,
        choices=list(WEIGHTS),
        help="safetensors: the weights, for this code. "
        "onnx: the whole computation, for any ONNX runtime.",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="Where to write; default: beside the checkpoint, under its name and the format's.",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when all went well, 2 for wrong usage, 1 for a failure while running."""
    opt = build_parser().parse_args(argv)
    return answer("architectures.export", lambda: run(opt), debug=opt.debug)


if __name__ == "__main__":
    sys.exit(main())
