"""scripts/demo.sh with a stand-in for python."""
import os
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo.sh"
PYTHON = """#!/bin/sh
case "$*" in
    *full-method*) sleep 1; exit 1 ;;
    *multisimilarity*) echo $$ > "$PID_FILE"; exec sleep 60 ;;
esac
"""


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name != "posix", reason="needs bash")
def test_when_the_full_method_fails_the_baselines_stop_too(tmp_path):
    """One that went on would keep the folder from being continued."""
    stand_in = tmp_path / "python"
    stand_in.write_text(PYTHON)
    stand_in.chmod(0o755)
    pid_file = tmp_path / "pid"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PID_FILE": str(pid_file)}
    made = subprocess.run(["bash", SCRIPT, tmp_path / "out"], env=environment, capture_output=True, timeout=30)
    assert made.returncode == 1
    pid = int(pid_file.read_text())
    end = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_running(pid)
