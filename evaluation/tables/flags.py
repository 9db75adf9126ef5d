"""Which flags make a row of a table, and how it is named."""
from typing import Any

from evaluation.run_files import Run
from utilities.text import printable

# where a run wrote, how it was computed and watched, and what was drawn
NOT_PART_OF_THE_ROW = (
    "seed", "save_path", "savename", "gpu", "device", "kernels", "debug", "log_every", "eval_every",
    "source_path", "repeat", "tensorboard", "log_online", "project", "group", "resume",
    "checkpoint_minutes", "cache_path", "decode", "evaluate_only", "json", "evaluation_metrics",
    "storage_metrics", "evaluate_on_gpu", "search_backend", "search_precision", "eval_block",
    "eval_bootstrap", "eval_per_class", "figures", "map_images", "map_thumbnails",
    "explorer_images", "compile", "channels_last", "deterministic", "weights_dir", "list",
    "timeout_minutes",
)

# switches that older runs do not have, and what goes with them
NEWER = {
    "eval_context": ("eval_context", "eval_context_power"),
    "freeze": ("freeze", "freeze_views"),
    "train_on_all": ("train_on_all",),
}


def row_flags(flags: dict[str, Any],
              left_out: tuple[str, ...] = NOT_PART_OF_THE_ROW) -> dict[str, Any]:
    """The flags that are set and make a row.

    The folder of the images is one of them where nothing else names the data. Where a cache lies
    changes no pixel.
    """
    if flags.get("dataset") in ("image_folder", "embeddings"):
        left_out = tuple(name for name in left_out if name != "source_path")
    for switch, names in NEWER.items():
        if not flags.get(switch):
            left_out += names
    if flags.get("cache") in ("ram", "disk"):
        flags = flags | {"cache": "kept"}
    return {name: value for name, value in flags.items()
            if value is not None and name not in left_out}


def run_name(run: Run) -> str:
    """The savename without the seed."""
    flags = run.flags
    name = str(flags.get("savename") or f"{flags.get('recipe')}-{flags.get('loss')}")
    return printable(name.removesuffix(f"-s{flags['seed']}"))
