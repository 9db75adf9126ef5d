"""Several processes on CPUs, one of which hangs: the other says so and ends."""
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_main import PLAIN, flags, folder  # noqa: F401  (a fixture)

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the processes meet over loopback")
def test_a_process_that_hangs_ends_the_others(folder, tmp_path):  # noqa: F811
    """No GPU is asked for, and none is needed."""
    argv = [*flags(folder, tmp_path, *PLAIN, "--n_epochs", "10000", "--eval_every", "10000",
                   "--no-figures", "--savename", "a", "--timeout_minutes", "0.2")]
    argv[argv.index("--device") + 1] = "auto"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = os.environ | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                          "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    processes = []
    for rank in ("0", "1"):
        own = there | {"RANK": rank, "LOCAL_RANK": rank}
        processes.append(subprocess.Popen([sys.executable, ROOT / "main.py", *argv], env=own,
                                          stderr=subprocess.PIPE, text=True))
    first, second = processes
    steps = tmp_path / "image_folder" / "a" / "steps.csv"
    try:
        while not steps.exists() and first.poll() is None:
            time.sleep(0.1)
        second.send_signal(signal.SIGSTOP)
        said = first.communicate(timeout=90)[1]
        assert first.returncode == 1
        assert "Process 0 ends: another one has not answered for --timeout_minutes" in said
        assert "Traceback" not in said
    finally:
        for process in processes:
            process.kill()
            process.wait()
