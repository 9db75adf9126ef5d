"""A reward that the network itself earns: what an episode of real training steps did for classes held out of them."""
import torch
from torch import Tensor, nn

from criteria.decisions import Actions

FORGET = 0.5                                               # share of the newest episode in the baseline
FLOOR = 1e-4                                               # smallest spread that an advantage is divided by


class Episodes(nn.Module):
    """One action for `every` steps, then the change of MAP@R of the validation classes as its reward.

    The baseline is a moving mean over episodes, a short one, since the metric rises less and less: a long one would
    still expect the rise of the start and punish every action. The advantage is divided by the moving root mean square
    of what the baseline left. The policy learns from an episode in the first step after it, by
    the input that it decided on. The first episode only measures where the metric stands.
    """

    metrics = ("mAP_r",)

    def __init__(self, every: int = 20):
        super().__init__()
        self.every = every
        self.input: Tensor | None = None                                           # the action's, (1, W)
        self.action: Actions | None = None                                         # of the episode that runs, (1, 1)
        self.past: dict[str, float] = {}                                           # numbers by name
        self.over = True
        self.register_buffer("here", torch.zeros(()), persistent=False)           # knows the device

    def adapt(self, metrics: dict[str, float]) -> None:
        """The episode is over: its reward by the metrics of the validation classes now."""
        value, past = metrics[self.metrics[0]], self.past
        if "value" in past:
            past["reward"] = value - past["value"]
            difference = past["reward"] - past.get("mean", past["reward"])
            past["mean"] = past["reward"] - (1 - FORGET) * difference
            if difference:
                past["square"] = past.get("square", difference ** 2) * (1 - FORGET) + FORGET * difference ** 2
            past["advantage"] = difference / max(past.get("square", 0) ** 0.5, FLOOR)
        past["value"], self.over = value, True

    def close(self) -> tuple[Tensor, Actions, float] | None:
        """Input, action and advantage of the episode that is over, once; None while one runs, or without a reward."""
        advantage = self.past.pop("advantage", None)
        return None if advantage is None else (self.input, self.action, advantage)

    def begin(self, input: Tensor, action: Actions) -> None:
        """The next episode plays `action` (1, 1), chosen by `input` (1, W)."""
        self.input, self.action, self.over = input, action, False

    def get_extra_state(self) -> dict:
        """Everything; part of the module's state dict."""
        return {"input": self.input, "action": None if self.action is None else list(self.action), "over": self.over,
                "past": dict(self.past)}

    def set_extra_state(self, state: dict) -> None:
        """Continue where `get_extra_state` was taken."""
        self.over, self.past = state["over"], dict(state["past"])
        self.input = self.action = None
        if state["action"] is not None:
            self.input, *action = (part.to(self.here.device) for part in (state["input"], *state["action"]))
            self.action = Actions(*action)
