"""Folders that one process at a time works in."""

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
