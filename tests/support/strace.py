"""A real strace, installed where it is missing; and what it does to a process at a system call.

    with strace(pid, "inject=fdatasync:signal=KILL:when=3", calls=["fdatasync"]):
        ...

It follows one thread unless told otherwise: strace counts the calls of each thread apart, so that
ordinals are exact for a process that has only one. Lines of the log begin with the time.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

_INSTALL = ("install", "--yes", "--quiet", "--no-install-recommends", "strace")
_PATIENCE = 30.0  # seconds; only a failing test waits that long


@cache
def program() -> str:
    """Return where strace is; it is installed first where it is missing."""
    return shutil.which("strace") or _installed()


def _installed() -> str:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        pytest.fail(
            "The fault tests need strace, and only root can install it: run"
            " `apt-get install strace`, then `make test` again.",
            pytrace=False,
        )
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run([apt, *_INSTALL], env=environ, check=False).returncode != 0:
        subprocess.run([apt, "update", "--quiet"], env=environ, check=False)
        subprocess.run([apt, *_INSTALL], env=environ, check=True)
    path = shutil.which("strace")
    assert path is not None, "apt-get installed no strace"
    return path


@contextmanager
def strace(
    pid: int,
    *expressions: str,
    calls: Sequence[str],
    log: Path | None = None,
    all_threads: bool = False,
    paths: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """Hold a waiting process by strace until the block is left; it is attached when entered.

    `expressions` are arguments of `-e`; ending the given process of strace (SIGINT) lets the
    other go on as if nothing had been.
    """
    told = [argument for one in expressions for argument in ("-e", one)]
    told += ["-f"] if all_threads else []
    told += ["-y"] if paths else []  # the log then names the files
    command = [program(), "-ttt", "-p", str(pid), "-e", f"trace={','.join(calls)}", *told]
    process = subprocess.Popen(
        [*command, "-o", str(log or os.devnull)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        assert "attached" in said, f"strace cannot attach to a process here: {said.strip()}"
        yield process
    finally:
        let_go(process)
        process.stderr.close()


def time_of(ending: str, log: Path) -> float | None:
    """Return when a line with this ending was written first (seconds since 1970), or None."""
    line = line_with(ending, log)
    return None if line is None else float(next(word for word in line.split() if "." in word))


def line_with(ending: str, log: Path) -> str | None:
    """Return the first line with this ending, or None."""
    lines = log.read_text(encoding="utf-8").splitlines()
    return next((line for line in lines if line.endswith(ending)), None)


def let_go(process: "subprocess.Popen[str]") -> None:
    """End strace; what it held goes on, if it lives."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.wait(_PATIENCE)
