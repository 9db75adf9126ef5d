"""What makes a step of a gradient: parameter groups, the optimizer, its rates, clipping and averaged weights."""
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from architectures.network import Network
from criteria.method import LMMetric
from training.ema import AveragedWeights
from utilities.groups import group


def parameter_groups(network: Network, method: LMMetric, *, lr: float, fc_lr: float = -1.0,
                     relation_lr: float = -1.0, memory_lr: float = -1.0,
                     policy_lr: float = 1e-2) -> list[dict]:
    """Named groups of the parameters that train, each in exactly one of them.

    Backbone at `lr`, new layers at `fc_lr` (negative: `lr`), memory and relation at rates of their
    own (negative: `fc_lr`), the criterion as it says itself, the policy at `policy_lr` without
    decay. A power that the pooling learns is at `fc_lr`, without decay, which would draw it to
    zero. A projection that relation and embedding share is the network's.
    """
    fc_lr = lr if fc_lr < 0 else fc_lr
    memory_lr = fc_lr if memory_lr < 0 else memory_lr
    relation_lr = fc_lr if relation_lr < 0 else relation_lr
    groups = [group("backbone", network.backbone.parameters(), lr)]
    new = list(network.projection.parameters())
    if new:
        groups.append(group("new", new, fc_lr))
    pooling = list(network.pooling.parameters())
    if pooling:
        groups.append(group("pooling", pooling, fc_lr, decays=False))
    if network.memory is not None:
        groups.append(group("memory", network.memory.parameters(), memory_lr))
    return groups + method.param_groups(fc_lr, relation_lr=relation_lr, policy_lr=policy_lr)


def build_optimizer(groups: list[dict], *, optim: str = "adam", decay: float = 0.0,
                    momentum: float = 0.9, nesterov: bool = False) -> torch.optim.Optimizer:
    """The optimizer called `optim`; fused into one kernel where torch has one (all but RMSprop)."""
    if optim == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, weight_decay=decay, fused=True)
    if optim == "rmsprop":
        return torch.optim.RMSprop(groups, momentum=momentum, weight_decay=decay)
    if optim == "adamw":
        return torch.optim.AdamW(groups, weight_decay=decay, fused=True)
    return torch.optim.Adam(groups, weight_decay=decay, fused=True)


@dataclass(frozen=True)
class Schedule:
    """rate(r, t) of step t from 1, for an initial rate r; n is the number of steps in an epoch.

    'step', 'multistep': r gamma^k, with k entries of `tau` among the epochs that have passed.
    'cosine': r (m + (1 - m) (1 + cos(pi p)) / 2) (Loshchilov & Hutter, "SGDR", 2017, without
        restarts), with m = `lr_min` and p in [0, 1] the share of the steps behind the warm-up.
    'none': r.
    Each times min(1, t / (n warmup_epochs)), a linear warm-up.
    """

    kind: str
    epoch_steps: int
    n_epochs: int
    tau: Sequence[int] = ()
    gamma: float = 1.0
    lr_min: float = 0.0
    warmup_epochs: float = 0.0

    def rate(self, initial: float, step: int) -> float:
        """The learning rate of a step, from 1."""
        epochs = (step - 1) / self.epoch_steps
        warmup_steps = self.warmup_epochs * self.epoch_steps
        factor = step / warmup_steps if step < warmup_steps else 1.0
        if self.kind in ("step", "multistep"):
            return factor * self.after_decays(initial, epochs)
        if self.kind == "cosine":
            return factor * initial * self.cosine(epochs)
        return factor * initial

    def after_decays(self, rate: float, epochs: float) -> float:
        """One factor after the other, as torch's schedulers multiply: the same digits as theirs."""
        for epoch, times in sorted(Counter(self.tau).items()):
            rate *= self.gamma ** times if epoch <= epochs else 1.0
        return rate

    def cosine(self, epochs: float) -> float:
        """The factor of the cosine schedule."""
        share = max(0.0, epochs - self.warmup_epochs) / (self.n_epochs - self.warmup_epochs)
        return self.lr_min + (1 - self.lr_min) * (1 + math.cos(math.pi * share)) / 2


class Optimisation:
    """Takes the steps of a run.

    schedule: the rate of every step. grad_clip: largest norm of the gradient over all parameters
    together, 0: any. scaler: of the loss, for float16. average: averaged weights to keep, or None.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Schedule, *,
                 scaler: torch.amp.GradScaler | None = None, grad_clip: float = 0.0,
                 average: AveragedWeights | None = None):
        self.optimizer = optimizer
        self.schedule = schedule
        self.grad_clip = grad_clip
        self.average = average
        self.scaler = scaler or torch.amp.GradScaler(enabled=False)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for settings in optimizer.param_groups:
            settings.setdefault("initial_lr", settings["lr"])  # one that is loaded stays

    def step(self, step: int) -> Tensor:
        """Take step number `step` of the run, from 1, along the gradients, which are then cleared.

        A gradient that overflowed in float16 is passed over. Returns its norm before clipping,
        unscaled, a scalar on the device.
        """
        for settings in self.optimizer.param_groups:
            settings["lr"] = self.schedule.rate(settings["initial_lr"], step)
        self.scaler.unscale_(self.optimizer)
        norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if self.grad_clip:
            clip_grads_with_norm_(self.parameters, self.grad_clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        return norm

    def rates(self) -> dict[str, float]:
        """The learning rates of the last step by the names of their groups."""
        return {settings["name"]: settings["lr"] for settings in self.optimizer.param_groups}

    def averaged(self) -> AbstractContextManager:
        """Inside, the network has the weights that are to be evaluated."""
        return nullcontext() if self.average is None else self.average.in_place()

    def network_state(self, network: Network) -> dict[str, Tensor]:
        """The network's state dict with the weights that are evaluated."""
        return network.state_dict() if self.average is None else self.average.network_state()

    def state_dict(self) -> dict:
        """The state of all parts; the schedule has none. Not to be called inside `averaged`."""
        average = None if self.average is None else self.average.state_dict()
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": average,
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue where `state_dict` was taken, once the network has loaded its `network_state`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
