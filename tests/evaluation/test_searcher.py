"""Searcher: rows as evaluation.embed writes them, for images of any kind, and their hits."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.formats import Content
from evaluation.embed.command import main as embed
from evaluation.search import Searcher
from evaluation.search.command import main
from tests.evaluation.test_search import save_network
from utilities.errors import RunError, UsageError

ROTATED = 6  # EXIF: turn by 90 degrees
KINDS = ("plain.png", "turned.jpg", "clear.png", "deep.png", "grey.png", "palette.gif", "big.jpg")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images of all kinds in two classes, a network, and embeddings in `e`."""
    place = tmp_path_factory.mktemp("searcher")
    images = place / "images"
    random = np.random.default_rng(0)
    for name in ("odd", "even"):
        (images / name).mkdir(parents=True)

    def noise(*shape, high=256, kind=np.uint8):
        return Image.fromarray(random.integers(high, size=shape, dtype=kind))
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    noise(20, 26, 3).save(images / "odd" / "plain.png")
    noise(20, 31, 3).save(images / "odd" / "turned.jpg", exif=exif)
    noise(20, 26, 4).save(images / "odd" / "clear.png")
    noise(20, 26, high=2**16, kind=np.uint16).save(images / "odd" / "deep.png")
    noise(20, 26).save(images / "even" / "grey.png")
    noise(20, 26, 3).convert("P").save(images / "even" / "palette.gif")
    # a decoder scales it down
    noise(12, 15, 3).resize((150, 120)).save(images / "even" / "big.jpg")
    save_network(place / "last.pt")
    argv = [place / "last.pt", images, "--out", place / "e", "--device", "cpu"]
    assert embed([*map(str, argv), "--metrics"]) == 0
    return place


@pytest.fixture(scope="module")
def searcher(place):
    return Searcher(place / "e", device="cpu")


def row_of(searcher, name):
    return next(row for row in range(len(searcher)) if searcher.gallery.image_of(row).name == name)


def opened(path):
    return Image.open(path)


def loaded(path):
    image = Image.open(path)
    image.load()
    return image


def content(path):
    return Content(path.read_bytes(), path.name)


@pytest.mark.parametrize("read", [str, opened, loaded, content])
@pytest.mark.parametrize("name", KINDS)
def test_rows_are_those_that_embed_wrote(searcher, name, read):
    if (name, read) == ("big.jpg", loaded):
        pytest.skip("decoded in full, which by its path it is not")
    row = row_of(searcher, name)
    found = searcher.embed([read(searcher.gallery.image_of(row))])
    torch.testing.assert_close(found[0], searcher.gallery.rows[row], atol=1e-6, rtol=0)


def test_an_array_is_its_rgb_pixels(searcher):
    row = row_of(searcher, "plain.png")
    pixels = np.array(Image.open(searcher.gallery.image_of(row)))
    turned_back = pixels[::-1][::-1]
    pixels.setflags(write=False)
    for array in (pixels, turned_back):
        found = searcher.embed([array])
        torch.testing.assert_close(found[0], searcher.gallery.rows[row], atol=1e-6, rtol=0)


def test_hits_are_files_classes_and_cosines(searcher, place):
    rows = searcher.gallery.rows.double()
    query = row_of(searcher, "deep.png")
    path = searcher.gallery.image_of(query)
    cosine = rows @ rows[query]
    order = [i for i in cosine.argsort(descending=True).tolist() if i != query]
    hits = searcher.find(str(path), k=4)
    assert [hit.path for hit in hits] == [searcher.gallery.image_of(i) for i in order[:4]]
    assert [hit.class_name for hit in hits] == [hit.path.parent.name for hit in hits]
    np.testing.assert_allclose([hit.similarity for hit in hits], cosine[order[:4]], atol=1e-6)
    # an image of the folder that is not named by its path finds itself
    assert searcher.find(Image.open(path), k=1)[0].path == path


def test_hits_of_less_similarity_are_left_out(searcher):
    image = searcher.gallery.image_of(0)
    hits = searcher.find(image, k=6)
    least = hits[2].similarity
    assert searcher.find(image, 6, min_similarity=least) == hits[:3]
    assert searcher.find(image, 6, min_similarity=np.nextafter(least, 2)) == hits[:2]
    assert searcher.find(image, 6, min_similarity=1) == []
    with pytest.raises(UsageError, match="min_similarity: 2 is not a number from -1 to 1"):
        searcher.find(image, 6, min_similarity=2)


def test_several_queries_and_none(searcher):
    images = [searcher.gallery.image_of(i) for i in (3, 0)]
    results = searcher.find_all([*images, Image.open(images[0])], k=2)
    assert [result.path for result in results] == [*images, None]
    for image, result in zip(images, results):
        alone = searcher.find(image, k=2)
        assert [hit.path for hit in result.hits] == [hit.path for hit in alone]
    assert searcher.find_all([]) == []


def test_the_threshold_is_that_of_fnmr(searcher):
    rows = searcher.gallery.rows.double().numpy()
    names = [searcher.gallery.class_of(row) for row in range(len(rows))]
    distances = [np.linalg.norm(rows[i] - rows[j])
                 for i in range(len(rows)) for j in range(i) if names[i] != names[j]]
    for rate in (0.1, 0.5):
        limit = np.quantile(distances, rate)
        assert searcher.threshold(rate) == pytest.approx(1 - limit**2 / 2, abs=1e-6)
    with pytest.raises(UsageError, match="rate: 1 is not"):
        searcher.threshold(1)


@pytest.mark.parametrize("query, words", [
    ("absent.png", "there is no such image"),
    (np.zeros((4, 4), np.uint8), r"\(H, W, 3\) of type uint8"),
    (np.zeros((4, 4, 3)), "of type float64"),
    (np.zeros((0, 4, 3), np.uint8), r"\(H, W, 3\)"),
    (7, "of type int"),
])
def test_what_is_no_image_is_one_sentence(searcher, query, words):
    with pytest.raises(UsageError, match=words):
        searcher.find(query, k=1)


def test_a_damaged_image_is_one_sentence(searcher, place, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes((place / "images" / "odd" / "plain.png").read_bytes()[:900])
    for query in (cut, content(cut), opened(cut)):
        with pytest.raises(RunError, match="cannot be decoded"):
            searcher.find(query, k=1)


# ------------------------------------------------------------ the command


def run(*argv):
    return main([str(word) for word in argv] + ["--device", "cpu", "--no_picture"])


def test_a_folder_of_queries_and_their_json(place, searcher, tmp_path, capsys):
    queries = tmp_path / "queries" / "deep"
    queries.mkdir(parents=True)
    (queries / "b.png").write_bytes((place / "images" / "odd" / "plain.png").read_bytes())
    Image.new("RGB", (30, 20), "red").save(queries.parent / "a.jpg")
    (queries / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    (queries / "gone.jpg").symlink_to("nowhere.jpg")
    out = tmp_path / "hits.json"
    argv = [place / "e", queries.parent, place / "images" / "even", "--k", 3]
    assert run(*argv, "--min_similarity", 0.2, "--json", out) == 0
    said = capsys.readouterr()
    assert "cut.jpg: this image cannot be decoded" in said.err
    assert "gone.jpg: the image is gone" in said.err
    written = json.loads(out.read_text())
    asked = [queries.parent / "a.jpg", queries / "b.png", *(place / "images" / "even").iterdir()]
    assert {query["path"] for query in written["queries"]} == set(map(str, asked))
    for query in written["queries"]:
        hits = searcher.find(query["path"], 3, 0.2)
        assert [hit["file"] for hit in query["hits"]] == [str(hit.path) for hit in hits]
        written_cosines = [hit["similarity"] for hit in query["hits"]]
        np.testing.assert_allclose(written_cosines, [hit.similarity for hit in hits], atol=1e-6)
        assert [hit["class"] for hit in query["hits"]] == [hit.class_name for hit in hits]


def test_a_query_without_hits_says_so(place, tmp_path, capsys):
    query = tmp_path / "q.png"
    Image.new("RGB", (30, 20), "blue").save(query)
    argv = [str(word) for word in (place / "e", query, "--k", 3, "--min_similarity", 1)]
    assert main([*argv, "--device", "cpu", "--picture", str(tmp_path / "p.png")]) == 0
    assert "no image is as similar" in capsys.readouterr().out
    assert (tmp_path / "p.png").exists()
    with pytest.raises(SystemExit):
        run(*argv[:2], "--min_similarity", 3)
    assert "3 is not a number from -1 to 1" in capsys.readouterr().err


def test_rows_and_paths_belong_together(searcher):
    rows = searcher.gallery.rows[:3]
    assert len(searcher.search(rows, [None] * 3, k=np.int64(2))) == 3
    for paths in ([None], [None] * 4):
        with pytest.raises(UsageError, match="a path or None for each"):
            searcher.search(rows, paths)
    with pytest.raises(UsageError, match="rows of shape"):
        searcher.search(rows[0], [None])


def test_the_device_is_one_that_there_is(place):
    assert Searcher(place / "e", device=torch.device("cpu")).open().device.type == "cpu"
    for device in ("gpu", "cpu:1x", torch.device("meta")):
        with pytest.raises(UsageError, match="device .*: choose one of auto, cpu, cuda"):
            Searcher(place / "e", device=device).open()
