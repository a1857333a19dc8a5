"""The programs that a benchmark needs: found, installed where possible, or asked for."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
BASELINE = HERE / "baseline"
_HINTS = {
    "wrk": "install the package wrk (Debian, Ubuntu: apt-get install wrk)",
    "node": "install Node.js 20.12 or newer",
    "npm": "install npm (it comes with Node.js)",
    "cc": "install a C compiler (Debian, Ubuntu: apt-get install gcc libc6-dev)",
}


class MissingToolError(Exception):
    """A program is not there; the message says what to install."""


def say(text: str) -> None:
    """Tell the person who waits what is going on."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def call(
    command: Sequence[str | Path], *, folder: Path, env: Mapping[str, str] | None = None
) -> str:
    """Run a program to its end and return what it printed; errors carry its last words."""
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


def require(*names: str) -> None:
    """Make sure that the programs are there; root gets wrk installed with apt-get."""
    if (
        "wrk" in names
        and not shutil.which("wrk")
        and shutil.which("apt-get")
        and os.geteuid() == 0
    ):
        say("installing wrk with apt-get")
        call(["apt-get", "update", "-qq"], folder=HERE)
        call(["apt-get", "install", "-y", "-qq", "wrk"], folder=HERE)
    missing = [name for name in names if not shutil.which(name)]
    if missing:
        raise MissingToolError("; ".join(f"{name} is missing: {_HINTS[name]}" for name in missing))


def install_baseline() -> None:
    """Install the baseline's packages once (the database driver may have to be compiled)."""
    wanted = (BASELINE / "package.json").read_bytes()
    stamp = BASELINE / "node_modules" / ".installed_for.json"
    if stamp.is_file() and stamp.read_bytes() == wanted:
        return
    say("installing the baseline's packages from the npm registry (once; up to two minutes)")
    call(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], folder=BASELINE)
    stamp.write_bytes(wanted)


def compile_slow_sync(folder: Path) -> Path:
    """Compile the shim that makes each sync take 2 ms longer."""
    library = folder / "slow_sync.so"
    source = HERE / "slow_sync.c"
    call(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], folder=folder)
    return library
