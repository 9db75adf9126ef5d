"""One process of several: sums, lost processes, and who prints."""
import contextlib
import os
import sys

import pytest
import torch
import torch.distributed as dist

from utilities import distributed
from utilities.distributed import (
    mean_in_place,
    name_lost_processes,
    print_on_rank_zero,
    sum_in_place,
)
from utilities.errors import RunError, UsageError

CPU = torch.device("cpu")


@pytest.fixture
def exchanges(monkeypatch):
    """Two processes, the other of which holds ten times the same; the tensors of each exchange."""
    seen = []

    def all_reduce(flat, *operation):
        seen.append(flat.clone())
        flat.mul_(11)

    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    return seen


def test_sums_of_any_shape_and_type_replace_the_tensors_in_one_exchange_a_type(exchanges):
    tensors = [
        torch.randn(2, 3),
        torch.arange(4),
        torch.randn(3, 2).t(),
        torch.tensor(2.5),
        torch.empty(0, 3),
        torch.randn(2, dtype=torch.float64),
        torch.tensor([[5]]),
    ]
    before = [tensor.clone() for tensor in tensors]
    addresses = [tensor.data_ptr() for tensor in tensors]
    sum_in_place(tensors)
    for tensor, own in zip(tensors, before):
        assert torch.equal(tensor, own * 11)
    assert [tensor.data_ptr() for tensor in tensors] == addresses
    assert [flat.dtype for flat in exchanges] == [torch.float32, torch.int64, torch.float64]
    assert [flat.shape for flat in exchanges] == [(13,), (5,), (2,)]


def test_means_divide_by_the_number_of_processes(exchanges):
    tensors = [torch.ones(2), torch.full((1, 2), 4.0).double()]
    mean_in_place(tensors)
    assert tensors[0].tolist() == [5.5, 5.5]
    assert tensors[1].tolist() == [[22.0, 22.0]]


def test_nothing_is_exchanged_for_no_tensors_or_one_process(exchanges, monkeypatch):
    sum_in_place([])
    mean_in_place([])
    monkeypatch.setattr(distributed, "world", lambda: 1)
    tensor = torch.ones(2)
    sum_in_place([tensor])
    mean_in_place([tensor])
    assert exchanges == []
    assert tensor.tolist() == [1, 1]


@pytest.mark.parametrize("processes,tolerance", [(2, 0), (4, 0), (3, 1e-6), (16, 1e-6)])
def test_equal_tensors_stay_bit_for_bit_among_two_or_four(monkeypatch, processes, tolerance):
    def all_reduce(flat, *operation):
        own = flat.clone()
        for _ in range(processes - 1):
            flat += own

    monkeypatch.setattr(distributed, "world", lambda: processes)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    tensor = torch.randn(9999)
    before = tensor.clone()
    mean_in_place([tensor])
    torch.testing.assert_close(tensor, before, rtol=tolerance, atol=0)


# ---- lost processes


def other_process_ended():
    return RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]")


TIMED_OUT = "[../gloo/buffer.cc:81] Timed out waiting 1800000ms for recv operation to complete"


@pytest.mark.parametrize("error,words", [
    (other_process_ended(), "Process 3 ends too: it has lost the others"),
    (dist.DistBackendError("NCCL error in: x.cpp"), "Process 3 ends too: it has lost the others"),
    (dist.DistNetworkError("closed"), "Process 3 ends too: it has lost the others"),
    (RuntimeError(TIMED_OUT), "Process 3 ends: another one has not answered for --timeout_minutes"),
    (dist.DistStoreError("wait timeout after 1 ms"), "has not answered for --timeout_minutes"),
])
def test_an_exchange_that_failed_is_one_sentence(monkeypatch, error, words):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(RunError) as caught, name_lost_processes():
        raise error
    assert words in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("processes,error", [
    ("4", RuntimeError("shape '[2]' is invalid for input of size 3")),
    ("4", ValueError("gloo")),
    ("4", RunError("The loss is not finite.")),
    ("4", KeyboardInterrupt()),
    ("1", other_process_ended()),
])
def test_other_errors_stay_what_they_are(monkeypatch, processes, error):
    monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(type(error)) as caught, name_lost_processes():
        raise error
    assert caught.value is error


# ---- who prints


@pytest.fixture
def left(monkeypatch):
    calls = []
    monkeypatch.setattr(distributed, "leave", lambda: calls.append("left"))
    return calls


@pytest.mark.parametrize("rank,out", [(None, "a\n"), ("0", "a\n"), ("1", ""), ("12", "")])
def test_the_first_process_prints_and_all_of_them_say_what_failed(
    monkeypatch, capsys, left, rank, out
):
    if rank:
        monkeypatch.setenv("RANK", rank)
    stream = sys.stdout
    with contextlib.suppress(UsageError), print_on_rank_zero():
        print("a")
        print("b", file=sys.stderr)
        assert left == []
        raise UsageError("c")
    assert capsys.readouterr() == (out, "b\n")
    assert sys.stdout is stream
    assert left == ["left"]


def test_alone_there_is_nobody_to_leave_or_to_wait_for():
    distributed.leave()
    assert not dist.is_initialized()
    assert distributed.largest(-3, CPU) == -3
    assert distributed.broadcast_from_first({}, [], CPU) == {}


def test_a_gpu_of_ones_own_needs_other_processes_and_a_gpu(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "5")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "WORLD_SIZE" not in os.environ
    assert distributed.own_gpu() is None
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert distributed.own_gpu() == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert distributed.own_gpu() is None


@pytest.mark.parametrize("minutes,seconds", [(0.5, 30), (10, 600)])
def test_processes_on_cpus_join_by_gloo_and_wait_for_minutes(monkeypatch, minutes, seconds):
    joined = []

    def init(backend, *, timeout, device_id):
        joined.append((backend, timeout.total_seconds(), device_id))

    monkeypatch.setattr(dist, "init_process_group", init)
    distributed.join(CPU, minutes)
    assert joined == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    distributed.join(CPU, minutes)
    assert joined == [("gloo", seconds, None)]


@pytest.mark.parametrize("values", [{"b": 2.0, "a": 1e-17, "c": 7.0}, None])
def test_numbers_are_sent_in_double_precision_in_the_order_of_their_names(monkeypatch, values):
    sent = []

    def broadcast(row, source):
        assert source == 0
        sent.append((row.dtype, row.tolist()))
        row.copy_(torch.tensor([1e-17, 2.0], dtype=torch.float64))

    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(dist, "broadcast", broadcast)
    found = distributed.broadcast_from_first(values, ["a", "b"], CPU)
    assert found == {"a": 1e-17, "b": 2.0}
    assert sent == [(torch.float64, [1e-17, 2.0] if values else [0.0, 0.0])]
