"""`python -m datasets.prepare` from archives and servers to a data set that main.py reads."""
import hashlib
import os
import shutil
import subprocess
import sys
import threading

import pytest

from datasets import archives, cars196, cub200, in_shop, online_products, prepare, select
from tests.datasets import trees
from tests.datasets.conftest import save_tree
from tests.datasets.test_archives import contents
from tests.datasets.test_parsers import classes_of
from tests.utilities.test_download import killed, serving
from utilities import download
from utilities.lock import Lock

CUB = "CUB_200_2011.tgz"


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """The known numbers are those of the tiny trees."""
    monkeypatch.setattr(cub200, "COUNTS", {"train": (16, 4), "test": (16, 4)})
    monkeypatch.setattr(cars196, "COUNTS", {"train": (16, 4), "test": (16, 4)})
    monkeypatch.setattr(online_products, "COUNTS", {"train": (32, 8), "test": (32, 8)})
    monkeypatch.setattr(in_shop, "COUNTS", {"train": (16, 4), "test": (8, 4), "gallery": (8, 4)})
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(download, "CHUNK", 1000)


@pytest.fixture
def source(tmp_path):
    """The folder that data sets are put into."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def server():
    with serving() as running:
        yield running


def known(monkeypatch, name, source, url=None):
    """The files of a data set as they lie in `source` become the known ones; `url` is where all
    can be fetched.
    """
    own = prepare.SOURCES[name]
    files = tuple(
        file._replace(md5=hashlib.md5((source / file.name).read_bytes()).hexdigest(), url=url)
        for file in own.files
    )
    monkeypatch.setitem(prepare.SOURCES, name, own._replace(files=files))
    return files


def run(name, source, *more):
    return prepare.main([name, "--source_path", str(source), "--kernels", "0", *more])


def failed(capsys, code, name, source, *more):
    """The one sentence with which the command fails."""
    assert run(name, source, *more) == code
    sentence = capsys.readouterr().err.split("\r")[-1].strip()
    assert sentence.startswith("datasets.prepare: ") and "\n" not in sentence
    return sentence


def save_cub(tmp_path, source, traps=()):
    return trees.make_tgz(trees.cub_official(tmp_path / "made", traps=traps), source / CUB)


def save_cars(tmp_path, source):
    own = trees.cars_official(tmp_path / "made")
    shutil.copy(own / "cars_annos.mat", source)
    return trees.make_tgz(own / "car_ims", source / "car_ims.tgz")


def save_sop(tmp_path, source):
    return trees.make_zip(
        trees.sop_official(tmp_path / "made"), source / "Stanford_Online_Products.zip"
    )


def save_in_shop(tmp_path, source):
    own = trees.in_shop_official(tmp_path / "made")
    shutil.copy(own / "Eval" / "list_eval_partition.txt", source)
    return trees.make_zip(own / "Img" / "img", source / "img.zip")


SAVE = {
    "cub200": save_cub,
    "cars196": save_cars,
    "online_products": save_sop,
    "in_shop": save_in_shop,
}


# --------------------------------------------------------------------------- from archives that lie


@pytest.mark.parametrize("name", SAVE)
def test_archives_become_a_data_set(name, tmp_path, source, monkeypatch, capsys):
    SAVE[name](tmp_path, source)
    files = [file.name for file in known(monkeypatch, name, source)]
    assert run(name, source) == 0
    assert "No problems found." in capsys.readouterr().out
    assert sorted(os.listdir(source)) == sorted([*files, name])
    for made, original in zip(select(name, source), select(name, tmp_path / "made"), strict=True):
        if original is not None:
            assert made.class_names == original.class_names and classes_of(made) == classes_of(
                original
            )
            assert [path.read_bytes() for path in made.paths] == [
                path.read_bytes() for path in original.paths
            ]
            assert (made.super_labels, made.super_names) == (
                original.super_labels,
                original.super_names,
            )
            assert all(path.is_relative_to(source / name) for path in made.paths)


def test_cars_by_their_table(tmp_path, source, monkeypatch):
    save_cars(tmp_path, source)
    known(monkeypatch, "cars196", source)
    assert run("cars196", source) == 0
    folders = sorted(path.name for path in (source / "cars196" / "images").iterdir())
    assert folders[4] == "005.Ram C-V Cargo Van Minivan 2012" and len(folders) == 8
    assert (source / "cars196" / "images" / folders[4] / "000017.jpg").read_bytes() == (
        tmp_path / "made" / "cars196" / "car_ims" / "000017.jpg").read_bytes()


def test_layouts(tmp_path, source, monkeypatch):
    for name in SAVE:
        SAVE[name](tmp_path, source)
        known(monkeypatch, name, source)
        assert run(name, source) == 0
    for path in (
        "cub200/images.txt",
        "cub200/images/008.Rhinoceros_Auklet",
        "online_products/Info_Files/Ebay_info.txt",
        "online_products/images/bicycle_final",
        "in_shop/Eval/list_eval_partition.txt",
        "in_shop/Img/img/WOMEN/Dresses",
        "cars196/images/008.smart fortwo Convertible 2012",
    ):
        assert (source / path).exists(), path


def test_the_second_time_nothing_is_done(tmp_path, source, monkeypatch, capsys):
    save_cub(tmp_path, source)
    known(monkeypatch, "cub200", source)
    assert run("cub200", source) == 0
    (source / CUB).unlink()
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    capsys.readouterr()
    assert run("cub200", source) == 0
    assert f"{source / 'cub200'} is there already and is only checked." in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before


@pytest.mark.parametrize("own", [True, False])
def test_an_extracted_archive_is_only_checked(own, source, capsys):
    folder = trees.cub_official(source)
    before = contents(source)
    assert run("cub200", folder if own else source) == 0
    assert f"{folder} is there already" in capsys.readouterr().out and contents(source) == before


def test_an_archive_of_another_md5(tmp_path, source, capsys):
    archive = save_cub(tmp_path, source)
    assert (
        f"{archive}: the MD5 sum is" in (said := failed(capsys, 2, "cub200", source))
        and "--any_md5" in said
    )
    assert os.listdir(source) == [CUB]
    assert run("cub200", source, "--any_md5") == 0


def test_an_archive_that_is_not_whole(tmp_path, source, capsys):
    """A class of the lists has no folder: nothing is put in place."""
    save_cub(tmp_path, source, traps={"missing_class"})
    said = failed(capsys, 1, "cub200", source, "--any_md5")
    assert "4 of 32 images are missing" in said and "unfinished" not in said
    assert os.listdir(source) == [CUB]


def test_an_archive_of_something_else(source, tmp_path, capsys):
    trees.make_tgz(save_tree(tmp_path / "tree"), source / CUB)
    assert "cannot be made" in failed(capsys, 1, "cub200", source, "--any_md5")
    assert os.listdir(source) == [CUB]


@pytest.mark.parametrize("kind", ["parent", "through_symlink", "device"])
def test_a_hostile_archive(kind, source, capsys):
    trees.hostile_tgz(source / CUB, kind)
    assert str(source / CUB) in failed(capsys, 1, "cub200", source, "--any_md5")
    assert os.listdir(source) == [CUB]


def test_broken_images_are_listed_after_preparing(tmp_path, source, monkeypatch, capsys):
    save_cub(tmp_path, source, traps={"truncated", "grey", "cmyk", "rotated", "spaces", "stray"})
    known(monkeypatch, "cub200", source)
    assert run("cub200", source) == 1
    out, err = capsys.readouterr()
    assert (
        out.count("problem: ") == 1
        and "Black_Footed_Albatross_0004_796103.jpg: this image cannot" in out
    )
    assert f"Problems with cub200 in {source}: 1, listed above." in err


def test_something_else_in_the_place_of_the_data_set(tmp_path, source, capsys):
    save_cub(tmp_path, source)
    trees.write_lines(source / "cub200" / "mine.txt", ["content"])
    assert f"{source / 'cub200'} is there, but" in failed(capsys, 2, "cub200", source, "--any_md5")
    assert contents(source / "cub200") == {"mine.txt": b"content\n"}


@pytest.mark.parametrize(
    "name, said",
    [
        (
            "cars196",
            (
                "Stanford",
                "gone",
                "Web Archive",
                "Kaggle",
                "vision/issues/7545",
                "d5c8f0aa497503f355e17dc7886c3f14",
                "b407c6086d669747186bd1d764ff9dbc",
            ),
        ),
        ("in_shop", ("agreement", "DeepFashion", "Img/img.zip", "Eval/list_eval_partition.txt")),
    ],
)
def test_what_cannot_be_fetched_says_what_to_do(name, said, source, capsys):
    sentence = failed(capsys, 2, name, source)
    assert all(word in sentence for word in (*said, str(source))), sentence
    assert os.listdir(source) == []


# ------------------------------------------------------------------------------------- from the web


def test_download_to_data_set(tmp_path, monkeypatch, server, capsys):
    source = tmp_path / "new" / "folder"
    source.mkdir(parents=True)
    archive = save_cub(tmp_path, source)
    known(monkeypatch, "cub200", source, server.url)
    server.content = archive.read_bytes()
    server.cuts = [5000, 2000]
    shutil.rmtree(tmp_path / "new")
    assert run("cub200", source) == 0
    assert server.asked == [None, "bytes=5000-", "bytes=7000-"]
    assert sorted(os.listdir(source)) == [CUB, "cub200"] and str(
        select("cub200", source)
    ).startswith("train 16 images")
    assert "test" in capsys.readouterr().out


def test_a_mirror(tmp_path, source, monkeypatch, server):
    archive = save_sop(tmp_path, source)
    known(monkeypatch, "online_products", source, "http://127.0.0.1:9/dead")
    server.content = archive.read_bytes()
    archive.unlink()
    assert run("sop", source, "--url", server.url) == 0
    assert (source / "online_products").is_dir()


def test_a_mirror_of_something_else(tmp_path, source, monkeypatch, server, capsys):
    archive = save_cub(tmp_path, source)
    known(monkeypatch, "cub200", source)
    server.content = archive.read_bytes() + b"more"
    archive.unlink()
    said = failed(capsys, 1, "cub200", source, "--url", server.url, "--any_md5")
    assert "MD5" in said and os.listdir(source) == []


def test_a_mirror_of_several_files(tmp_path, source, monkeypatch, server, capsys):
    save_cars(tmp_path, source)
    files = known(monkeypatch, "cars196", source)
    assert "with a slash at its end" in failed(capsys, 2, "cars196", source, "--url", server.url)
    server.content = (source / files[1].name).read_bytes()
    (source / files[1].name).unlink()
    assert run("cars196", source, "--url", server.url.removesuffix("file")) == 0
    assert f"/{files[1].name}" in capsys.readouterr().out


def test_killed_in_the_download_and_in_the_extraction(tmp_path, source, monkeypatch, server):
    """Two kills of the command, and the third start ends with the data set."""
    archive = save_cub(tmp_path, source)
    known(monkeypatch, "cub200", source, server.url)
    server.content = archive.read_bytes()
    archive.unlink()

    server.cuts = [9000]
    server.stall = threading.Event()
    part = source / f"{CUB}.part"
    killed(lambda: run("cub200", source), lambda: part.exists() and part.stat().st_size)
    server.stall.set()
    assert sorted(os.listdir(source)) == [f"{CUB}.part", f"{CUB}.part.version"]
    arrived = part.stat().st_size

    def stopping():
        write = archives._write
        written = []

        def write_six(stream, path, size):
            if len(written) == 6:
                threading.Event().wait()
            write(stream, path, size)
            written.append(path)

        archives._write = write_six
        run("cub200", source)

    # files may vanish meanwhile
    killed(stopping, lambda: sum(len(files) for _, _, files in os.walk(source)) > 6)
    assert server.asked == [None, f"bytes={arrived}-"]
    assert sorted(os.listdir(source)) == [".cub200.unfinished", CUB]

    assert run("cub200", source) == 0
    assert len(server.asked) == 2 and sorted(os.listdir(source)) == [CUB, "cub200"]
    assert contents(source / "cub200").keys() >= contents(tmp_path / "made" / "CUB_200_2011").keys()


# ------------------------------------------------------------------------------------- only checked


def test_check_only_on_a_damaged_tree_lists_each_problem_and_writes_nothing(source, capsys):
    folder = trees.cub_base(source)
    images = sorted((folder / "images").rglob("*.jpg"))
    images[1].unlink()
    images[2].write_bytes(b"")
    images[9].write_bytes(b"no image")
    before = contents(source)
    assert run("cub200", source, "--check_only") == 1
    out, err = capsys.readouterr()
    problems = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert problems[0] == "problem: train: 15 images instead of 16." and len(problems) == 3
    assert str(images[2]) in problems[1] and str(images[9]) in problems[2]
    assert (
        f"Problems with cub200 in {source}: 3, listed above." in err and contents(source) == before
    )
    assert "| train |     15 |       4 |  16 in 4 |" in out


def test_check_only_fetches_nothing(tmp_path, source, capsys):
    save_cub(tmp_path, source)
    assert "cub200 is not here" in failed(capsys, 2, "cub200", source, "--check_only")
    assert os.listdir(source) == [CUB]


@pytest.mark.parametrize("name", ["cub200", "cars196"])
def test_a_folder_without_images_is_a_problem(name, source, capsys):
    (source / name / "images").mkdir(parents=True)
    assert run(name, source, "--check_only") == 1
    out, err = capsys.readouterr()
    assert "problem: " in out and "Problems with" in err


def test_one_process_prepares_at_a_time(tmp_path, source, capsys):
    save_cub(tmp_path, source)
    lock = Lock(source)
    timer = threading.Timer(0.3, lock.release)
    timer.start()
    assert run("cub200", source, "--any_md5") == 0
    timer.join()
    assert "another process is preparing a data set there. Waiting for its end." in capsys.readouterr().out


def test_what_another_process_has_made_meanwhile_is_taken(tmp_path, source, monkeypatch):
    save_cub(tmp_path, source)
    original = prepare._lock

    def late(folder):
        monkeypatch.setattr(prepare, "_lock", original)
        prepare.prepare("cub200", folder, any_md5=True)
        return original(folder)

    monkeypatch.setattr(prepare, "_lock", late)
    assert run("cub200", source, "--any_md5") == 0


def test_own_images(tmp_path, capsys):
    save_tree(tmp_path / "tree")
    assert run("image_folder", tmp_path / "tree") == 0
    assert "| train |     12 |       3 |" in capsys.readouterr().out
    (tmp_path / "tree" / "class_1" / "2.png").write_bytes(b"no image")
    assert run("image_folder", tmp_path / "tree") == 1
    assert "class_1/2.png" in capsys.readouterr().out


def test_names_of_every_kind_are_told_on_one_line(tmp_path):
    """Line ends, and bytes that are no UTF-8, which a terminal refuses."""
    save_tree(tmp_path / "tree")
    for label, name in enumerate((b"new\nline", b"\xff\xfe", "\u0416 \u00df".encode())):
        folder = os.path.join(os.fsencode(tmp_path / "tree"), name)
        os.rename(tmp_path / "tree" / f"class_{label}", folder)
        with open(os.path.join(folder, b"0.png"), "wb"):
            pass
    argv = [
        sys.executable,
        "-m",
        "datasets.prepare",
        "image_folder",
        "--source_path",
        str(tmp_path / "tree"),
        "--kernels",
        "0",
    ]
    found = subprocess.run(
        argv, capture_output=True, env={**os.environ, "PYTHONUTF8": "1"}, check=False
    )
    problems = [line for line in found.stdout.splitlines() if line.startswith(b"problem: ")]
    assert found.returncode == 1 and len(problems) == 4 and b"not in UTF-8" in problems[0], found
    for name in (rb"new\nline/0.png: ", rb"\udcff\udcfe/0.png: ", "\u0416 \u00df/0.png: ".encode()):
        assert sum(name in line for line in problems[1:]) == 1


@pytest.mark.parametrize("name, more", [("cub200", ("--check_only", "--url", "http://host/file")),
                                        ("image_folder", ("--any_md5",))])
def test_flags_that_cannot_apply(name, more, source, capsys):
    assert "cannot apply" in failed(capsys, 2, name, source, *more)


def test_known_sums_are_sums():
    sums = [file.md5 for own in prepare.SOURCES.values() for file in own.files if file.md5]
    assert len(sums) == 4 and all(len(md5) == 32 and int(md5, 16) for md5 in sums)
