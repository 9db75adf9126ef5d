"""How a run computes: its device, its arithmetic, and a compiler that is not there."""

import os

import pytest
import torch

from utilities.device import (
    autocast,
    choose_device,
    full_precision,
    require_compiler,
    set_arithmetic,
)
from utilities.errors import UsageError

PARTS = {
    "products": torch.backends.cuda.matmul,
    "convolutions": torch.backends.cudnn.conv,
    "recurrences": torch.backends.cudnn.rnn,
}


@pytest.fixture(autouse=True)
def arithmetic_restored():
    """Tests that come after compute as before."""
    before = {name: part.fp32_precision for name, part in PARTS.items()}
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    yield
    for name, part in PARTS.items():
        part.fp32_precision = before[name]
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
    torch.use_deterministic_algorithms(False)


def in_force():
    return {part.fp32_precision for part in PARTS.values()}


@pytest.mark.parametrize("tf32,name", [(True, "tf32"), (False, "ieee")])
def test_tf32_is_a_choice_that_full_precision_takes_back(tf32, name):
    set_arithmetic(tf32=tf32)
    assert in_force() == {name}
    with full_precision(torch.device("cpu")):
        assert in_force() == {"ieee"}
    assert in_force() == {name}


def test_deterministic_or_fastest_kernels(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    set_arithmetic(deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    set_arithmetic()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.deterministic


def test_a_compiler_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    torch._dynamo.reset()
    with pytest.raises(
        UsageError, match="--compile finds no compiler for cpu .*such as g\\+\\+"
    ) as caught:
        require_compiler(torch.device("cpu"))
    assert "\n" not in str(caught.value)


def test_the_cpu_is_taken_where_there_is_no_gpu_and_a_gpu_that_is_not_there_is_refused(
    monkeypatch, capsys
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == torch.device("cpu")
    assert capsys.readouterr().out.count("no GPU") == 1
    for arguments in (("cuda",), ("auto", [0])):
        with pytest.raises(UsageError, match="need a GPU"):
            choose_device(*arguments)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="--gpu 5: this machine has 2 GPU"):
        choose_device("cuda", [5])


@pytest.mark.parametrize("arguments,number", [
    ((), 0), (("cuda",), 0), (("auto", [1]), 1), (("cuda:1",), 1), ((torch.device("cuda", 1),), 1)])
def test_a_gpu_is_taken_with_its_number_and_becomes_the_present_one(monkeypatch, arguments, number):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_device(*arguments) == torch.device("cuda", number)
    assert choose_device("cpu") == torch.device("cpu")
    assert chosen == [number]


@pytest.mark.parametrize("amp,dtype", [
    ("none", torch.float32),
    ("bf16", torch.bfloat16),
    ("fp16", torch.float16),
])
def test_products_are_in_the_type_that_amp_names_and_full_precision_is_float32(amp, dtype):
    cpu = torch.device("cpu")
    x = torch.ones(2, 2)
    with autocast(cpu, amp):
        assert (x @ x).dtype == dtype
        with full_precision(cpu):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == dtype


def test_the_choice_comes_back_after_an_error_too():
    set_arithmetic(tf32=True)
    with pytest.raises(KeyError), full_precision(torch.device("cpu")):
        raise KeyError
    assert in_force() == {"tf32"}


def test_a_backward_pass_that_reaches_the_tensor_allows_tf32_again():
    set_arithmetic(tf32=True)
    x = torch.ones(2, requires_grad=True)
    embedding = 2 * x
    with full_precision(torch.device("cpu"), until=embedding):
        loss = embedding.sum()
        assert in_force() == {"ieee"}
        loss.backward()
        assert in_force() == {"tf32"}
    # without a gradient there is nothing to reach
    with full_precision(torch.device("cpu"), until=torch.ones(2)):
        assert in_force() == {"ieee"}
