"""Whether vulnerabilities are known of what the engine runs on: `make audit`.

It never takes silence for an answer: a package that the service was not asked about, or does not
know, is counted as not audited and said so. Exit status 0: all audited, nothing known (or under
a dated waiver); 1: something is known; 3: not everything could be audited.

A waiver in `waivers.toml` names an id, a reason, and the day on which it ends.
"""

import datetime as dt
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOCK, WAIVERS = HERE / "run.lock", HERE / "waivers.toml"
SERVICES = ("pypi", "osv")  # asked in this order until one of them answers

CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 3

_PATIENCE = 180  # seconds that a service may take


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audit says to a person, and to whoever reads its exit status."""

    status: int
    lines: Sequence[str]


def main(arguments: Sequence[str]) -> int:
    """Audit the lock; `--offline-is-fine` lets `make check` pass where no service is reachable."""
    today = dt.datetime.now(dt.UTC).date()
    waived = waivers(tomllib.loads(WAIVERS.read_text(encoding="utf-8")), today)
    verdict = judge(_packages(LOCK), _asked(), waived)
    print("\n".join(verdict.lines))
    forgiven = verdict.status == NOT_AUDITED and "--offline-is-fine" in arguments
    return CLEAN if forgiven else verdict.status


def judge(
    locked: Sequence[str], found: Mapping[str, Sequence[str]], waived: Mapping[str, str]
) -> Verdict:
    """Say what is known; `found` has what each audited package is vulnerable to."""
    missing = [name for name in locked if name not in found]
    known = [(name, fault) for name, faults in found.items() for fault in faults]
    open_ones = [f"VULNERABLE: {name}: {fault}" for name, fault in known if fault not in waived]
    lines = [
        f"waived: {name}: {fault}: {waived[fault]}" for name, fault in known if fault in waived
    ]
    lines += open_ones
    if missing:
        lines.append(
            f"NOT AUDITED: {len(missing)} of {len(locked)} packages; no service for"
            f" vulnerabilities answered about {_some(missing)}. Nothing is known of their safety."
        )
    elif not open_ones:
        lines.append(f"audited: {len(locked)} packages, none with an open known vulnerability")
    if open_ones:
        return Verdict(VULNERABLE, lines)
    return Verdict(NOT_AUDITED if missing else CLEAN, lines)


def waivers(document: Mapping[str, Any], today: dt.date) -> dict[str, str]:
    """Return the waivers that have not ended: id to reason."""
    return {
        waiver["id"]: f"{waiver['reason']} (until {waiver['until']})"
        for waiver in document.get("waiver", ())
        if waiver["until"] >= today
    }


def faults_of(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the audited packages of pip-audit's report, each with the ids of what is known."""
    return {
        package["name"]: [fault["id"] for fault in package["vulns"]]
        for package in report["dependencies"]
        if "skip_reason" not in package
    }


def _asked() -> dict[str, list[str]]:
    for service in SERVICES:
        found = _audited_by(service)
        if found:
            return found
    return {}


def _audited_by(service: str) -> dict[str, list[str]]:
    tool = Path(sys.executable).with_name("pip-audit")
    options = ["--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off"]
    try:
        ended = subprocess.run(
            [tool, *options, f"--vulnerability-service={service}", f"--requirement={LOCK}"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        return faults_of(json.loads(ended.stdout))
    except (subprocess.TimeoutExpired, json.JSONDecodeError):  # it says nothing where it fails
        return {}


def _packages(lock: Path) -> list[str]:
    lines = lock.read_text(encoding="utf-8").splitlines()
    return [line.partition("==")[0] for line in lines if "==" in line and line[:1].isalnum()]


def _some(names: Sequence[str], shown: int = 3) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
