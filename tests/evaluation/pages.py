"""Sets of images on disk, and what a page contains, read without a browser."""
import base64
import html.parser
import json

import numpy as np
import torch
from PIL import Image

from datasets.base import ImageList
from evaluation.explorer import Heading, explore, write_explorer
from evaluation.ranking import nearest
from evaluation.report import place_images

EVIL = "</script><img src=x onerror=alert(1)>\"'&<!--<script>\x1b\u202e\u2028"
METRICS = {"e_recall@1": 0.5, "rho_spectrum@-1": 1.25}
HEADING = Heading("a run", ["set", "net"], METRICS, "report.html")
ARRAYS = {"label": "<i4", "neighbour": "<i4", "similarity": "<f4", "shown": "<i4", "point": "<f4"}


def shade(i):
    """The colour of image i, far from those of most others."""
    return tuple(np.random.default_rng(i).integers(0, 255, 3).tolist())


def write_images(folder, colours, size=(20, 20), start=0):
    """Plain images of these colours, 000.png ...; returns their paths."""
    folder.mkdir(exist_ok=True)
    paths = []
    for i, colour in enumerate(colours, start=start):
        paths.append(folder / f"{i:03d}.png")
        Image.new("RGB", size, colour).save(paths[-1])
    return paths


def pictures(folder, label, names, start=0):
    """An ImageList of plain images, each of its own colour."""
    colours = [shade(i) for i in range(start, start + len(label))]
    return ImageList(write_images(folder, colours, start=start), label.tolist(), names)


def write(
    path, rows, images, *, gallery_rows=None, gallery=None, limit=5000, mapped=0, heading=HEADING
):
    """Write the page of embeddings; returns their neighbours (N, k) and what is said."""
    others = rows if gallery is None else gallery_rows
    depth = min(12, len(others) - (gallery is None))
    near = nearest(rows, others, depth, exclude_self=gallery is None)
    places = place_images(rows, torch.tensor(images.labels), mapped) if mapped else None
    explorer = explore(*near, images, limit=limit, gallery=gallery, places=places)
    return near[1], write_explorer(path, explorer, heading)


class Reader(html.parser.HTMLParser):
    """Elements with their attributes, and the texts of scripts and styles and all others."""

    VOID = {"meta", "img", "link", "br", "hr", "input", "wbr"}

    def __init__(self, page):
        super().__init__()
        self.open = []
        self.tags = []
        self.code = []
        self.texts = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        tag = self.open[-1] if self.open else None
        if tag in ("script", "style"):
            self.code.append((tag, self.tags[-1][1], data))
        elif data.strip():
            self.texts.append((tag, data))

    @property
    def text(self):
        return [text for _, text in self.texts]

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(path):
    return Reader(path.read_text(encoding="utf-8"))


def known(path):
    """The data block of a page, its numbers decoded."""
    text = next(data for _, attributes, data in read(path).code if attributes.get("id") == "data")
    data = json.loads(text)
    for name, dtype in ARRAYS.items():
        data[name] = np.frombuffer(base64.b64decode(data[name]), dtype)
    data["neighbour"] = data["neighbour"].reshape(data["opened"], data["depth"])
    return data
