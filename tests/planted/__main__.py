"""Plant mistakes in a copy of the source one after another, and see that a test finds each.

    python -m tests.planted [--list] [NUMBER ...]

Exit status 0 if every mistake is found, 1 if one is not, 2 for wrong use.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.planted.mistakes import MISTAKES, DoesNotApply, Mistake

ROOT = Path(__file__).parents[2]
COPIED = ("src", "tests", "pyproject.toml")
PATIENCE = 600  # seconds for one test


@dataclass(frozen=True)
class Outcome:
    """What pytest said of a test: how often it passed, the promises it found broken, the rest."""

    passed: int
    broken: Sequence[str]  # failed assertions
    errors: Sequence[str]  # whatever else went wrong
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="only these")
    parser.add_argument("--list", action="store_true", help="say which there are, and end")
    asked = parser.parse_args(arguments)
    known = dict(enumerate(MISTAKES, 1))
    if not set(asked.numbers) <= known.keys():
        parser.error(f"there are mistakes 1 to {len(MISTAKES)}")
    chosen = {number: known[number] for number in asked.numbers or known}
    if asked.list:
        for number, mistake in chosen.items():
            print(f"{number:2} {mistake.name}\n   {mistake.found_by}")
        return 0
    return _plant_all(chosen)


def _plant_all(chosen: dict[int, Mistake]) -> int:
    found, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        for number, mistake in chosen.items():
            print(f"{number:2} {mistake.name} ... ", end="", flush=True)
            try:
                verdict, is_found = _judge(mistake, Path(folder))
            except DoesNotApply as error:
                verdict, is_found = f"NOT PLANTED: {error}", False
            found += is_found
            print(verdict, flush=True)
    minutes = (time.monotonic() - began) / 60
    print(f"{found} of {len(chosen)} planted mistakes are found, in {minutes:.1f} min")
    return 0 if found == len(chosen) else 1


def _judge(mistake: Mistake, folder: Path) -> tuple[str, bool]:
    """Run the test on the sound source and on the planted one; say what came of it."""
    sound = run(mistake.found_by, _copy(folder))
    if sound.broken or sound.errors or not sound.passed:
        return f"ITS TEST FAILS WITHOUT IT: {_first(sound)}", False
    planted_in = _copy(folder)
    mistake.plant(planted_in / "src" / "experiment_engine")
    planted = run(mistake.found_by, planted_in)
    took = f"{planted.seconds:.0f} s, sound {sound.seconds:.0f} s"
    if any(re.search(mistake.saying, text) for text in planted.broken):
        return f"found in {took}", True
    if planted.broken or planted.errors:
        return f"FAILED FOR ANOTHER REASON in {took}: {_first(planted)}", False
    return f"NOT FOUND in {took} by {mistake.found_by}", False


def _first(outcome: Outcome) -> str:
    return next(iter([*outcome.errors, *outcome.broken]), "no test ran")[-2_000:]


def _copy(folder: Path) -> Path:
    """Copy what the tests need to a new folder."""
    copy = Path(tempfile.mkdtemp(dir=folder))
    for name in COPIED:
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


def run(test: str, where: Path) -> Outcome:
    """Run one test, by pytest's name, on the source in a folder."""
    report, began = where / "report.xml", time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", "-x", f"--junitxml={report}", test],
        cwd=where,
        env={
            **os.environ,
            "PYTHONPATH": f"{where / 'src'}{os.pathsep}{where}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    seconds = time.monotonic() - began
    if not report.exists():
        return Outcome(0, (), (ended.stdout + ended.stderr,), seconds)
    return _read(report, ended.stdout, seconds)


def _read(report: Path, output: str, seconds: float) -> Outcome:
    """Tell failed assertions, which are broken promises, from tests that could not run."""
    passed, broken, errors = 0, [], []
    for case in ET.parse(report).iter("testcase"):
        failure = case.find("failure")
        if failure is None and case.find("error") is None and case.find("skipped") is None:
            passed += 1
        elif failure is not None and _is_assertion(failure):
            broken.append(f"{failure.get('message')}\n{failure.text}")
        else:
            errors.append(output[-3_000:])
    return Outcome(passed, broken, errors, seconds)


def _is_assertion(failure: ET.Element) -> bool:
    said = failure.get("message", "")
    return said.startswith(("AssertionError", "assert ", "Failed: DID NOT RAISE"))


if __name__ == "__main__":
    sys.exit(main())
