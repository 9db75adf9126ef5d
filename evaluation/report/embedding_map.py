"""embedding.png: near in the picture is near in the embedding, coloured by class or super-class."""
from typing import NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patheffects import withStroke

from datasets.base import ImageList
from evaluation.report.canvas import DPI, EDGE, QUIET, TOP, pixel_axes, show_pixels, write
from evaluation.report.places import FEW, PCA_DIMENSIONS, Places
from evaluation.report.thumbnails import in_square, load_image, short_name
from utilities.text import counted

# colours of Okabe and Ito, which colour-blind readers can distinguish, and shapes for them too
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#555555")
MARKERS = ("o", "^", "s", "D")
LEGEND = len(COLOURS) * len(MARKERS)  # more groups than this look alike, and get no legend
# pixels: side of the map, width of the legend, height of a line of it
SIDE = 1040
RIGHT = 250
LINE = 24
# pixels: side of a map that shows thumbnails, side of a thumbnail, its frame
WIDE = 1560
THUMBNAIL = 40
FRAME = 2


class Group(NamedTuple):
    """A class or super-class of the map: name, look, and which points (n,) are in it."""

    name: str
    colour: str
    marker: str
    member: np.ndarray


def draw_map(
    places: Places, width: int, images: ImageList, path, *, thumbnails: bool = False
) -> None:
    """Write the map of `images`, embedded in `width` dimensions.

    Points have the colour and shape of their group: the super-class where there are any, else the
    class. A legend names the groups where they are few; classes without a place in it are named
    where their names fit. thumbnails: images at their points, where no other lies.
    """
    label = np.asarray(images.labels)[places.row.numpy()]  # (n,)
    groups = _groups(label, images)
    has_legend = len(groups) <= LEGEND
    side = WIDE if thumbnails else SIDE
    right = 2 * EDGE + side + (RIGHT if has_legend else 0)
    note = _note(label, width, images)
    figure, axes = pixel_axes(right, TOP + side + EDGE, "Map of the test embeddings", note)
    point = _in_pixels(places.point.numpy(), side)  # (n, 2)
    _draw_points(axes, point, groups)
    if thumbnails:
        _draw_thumbnails(axes, point, groups, [images.paths[i] for i in places.row.tolist()])
    if has_legend:
        _draw_legend(axes, EDGE + side + 30, groups)
    is_named = has_legend and len(groups) == len(np.unique(label))
    if not thumbnails and not is_named:
        _name_classes(axes, point, label, images)
    figure.savefig(path, dpi=DPI)


def _draw_points(axes, point: np.ndarray, groups: list[Group]) -> None:
    size = float(np.clip(60_000 / len(point), 14, 60))
    style = {"s": size, "alpha": 0.75, "linewidths": 0.4, "edgecolors": "white", "zorder": 1}
    for group in groups:
        x, y = point[group.member].T
        axes.scatter(x, y, c=group.colour, marker=group.marker, **style)


def _groups(label: np.ndarray, images: ImageList) -> list[Group]:
    """The groups of the points, in the order of their numbers."""
    names = images.super_names or images.class_names
    number = np.asarray(images.super_labels)[label] if images.super_labels else label  # (n,)
    groups = []
    for i, g in enumerate(np.unique(number)):
        colour = COLOURS[i % len(COLOURS)]
        marker = MARKERS[i // len(COLOURS) % len(MARKERS)]
        groups.append(Group(names[g], colour, marker, number == g))
    return groups


def _note(label: np.ndarray, width: int, images: ImageList) -> str:
    kind = "super-class" if images.super_labels else "class"
    components = min(PCA_DIMENSIONS, len(label), width)
    return (
        f"{len(label):,} of {len(images.labels):,} test images, {len(np.unique(label)):,} of "
        f"{counted(len(images.class_names), 'class')}, by {kind}; t-SNE of {components} principal "
        "components: neighbourhoods count, sizes and far distances do not"
    )


def _in_pixels(point: np.ndarray, side: int) -> np.ndarray:
    """Points (n, 2) in the middle of the map, as large as it allows, without distortion."""
    low = point.min(0)
    high = point.max(0)
    scale = (side - THUMBNAIL) / max(float((high - low).max()), 1e-12)
    return (point - (low + high) / 2) * scale + np.array([EDGE + side / 2, TOP + side / 2])


def _draw_thumbnails(axes, point: np.ndarray, groups: list[Group], paths: list) -> None:
    """Images at the points (n, 2) that lie apart, framed in the colour of their group."""
    width = round(axes.get_xlim()[1])
    height = round(axes.get_ylim()[0])
    layer = np.zeros((height, width, 4), dtype=np.uint8)  # (H, W, 4) transparent
    taken = np.empty((0, 2))
    for i in np.random.default_rng(0).permutation(len(point)):
        if (np.abs(taken - point[i]).max(1) < THUMBNAIL + 2).any():
            continue
        taken = np.concatenate([taken, point[i:i + 1]])
        colour = next(group.colour for group in groups if group.member[i])
        x, y = (point[i] - THUMBNAIL / 2).round().astype(int)
        cell = layer[y:y + THUMBNAIL, x:x + THUMBNAIL]
        cell[:] = [*np.round(255 * np.array(to_rgb(colour))), 255]
        image = load_image(paths[i], 2 * THUMBNAIL)
        cell[FRAME:-FRAME, FRAME:-FRAME, :3] = in_square(image, THUMBNAIL - 2 * FRAME)
    show_pixels(axes, layer, zorder=2)


def _draw_legend(axes, x: int, groups: list[Group]) -> None:
    """Marker, name and number of images of each group, one below the other."""
    style = {"markersize": 7, "markeredgecolor": "white", "markeredgewidth": 0.4}
    for row, group in enumerate(groups):
        y = TOP + 20 + row * LINE
        axes.plot(x, y, group.marker, color=group.colour, **style)
        write(axes, x + 16, y, short_name(group.name, 24), 9)
        write(axes, x + RIGHT - 30, y, f"{group.member.sum():,}", 9, QUIET, ha="right")


def _name_classes(axes, point: np.ndarray, label: np.ndarray, images: ImageList) -> None:
    """The names of classes below their points, the densest first, where no other name is."""
    classes = []
    for c in np.unique(label).tolist():
        own = point[label == c]  # (n of the class, 2)
        centre = np.median(own, axis=0)
        radius = np.median(np.abs(own - centre).max(1))
        lower = np.quantile(own[:, 1], 0.8)
        if len(own) >= FEW:
            classes.append((radius, c, centre[0], lower + 5))
    boxes = []
    halo = [withStroke(linewidth=2.2, foreground="white")]
    style = {"ha": "center", "va": "top", "zorder": 3, "path_effects": halo}
    for radius, c, x, y in sorted(classes):
        text = write(axes, x, y, _own_name(images, c), 7, **style)
        box = text.get_window_extent().expanded(1.05, 1.1)
        if box.x0 < 0 or radius > SIDE / 16 or any(map(box.overlaps, boxes)):
            text.remove()
        else:
            boxes.append(box)


def _own_name(images: ImageList, c: int) -> str:
    """The name of a class without that of its super-class, which the legend gives."""
    name = images.class_names[c]
    group = images.super_names[images.super_labels[c]] if images.super_labels else name
    own = name.removeprefix(group)
    if own.startswith(tuple("._- ")):
        name = own.lstrip("._- ") or name
    return short_name(name, 20)
