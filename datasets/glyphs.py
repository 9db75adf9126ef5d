"""The built-in data set: characters of many scripts, drawn once from the fonts that matplotlib
ships.

A class is a character, its super-class the script. Within each script a random half of the
characters trains and the other half tests, so that both halves hold every script. The content of a
folder follows from the arguments alone: each picture has a generator of its own, seeded by (seed,
character, picture).
"""
import csv
import hashlib
import json
from pathlib import Path

import numpy as np

from datasets.base import Splits
from datasets.glyph_characters import Character, candidates, distinct, font_files
from datasets.glyph_drawing import draw
from datasets.image_folder import image_folder
from utilities.bars import new_bar
from utilities.errors import RunError, UsageError, reason
from utilities.files import remove, replacing
from utilities.lock import Lock
from utilities.table import read_rows

# change it with anything that changes the pictures: older folders are then not taken for new ones
VERSION = 1


def glyphs(source_path: str | Path = ".cache", classes: int = 240, images_per_class: int = 24,
           size: int = 32, seed: int = 0) -> Splits:
    """The splits; the pictures are drawn into `source_path`/glyphs-<hash of the arguments> on first
    use.

    size: side of a picture, in pixels. Raises UsageError (numbers that make no data set), RunError
    (the disk).
    """
    _check_numbers(classes, images_per_class, size, seed)
    options = {"version": VERSION, "classes": classes, "images_per_class": images_per_class,
             "size": size, "seed": seed}
    name = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]
    folder = Path(source_path) / f"glyphs-{name}"
    if not is_complete(folder, options):
        _generate(folder, options)
    return image_folder(folder)


def is_complete(folder: Path, options: dict[str, int]) -> bool:
    """Whether the folder holds the table, with all its rows, and every picture that these name."""
    paths = [row.get("path") or "" for row in read_rows(folder / "labels.csv")]
    whole = len(paths) == options["classes"] * options["images_per_class"]
    return whole and all((folder / path).is_file() for path in paths)


def _check_numbers(classes: int, images_per_class: int, size: int, seed: int) -> None:
    """One sentence for numbers that make no data set."""
    if classes < 4:
        raise UsageError(f"--glyphs_classes {classes}: at least 4 are needed; half of them train, "
                         "the others test.")
    if images_per_class < 2:
        raise UsageError(f"--glyphs_images_per_class {images_per_class}: at least 2 are needed, "
                         "else no image has another of its class to find.")
    if size < 8:
        raise UsageError(f"The size of the glyphs is {size} pixels; at least 8 are needed to tell "
                         "them apart.")
    if seed < 0:
        raise UsageError(f"--glyphs_seed {seed}: give a number that is not negative.")


def _generate(folder: Path, options: dict[str, int]) -> None:
    """Draw the set beside its place, and move it there only when it is whole; a process that wants
    it while another draws it waits."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with Lock(folder.parent):
            if is_complete(folder, options):
                return
            remove(folder)
            with replacing(folder) as made:
                # that of a process that was killed
                remove(made)
                _draw_all(made, options)
    except OSError as error:
        raise RunError(f"{folder}: the glyphs cannot be written there ({reason(error)}); free "
                       "space, allow writing, or name another folder by --source_path.") from None


def _draw_all(made: Path, options: dict[str, int]) -> None:
    """The pictures in a folder for each class, the table, and a record of the arguments."""
    seed = options["seed"]
    split_of = divided(_choose(options["classes"], seed), seed)
    rows = [("path", "label", "super_label", "split")]
    bar = new_bar(split_of, desc="drawing glyphs (once)", unit="class", leave=True)
    for character, split in bar:
        (made / "images" / character.name).mkdir(parents=True)
        for picture in range(options["images_per_class"]):
            generator = np.random.default_rng([seed, character.code, picture])
            path = f"images/{character.name}/{picture:03d}.png"
            draw(character, options["size"], generator).save(made / path, compress_level=1)
            rows.append((path, character.name, character.script, split))
    with (made / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    (made / "glyphs.json").write_text(json.dumps(options, indent=1))


def _choose(classes: int, seed: int) -> list[Character]:
    """The characters; a UsageError when fewer of them differ."""
    chosen = distinct(candidates(font_files(), seed), classes)
    if len(chosen) < classes:
        raise UsageError(f"--glyphs_classes {classes}: the fonts hold only {len(chosen)} "
                         "characters that can be told apart; ask for at most that many.")
    return chosen


def divided(characters: list[Character], seed: int) -> list[tuple[Character, str]]:
    """Each character with its split: within a script a random half trains; odd ones out go to
    either in turn.
    """
    order = np.random.default_rng([seed, len(characters)]).permutation(len(characters))
    shuffled = [characters[row] for row in order]
    shuffled.sort(key=lambda character: character.script)
    alternating = [(one, ("train", "test")[place % 2]) for place, one in enumerate(shuffled)]
    return sorted(alternating, key=lambda pair: pair[0].name)
