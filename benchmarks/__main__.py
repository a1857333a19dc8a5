"""`python -m benchmarks [NAME] [options]`: one benchmark, or all of them, one after the other."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence

NAMES = ("ingest", "delivery", "database", "learning")
"""Each is a module beside this one with `main(arguments) -> exit status`."""


def main(arguments: Sequence[str]) -> int:
    """Run the named benchmark with its options, or every benchmark with its defaults."""
    if arguments and arguments[0] in NAMES:
        return _run(arguments[0], arguments[1:])
    if arguments:
        sys.stderr.write(f"usage: python -m benchmarks [{'|'.join(NAMES)}] [options]\n")
        return 0 if arguments[0] in {"-h", "--help"} else 2
    there = [name for name in NAMES if importlib.util.find_spec(f"{__package__}.{name}")]
    return max([_run(name, []) for name in there])


def _run(name: str, arguments: Sequence[str]) -> int:
    """Import and run one benchmark; its exit status."""
    return int(importlib.import_module(f"{__package__}.{name}").main(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
