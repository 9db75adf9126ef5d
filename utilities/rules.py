"""Which flags of main.py cannot work together, rule by rule.

The rules look at the parsed flags alone and import no room: a wrong command is refused before torch
is loaded. What a reward, memory or sampler takes is read from its source: a new one needs no rule.
"""
import os
import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from utilities.choices import BESIDE, belongs, benchmarks, benchmarks_in, loss_names, registry, takers
from utilities.metric_names import CONTEXT, reported
from utilities.ranges import NO_PROJECTION
from utilities.registry import lookup
from utilities.text import printable

# Flags, and when they have no effect. A name with _ at its end: all flags that begin with it.
#   with --flag           the flag is given
#   with --flag VALUE     the flag has this value
#   without --flag        the flag is off
#   unless --flag VALUES  the flag has none of these values
NO_EFFECT = (
    ("cache_", "with --cache none"),
    ("cache_path", "with --cache ram"),
    ("cache_side compile warmup_epochs frozen_bn_affine", "with --freeze"),
    ("context_", "with --relation none"),
    ("data_mb_", "with --data_storage_no_update"),
    ("eval_context_power", "with --eval_context 0"),
    ("freeze_views", "without --freeze"),
    ("freeze_views", "with --augmentation none"),
    ("glyphs_", "unless --dataset glyphs"),
    ("image_size crop_size augmentation cache input_ kernels", "with --dataset embeddings"),
    ("pooling feature_norm not_pretrained weights weights_dir freeze warmup_epochs amp compile channels_last",
     "with --dataset embeddings"),
    ("frozen_bn_affine", "with --dataset embeddings"),
    ("json", "without --evaluate_only"),
    ("lr_min", "unless --scheduler cosine"),
    ("map_ explorer_ eval_per_class", "without --figures"),
    ("map_thumbnails", "with --map_images 0"),
    ("memory_decode memory_samples memory_temperature memory_gradient memory_condition memory_couplings",
     "with --memory none"),
    ("memory_hidden memory_levels memory_steps memory_channels memory_target memory_weight memory_nll memory_lr",
     "with --memory none"),
    ("memory_dual memory_dual_loss", "with --relation none"),
    ("memory_dual_loss", "with --memory_dual none"),
    ("memory_gradient", "unless --memory_dual decoded"),
    ("memory_gradient", "with --memory_decode off"),
    ("memory_samples", "unless --memory_decode mean"),
    ("memory_temperature", "unless --memory_decode mean sample"),
    ("momentum", "unless --optim sgd rmsprop"),
    ("nesterov", "unless --optim sgd"),
    ("policy_ pair_weight_on", "with --pair_weighting uniform"),
    ("policy_constant", "unless --pair_weighting constant"),
    ("policy_samples policy_baseline policy_reward policy_step policy_entropy_bonus policy_act policy_lr policy_init"
     " policy_input policy_state policy_mix", "unless --pair_weighting learned shuffled"),
    ("policy_levels policy_largest", "with --pair_weighting constant"),
    ("policy_mix", "unless --policy_granularity anchor"),
    ("policy_state", "with --policy_input statistics"),
    ("project group", "without --log_online"),
    ("projection_init", "with --checkpoint"),
    ("projection_init", "with --embed_dim none"),
    ("proxies_", "with --proxies_weight 0"),
    ("relation_", "with --relation none"),
    ("tau gamma", "unless --scheduler step multistep"),
    ("tensorboard log_online repeat resume compile figures", "with --evaluate_only"),
    ("map_ explorer_ eval_per_class", "with --evaluate_only"),
    ("test_by_images", "without --train_on_all"),
    ("tv_split_", "without --use_tv_split"),
    ("weights_dir", "with --checkpoint"),
    ("weights_dir", "with --weights"),
    ("weights_dir", "with --not_pretrained"),
    ("xbm_", "with --xbm_size 0"),
)
# Prefix of flags, and the flag that chooses the class whose arguments they may be.
ARGUMENTS = (
    ("data_", "data_sampler"),
    ("memory_", "memory"),
    ("policy_", "policy_action"),
    ("policy_", "policy_reward"),
    ("relation_", "relation"),
)
# Losses with a term of the rows' length, which says nothing of unit rows, and the flag of its weight.
LENGTHS = {"angular": "loss_angular_npair_l2", "lifted": "loss_lifted_l2", "npair": "loss_npair_l2"}
# Bytes of a number, and of the largest tensor that is tried.
FLOAT = 4
MOST = 2**40
# Numbers of a feature whose backbone has not been built, as ResNet-50's.
USUAL_FEATURE = 2048
# Flags whose value is a name of a registry, and what the registry holds.
NAMES = {
    "arch": "backbone",
    "batch_mining": "miner",
    "data_sampler": "batch sampler",
    "dataset": "data set",
    "loss": "criterion",
    "memory": "memory",
}


# files and folders that are read
PLACES = ("resume", "checkpoint", "weights", "weights_dir", "source_path")


def problems(opt: Namespace, explicit: dict) -> Iterator[str]:
    """One sentence for everything that cannot work; `explicit`: the flags of the command line."""
    check_names(opt)
    idle: dict[str, list[str]] = {}
    for flag, value in explicit.items():
        if reason := why_idle(flag, opt):
            idle.setdefault(reason, []).append(f"--no-{flag}" if value is False else f"--{flag}")
    for reason, flags in idle.items():
        yield f"{', '.join(flags)} {'has' if len(flags) == 1 else 'have'} no effect {reason}"
    for flag in PLACES:
        if explicit.get(flag) == "":
            yield f"--{flag} has no value (is a variable of the shell not set?): give it one, or leave it out"
    yield from problems_of_run(opt, explicit)
    yield from problems_of_source(opt, explicit)
    yield from problems_of_images(opt)
    yield from problems_of_batches(opt)
    yield from problems_of_method(opt)
    for what, numbers in sizes(opt).items():
        if FLOAT * numbers > MOST:
            yield f"{what} would take {FLOAT * numbers / MOST:,.0f} TiB: pass smaller numbers"


def sizes(opt: Namespace) -> dict[str, int]:
    """The largest tensors, each with how many numbers it has."""
    side = opt.crop_size or opt.image_size or 1
    dim = USUAL_FEATURE if opt.embed_dim == NO_PROJECTION else opt.embed_dim
    sizes = {
        f"a batch of --bs {opt.bs} images of {side} x {side} pixels": 3 * opt.bs * side**2,
        f"--policy_samples {opt.policy_samples} with --bs {opt.bs}": (
            opt.policy_samples * opt.bs**2 if opt.pair_weighting != "uniform" else 0
        ),
        f"--xbm_size {opt.xbm_size}": opt.xbm_size * max(opt.bs, dim),
    }
    if opt.memory == "glow":
        steps = opt.memory_levels * opt.memory_steps
        channels = opt.memory_channels
        sizes[f"--memory_channels {channels}"] = steps * 9 * channels * (channels + dim)
    if opt.memory == "realnvp":
        width = opt.memory_hidden
        sizes[f"--memory_hidden {width}"] = opt.memory_couplings * width * (width + dim)
    if opt.memory_decode == "mean":
        draws = opt.memory_samples
        sizes[f"--memory_samples {draws}"] = draws * opt.bs * dim
    if opt.loss == "adversarial_separation":
        parts = opt.loss_adversarial_separation_parts
        hidden = opt.loss_adversarial_separation_hidden
        sizes[f"--loss_adversarial_separation_parts {parts}"] = parts * hidden * dim
    return sizes


def check_names(opt: Namespace) -> None:
    """A UsageError with the closest name for an unknown one; names with a dot are checked later."""
    for flag, kind in NAMES.items():
        name = getattr(opt, flag)
        if flag == "arch":
            name = re.sub(r"(_frozen|_normalize)+$", "", name)
        if "." not in name:
            lookup(registry(flag) | BESIDE.get(flag, {}), name, kind, f"--{flag}")


def why_idle(flag: str, opt: Namespace) -> str | None:
    """The first reason why a flag has no effect with the others, such as "with --evaluate_only"; or None."""
    return next(filter(None, reasons_of_no_effect(flag, opt)), None)


def reasons_of_no_effect(flag: str, opt: Namespace) -> Iterator[str | None]:
    """Each reason why a flag has no effect, or None in its place."""
    yield of_another_class(flag, opt, "loss_", "loss", loss_names(vars(opt)))
    yield of_another_class(flag, opt, "miner_", "batch_mining", [opt.batch_mining])
    for names, condition in NO_EFFECT:
        if stands_for(names, flag) and f"--{flag}" not in condition.split():
            yield reason_of(condition, opt)
    for prefix, switch in ARGUMENTS:
        if flag.startswith(prefix):
            yield not_an_argument(flag.removeprefix(prefix), opt, switch)
    if flag == "frozen_bn_affine" and "_frozen" not in opt.arch:
        yield f"with --arch {opt.arch}: pass --arch {opt.arch}_frozen"
    if flag == "data_mb_lr" and opt.data_mb_mom < 0:
        yield "without --data_mb_mom"


def stands_for(names: str, flag: str) -> bool:
    """Whether a flag is one of the names, or begins with one that ends in _."""
    prefixes = tuple(name for name in names.split() if name.endswith("_"))
    return flag in names.split() or flag.startswith(prefixes)


def reason_of(condition: str, opt: Namespace) -> str | None:
    """A condition of NO_EFFECT, in the words of these flags; None where it does not hold."""
    word, switch, *values = condition.split()
    value = getattr(opt, switch.removeprefix("--"))
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    if word == "unless":
        return None if shown in values else f"with {switch} {shown}"
    holds = shown in values if values else bool(value)
    return condition if holds == (word == "with") else None


def of_another_class(
    flag: str, opt: Namespace, prefix: str, switch: str, chosen: list[str]
) -> str | None:
    """The reason where a flag is an argument of a loss or miner that is not the chosen one."""
    if not flag.startswith(prefix) or any(belongs(flag, f"{prefix}{name}_") for name in chosen):
        return None
    return f"with --{switch} {getattr(opt, switch)}"


def not_an_argument(argument: str, opt: Namespace, switch: str) -> str | None:
    """The reason where another class of the registry takes this argument, the chosen one not."""
    chosen = getattr(opt, switch)
    names = takers(switch, argument)
    if not names or chosen in names or chosen not in registry(switch):
        return None
    return f"with --{switch} {chosen}"


def problems_of_run(opt: Namespace, explicit: dict) -> Iterator[str]:
    """Where a run starts, its schedule and what it measures."""
    if "repeat" in explicit and opt.resume:
        yield "--repeat starts a run and --resume continues one: pass one of them"
    if opt.evaluate_only and not opt.checkpoint:
        yield "--evaluate_only needs --checkpoint FILE"
    if opt.train_on_all:
        yield from problems_of_all_classes(opt)
    if opt.savename and not is_folder_name(opt.savename):
        yield (f"--savename {printable(opt.savename)} is not the name of a folder: pass one without "
               "slashes; --save_path says where it lies")
    if "timeout_minutes" in explicit and int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield "--timeout_minutes has no effect without other processes, as torchrun starts them"
    if opt.gpu and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        yield ("--gpu has no effect with torchrun, which gives each process its own: set CUDA_VISIBLE_DEVICES to "
               "the GPUs to use")
    if opt.gpu and (len(opt.gpu) > 1 or opt.device == "cpu"):
        yield "--gpu takes the number of one GPU, and none with --device cpu"
    if explicit.get("weights") and (explicit.get("not_pretrained") or opt.checkpoint):
        other = "--checkpoint" if opt.checkpoint else "--not_pretrained"
        yield f"--weights and {other} both say what the backbone starts from: pass one of them"
    if opt.nesterov and not opt.momentum:
        yield "--nesterov looks ahead along the momentum: pass --momentum, such as 0.9"
    if opt.lr_warmup_epochs and opt.lr_warmup_epochs >= opt.n_epochs:
        yield (f"--lr_warmup_epochs {opt.lr_warmup_epochs:g} leaves no epoch at the full rate: "
               f"pass less than --n_epochs {opt.n_epochs}")
    if opt.search_precision == "half" and opt.search_backend == "faiss":
        yield "--search_precision half is torch's: pass --search_backend torch or auto"
    known = reported(opt.evaluation_metrics, opt.eval_context)
    is_chosen = "storage_metrics" in explicit or not opt.evaluate_only
    for name in opt.storage_metrics if is_chosen else ():
        if name not in known:
            yield (f"--storage_metrics {name} is not among --evaluation_metrics ({CONTEXT} metrics "
                   "need --eval_context too)")


def problems_of_all_classes(opt: Namespace) -> Iterator[str]:
    """What needs classes or images outside of training, where all classes train."""
    if opt.evaluate_only and not opt.test_by_images:
        yield ("--evaluate_only has no images to test on with --train_on_all: pass --no-train_on_all "
               "for the data set's own test classes")
    if opt.use_tv_split and not (opt.tv_split_by_samples or opt.evaluate_only):
        yield ("--use_tv_split takes classes out of training, and --train_on_all trains on all: pass "
               "--tv_split_by_samples too, which takes images of every class")


def problems_of_source(opt: Namespace, explicit: dict) -> Iterator[str]:
    """A folder of images without the name of its data set, which must not become the built-in's."""
    named = any(flag == "dataset" or flag.startswith("glyphs_") for flag in explicit)
    continued = opt.repeat or opt.evaluate_only or opt.resume not in (None, "auto")
    if named or "source_path" not in explicit:
        return
    if continued and (opt.dataset != "glyphs" or takes_glyphs(Path(opt.source_path))):
        return
    found = benchmarks_in(opt.source_path)
    if opt.dataset in found or not found and opt.dataset != "glyphs":
        return
    known = found or ["image_folder", *benchmarks()]
    content = f"holds {' and '.join(found)}" if found else "does not say what it holds"
    yield (f"--source_path {opt.source_path} {content}: pass --dataset {' or '.join(known)}; for a "
           "command of the base framework add --recipe revisiting, whose data set is cub200")


def takes_glyphs(folder: Path) -> bool:
    """Whether the built-in data set may be drawn there: nothing else is, or it is there already."""
    return not folder.is_dir() or not any(folder.iterdir()) or any(folder.glob("glyphs-*"))


def is_folder_name(name: str) -> bool:
    """Whether a folder of this name lies in the folder where it is made, on any system."""
    return name not in (".", "..") and not set(name) & set("/\\\0")


def problems_of_images(opt: Namespace) -> Iterator[str]:
    """Where images come from, and their size."""
    takes_rows = re.match(r"features(\.|_|$)", opt.arch) is not None
    network = f"--checkpoint {opt.checkpoint}" if opt.evaluate_only else f"--arch {opt.arch}"
    if opt.dataset == "embeddings" and not takes_rows:
        cure = "give images" if opt.evaluate_only else "leave --arch out"
        yield f"{network} takes images, and --dataset embeddings has features in their place: {cure}"
    elif opt.dataset != "embeddings" and takes_rows:
        yield f"{network} takes features: pass --dataset embeddings --source_path FILE.npy"
    if opt.dataset != "glyphs" and not opt.source_path:
        yield f"--dataset {opt.dataset} needs --source_path FOLDER, where your images are"
    if opt.freeze and opt.pooling == "gem":
        yield "--pooling gem learns its power, which --freeze cannot: pass --pooling avg"
    if not opt.crop_size:
        return
    if not opt.image_size:
        yield ("--crop_size needs --image_size, the shorter side that the crop is cut from: "
               "pass both, such as --image_size 256 --crop_size 224")
    elif opt.crop_size > opt.image_size:
        yield (f"--crop_size {opt.crop_size} cannot be cut from --image_size {opt.image_size}: "
               "pass at most that")
    if opt.augmentation == "big":
        yield ("--augmentation big chooses the crop itself, 256/224 of --image_size: "
               "pass no --crop_size, or --augmentation base")


def problems_of_batches(opt: Namespace) -> Iterator[str]:
    """Batches, their samplers and miners."""
    drawn = opt.data_sampler != "random" and not opt.evaluate_only
    if drawn and opt.bs % opt.samples_per_class:
        classes = max(1, opt.bs // opt.samples_per_class)
        yield (f"--bs {opt.bs} is not a multiple of --samples_per_class {opt.samples_per_class}: "
               f"choose, for example, --bs {classes * opt.samples_per_class}")
    if opt.data_mb_mom >= 1:
        yield f"--data_mb_mom {opt.data_mb_mom:g} never forgets: pass less than 1"
    if opt.batch_mining == "parametric" and not opt.use_tv_split:
        yield "--batch_mining parametric learns from validation classes: pass --use_tv_split"
    if opt.batch_mining == "parametric" and opt.xbm_size:
        yield ("--batch_mining parametric adapts to one batch and cannot serve a cross-batch "
               "memory: pass --xbm_size 0")
    own = (opt.memory_dual != "none" and opt.memory_dual_loss == "own") or opt.context_loss_weight
    trains = not opt.evaluate_only  # what an older version has trained can be evaluated
    if trains and opt.batch_mining == "parametric" and opt.relation != "none" and own:
        yield ("--batch_mining parametric adapts the triplets of one loss: pass --memory_dual_loss shared "
               "and --context_loss_weight 0")


def problems_of_method(opt: Namespace) -> Iterator[str]:
    """Relation, policy and memory."""
    learned = opt.pair_weighting in ("learned", "shuffled")
    if opt.embed_dim == NO_PROJECTION:
        yield from problems_without_projection(opt)
    if opt.relation == "none" and opt.memory != "none":
        yield "--memory has no context to learn with --relation none: pass --memory none"
    if opt.context_norm == "batch" and opt.relation != "none" and opt.bs < 2 and not opt.evaluate_only:
        yield "--context_norm batch standardises over a batch of two images or more: pass --bs 2 or more"
    if opt.relation == "none" and learned and opt.policy_input != "statistics":
        yield "--policy_input state needs a relation: pass --policy_input statistics"
    if opt.pair_weighting == "constant" and opt.policy_constant is None:
        yield "--pair_weighting constant needs --policy_constant POSITIVE NEGATIVE, such as 5 20"
    factor = opt.policy_action == "weight" and opt.policy_scale == "mean"
    if opt.pair_weighting == "constant" and factor and not opt.evaluate_only:
        yield ("--pair_weighting constant has no effect with --policy_action weight, since a constant divided by "
               "its mean is one: pass --policy_scale none")
    if opt.policy_action == "weight" and min(opt.policy_constant or [0]) < 0:
        yield "--policy_constant holds factors with --policy_action weight: pass none below 0"
    if needs_unit_rows(vars(opt)) and not has_unit_rows(opt.arch):
        yield (f"--loss {opt.loss} has a term of the rows' length, while relation, pair weights "
               "and memory work on unit rows: pass --relation none --memory none --pair_weighting "
               "uniform (or --recipe revisiting), or another --loss")


def problems_without_projection(opt: Namespace) -> Iterator[str]:
    """Training of new layers that are not there."""
    if opt.warmup_epochs:
        yield ("--warmup_epochs trains the projection alone, which --embed_dim none leaves out: pass "
               "--warmup_epochs 0")
    if opt.dataset == "embeddings" and opt.n_epochs and opt.memory == "none":
        yield ("--dataset embeddings with --embed_dim none leaves nothing to train: pass --n_epochs 0 to "
               "evaluate the rows, or --embed_dim D to train a projection")
    if opt.freeze and opt.n_epochs and opt.memory == "none":
        yield ("--freeze with --embed_dim none leaves nothing of the network to train: pass "
               "--n_epochs 0 to evaluate the backbone, or --embed_dim D to train a projection")


def has_unit_rows(arch: str) -> bool:
    """Whether an architecture gives the loss unit rows."""
    return arch.endswith(("_normalize", "_normalize_frozen"))


def needs_unit_rows(flags: dict) -> bool:
    """Whether parts of the method work on unit rows."""
    return flags.get("relation") != "none" or flags.get("pair_weighting") != "uniform"


def has_length_term(flags: dict) -> bool:
    """Whether the loss has a term of the rows' length under these flags; its weights have a default."""
    weight = LENGTHS.get(loss_names(flags)[-1])
    is_left_out = weight == LENGTHS["angular"] and flags.get("loss_angular_angular_only")
    return weight is not None and not is_left_out and flags.get(weight) != 0


def completed(flags: dict) -> str:
    """`--arch` with the suffix that the method needs; as it is typed for a loss of row lengths."""
    arch = flags["arch"]
    if has_unit_rows(arch) or not needs_unit_rows(flags) or has_length_term(flags):
        return arch
    return f"{arch}_normalize"
