"""The parts of a run, each built from its flags."""
from collections.abc import Callable
from functools import partial
from itertools import chain

import torch
from torch import nn

import architectures
import batchminer
import criteria
import datasets
from architectures.backbones.features import with_width
from architectures.network import Network
from architectures.weights import flags_beside, load_file
from batchminer.base import Miner
from criteria.base import Criterion
from criteria.method import (
    RELATIONS,
    REWARDS,
    WEIGHTINGS,
    ClassProxies,
    CrossBatchMemory,
    LMMetric,
    MemoryTarget,
    Policy,
    PolicyTraining,
    SecondLoss,
)
from criteria.method.relation import Relation
from datasets import make_loader, samplers, transforms
from datasets.cache import ImageCache, open_cache
from datasets.loader import Loader
from datasets.rows import file_loader
from evaluation.ranking import check_neighbours
from parameters import kwargs_for, loss_arguments
from training import restored, resume
from training.ema import AveragedWeights
from training.frozen import frozen_loader
from training.guard import FiniteGuard
from training.optimisation import Optimisation, Schedule, build_optimizer, parameter_groups
from training.records import STEPS, StepRecorder
from training.run import Run
from training.same_images import data_record
from training.trackers import Trackers
from utilities import checkpoint, distributed
from utilities.choices import loss_names
from utilities.errors import UsageError
from utilities.logger import RunFolder
from utilities.registry import accepted


def read_splits(opt) -> datasets.Splits:
    """The images of the data set, with validation images taken out of the training half where that is asked for."""
    splits = datasets.select(opt.dataset, opt.source_path, training=not opt.evaluate_only,
                             train_on_all=opt.train_on_all, test_by_images=opt.test_by_images,
                             **kwargs_for(opt, f"{opt.dataset}_"))
    asked = opt.use_tv_split and not opt.evaluate_only
    if asked and splits.val:
        print("note: the table names validation images, so that --use_tv_split takes none from the training images.")
    elif asked:
        train, val = datasets.split_validation(splits.train, opt.tv_split_perc, opt.tv_split_by_samples, opt.seed)
        splits = splits._replace(train=train, val=val)
    if opt.eval_context:
        refuse_context(opt, splits)
    if opt.dataset == "embeddings":
        settle_width(opt, splits.train.paths.file.values.shape[1])
    return splits


def settle_width(opt, width: int) -> None:
    """Put the width of the rows into --arch; a UsageError where the network to start from has another."""
    if opt.checkpoint and not resume.checkpoint_of(opt):
        with_width(str(checkpoint.load(opt.checkpoint)["options"].get("arch")), width)
    opt.arch = with_width(opt.arch, width)


def refuse_context(opt, splits: datasets.Splits) -> None:
    """A UsageError where what is evaluated has too few images for --eval_context."""
    collections = [splits.gallery or splits.test]
    if splits.val and not opt.evaluate_only:
        collections.append(splits.val)
    for images in filter(None, collections):
        check_neighbours(opt.eval_context, len(images.paths))


def prepared_network(opt, device: torch.device) -> Network:
    """The network with its first weights, on the device."""
    network = build_network(opt)
    resumed = resume.checkpoint_of(opt)
    if opt.checkpoint and not resumed:
        checkpoint.load_network(opt.checkpoint, network, vars(opt))
    # its features are computed before the rest of the run's state is loaded
    if opt.freeze and resumed:
        checkpoint.load_network(resumed, network, vars(opt))
    if opt.dataset != "embeddings":
        settle_sizes(opt, network)
    network.to(device, memory_format=torch.channels_last if opt.channels_last else torch.contiguous_format)
    if distributed.world() > 1 and device.type == "cuda":
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network


def build_network(opt) -> Network:
    """Backbone, projection and memory; weights are fetched or read only where no checkpoint replaces them."""
    replaced = opt.checkpoint or resume.checkpoint_of(opt)
    own = None if replaced else opt.weights
    if own:
        vars(opt).update(flags_beside(own, vars(opt)))
    network = architectures.assemble(vars(opt), weights_dir=opt.weights_dir, frozen_affine=opt.frozen_bn_affine,
                                     pretrained=not (opt.not_pretrained or opt.weights or replaced))
    if own:
        print(load_file(network.backbone, own, opt.arch))
    return network


def settle_sizes(opt, network: Network) -> None:
    """The sizes that follow from the network where the command line names none, so that options.json holds them."""
    opt.image_size = opt.image_size or network.image_size
    side = transforms.sides(opt.image_size, opt.crop_size, opt.augmentation).input
    if opt.cache != "none":
        opt.cache_side = opt.cache_side or transforms.cache_side(side)
        if opt.cache_side < side:
            raise UsageError(f"--cache_side {opt.cache_side} is less than the input's {side} pixels: pass at least "
                             f"--cache_side {side}.")
    architectures.check_side(network, opt.arch, side)


def build_method(opt, network: Network, n_classes: int) -> LMMetric:
    """Base criterion, relation and policy."""
    width = network.embed_dim
    base = build_criterion(opt, n_classes, width)
    miner = build_miner(opt)
    if base.needs_triplets and miner is None:
        raise UsageError(f"--loss {opt.loss} needs triplets: pass --batch_mining distance.")
    if miner and not base.needs_triplets:
        raise UsageError(f"--loss {opt.loss} compares the whole batch: pass --batch_mining none.")
    second_loss = None
    if opt.memory_dual_loss == "own":
        second_loss = build_second_loss(opt, n_classes, width)
    context_loss = None
    if opt.context_loss_weight and opt.relation != "none":
        context_loss = build_second_loss(opt, n_classes, width, opt.context_loss_weight)
    context_norm = None
    if opt.relation != "none" and opt.context_norm != "none":
        context_norm = nn.BatchNorm1d(width, affine=False)
    # --memory_weight is of nats per dimension
    memory_weight = opt.memory_weight * (width if opt.memory_nll == "sum" else 1)
    flags = kwargs_for(opt, "policy_")
    relation = build_relation(opt, network)
    policy = build_policy(opt, relation, flags) if opt.pair_weighting != "uniform" else None
    xbm = None
    if opt.xbm_size:
        xbm = CrossBatchMemory(base, width, miner=miner, **kwargs_for(opt, "xbm_"))
    proxies = ClassProxies(n_classes, width, **kwargs_for(opt, "proxies_")) if opt.proxies_weight else None
    memory_target = None if opt.memory_target == "own" else MemoryTarget(opt.memory_target, xbm)
    reward = REWARDS[opt.policy_reward]
    return LMMetric(base, relation, policy, pair_weighting=opt.pair_weighting, constant=opt.policy_constant,
                    reward=reward(**accepted(reward, flags)),
                    training=PolicyTraining(**accepted(PolicyTraining, flags)),
                    memory_weight=memory_weight,
                    memory_dual=opt.memory_dual, second_loss=second_loss, xbm=xbm, proxies=proxies,
                    context_norm=context_norm, context_loss=context_loss, memory_target=memory_target)


def build_criterion(opt, n_classes: int, width: int) -> Criterion:
    """The base criterion, for embeddings of this length."""
    # without weights their place would only say what the loss cannot take
    weight_on = "term" if opt.pair_weighting == "uniform" else opt.pair_weight_on
    return criteria.select(opt.loss, n_classes=n_classes, embed_dim=width, weight_on=weight_on,
                           **loss_arguments(opt))


def build_second_loss(opt, n_classes: int, width: int, weight: float = 1.0) -> SecondLoss:
    """The base criterion once more, with parameters and triplets of its own."""
    return SecondLoss(build_criterion(opt, n_classes, width), build_miner(opt), weight)


def build_relation(opt, network: Network) -> Relation | None:
    """How the images of a batch relate, or None."""
    if opt.relation == "none":
        return None
    relation = RELATIONS[opt.relation]
    flags = kwargs_for(opt, "relation_")
    known = accepted(Relation, flags) | accepted(relation, flags)
    return relation(network.feature_dim, network.embed_dim, seed=opt.seed, **known)


def build_policy(opt, relation: Relation | None, flags: dict) -> Policy:
    """The policy over pair weights, of the flags --policy_*."""
    weighting = WEIGHTINGS[opt.policy_action]
    state_dim = relation.state_dim if relation else 0
    return Policy(state_dim, weighting(**accepted(weighting, flags)), seed=opt.seed, **accepted(Policy, flags))


def build_miner(opt) -> Miner | None:
    """The miner, or None for losses over the whole batch.

    The base framework passes over a miner that its loss does not ask for, and so does its recipe.
    """
    criterion = criteria.class_of(loss_names(vars(opt))[-1])
    passed_over = opt.recipe == "revisiting" and not criterion.needs_triplets
    if opt.batch_mining == "none" or passed_over:
        return None
    miner = batchminer.select(opt.batch_mining, seed=opt.seed, **kwargs_for(opt, f"miner_{opt.batch_mining}_"))
    miner.second_negative = criterion.needs_quadruplets
    return miner


def build_optimisation(opt, network: Network, method: LMMetric, epoch_steps: int) -> Optimisation:
    """One optimizer over everything that trains, each part at its own rate, with schedule, clipping and averages."""
    flags = vars(opt)
    groups = parameter_groups(network, method, **accepted(parameter_groups, flags))
    optimizer = build_optimizer(groups, **accepted(build_optimizer, flags))
    schedule = Schedule(opt.scheduler, epoch_steps, opt.n_epochs, opt.tau, opt.gamma, opt.lr_min, opt.lr_warmup_epochs)
    trained = chain.from_iterable(group["params"] for group in groups)
    device = next((p.device.type for p in trained), "cpu")
    scaler = torch.amp.GradScaler(device, enabled=opt.amp == "fp16")
    return Optimisation(optimizer, schedule, scaler=scaler, grad_clip=opt.grad_clip,
                        average=AveragedWeights(network, opt.ema) if opt.ema else None)


def build_loaders(opt, splits, network: Network, device: torch.device) -> dict:
    """Loaders of train, val (where there is one) and test, and `storage` of all training images where the batch sampler
    chooses by their embeddings. With --evaluate_only those of test and its gallery alone."""
    # first, as it may refuse the flags, and a cache takes long to fill
    sampler = None if opt.evaluate_only else build_sampler(opt, splits, device)
    make = loader_maker(opt, splits, network)
    common = {"workers": opt.kernels, "seed": opt.seed, "device": device}
    geometry = {"image_size": opt.image_size or network.image_size, "crop_size": opt.crop_size,
                "augmentation": opt.augmentation}
    eval_transform = transforms.eval_transform(**geometry, **network.preprocessing)
    evaluated = {"test": splits.test, "gallery": splits.gallery}
    loaders = {}
    if sampler:
        train_transform = transforms.train_transform(**geometry, **network.preprocessing)
        loaders["train"] = make(splits.train, train_transform, batch_sampler=sampler, **common)
        evaluated["val"] = splits.val
        evaluated["storage"] = splits.train if sampler.needs_storage else None
    for name, images in evaluated.items():
        if images is not None:
            loaders[name] = make(images, eval_transform, batch_size=opt.bs, **common)
    return loaders


def loader_maker(opt, splits: datasets.Splits, network: Network) -> Callable[..., Loader]:
    """What makes the loaders: of images, of the features of a frozen backbone, or of a file's rows."""
    if opt.dataset == "embeddings":
        return file_loader
    if opt.freeze:
        return partial(frozen_loader, opt, network)
    return partial(make_loader, cache=build_cache(opt, splits))


def build_cache(opt, splits: datasets.Splits) -> ImageCache | None:
    """The decoded images that the run will need, or None."""
    cached = (splits.test, splits.gallery) if opt.evaluate_only and opt.cache == "ram" else splits
    paths = [path for images in cached if images for path in images.paths]
    return open_cache(opt.cache, paths, opt.cache_side, opt.cache_path, name=opt.dataset, workers=opt.kernels)


def build_sampler(opt, splits: datasets.Splits, device: torch.device) -> samplers.BatchSampler:
    """What makes the batches of training; says what it does where that is not plain."""
    make = partial(
        samplers.select,
        labels=splits.train.labels,
        samples_per_class=opt.samples_per_class,
        seed=opt.seed,
        rank=distributed.rank(),
        world=distributed.world(),
        epoch_steps=opt.steps_per_epoch,
        super_labels=splits.train.super_labels,
        device=device,
        **kwargs_for(opt, "data_"),
    )
    try:
        sampler = make(opt.data_sampler, bs=opt.bs)
    except UsageError:
        if opt.n_epochs:
            raise
        # no batch is drawn
        sampler = make("random", bs=distributed.world())
    if sampler.notice:
        print(sampler.notice)
    return sampler


def remove_later_best(run: Run) -> None:
    """Remove the best weights of epochs after the one from which the run continues, which come anew."""
    for name in run.opt.storage_metrics if run.folder else ():
        path = run.folder / f"best_{name}.pt"
        kept = run.progress.best.get(name, {}).get("epoch")
        if path.is_file() and checkpoint.load(path).get("progress", {}).get("epoch") != kept:
            print(f"note: {path.name} is of an epoch after the one from which the run continues, and is removed.")
            path.unlink()


def build_run(opt, splits: datasets.Splits, loaders: dict, network: Network, method: LMMetric,
              optimisation: Optimisation, device: torch.device, folder: RunFolder | None, state: dict | None) -> Run:
    """The run of these parts, new or at the state of a checkpoint."""
    step = restored.step_of(state, loaders["train"]) if state else 0
    trackers = None
    if folder:
        flags = accepted(Trackers, vars(opt))
        trackers = Trackers(folder.path, online=opt.log_online, flags=vars(opt), **flags)
    run = Run(
        opt=opt,
        splits=splits,
        loaders=loaders,
        network=network,
        method=method,
        miner=build_miner(opt),
        optimisation=optimisation,
        device=device,
        guard=FiniteGuard(lambda i: str(splits.train.paths[i])),
        data=data_record(splits),
        recorder=StepRecorder(device),
        folder=folder,
        trackers=trackers,
    )
    if state:
        restored.load(run, state)
        if folder and resume.checkpoint_of(opt).name != resume.LAST:
            # what comes after it is given up: a run that is killed from here on continues from it
            checkpoint.save(folder / resume.LAST, state)
        remove_later_best(run)
        print(f"Continuing at step {step}, in epoch {min(run.progress.epoch + 1, opt.n_epochs)} of {opt.n_epochs}.")
    if folder:
        run.recorder.write_to(folder / STEPS, after=step)
    return run
