"""Signals become requests to stop, but under nohup."""
import os
import signal

import pytest
import torch

from utilities.interruption import Interruption

CPU = torch.device("cpu")


@pytest.mark.parametrize("number, code", [(signal.SIGHUP, 129), (signal.SIGTERM, 143)])
def test_a_signal_is_a_request(number, code):
    with Interruption().catch_signals() as interruption:
        os.kill(os.getpid(), number)
        assert interruption.requested(CPU)
    assert interruption.stopped("run").code == code
    assert number.name in str(interruption.stopped("run"))


def test_under_nohup_a_closed_terminal_is_no_request():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption().catch_signals() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interruption.requested(CPU)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
