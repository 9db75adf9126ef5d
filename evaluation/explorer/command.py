"""`python -m evaluation.explorer EMBEDDINGS.npy LABELS.csv IMAGES --out FILE.html`."""
from argparse import Namespace

from parameters import add_search_flags
from parameters import build_parser as build_main_parser
from utilities.command_line import Parser, command_parser
from utilities.errors import answer
from utilities.ranges import non_negative_int, positive_int


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 for success, 2 for wrong usage, 1 for what failed while running."""
    opt = build_parser().parse_args(argv)
    return answer("evaluation.explorer", lambda: run(opt), debug=opt.debug)


def run(opt: Namespace) -> None:
    """Write the page of saved embeddings."""
    from evaluation.explorer.saved import explore_saved
    explore_saved(opt)


def build_parser() -> Parser:
    """The flags of the command."""
    description = "One self-contained page of images, their neighbours, their classes and a map."
    parser = command_parser("evaluation.explorer", description)
    add = parser.add_argument
    add("embeddings", metavar="EMBEDDINGS.npy", help="numbers of shape (N, D), one row an image")
    add("labels", metavar="LABELS.csv",
        help="table with the columns path and label, one line an image")
    add("images", metavar="IMAGES", help="folder that the paths of the table are relative to")
    add("--out", required=True, metavar="FILE.html", help="The page to write.")
    add("--gallery", nargs=3, default=None, metavar=("EMBEDDINGS.npy", "LABELS.csv", "IMAGES"),
        help="Search in this set instead of among the other rows. Classes are matched as by "
             "evaluation.score.")
    add("--title", default=None, help="Heading of the page; default: the folder of the embeddings.")
    add("--metrics", nargs="*", default=None, metavar="METRIC",
        help="Metrics in its heading, any of those in docs/metrics.md, or none; default: c_recall@1 and "
             "c_mAP_r, where an image has another of its class to find.")
    default = build_main_parser().get_default
    add("--explorer_images", type=positive_int, default=default("explorer_images"),
        metavar="IMAGES",
        help="Images that can be opened. Of more, a sample: equally many of every class.")
    add("--map_images", type=non_negative_int, default=default("map_images"), metavar="IMAGES",
        help="Images in the 2-D map; 0: no map.")
    add_search_flags(parser)
    return parser
