"""How soon policies learn, and how well: `python -m benchmarks learning [PART] [options]`."""

import importlib
import sys
from collections.abc import Mapping, Sequence

PARTS: Mapping[str, Sequence[str]] = {
    "regret": ("--seeds", "2"),
    "delays": (),
    "hillstrom": (),
    "obd": (),
    "looks": (),
    "advantages": (),
    "times": (),
}
"""Modules in this folder with `main(arguments) -> exit status`, and their options among all."""


def main(arguments: Sequence[str]) -> int:
    """Run one part with its options, or every part, briefly."""
    if arguments and arguments[0] in PARTS:
        return _run(arguments[0], arguments[1:])
    if arguments:
        sys.stderr.write(f"usage: python -m benchmarks learning [{'|'.join(PARTS)}] [options]\n")
        return 0 if arguments[0] in {"-h", "--help"} else 2
    return max([_run(part, options) for part, options in PARTS.items()])


def _run(part: str, arguments: Sequence[str]) -> int:
    return int(importlib.import_module(f"{__name__}.{part}").main(arguments))
