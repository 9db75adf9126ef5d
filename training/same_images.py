"""Whether a run that is continued finds the images that it has trained on.

An added, moved or renamed class shifts the halves of a folder: a class that was trained on could
become a test class unseen.
"""
from collections.abc import Iterator
from pathlib import Path

from datasets import Splits
from datasets.identity import image_record
from training.restored import damage_in_one_sentence
from utilities.errors import UsageError
from utilities.text import counted

SHOWN = 5  # differences in a sentence


def data_record(splits: Splits) -> dict[str, dict]:
    """What a checkpoint holds of the data: the classes of each split, and `image_record`."""
    classes = {name: images.class_names for name, images in splits.present().items()}
    return {"classes": classes, "images": image_record(splits)}


@damage_in_one_sentence()
def refuse_other_images(past: dict, splits: Splits, path: Path) -> None:
    """A UsageError that names the classes and images that are not those of a run's past."""
    now = data_record(splits)
    found = list(class_changes(past.get("classes"), now["classes"]))
    found = found or list(image_changes(past.get("images"), now))
    if not found:
        return
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise UsageError(f"--resume {path}: its images are not those that the run has trained on: "
                     f"{'; '.join(found[:SHOWN])}{more}. Restore them, name their folder with "
                     "--source_path, or start a new run.")


def class_changes(before: dict | None, now: dict) -> Iterator[str]:
    """A phrase for each class that is new, gone or in another split; none for an old checkpoint."""
    if before is None:
        return
    then_in = splits_of_classes(before)
    now_in = splits_of_classes(now)
    for name in sorted(then_in.keys() | now_in.keys()):
        then = then_in.get(name)
        where = now_in.get(name)
        if then is None:
            yield f"class {name} is new, in {where}"
        elif where is None:
            yield f"class {name} of {then} is gone"
        elif then != where:
            yield f"class {name} was in {then} and would now be in {where}"


def splits_of_classes(classes: dict[str, list[str]]) -> dict[str, str]:
    """The splits that each class is in, such as 'train and val'."""
    found: dict[str, str] = {}
    for split, names in classes.items():
        for name in names:
            found[name] = f"{found[name]} and {split}" if name in found else split
    return found


def image_changes(before: dict | None, now: dict) -> Iterator[str]:
    """A phrase for each class with more or fewer images, or for a split with other ones."""
    for split, record in now["images"].items():
        then = (before or {}).get(split, record)
        if then["digest"] == record["digest"]:
            continue
        differing = 0
        names = now["classes"][split]
        for name, old, new in zip(names, then["counts"], record["counts"]):
            if old != new:
                differing += 1
                yield f"class {name} has {counted(new, 'image')} in {split} instead of {old}"
        if not differing:
            yield f"{split} has other images, or the same under other names"
