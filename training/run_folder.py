"""The folder of a run, new or taken up again, and its options.json: by which flags and code.

A continuation updates the flags that it changes and is added to the list `continuations`, with
step, date, versions, commit and what changed.
"""
import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from evaluation.run_files import continuations
from parameters import read_options
from training import resume
from utilities import distributed
from utilities.errors import RunError, UsageError
from utilities.files import read_json
from utilities.logger import FULL, RunFolder, differences, provenance, write_json

OPTIONS = "options.json"


@contextmanager
def run_folder(opt, path: Path | None) -> Iterator[RunFolder | None]:
    """The folder of the run, which other runs are kept out of meanwhile.

    path: that of the run to continue, or None for a new one, which is removed again where the run
    is refused before it has measured anything. None in all processes but the first.
    """
    if distributed.rank() > 0:
        yield None
        return
    if path:
        folder = RunFolder(path)
    else:
        folder = RunFolder.new(opt.save_path, opt.dataset, resume.name_of(opt))
    try:
        yield folder
    except OSError as error:
        if error.errno in FULL:
            raise RunError(
                f"The disk of {folder.path} is full ({error.strerror}); what was complete is "
                f"intact. Free space, then --resume {folder.path} continues from the last "
                "checkpoint."
            ) from error
        raise
    except (UsageError, RunError):
        if path is None and not (folder / "metrics.csv").exists():
            folder.remove()
        raise
    finally:
        folder.close()


def record_options(folder: RunFolder, opt, settled: list[str], device: torch.device,
                   state: dict | None) -> None:
    """Write options.json; of a run that is continued from `state`, what is new in it.

    settled: the flags whose values follow from the network and its weights, since none was given.
    """
    here = provenance(vars(opt), str(device))
    before = read_json(folder / OPTIONS)
    if state is None:
        write_json(folder / OPTIONS, here | {"settled": settled})
        for line in differences(read_options(opt.repeat), here) if opt.repeat else ():
            print(line)
        return
    changed = resume.changed_flags(before, opt)
    now = {flag: change["now"] for flag, change in changed.items()}
    entry = continuation(here, changed, state["progress"])
    content = before if isinstance(before.get("flags"), dict) else here
    flags = content["flags"] | now
    continued = [*continuations(before), entry]
    write_json(folder / OPTIONS, content | {"flags": flags, "continuations": continued})


def continuation(here: dict, changed: dict, progress: dict) -> dict:
    """The entry of a continuation: where it began, by what, and what it changed."""
    return {
        "step": progress["step"],
        "epoch": progress["epoch"],
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "changed": changed,
    } | {name: value for name, value in here.items() if name != "flags"}
