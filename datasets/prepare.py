"""Fetch, unpack and check a data set: `python -m datasets.prepare NAME --source_path FOLDER`.

A benchmark is put into FOLDER in the layout of the base framework, from archives that lie there
under their official names or are downloaded to there; `main.py --dataset NAME --source_path FOLDER`
reads it. What is there already, in any layout that can be read, is only checked.
"""
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from datasets import DATASETS
from datasets.archives import extract, staged
from datasets.benchmarks import BENCHMARKS
from datasets.cars196 import ANNOTATIONS, read_annotations
from datasets.in_shop import LIST
from datasets.verify import find, verify
from utilities import digest
from utilities.cells import markdown
from utilities.command_line import Parser, command_parser
from utilities.cores import usable_cores
from utilities.download import download
from utilities.errors import RunError, UsageError, answer, reason
from utilities.lock import Lock
from utilities.ranges import non_negative_int
from utilities.text import printable

CUB_LISTS = ("README", "classes.txt", "image_class_labels.txt", "images.txt",
             "train_test_split.txt")


class File(NamedTuple):
    """One file that a data set is made from: its official name, its MD5 sum and its address
    where they are known.
    """

    name: str
    md5: str | None = None
    url: str | None = None

    def __str__(self) -> str:
        return f"{self.name} (MD5 sum {self.md5})" if self.md5 else self.name


class Source(NamedTuple):
    """What a data set is made from, how its folder is filled from these files, and where to look
    for those without an address.
    """

    files: tuple[File, ...]
    # from this folder into that one
    fill: Callable[[Path, Path], None]
    where: str = ""


# ------------------------------------------------------------------------------- where the files go


def _fill_cub200(source: Path, folder: Path) -> None:
    """Images and the lists that name them; not the parts, attributes and boxes."""
    def place(name: str) -> str | None:
        inner = name.removeprefix("CUB_200_2011/")
        return inner if inner.startswith("images/") or inner in CUB_LISTS else None
    extract(source / "CUB_200_2011.tgz", folder, place)


def _fill_cars196(source: Path, folder: Path) -> None:
    """Images in a folder for each class, by the table."""
    paths, classes, _ = read_annotations(source / ANNOTATIONS)
    place_of = {path: f"images/{name}/{Path(path).name}" for path, name in zip(paths, classes)}
    extract(source / "car_ims.tgz", folder, place_of.get)


def _fill_online_products(source: Path, folder: Path) -> None:
    """Images and lists apart."""
    def place(name: str) -> str | None:
        kind, _, file = name.removeprefix("Stanford_Online_Products/").rpartition("/")
        if kind.endswith("_final"):
            return f"images/{kind}/{file}"
        is_list = not kind and file.startswith("Ebay_")
        return f"Info_Files/{file}" if is_list else None
    extract(source / "Stanford_Online_Products.zip", folder, place)


def _fill_in_shop(source: Path, folder: Path) -> None:
    """Images and list as the authors' own folders have them."""
    def place(name: str) -> str | None:
        return f"Img/{name}" if name.startswith("img/") else None
    extract(source / "img.zip", folder, place)
    (folder / "Eval").mkdir()
    shutil.copyfile(source / LIST, folder / "Eval" / LIST)


SOURCES = {
    "cars196": Source(
        (File("car_ims.tgz", "d5c8f0aa497503f355e17dc7886c3f14"),
         File(ANNOTATIONS, "b407c6086d669747186bd1d764ff9dbc")),
        _fill_cars196,
        "the page at Stanford that offered it is gone, so look for its files in the Web Archive "
        "(https://web.archive.org, under imagenet.stanford.edu/internal/car196/), on Kaggle, or in "
        "https://github.com/pytorch/vision/issues/7545"),
    "cub200": Source(
        (File("CUB_200_2011.tgz", "97eceeb196236b17998738112f37df78",
              "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1"),),
        _fill_cub200),
    "in_shop": Source(
        (File("img.zip"), File(LIST)),
        _fill_in_shop,
        "the authors ask for an agreement, so follow "
        "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html to their Google "
        "Drive and fetch Img/img.zip and Eval/list_eval_partition.txt"),
    "online_products": Source(
        (File("Stanford_Online_Products.zip", "7f73d41a2f44250d4779881525aea32e",
              "https://drive.usercontent.google.com/download?export=download&confirm=t&"
              "id=1TclrpQOF_ullUP99wk_gjGN8pKvtErG8"),),
        _fill_online_products),
}


# -------------------------------------------------------------------------------------- the command


def prepare(name: str, source: Path, url: str | None = None, any_md5: bool = False) -> Path:
    """Make <source>/<name> from the data set's files in `source`, fetching those that are missing;
    returns it.

    It appears only when it is complete and its parser accepts it. `url` replaces the address of the
    file, or, where it ends in a slash, of the folder that holds all files under their official
    names.
    """
    own = SOURCES[name]
    target = source / name
    if target.exists():
        raise UsageError(f"{target} is there, but {name} is not in it; move it away, or choose "
                         "another folder by --source_path.")
    if url and not url.endswith("/") and len(own.files) > 1:
        raise UsageError(f"--url {url}: {name} is made from {_named(own.files)}; give the address "
                         "of a folder that holds them, with a slash at its end.")
    nowhere = [file for file in _missing(own, source) if not (url or file.url)]
    if nowhere:
        raise UsageError(f"{name} cannot be fetched by this command: {own.where}; put "
                         f"{_named(nowhere)} into {source} and run again, or give the address of a "
                         "folder that holds them by --url.")
    try:
        source.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--source_path {source}: this folder cannot be made ({reason(error)}); "
                         "choose another.") from None
    with _lock(source):
        # another process may have made it meanwhile
        if not target.exists():
            missing = _missing(own, source)
            if not any_md5:
                _check_sums([file for file in own.files if file not in missing], source)
            _fetch(missing, source, url)
            _fill(name, own, source, target)
    return target


def _missing(own: Source, source: Path) -> list[File]:
    """The data set's files that are not there."""
    return [file for file in own.files if not (source / file.name).is_file()]


def _lock(source: Path) -> Lock:
    """One process prepares at a time: what it makes there is not for others yet."""
    busy = f"{source}: another process is preparing a data set there."
    try:
        return Lock(source, busy)
    except RunError:
        print(f"{busy} Waiting for its end.", flush=True)
        return Lock(source)


def _check_sums(files: list[File], source: Path) -> None:
    """A UsageError for a file of another MD5 sum than is known."""
    for file in files:
        path = source / file.name
        found = digest.md5(path) if file.md5 else None
        if found != file.md5:
            raise UsageError(f"{path}: the MD5 sum is {found} instead of {file.md5}; delete the "
                             "file to fetch it again, or take it all the same by --any_md5.")


def _fetch(missing: list[File], source: Path, url: str | None) -> None:
    """Download these files."""
    for file in missing:
        address = url or file.url
        if address.endswith("/"):
            address += file.name
        print(f"Fetching {file.name} from {address}")
        download(address, source / file.name, file.md5)


def _fill(name: str, own: Source, source: Path, target: Path) -> None:
    """Make the target from the files; a RunError where the parser does not accept it."""
    with staged(target) as folder:
        own.fill(source, folder)
        try:
            DATASETS[name](folder)
        except UsageError as error:
            problem = str(error).rstrip(".").replace(str(folder), target.name)
            raise RunError(f"{source}: {name} cannot be made from {_named(own.files)}, for what "
                           f"they hold is not whole ({problem}).") from None


def _named(files):
    """The files by name, with their MD5 sums."""
    return " and ".join(map(str, files))


def run(opt: Namespace) -> None:
    """Prepare the data set unless it is there, check it and print what was found."""
    name = "online_products" if opt.name == "sop" else opt.name
    source = Path(opt.source_path)
    only_checked = opt.check_only or name not in BENCHMARKS
    if only_checked and (opt.url or opt.any_md5):
        raise UsageError("--url and --any_md5 say what a data set is made from; they cannot apply "
                         "where it is only checked: drop them.")
    place = find(name, source)
    if not only_checked and place:
        print(f"{place} is there already and is only checked.")
    elif not only_checked:
        place = prepare(name, source, opt.url, opt.any_md5)
        print(f"Prepared {place}; keep the files it was made from until it is checked.")
    report = verify(name, source, opt.kernels)
    print(markdown(report.rows))
    for line in report.notes:
        print(f"note: {printable(line)}")
    for line in report.problems:
        print(f"problem: {printable(line)}")
    if report.problems:
        raise RunError(f"Problems with {name} in {source}: {len(report.problems)}, listed above.")
    print("No problems found.")


def build_parser() -> Parser:
    """The flags of the command."""
    parser = command_parser("datasets.prepare", "Fetch, unpack and check a data set.")
    add = parser.add_argument
    add("name", metavar="NAME", choices=[*BENCHMARKS, "image_folder"],
        help="%(choices)s; sop is online_products; image_folder, your own images, is only checked")
    add("--source_path", required=True, metavar="FOLDER",
        help="Where the data set is or is to be, as --source_path of main.py, and where archives "
             "are looked for.")
    add("--check_only", action="store_true", help="Check what is there and write nothing.")
    add("--url", default=None, metavar="ADDRESS",
        help="Fetch the archive from this mirror; with a slash at its end, a folder that holds "
             "the files under their official names. Known MD5 sums are checked all the same.")
    add("--any_md5", action="store_true",
        help="Take archives that lie in FOLDER whatever their MD5 sums.")
    add("--kernels", type=non_negative_int, default=min(8, usable_cores()), metavar="N",
        help="Worker processes that decode images; 0 decodes in the main process. Default: one for "
             "each core that can be used, at most 8.")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 when all went well, 2 for wrong usage, 1 for problems found and
    what failed.
    """
    opt = build_parser().parse_args(argv)
    return answer("datasets.prepare", lambda: run(opt), debug=opt.debug,
                  interrupted="Interrupted; run the same command again to go on.")


if __name__ == "__main__":
    sys.exit(main())
