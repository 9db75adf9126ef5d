"""What is refused before data are read: parts that cannot be built, batches without pairs.

Data and weights may take minutes. So the parts of the method are tried out before there are any,
with a few classes and a narrow feature.
"""
from types import SimpleNamespace

import architectures
from architectures.memory import select as select_memory
from batchminer.base import Miner
from criteria import CRITERIA
from criteria.method import LMMetric
from parameters import kwargs_for
from training.building import build_method, build_miner
from utilities.choices import loss_names
from utilities.errors import UsageError
from utilities.ranges import NO_PROJECTION
from utilities.rules import LENGTHS, has_length_term, has_unit_rows
from utilities.text import counted

# whose papers compare rows of any length, or make unit rows themselves
ANY_LENGTH = (*LENGTHS, "proxynca")
FEW_CLASSES = 4
NARROW = 64


def refuse_settings(opt) -> None:
    """A UsageError for a part that cannot be built, or batches from which it learns nothing."""
    architectures.check_name(opt.arch)
    if opt.embed_dim == NO_PROJECTION:
        # the width of everything follows from the backbone
        network = architectures.assemble(vars(opt), pretrained=False)
    else:
        network = SimpleNamespace(feature_dim=opt.relation_hidden or NARROW, embed_dim=opt.embed_dim)
        select_memory(opt.memory, opt.embed_dim, **kwargs_for(opt, "memory_"))
    method = build_method(opt, network, FEW_CLASSES)
    if opt.n_epochs:
        refuse_batches(opt, method, build_miner(opt))


def note_warmup(opt) -> None:
    """Say where the backbone never trains, as with the warm-up of a recipe in a short run."""
    if not opt.freeze and 0 < opt.n_epochs <= opt.warmup_epochs:
        print(f"note: with --warmup_epochs {opt.warmup_epochs} none of the {counted(opt.n_epochs, 'epoch')} trains the "
              "backbone; pass --warmup_epochs 0 for one that does.")


def note_lengths(opt) -> None:
    """Say where a loss that is published for unit rows gets others, or the other way round."""
    loss = loss_names(vars(opt))[-1]
    if loss in CRITERIA and loss not in ANY_LENGTH and not has_unit_rows(opt.arch):
        print(f"note: --arch {opt.arch} gives --loss {loss} rows of any length; {opt.arch}_normalize "
              "gives the unit rows that it is published for.")
    if has_length_term(vars(opt)) and has_unit_rows(opt.arch):
        print(f"note: --loss {loss} has a term of the rows' length, which is constant on the unit rows of --arch "
              f"{opt.arch}; pass an --arch without _normalize and --relation none --memory none --pair_weighting "
              "uniform to train it as published.")


def refuse_batches(opt, method: LMMetric, miner: Miner | None) -> None:
    """A UsageError where no batch holds the pairs that the loss, or the policy's reward, needs.

    A cross-batch memory and proxies of the classes bring further pairs to the loss.
    """
    more_pairs = opt.xbm_size or opt.proxies_weight or not method.base.compares_images
    if more_pairs and not method.learns:
        return
    images = 2
    classes = 3 if method.base.needs_quadruplets else 2
    if miner and miner.positive_class == miner.negative_class == "same":
        images = 3
        classes = 3 if method.base.needs_quadruplets else 1 + method.learns
    least = f"--loss {opt.loss} learns from {images} images of a class and {classes} classes or more"
    if method.learns:
        least += ", and the policy from average precision within a batch"
    if opt.bs < images + classes - 1:
        raise UsageError(f"--bs {opt.bs}: {least}; pass --bs {images * classes} or more.")
    drawn = opt.bs // opt.samples_per_class
    if opt.data_sampler != "random" and (opt.samples_per_class < images or drawn < classes):
        drawn_images = f"{counted(opt.samples_per_class, 'image')} each"
        each = max(images, opt.samples_per_class)
        size = each * max(classes, opt.bs // each)
        raise UsageError(
            f"--bs {opt.bs} and --samples_per_class {opt.samples_per_class} make batches of "
            f"{counted(drawn, 'class')} with {drawn_images}, but {least}; "
            f"pass --bs {size} --samples_per_class {each}."
        )
