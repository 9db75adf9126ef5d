"""Folders that one process at a time works in."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from utilities.errors import RunError
from utilities.lock import Lock


def test_another_is_kept_out_until_the_release(tmp_path):
    first = Lock(tmp_path, "taken")
    with pytest.raises(RunError, match="taken"):
        Lock(tmp_path, "taken")
    first.release()
    first.release()
    Lock(tmp_path, "taken").release()


def test_without_a_sentence_the_next_one_waits(tmp_path):
    order = []

    def next_one():
        with Lock(tmp_path):
            order.append("second")

    with Lock(tmp_path):
        thread = threading.Thread(target=next_one)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_forked_process_does_not_hold_the_lock_of_its_parent(tmp_path):
    lock = Lock(tmp_path, "taken")
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    try:
        with pytest.raises(RunError, match="taken"):
            Lock(tmp_path, "taken")
        lock.release()
        Lock(tmp_path, "taken").release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


LOADING = """
import os, sys, time
from torch.utils.data import DataLoader
from utilities.lock import Lock
lock = Lock(sys.argv[1], "taken")
for item in DataLoader([0] * 100, num_workers=2, collate_fn=lambda row: time.sleep(0.2)):
    print("loading", os.getpid(), flush=True)
"""


def test_the_lock_ends_with_a_killed_process_and_not_with_its_workers(tmp_path):
    words = [sys.executable, "-c", LOADING, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.kill()
        process.wait()
        # at once, while the workers still wait for their parent
        Lock(tmp_path, "taken").release()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_does_without(tmp_path, monkeypatch, number):
    def flock(handle, how):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(fcntl, "flock", flock)
    with Lock(tmp_path, "busy"), Lock(tmp_path):
        pass
    number = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        Lock(tmp_path, "busy")
