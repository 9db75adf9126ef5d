"""The rows of a run for those who watch from elsewhere: TensorBoard (--tensorboard), Weights & Biases (--log_online).

Both get the rows of steps.csv and metrics.csv. A run never depends on them: once it has begun, a tracker that fails is
named in one warning line and left alone.
"""
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.records import numbers
from utilities.errors import RunError, UsageError, in_brief
from utilities.files import read_json
from utilities.logger import write_json

STATE = "trackers.json"
PATIENCE = 120   # seconds that closing may wait for an upload


class TensorBoard:
    """Event files in `<run>/tensorboard`; `tensorboard --logdir runs` shows them."""

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError("--tensorboard needs the package tensorboard: pip install tensorboard.") from error
        self.writer = SummaryWriter(folder / "tensorboard")

    def log(self, kind: str, row: Mapping[str, float], step: int) -> None:
        """Add the numbers of a row under `<kind>/<name>`, and write them out."""
        for name, value in row.items():
            self.writer.add_scalar(f"{kind}/{name}", value, step)
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


class WeightsAndBiases:
    """A run on the server that `wandb login` or WANDB_API_KEY names, or a folder for `wandb sync` with
    WANDB_MODE=offline; one with the same `identity` is continued."""

    def __init__(self, folder: Path, identity: str, *, project: str, group: str, flags: Mapping[str, Any]):
        try:
            import wandb
        except ImportError as error:
            raise UsageError("--log_online needs the package wandb: pip install wandb.") from error
        settings = wandb.Settings(console="off", quiet=True, finish_timeout=PATIENCE, finish_timeout_raises=True)
        try:
            self.run = wandb.init(project=project, group=group or None, name=folder.name, dir=folder, id=identity,
                                  resume="allow", config=dict(flags), settings=settings)
        except Exception as error:                                                 # of many kinds, most of them private
            raise RunError(f"--log_online: Weights & Biases cannot be reached ({in_brief(error)}). Log in with wandb "
                           "login or WANDB_API_KEY, or set WANDB_MODE=offline and upload later with wandb sync."
                           ) from error

    def log(self, kind: str, row: Mapping[str, float], step: int) -> None:
        """Send the numbers of a row under `<kind>/<name>`."""
        self.run.log({f"{kind}/{name}": value for name, value in row.items()}, step=step)

    def close(self) -> None:
        """Wait for the upload, at most PATIENCE."""
        self.run.finish()


class Trackers:
    """Gives every row to every tracker once, also over several resumes.

    folder: the run's. What was logged, and the identity of the run online, are kept in its trackers.json. flags: shown
    with the run online.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False, online: bool = False, project: str = "lm-metric",
                 group: str = "", flags: Mapping[str, Any] | None = None):
        self.path = folder / STATE
        self.state = _state(self.path)
        self.open: dict[str, TensorBoard | WeightsAndBiases] = {}
        if tensorboard:
            self.open["--tensorboard"] = TensorBoard(folder)
        if online:
            self.open["--log_online"] = WeightsAndBiases(folder, self.state["identity"], project=project, group=group,
                                                         flags=flags or {})
            write_json(self.path, self.state)

    def log(self, kind: str, row: Mapping) -> None:
        """Log a row of `kind` 'step' or 'epoch'; one at a step that was reached before is passed over."""
        step = row["step"]
        if not self.open or step <= self.state["logged"].get(kind, -1):
            return
        values = {name: value for name, value in numbers(row).items() if name != "step"}
        for name, tracker in list(self.open.items()):
            self._try(name, tracker.log, kind, values, step)
        self.state["logged"][kind] = step
        write_json(self.path, self.state)

    def close(self) -> None:
        """Close all; returns in any case."""
        for name, tracker in list(self.open.items()):
            self._try(name, tracker.close)
        self.open.clear()

    def _try(self, name: str, call, *arguments) -> None:
        try:
            call(*arguments)
        except Exception as error:                                                 # whatever it is, the run goes on
            self.open.pop(name)
            print(f"Warning: {name} ends here ({in_brief(error)}); the run goes on, and its folder has everything.",
                  file=sys.stderr)


def _state(path: Path) -> dict:
    """What trackers.json holds, or a new one's content where there is none that can be read."""
    try:
        state = read_json(path)
        logged = {str(kind): int(step) for kind, step in state["logged"].items()}
        return {"identity": str(state["identity"]), "logged": logged}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"identity": secrets.token_hex(8), "logged": {}}
