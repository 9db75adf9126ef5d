"""Time of a search, as ratios to a bare matrix product with argpartition in the same run, and what it finds.

    python benchmarks/search.py [--size N] [--noise X] [--queries Q ...] [--k K] [--rounds R]

N unit rows of 512 dimensions in N / 5 classes, made like those of benchmarks/evaluation.py, and queries of the same
classes that are not among them. Most of the K nearest are then of other classes, whose centres are random: about the
hardest case for an approximate index.

numpy    (query @ rows.T), argpartition of the K largest, these sorted: nothing checked, ties as they come
ours     an index of evaluation.search.index: flat (exact, ranked as the evaluation ranks), flat without faiss, ivf,
         hnsw with the default settings

All are in one process and answer the same queries in turns, Q of them at a time; a time is the median of R rounds.
"first" and "recall": the share of the exact nearest, and of the exact K nearest, that is among the K found. "build" is
the time to build the index, "load" that to check and read it from the disk again (what a call of evaluation.search does
first), "MiB" its file.
"""
import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.evaluation import embeddings  # noqa: E402
from evaluation.search import index as indexes  # noqa: E402
from evaluation.search.index import KINDS, Settings, build, load, save  # noqa: E402
from utilities.cells import markdown  # noqa: E402

Search = Callable[[Tensor, int], Tensor]   # queries (Q, D), k -> index (Q, k)


def by_numpy(rows: Tensor) -> Search:
    """The peer."""
    matrix = rows.numpy()

    def search(query: Tensor, k: int) -> Tensor:
        score = query.numpy() @ matrix.T                                           # (Q, N)
        best = np.argpartition(-score, k - 1, axis=1)[:, :k]                       # (Q, k)
        order = np.argsort(-np.take_along_axis(score, best, 1), axis=1)
        return torch.from_numpy(np.take_along_axis(best, order, 1))
    return search


def timed(function: Callable, *arguments):
    """The result, and seconds."""
    start = time.perf_counter()
    return function(*arguments), time.perf_counter() - start


def competitors(rows: Tensor) -> tuple[dict[str, Search], dict[str, dict[str, str]]]:
    """Searches by name, and for each the first columns of its line."""
    searches, cells = {"numpy": by_numpy(rows)}, {"numpy": {}}
    for kind in KINDS:
        made, seconds = timed(build, kind, rows, Settings())
        with tempfile.TemporaryDirectory() as folder:
            save(made, Path(folder), "")
            read, again = timed(load, kind, Path(folder), rows, "", Settings())
            size = (Path(folder) / indexes.FILE).stat().st_size
        searches[kind] = lambda query, k, read=read: read.search(query, k)[1]
        cells[kind] = {"build s": f"{seconds:.2f}", "load s": f"{again:.2f}", "MiB": f"{size / 2**20:.0f}"}
    with mock.patch.object(indexes, "faiss_or_none", lambda: None):
        plain = build("flat", rows, Settings())
    searches["flat, no faiss"] = lambda query, k: plain.search(query, k)[1]
    return searches, cells | {"flat, no faiss": {}}


def recall(search: Search, query: Tensor, exact: Tensor, k: int) -> float:
    """The share of the exact neighbours (Q, m) that is among the k found."""
    return (search(query, k)[:, None] == exact[:, :, None]).any(2).double().mean().item()


def main() -> None:
    """Time every competitor and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=60_000, help="rows that are searched")
    parser.add_argument("--noise", type=float, default=1.0, help="standard deviation around the class centres")
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 100], help="queries at a time")
    parser.add_argument("--k", type=int, default=12, help="neighbours")
    parser.add_argument("--rounds", type=int, default=15, help="rounds")
    opt = parser.parse_args()
    most = max(opt.queries)
    every, _ = embeddings(opt.size + most, max(1, opt.size // 5), opt.noise)
    rows, query = every[:opt.size].contiguous(), every[opt.size:]
    searches, cells = competitors(rows)
    seconds = {(name, number): [] for name in searches for number in opt.queries}
    for number in opt.queries:
        for _ in range(opt.rounds + 1):
            for name, search in searches.items():
                seconds[name, number].append(timed(search, query[:number], opt.k)[1])
    median = {key: statistics.median(times[1:]) for key, times in seconds.items()}  # the first round warms up
    exact = searches["flat"](query, opt.k)
    for name, search in searches.items():
        for number in opt.queries:
            cells[name] |= {f"{number}: ms": f"{1000 * median[name, number]:.1f}",
                            f"{number}: / numpy": f"{median[name, number] / median['numpy', number]:.2f}"}
        cells[name] |= {"first": f"{recall(search, query, exact[:, :1], opt.k):.3f}",
                        "recall": f"{recall(search, query, exact, opt.k):.3f}"}
    print(f"{opt.size:,} x {rows.shape[1]}, noise {opt.noise:g}, k = {opt.k}, {torch.get_num_threads()} threads, "
          f"median of {opt.rounds}")
    print(markdown(cells))


if __name__ == "__main__":
    main()
