"""What the benchmarks of whole commands share: time and memory of a process of its own."""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Cost(NamedTuple):
    """seconds by the clock and of the processor, and the most memory of the process (MiB)."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def cost_of(words: list[str], until: Path | None = None) -> Cost:
    """Run Python with these words from the root of the project; SystemExit where it fails.

    until: a table; the process is ended as soon as it has its first row. The kernel counts memory
    from the fork on, so that the caller should not have imported torch.
    """
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=said, stderr=said)
        is_ended = until is not None and wait_for_row(until, process)
        if is_ended:
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode and not is_ended:
            said.seek(0)
            sys.exit(f"{' '.join(words)} failed:\n{said.read()}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def wait_for_row(table: Path, process: subprocess.Popen) -> bool:
    """Whether the table has a row below its heading before the process has ended."""
    while not (table.is_file() and table.read_text().count("\n") > 1):
        # WNOWAIT leaves the ended process to wait4
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        time.sleep(0.01)
    return True
