"""What is locked: `requirements/run.lock`, read."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
LOCK = ROOT / "requirements" / "run.lock"

_PINNED = re.compile(
    r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==([^\s;\\]+)([^\\\n]*)((?:\s*\\\s+--hash=sha256:[0-9a-f]{64})*)$",
    re.MULTILINE,
)


def pinned() -> dict[str, str]:
    """Return each package of the lock with its version."""
    return {name: version for name, version, _, _ in _PINNED.findall(LOCK.read_text())}


def hashes() -> dict[str, int]:
    """Return each package of the lock with the number of its hashes."""
    return {
        name: found.count("--hash=") for name, _, _, found in _PINNED.findall(LOCK.read_text())
    }
