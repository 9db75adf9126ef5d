"""Everything random: seeding, and streams whose draws leave the global state as it is."""
import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from utilities.errors import RunError, in_brief


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's global generator of the CPU draws from `seed` on; its state is restored."""
    # torch.random.fork_rng takes 240 us for all devices; this takes 4.
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


class RandomStream:
    """A torch generator, made on the device where it is first needed, whose state can be saved.

    Each part that draws (miner, relation, policy) has one, so that switching one part off does not
    change what the others draw, and a resumed run draws what the uninterrupted one would have
    drawn.
    """

    def __init__(self, seed: int = 0):
        self.seed = seed
        self._state: torch.Tensor | None = None
        # the kind of device that the state is of, None if unknown
        self._kind: str | None = None
        self._generator: torch.Generator | None = None

    def on(self, device: torch.device) -> torch.Generator:
        """The generator, on `device`."""
        if self._generator is None or self._generator.device.type != device.type:
            self._generator = self._restored(device)
            self._state = None
        return self._generator

    def _restored(self, device: torch.device) -> torch.Generator:
        try:
            generator = torch.Generator(device).manual_seed(self.seed)
            if self._state is None:
                return generator
            if self._kind in (None, device.type):
                return generator.set_state(self._state)
            # no state of one kind is one of another; what was drawn must not be drawn again
            words = hashlib.sha256(self._state.numpy().tobytes()).digest()
            return generator.manual_seed(int.from_bytes(words[:7], "big"))
        # A checkpoint of any origin has both.
        except (RuntimeError, TypeError, ValueError) as error:
            raise RunError(
                f"A state of random draws in the checkpoint is damaged ({in_brief(error)}): "
                "continue from another checkpoint of the run, or start a new run."
            ) from error

    def state_dict(self) -> dict:
        """The seed, the generator's state (an empty tensor before the first draw), and the kind of
        its device.
        """
        state = self._state
        kind = self._kind
        if self._generator is not None:
            state = self._generator.get_state()
            kind = self._generator.device.type
        if state is None:
            state = torch.empty(0, dtype=torch.uint8)
        return {"seed": self.seed, "state": state, "device": kind}

    def load_state_dict(self, state: dict) -> None:
        """Continue drawing where `state_dict` was taken.

        On another kind of device it draws other numbers, which follow from the state too.
        """
        self.seed = state["seed"]
        self._kind = state.get("device")
        self._generator = None
        self._state = state["state"].cpu() if len(state["state"]) else None


class TorchRandomness(NamedTuple):
    """The state of torch's global generators: of the CPU, and of the GPU that a process uses."""

    cpu: torch.Tensor
    cuda: torch.Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> "TorchRandomness":
        """The present state, for work on `device`."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), cuda)

    def restore(self, device: torch.device) -> None:
        """Continue drawing from here."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.cuda, device)


def random_state(device: torch.device) -> dict:
    """The global random states of python, numpy and torch, for a checkpoint.

    It holds tensors and plain containers.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    keys = torch.from_numpy(keys.astype(np.int64))
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, keys, int(position), int(has_gauss), float(cached)],
        **TorchRandomness.now(device)._asdict(),
    }


def set_random_state(state: dict, device: torch.device) -> None:
    """Continue drawing where `random_state` was taken."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    TorchRandomness(state["cpu"], state["cuda"]).restore(device)


@contextlib.contextmanager
def preserved_randomness() -> Iterator[None]:
    """Whatever is drawn inside, the global random states are the same afterwards as before."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)
