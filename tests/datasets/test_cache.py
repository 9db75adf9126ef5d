"""Cached pixels are the decoder's, shared and kept; kills, changes, full disks and little memory
do no harm.
"""
import errno
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import batches, make_loader
from datasets import cache as module
from datasets.base import image_list
from datasets.cache import ImageCache, available_memory, open_cache
from datasets.crops import Shrink
from datasets.decode import ImageError, decode, decode_for
from datasets.transforms import train_transform
from tests.datasets.pictures import save_jpeg, textured
from utilities.errors import RunError, UsageError

SIDE = 48
SIZES = [(40, 60), (48, 48), (90, 61), (100, 300), (30, 30), (200, 150)]
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def paths(tmp_path):
    return [
        save_jpeg(tmp_path / "images" / f"{i}.jpg", textured(*size, seed=i))
        for i, size in enumerate(SIZES)
    ]


@pytest.fixture
def decoded(monkeypatch):
    """The files that the cache decoded."""
    seen = []

    def spy(path, plan):
        seen.append(path)
        return decode_for(path, plan)
    monkeypatch.setattr(module, "decode_for", spy)
    monkeypatch.setattr(module, "_estimate", lambda *args: 0)
    return seen


def opened(kind, paths, tmp_path, **kwargs):
    return open_cache(kind, paths, SIDE, tmp_path / "cache", name="set", **kwargs)


def check(cache, paths):
    """Every image is as the decoder gives it for this side."""
    for path in paths:
        pixels, size = cache[path]
        expected, whole, crop = decode_for(path, Shrink(SIDE))
        assert size == whole and torch.equal(pixels, crop.cut(expected, whole))
        assert min(pixels.shape[1:]) == min(SIDE, *whole)


def file_of(tmp_path):
    return next((tmp_path / "cache").glob("*.images"))


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_are_the_decoders(paths, tmp_path, kind, workers):
    state = torch.get_rng_state()
    check(opened(kind, [*paths, paths[0]], tmp_path, workers=workers), paths)
    assert torch.equal(torch.get_rng_state(), state)


def test_small_images_are_kept_as_they_are(paths, tmp_path):
    cache = opened("ram", paths, tmp_path)
    for path in paths[:2]:
        assert torch.equal(cache[path][0], decode(path))


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_worker_maps_the_same_pixels_and_is_not_sent_them(paths, tmp_path, kind):
    cache = opened(kind, paths, tmp_path)
    sent = pickle.dumps(cache)
    assert len(sent) < 2000
    check(pickle.loads(sent), paths)


def test_memory_is_given_back(paths, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    cache = opened("ram", paths, tmp_path)
    assert len(os.listdir("/proc/self/fd")) > before and not (tmp_path / "cache").exists()
    del cache
    assert len(os.listdir("/proc/self/fd")) == before


def test_none_is_none(paths):
    assert open_cache("none", paths, SIDE) is None
    with pytest.raises(UsageError, match="none, ram, disk"):
        open_cache("tape", paths, SIDE)


def test_the_next_run_decodes_nothing(paths, tmp_path, decoded):
    opened("disk", paths, tmp_path)
    assert sorted(decoded) == paths
    before = file_of(tmp_path).stat()
    check(opened("disk", paths[::-1], tmp_path), paths)
    assert len(decoded) == len(paths) and file_of(tmp_path).stat().st_ino == before.st_ino


def test_only_what_changed_is_decoded_anew(paths, tmp_path, decoded):
    opened("disk", paths, tmp_path)
    decoded.clear()
    # other pixels
    save_jpeg(paths[3], textured(80, 120, seed=9))
    # perhaps other pixels
    os.utime(paths[1], ns=(1, 1))
    changed = paths[2].stat()
    # other pixels, as old as before
    save_jpeg(paths[2], textured(90, 120, seed=7))
    os.utime(paths[2], ns=(changed.st_atime_ns, changed.st_mtime_ns))
    paths[4].unlink()
    more = save_jpeg(paths[0].with_name("more.jpg"), textured(70, 70, seed=8))
    now = [path for path in [*paths, more] if path != paths[4]]
    check(opened("disk", now, tmp_path), now)
    assert sorted(decoded) == sorted([*paths[1:4], more])
    assert len(list((tmp_path / "cache").glob("*.images"))) == 1


def test_sides_and_folders_have_files_of_their_own(paths, tmp_path):
    opened("disk", paths, tmp_path)
    open_cache("disk", paths, SIDE // 2, tmp_path / "cache", name="set")
    other = [shutil.copytree(paths[0].parent, tmp_path / "other") / path.name for path in paths[:1]]
    open_cache("disk", other, SIDE, tmp_path / "cache", name="set")
    assert len(list((tmp_path / "cache").glob("*.images"))) == 3
    check(opened("disk", paths, tmp_path), paths)


def row_changed(file, column):
    """A number in the middle of the index becomes negative; the file is as long as before."""
    with file.open("r+b") as opened:
        index = np.lib.format.read_array(opened)
        index[len(index) // 2, column] *= -1
        opened.seek(0)
        np.lib.format.write_array(opened, index)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"x" * 500),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes()[:200]),
        lambda file: row_changed(file, column=2),
        lambda file: row_changed(file, column=3),
        lambda file: row_changed(file, column=5),
        lambda file: np.save(file.open("wb"), np.zeros((6, 3))),
        lambda file: np.save(file.open("wb"), np.zeros((0, 7), int)),
        lambda file: np.save(
            file.open("wb"), np.array([os.system], dtype=object), allow_pickle=True
        ),
    ],
)
def test_a_damaged_file_is_written_anew(paths, tmp_path, decoded, damage):
    opened("disk", paths, tmp_path)
    damage(file_of(tmp_path))
    check(opened("disk", paths, tmp_path), paths)
    assert len(decoded) == 2 * len(paths)


def stopping(after, reached, paths, tmp_path):
    """In a process of its own: fill the cache, but wait for ever before so many images are
    decoded.
    """
    original = module.decode_for
    count = iter(range(99))

    def slow(path, plan):
        if next(count) == after:
            reached.set()
            time.sleep(60)
        return original(path, plan)
    module.decode_for = slow
    module._estimate = lambda *args: 0
    opened("disk", paths, tmp_path)


def killed_while_filling(paths, tmp_path, after):
    reached = FORK.Event()
    run = FORK.Process(target=stopping, args=(after, reached, paths, tmp_path))
    run.start()
    assert reached.wait(60)
    run.kill()
    run.join()


def test_killed_while_filling(paths, tmp_path):
    killed_while_filling(paths, tmp_path, 3)
    assert not list((tmp_path / "cache").glob("*.images"))
    check(opened("disk", paths, tmp_path), paths)
    assert not list((tmp_path / "cache").glob("*.part"))
    save_jpeg(paths[3], textured(80, 120, seed=9))
    whole = file_of(tmp_path).read_bytes()
    # while it is brought up to date
    killed_while_filling(paths, tmp_path, 0)
    assert file_of(tmp_path).read_bytes() == whole
    check(opened("disk", paths, tmp_path), paths)


def fill_slowly(writer, paths, tmp_path):
    """In a process of its own: fill the cache, and write a byte for every image decoded."""
    original = module.decode_for

    def slow(path, plan):
        os.write(writer, b"x")
        time.sleep(0.05)
        return original(path, plan)
    module.decode_for = slow
    module._estimate = lambda *args: 0
    check(opened("disk", paths, tmp_path), paths)


def test_two_runs_at_once(paths, tmp_path):
    """The second waits, and takes what the first has written."""
    pipes = [os.pipe() for _ in range(2)]
    runs = [FORK.Process(target=fill_slowly, args=(writer, paths, tmp_path)) for _, writer in pipes]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    for _, writer in pipes:
        os.close(writer)
    assert [run.exitcode for run in runs] == [0, 0]
    assert sorted(len(os.read(reader, 99)) for reader, _ in pipes) == [0, len(paths)]


@pytest.mark.parametrize("kind,workers", [("ram", 0), ("disk", 1)])
def test_a_broken_image_is_named_and_nothing_is_left(paths, tmp_path, kind, workers, monkeypatch):
    monkeypatch.setattr(module, "_estimate", lambda *args: 0)
    paths[2].write_bytes(paths[2].read_bytes()[:500])
    with pytest.raises(ImageError) as caught:
        opened(kind, paths, tmp_path, workers=workers)
    assert str(caught.value).startswith(f"{paths[2]}: ") and "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists() or not [*(tmp_path / "cache").glob("*.[ip]*")]


def test_a_missing_image_is_named(paths, tmp_path):
    paths[2].unlink()
    with pytest.raises(RunError, match="2.jpg"):
        opened("disk", paths, tmp_path)


def full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("kind,words", [("ram", "--cache ram: .*No space left.*--cache_side"),
                                        ("disk", "--cache_path .*No space left.*another folder")])
def test_no_room_while_filling(paths, tmp_path, monkeypatch, kind, words):
    opened("disk", paths, tmp_path)
    whole = file_of(tmp_path).read_bytes()
    os.utime(paths[0], ns=(1, 1))
    monkeypatch.setattr(module, "_fill", full)
    with pytest.raises(RunError, match=words) as caught:
        opened(kind, paths, tmp_path)
    assert "\n" not in str(caught.value)
    assert file_of(tmp_path).read_bytes() == whole and not list((tmp_path / "cache").glob("*.part"))


def fill_within(limit, said, paths, tmp_path):
    """In a process of its own, which may write files of so many bytes: what filling the cache
    says.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        opened("disk", paths, tmp_path)
    except RunError as error:
        said.send(str(error))


def test_a_disk_that_fills_up(paths, tmp_path):
    hear, said = FORK.Pipe(duplex=False)
    run = FORK.Process(target=fill_within, args=(20_000, said, paths, tmp_path))
    run.start()
    run.join()
    sentence = hear.recv()
    assert "cannot be written (File too large)" in sentence and "\n" not in sentence
    assert not [*(tmp_path / "cache").glob("*.[ip]*")]


@pytest.mark.parametrize(
    "kind,what,words",
    [
        (
            "ram",
            "available_memory",
            "--cache ram needs about 2.0 GiB of memory and 1.0 GiB are free",
        ),
        ("disk", "disk", "--cache disk needs about 2.0 GiB in .* and 1.0 GiB are free"),
    ],
)
def test_too_little_room_is_refused_before(
    paths, tmp_path, monkeypatch, decoded, kind, what, words
):
    monkeypatch.setattr(module, "_estimate", lambda *args: 2 * 2**30)
    monkeypatch.setattr(module, "available_memory", lambda: 2**30)
    monkeypatch.setattr(
        module.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(2**40, 0, 2**30)
    )
    with pytest.raises(UsageError, match=words):
        opened(kind, paths, tmp_path)
    assert decoded == []


def test_the_estimate_is_near_what_is_taken(tmp_path):
    paths = [save_jpeg(tmp_path / f"{i}.jpg", textured(60 + i, 90)) for i in range(20)]
    taken = sum(open_cache("ram", paths, SIDE)[path][0].numel() for path in paths)
    assert taken <= module._estimate(paths, SIDE) < 1.25 * taken
    assert 2**20 < available_memory() < 2**50


def test_what_a_container_keeps_of_files_makes_room(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CONTAINER", tmp_path)
    (tmp_path / "memory.max").write_text(f"{2**22}\n")
    (tmp_path / "memory.current").write_text(f"{2**22 - 1000}\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 70000\nactive_file 400\n")
    assert available_memory() == 71_400
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() > 2**22


def test_a_folder_that_cannot_be_written(paths, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="--cache_path .*file"):
        open_cache("disk", paths, SIDE, tmp_path / "file")


def test_reading_takes_no_memory_of_its_own(tmp_path):
    """Pixels are mapped, not read: the process's private memory does not grow with the images
    looked at.
    """
    paths = [save_jpeg(tmp_path / f"{i}.jpg", textured(400, 400, seed=i)) for i in range(8)]
    cache = open_cache("disk", paths, 400, tmp_path / "cache")
    reader = ImageCache(cache.source, sorted(paths))
    # what the first look takes once
    brightest = reader[paths[0]][0].numpy().max()
    before = private_bytes()
    for path in paths:
        brightest = max(brightest, reader[path][0].numpy().max())
    # of eight
    assert brightest == 255 and private_bytes() - before < 2 * 400 * 400 * 3


def test_decoding_keeps_nothing(paths):
    """Without a cache an image is forgotten once it is given: passes over the images take no
    more and more memory.
    """
    loader = make_loader(
        image_list([(path, "one") for path in paths]), train_transform("base", 64, (0.5,) * 3, (0.5,) * 3)
    )
    held = []
    for _ in range(60):
        for _ in batches(loader):
            pass
        held.append(private_bytes())
    assert held[-1] - held[9] < 50 * sum(3 * height * width for height, width in SIZES) / 4


def private_bytes():
    """Memory that this process alone holds, without what only maps a file."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return values["Anonymous"]


def test_a_cache_that_another_run_has_rewritten_is_not_taken_for_the_own(paths, tmp_path):
    cache = opened("disk", paths, tmp_path)
    handed_over = pickle.dumps(cache)
    check(pickle.loads(handed_over), paths)
    others = [save_jpeg(tmp_path / "images" / f"0{i}.jpg", textured(50, 50, i)) for i in range(6)]
    opened("disk", others, tmp_path)
    # the file is mapped as it was
    check(cache, paths)
    with pytest.raises(RunError, match="another run has rewritten this cache"):
        pickle.loads(handed_over)


def test_a_cache_is_mapped_before_another_run_may_replace_it(paths, tmp_path, monkeypatch):
    others = [save_jpeg(tmp_path / "images" / f"0{i}.jpg", textured(50, 50, i)) for i in range(6)]
    opened("disk", others, tmp_path)
    theirs = file_of(tmp_path).read_bytes()
    release = module.Lock.release

    def replaced(lock):
        release(lock)
        place = file_of(tmp_path)
        place.unlink()
        place.write_bytes(theirs)
    monkeypatch.setattr(module.Lock, "release", replaced)
    check(opened("disk", paths, tmp_path), paths)
