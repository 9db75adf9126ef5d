"""A map of the test embeddings: near in the picture is near in the embedding, coloured by class or super-class."""
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from datasets.base import ranked_within_class
from evaluation.report.gallery import DPI, EDGE, INK, QUIET, TOP, in_square, load_image, short_name

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#555555")   # Okabe and Ito, told apart
MARKERS = ("o", "^", "s", "D")                                                            # by colour-blind readers too
LEGEND = len(COLOURS) * len(MARKERS)   # more groups than this cannot be told apart, and get no legend
SIDE, RIGHT, LINE = 1040, 250, 24      # pixels: side of the map, width of the legend, height of a line of it
THUMBNAIL, WIDE = 40, 1560             # pixels: side of a thumbnail, side of a map that shows them
FEW = 4                                # images that a class needs to show where it lies
PCA_DIMENSIONS, PERPLEXITY, STEPS = 50, 30, 500


class Places(NamedTuple):
    """Which rows a map shows, (n,) ascending, and where, (n, 2) float32."""

    row: torch.Tensor
    point: torch.Tensor


def place_images(embedding: torch.Tensor, label: torch.Tensor, limit: int, seed: int = 0) -> Places:
    """The map of up to `limit` rows, as many of each class. embedding (N, D) unit rows, label (N,) 0-based. 3,000 rows
    take some 10 s: the time grows a little faster than their number, and not with N."""
    row = choose_images(label, limit, seed)                                        # (n,)
    return Places(row, torch.from_numpy(project(embedding[row].cpu().numpy(), seed)))


def draw_run_map(places: Places, width: int, images, path, *, thumbnails: bool = False) -> None:
    """The map of a data set's split, an ImageList, whose rows, embedded in `width` dimensions, lie at these places."""
    chosen = places.row.tolist()                                                   # (n,)
    own = np.asarray(images.labels)[chosen]                                        # (n,)
    of_class = images.super_labels or range(len(images.class_names))
    note = (f"{len(chosen):,} of {len(images.labels):,} test images, {len(set(own)):,} of "
            f"{len(images.class_names):,} classes, by {'super-class' if images.super_labels else 'class'}; t-SNE of "
            f"{min(PCA_DIMENSIONS, len(chosen), width)} principal components: neighbourhoods count, sizes and far "
            "distances do not")
    picture = (lambda i: load_image(images.paths[chosen[i]], 2 * THUMBNAIL)) if thumbnails else None
    draw_map(places.point.numpy(), own, images.class_names, np.asarray(of_class)[own],
             images.super_names or images.class_names, path, note, picture)


def choose_images(label: torch.Tensor, limit: int, seed: int = 0) -> torch.Tensor:
    """Up to `limit` rows, ascending: equally many of every class, at random. Where that would be less than FEW of
    each, FEW of as many classes, at random. label (N,) 0-based."""
    generator = torch.Generator().manual_seed(seed)
    order, rank, count = ranked_within_class(label, generator)                     # (N,), (N,), (C,)
    place = torch.randperm(len(count), generator=generator)[label]                 # (N,) of the row's class
    drawn = place < max(1, limit // FEW)
    turn = (~drawn).long() * len(label) + rank                                     # (N,) round by round
    best = torch.argsort(turn * len(count) + place)[:limit]
    return best.sort().values                                                      # (n,)


def project(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """Rows (n, D) to points (n, 2): principal components, then t-SNE (van der Maaten and Hinton, JMLR 2008) from them.

    On one thread: several add up in an order that changes from run to run, and wait for each other where the
    processor is shared. Fewer than 5 rows keep their principal components; rows that are all equal fall on one point.
    """
    if (rows == rows[0]).all():
        return np.zeros((len(rows), 2), dtype=np.float32)
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits
    with threadpool_limits(1):
        component = PCA(min(PCA_DIMENSIONS, *rows.shape), random_state=seed).fit_transform(rows)    # (n, 50)
        start = np.zeros((len(rows), 2), dtype=np.float32)
        start[:, :component.shape[1]] = component[:, :2]
        if len(rows) < 5:
            return start
        return TSNE(perplexity=min(PERPLEXITY, (len(rows) - 1) / 3), init=1e-4 / max(start[:, 0].std(), 1e-9) * start,
                    max_iter=STEPS, random_state=seed, n_jobs=1).fit_transform(component)            # (n, 2)


def draw_map(points: np.ndarray, label: np.ndarray, class_names: Sequence[str], group: np.ndarray,
             group_names: Sequence[str], path, note: str = "", picture: Callable[[int], object] | None = None) -> None:
    """Write the picture: points (n, 2) of classes label (n,) in the colours and shapes of their group (n,), the names
    of classes where they fit, a legend of the groups where there are few. picture: i -> PIL image of point i, shown
    where no other lies."""
    groups = sorted(set(group.tolist()))
    style = {g: (COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS) % len(MARKERS)]) for i, g in enumerate(groups)}
    legend = len(groups) <= LEGEND
    side = WIDE if picture else SIDE
    figure, axes = _page(2 * EDGE + side + (RIGHT if legend else 0), TOP + side + EDGE, note)
    place = _in_pixels(points, side)                                               # (n, 2)
    size = float(np.clip(60_000 / len(points), 14, 60))
    for g in groups:
        mine, (colour, marker) = place[group == g], style[g]
        axes.scatter(mine[:, 0], mine[:, 1], s=size, c=colour, marker=marker, alpha=0.75, linewidths=0.4,
                     edgecolors="white", zorder=1)
    if picture:
        colours = [style[g][0] for g in group.tolist()]
        axes.imshow(_thumbnails(place, colours, picture, axes), interpolation="none", aspect="auto", zorder=2,
                    extent=(*axes.get_xlim(), *axes.get_ylim()))
    if legend:
        _legend(axes, EDGE + side + 30, [(short_name(group_names[g], 24), int((group == g).sum()), *style[g])
                                         for g in groups])
    if not picture and not (legend and len(groups) == len(set(label.tolist()))):
        of = dict(zip(label.tolist(), group.tolist()))
        _name_classes(axes, place, label, {c: _own_name(class_names[c], group_names[g]) for c, g in of.items()})
    figure.savefig(path, dpi=DPI)


def _page(width: int, height: int, note: str):
    """A figure whose axes count pixels from the upper left corner, with its title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    axes.text(EDGE, 34, "Map of the test embeddings", fontsize=14, color=INK, weight="bold", va="center")
    axes.text(EDGE, 62, note, fontsize=9, color=QUIET, va="center", parse_math=False)
    return figure, axes


def _in_pixels(points: np.ndarray, side: int) -> np.ndarray:
    """Points (n, 2) in the middle of the map, as large as it allows, without distortion."""
    low, high = points.min(0), points.max(0)
    scale = (side - THUMBNAIL) / max(float((high - low).max()), 1e-12)
    return (points - (low + high) / 2) * scale + np.array([EDGE + side / 2, TOP + side / 2])


def _thumbnails(place: np.ndarray, colours: list[str], picture: Callable[[int], object], axes) -> np.ndarray:
    """A transparent canvas (H, W, 4) with the images of points that lie apart, framed in the colours."""
    from matplotlib.colors import to_rgb
    canvas = np.zeros((round(axes.get_ylim()[0]), round(axes.get_xlim()[1]), 4), dtype=np.uint8)    # (H, W, 4)
    taken = np.empty((0, 2))
    for i in np.random.default_rng(0).permutation(len(place)):
        if (np.abs(taken - place[i]).max(1) >= THUMBNAIL + 2).all():
            taken = np.concatenate([taken, place[i:i + 1]])
            x, y = (place[i] - THUMBNAIL / 2).round().astype(int)
            canvas[y:y + THUMBNAIL, x:x + THUMBNAIL] = [*(round(255 * part) for part in to_rgb(colours[i])), 255]
            canvas[y + 2:y + THUMBNAIL - 2, x + 2:x + THUMBNAIL - 2, :3] = in_square(picture(i), THUMBNAIL - 4)
    return canvas


def _legend(axes, x: int, lines: list[tuple[str, int, str, str]]) -> None:
    """Marker, name and number of images of each group, one below the other."""
    for row, (name, count, colour, marker) in enumerate(lines):
        y = TOP + 20 + row * LINE
        axes.plot([x], [y], marker, color=colour, markersize=7, markeredgecolor="white", markeredgewidth=0.4)
        axes.text(x + 16, y, name, fontsize=9, color=INK, va="center", parse_math=False)
        axes.text(x + RIGHT - 30, y, f"{count:,}", fontsize=9, color=QUIET, va="center", ha="right")


def _own_name(name: str, group: str) -> str:
    """The name of a class without that of its super-class, which the legend gives."""
    return short_name(name.removeprefix(group).lstrip("._- ") if name != group else name, 20)


def _name_classes(axes, place: np.ndarray, label: np.ndarray, name: dict[int, str]) -> None:
    """The names of classes below their points, the densest first, where no other name is."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox
    centre = {c: np.median(place[label == c], axis=0) for c in set(label.tolist()) if (label == c).sum() >= FEW}
    spread = {c: np.median(np.abs(place[label == c] - centre[c]).max(1)) for c in centre}
    lower = {c: np.quantile(place[label == c][:, 1], 0.8) for c in centre}
    boxes: list[Bbox] = []
    for c in sorted(centre, key=lambda c: (spread[c], c)):
        text = axes.text(centre[c][0], lower[c] + 5, name[c], fontsize=7, color=INK, ha="center", va="top", zorder=3,
                         parse_math=False, path_effects=[withStroke(linewidth=2.2, foreground="white")])
        box = text.get_window_extent().expanded(1.05, 1.1)
        if box.x0 < 0 or spread[c] > SIDE / 16 or any(box.overlaps(other) for other in boxes):
            text.remove()
        else:
            boxes.append(box)
