"""Sets of images on disk for the explorer's tests, and what a page holds, read without a browser."""
import base64
import html.parser
import json

import numpy as np
import torch
from PIL import Image

from datasets.base import ImageList
from evaluation.explorer import write_explorer
from evaluation.explorer.page import Heading
from evaluation.ranking import nearest
from evaluation.report.map import place_images

EVIL = "</script><img src=x onerror=alert(1)>\"'&<!--<script>\x1b\u202e\u2028"
HEADING = Heading("a run", ["set", "net"], {"e_recall@1": 0.5, "rho_spectrum@-1": 1.25}, "report.html")


def shade(i):
    """The colour of image i, far from those of most others."""
    return tuple(int(part) for part in np.random.default_rng(i).integers(0, 255, 3))


def pictures(folder, label, names, start=0):
    """An ImageList of plain images, each of its own colour."""
    folder.mkdir(exist_ok=True)
    paths = []
    for i in range(start, start + len(label)):
        paths.append(folder / f"{i:03d}.png")
        Image.new("RGB", (20, 20), shade(i)).save(paths[-1])
    return ImageList(paths, label.tolist(), names)


def write(path, rows, images, *, among=None, gallery=None, limit=5000, mapped=0, heading=HEADING):
    """Write the page of embeddings; returns their neighbours (N, k) and the words of `write_explorer`."""
    there = rows if gallery is None else among
    depth = min(12, len(there) - (gallery is None))
    found = nearest(rows, there, depth, exclude_self=gallery is None)
    places = place_images(rows, torch.tensor(images.labels), mapped) if mapped else None
    return found[1], write_explorer(path, *found, images, heading, limit=limit, gallery=gallery, places=places)


class Reader(html.parser.HTMLParser):
    """Elements with their attributes, and the texts of scripts and styles and all others."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.code, self.text, self.inside = [], [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.code.append((self.inside, self.tags[-1][1], data))
        elif data.strip():
            self.text.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def known(path):
    """The data block of a page, its numbers decoded."""
    reader = Reader(path.read_text(encoding="utf-8"))
    (text,) = [data for _, attributes, data in reader.code if attributes.get("id") == "data"]
    data = json.loads(text)
    for name, dtype in (("label", "<i4"), ("neighbour", "<i4"), ("similarity", "<f4"), ("shown", "<i4"),
                        ("point", "<f4")):
        data[name] = np.frombuffer(base64.b64decode(data[name]), dtype)
    data["neighbour"] = data["neighbour"].reshape(data["opened"], data["depth"])
    return data
