"""What the machine says: processor time, memory, and how fast the disk syncs (Linux)."""

import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_SYNC_BYTES = 8192


@dataclass(frozen=True, slots=True)
class CpuClock:
    """Processor seconds used so far, by one process tree and by the whole machine."""

    at: float
    process: float
    machine: float


def process_tree(pid: int) -> list[int]:
    """Return the process and everything it started."""
    tree = [pid]
    for parent in tree:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            tree.extend(int(child) for child in task.read_text().split())
    return tree


def cpu_clock(pid: int) -> CpuClock:
    """Read both clocks now."""
    process = sum(map(_process_seconds, process_tree(pid)))
    return CpuClock(time.monotonic(), process, _machine_seconds())


def peak_rss_mb(pid: int) -> float:
    """Return the most memory (VmHWM) that the process tree has held, in MB."""
    return sum(map(_peak_kb, process_tree(pid))) / 1024


def sync_milliseconds(folder: Path, *, times: int = 100) -> float:
    """Return the median time of an 8 KiB write and its fdatasync in this folder."""
    path = folder / "sync_probe"
    taken: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(times):
            start = time.perf_counter()
            file.write(b"\0" * _SYNC_BYTES)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    path.unlink()
    return statistics.median(taken) * 1000


def description() -> dict[str, str | int]:
    """Return the facts to print beside any figure."""
    return {
        "processor": _processor_name(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _process_seconds(pid: int) -> float:
    """Return user and system seconds of one process, all its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _machine_seconds() -> float:
    """Return the seconds that processors were busy: neither idle nor waiting for the disk."""
    fields = Path("/proc/stat").read_text().split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / _TICK


def _peak_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def _processor_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
