"""Freed memory is kept: counted in page faults, in processes of their own."""
import os
import subprocess
import sys

import pytest

from utilities import allocator

# Forty blocks of 64 MiB, one after the other; prints the answer and the page faults of the last
# twenty. (The first ones move while the heap grows.)
PROGRAM = """
import resource
import torch
from utilities.allocator import keep_freed_memory

answer = keep_freed_memory() if {keep} else None
for _ in range(20):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(answer, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def measured(keep: bool, **environment) -> tuple[str, int]:
    """What the program prints."""
    command = [sys.executable, "-c", PROGRAM.format(keep=keep)]
    clean = {name: value for name, value in os.environ.items() if name not in allocator.CHOSEN}
    output = subprocess.run(command, capture_output=True, text=True, env=clean | environment)
    answer, faults = output.stdout.split()
    return answer, int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_a_freed_block_is_used_again_without_a_page_fault():
    answer, faults = measured(keep=True)
    _, plain = measured(keep=False)
    assert answer == "True"
    assert faults < 100
    # Pages of 2 MiB at the most.
    assert plain > 20 * 32


def test_the_environments_own_setting_stays():
    answer, faults = measured(keep=True, MALLOC_MMAP_THRESHOLD_="1048576")
    assert answer == "False"
    assert faults > 20 * 32


@pytest.mark.parametrize("environment", [{"GLIBC_TUNABLES": "glibc.malloc.mmap_max=9"}, {}])
def test_nothing_is_changed_where_it_is_chosen_or_unknown(monkeypatch, environment):
    def refused(_):
        raise AssertionError("mallopt was asked for")

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", refused)
    assert not allocator.keep_freed_memory()
