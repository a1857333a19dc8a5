"""How soon policies learn, and how well: `python -m benchmarks learning [PART] [options]`."""

import importlib
import sys
from collections.abc import Sequence

PARTS = ("regret", "delays", "hillstrom", "obd", "looks", "advantages", "times")
"""Each is a module in this folder with `main(arguments) -> exit status`."""


def main(arguments: Sequence[str]) -> int:
    """Run one part with its options, or every part with its defaults."""
    if arguments and arguments[0] in PARTS:
        return _run(arguments[0], arguments[1:])
    if arguments:
        sys.stderr.write(f"usage: python -m benchmarks learning [{'|'.join(PARTS)}] [options]\n")
        return 0 if arguments[0] in {"-h", "--help"} else 2
    return max([_run(part, []) for part in PARTS])


def _run(part: str, arguments: Sequence[str]) -> int:
    return int(importlib.import_module(f"{__name__}.{part}").main(arguments))
