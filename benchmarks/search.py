"""Time of a search, as a ratio to a bare matrix product with argpartition in the same run.

    python benchmarks/search.py [--size N] [--noise X] [--queries Q ...] [--k K] [--rounds R]

N unit rows of 512 dimensions in N / 5 classes, made like those of benchmarks/evaluation.py, and
queries of the same classes that are not among them.

numpy    (query @ rows.T), argpartition of the K largest, these sorted: nothing checked
torch    evaluation.ranking.nearest, exact, by PyTorch: what evaluation.search does
faiss    the same with candidates by faiss, which copies the rows first

All run in one process and answer the same queries in turns, Q at a time. A time is the median of
R rounds after two to warm up.
"""
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.evaluation import embeddings  # noqa: E402
from benchmarks.turns import median_seconds, parser_of  # noqa: E402
from evaluation.ranking import nearest  # noqa: E402
from utilities.cells import markdown  # noqa: E402

# query (Q, D), rows (N, D), k
NearestFunction = Callable[[Tensor, Tensor, int], object]


def by_numpy(query: Tensor, rows: Tensor, k: int) -> np.ndarray:
    """The k nearest (Q, k), ties as they come."""
    score = query.numpy() @ rows.numpy().T  # (Q, N)
    best = np.argpartition(-score, k - 1, axis=1)[:, :k]  # (Q, k)
    order = np.argsort(-np.take_along_axis(score, best, 1), axis=1)
    return np.take_along_axis(best, order, 1)


COMPETITORS: dict[str, NearestFunction] = {
    "numpy": by_numpy,
    "torch": partial(nearest, backend="torch"),
    "faiss": partial(nearest, backend="faiss"),
}


def main() -> None:
    """Time every competitor and print the table."""
    opt = parser_of(__doc__, size=60_000, noise=1.0, queries=[1, 100], k=12, rounds=15).parse_args()
    classes = max(1, opt.size // 5)
    both, _ = embeddings(opt.size + max(opt.queries), classes, opt.noise)
    rows = both[:opt.size].contiguous()
    cells = {name: {} for name in COMPETITORS}
    for number in opt.queries:
        query = both[opt.size:][:number]
        tasks = {name: partial(find, query, rows, opt.k) for name, find in COMPETITORS.items()}
        seconds = median_seconds(tasks, opt.rounds)
        for name, time_taken in seconds.items():
            cells[name][f"{number}: ms"] = f"{1000 * time_taken:.1f}"
            cells[name][f"{number}: / numpy"] = f"{time_taken / seconds['numpy']:.2f}"
    print(f"{opt.size:,} x {rows.shape[1]}, noise {opt.noise:g}, k = {opt.k}, "
          f"{torch.get_num_threads()} threads, median of {opt.rounds}")
    print(markdown(cells))


if __name__ == "__main__":
    main()
