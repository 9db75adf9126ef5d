"""What makes a step of a gradient: parameter groups, the optimizer, its rates, clipping and averaged weights."""
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from architectures.network import Network
from criteria.lm_metric import LMMetric
from training.ema import AveragedWeights
from training.schedule import Schedule


def parameter_groups(network: Network, method: LMMetric, *, lr: float, fc_lr: float = -1.0, relation_lr: float = -1.0,
                     memory_lr: float = -1.0, policy_lr: float = 1e-2) -> list[dict]:
    """Named groups of the parameters that train, each in exactly one of them.

    Backbone at `lr`, new layers at `fc_lr` (negative: `lr`), memory and relation at rates of their own (negative:
    `fc_lr`), the criterion as it says itself, the policy at `policy_lr` without decay. A power that the pooling learns
    is at `fc_lr` too, without decay, which would draw it to a mean that is none. A projection that relation and
    embedding share is the network's.
    """
    fc_lr = lr if fc_lr < 0 else fc_lr
    memory_lr, relation_lr = (fc_lr if rate < 0 else rate for rate in (memory_lr, relation_lr))
    groups = [{"name": "backbone", "params": list(network.backbone.parameters()), "lr": lr},
              {"name": "new", "params": list(network.projection.parameters()), "lr": fc_lr}]
    if pooling := list(network.pooling.parameters()):
        groups.append({"name": "pooling", "params": pooling, "lr": fc_lr, "weight_decay": 0.0})
    if network.memory is not None:
        groups.append({"name": "memory", "params": list(network.memory.parameters()), "lr": memory_lr})
    for i, group in enumerate(method.base.param_groups(fc_lr)):
        groups.append({"name": f"criterion_{i + 1}" if i else "criterion"} | group)
    if method.proxies is not None:
        groups += [{"name": "proxies"} | group for group in method.proxies.param_groups()]
    if method.relation is not None:
        groups.append({"name": "relation", "params": list(method.relation.parameters()), "lr": relation_lr})
    if method.learns:
        groups.append({"name": "policy", "params": list(method.weighting.parameters()), "lr": policy_lr,
                       "weight_decay": 0.0})
    return groups


def build_optimizer(groups: list[dict], *, optim: str = "adam", decay: float = 0.0, momentum: float = 0.9,
                    nesterov: bool = False) -> torch.optim.Optimizer:
    """The optimizer called `optim`; fused into one kernel where torch has one (all but RMSprop)."""
    if optim == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, weight_decay=decay, fused=True)
    if optim == "rmsprop":
        return torch.optim.RMSprop(groups, momentum=momentum, weight_decay=decay)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optim](groups, weight_decay=decay, fused=True)


class Optimisation:
    """Takes the steps of a run.

    schedule: the rate of every step. grad_clip: largest norm of the gradient over all parameters together, 0: any.
    scaler: that of the loss, for float16. average: averaged weights to keep, or None.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Schedule, *,
                 scaler: torch.amp.GradScaler | None = None, grad_clip: float = 0.0,
                 average: AveragedWeights | None = None):
        self.optimizer, self.schedule, self.grad_clip, self.average = optimizer, schedule, grad_clip, average
        self.scaler = scaler or torch.amp.GradScaler(enabled=False)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])                            # one that is loaded stays

    def step(self, step: int) -> Tensor:
        """Step number `step` of the run, from 1, along the gradients at hand, which are then gone; a gradient that
        overflowed in float16 is passed over. Returns its norm before clipping, unscaled, a scalar on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(group["initial_lr"], step)
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
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}

    def averaged(self) -> AbstractContextManager:
        """Inside, the network has the weights that are to be evaluated."""
        return nullcontext() if self.average is None else self.average.in_place()

    def network_state(self, network: Network) -> dict[str, Tensor]:
        """The network's state dict with the weights that are evaluated."""
        return network.state_dict() if self.average is None else self.average.network_state()

    def state_dict(self) -> dict:
        """The state of all parts; the schedule has none. Not to be called inside `averaged`."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(),
                "average": None if self.average is None else self.average.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Continue where `state_dict` was taken, once the network has loaded its `network_state`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
