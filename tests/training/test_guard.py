"""Numbers that are none, signals and a full GPU end a run in one sentence."""
import os
import signal

import pytest
import torch

from training.guard import FiniteGuard, Interruption, room_for_the_batch
from utilities.errors import RunError

NAN = float("nan")


def terms(metric, total=1.0):
    return {"metric": torch.tensor(metric), "total": torch.tensor(total)}


def test_the_first_bad_step_is_named_with_its_terms_and_images():
    guard = FiniteGuard(lambda i: f"bird{i}.jpg")
    guard.check()
    guard.watch(1, terms(0.5), torch.tensor([7, 8]))
    guard.check()
    guard.watch(2, terms(0.25, NAN), torch.tensor([4, 5]))
    guard.watch(3, terms(float("inf"), NAN), torch.tensor([1, 2]))
    with pytest.raises(RunError) as caught:
        guard.check()
    assert "step 2 (metric 0.25, total nan), of the images bird4.jpg, bird5.jpg." in str(caught.value)


def test_a_long_batch_is_not_listed_whole():
    guard = FiniteGuard(str)
    guard.watch(1, terms(NAN), torch.arange(100))
    with pytest.raises(RunError, match="0, 1, 2, 3, 4, 5, 6, 7 and 92 more"):
        guard.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heard_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with Interruption().heard() as interruption:
        assert interruption.signal is None
        os.kill(os.getpid(), number)
        assert interruption.signal == number and interruption.stopped("runs/a").code == 128 + number
        assert "--resume runs/a" in str(interruption.stopped("runs/a"))
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), Interruption().heard():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_full_gpu_names_the_flags_that_help():
    with pytest.raises(RunError, match="--accumulate"), room_for_the_batch():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
