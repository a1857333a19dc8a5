"""Small configuration folders for tests: one combo, no quiet hours, no caps, nobody held out.

write_configuration(folder, cohorts={"vip": cohort(delay=["1s"])}, holdout={"share": 0.5})
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Toml = Mapping[str, Any]

COHORT = "checkout_abandoners"
TRIGGER = "checkout_abandoned"
GOAL = "trial_activated"
COMBO = "2min|push|helpful|none"  # of the cohort without overrides
TITLE, BODY = "Your seat is kept", "Come back and finish."

_BARE = re.compile(r"[A-Za-z0-9_-]+")

_ENGINE: Toml = {"timezone": "UTC", "holdout": {"share": 0.0}}
_COMBOS: Toml = {
    "delay": ["2min"],
    "channel": ["push"],
    "angle": ["helpful"],
    "offer": ["none"],
}


def cohort(
    *,
    trigger: Toml | None = None,
    goal: Toml | None = None,
    policy: Toml | None = None,
    prior: Toml | None = None,
    **combos: list[str],
) -> Toml:
    """Return one cohort's file; `delay`, `channel`, `angle` and `offer` replace its combos."""
    return {
        "trigger": {"event": TRIGGER, **(trigger or {})},
        "goal": {"event": GOAL, "window": "3d", **(goal or {})},
        "combos": {**_COMBOS, **combos},
        **({} if policy is None else {"policy": policy}),
        **({} if prior is None else {"prior": prior}),
    }


def write_configuration(
    folder: Path,
    *,
    cohorts: Mapping[str, Toml] | None = None,
    copy: Toml | None = None,
    **engine: Any,
) -> Path:
    """Write a folder and return it; the rest are tables and keys of engine.toml.

    Without `copy` every angle has one English text for all offers, on both channels.
    """
    written = cohorts if cohorts is not None else {COHORT: cohort()}
    _write(folder / "engine.toml", {**_ENGINE, **engine})
    for old in folder.glob("cohorts/*.toml"):
        old.unlink()
    for name, table in written.items():
        _write(folder / "cohorts" / f"{name}.toml", table)
    _write(folder / "copy" / "en.toml", plain_copy(written) if copy is None else copy)
    return folder


def plain_copy(cohorts: Mapping[str, Toml]) -> Toml:
    """Return the same English text for every channel and angle of these cohorts."""
    text = {"*": {"title": TITLE, "body": BODY}}
    return {
        channel: {angle: text for table in cohorts.values() for angle in table["combos"]["angle"]}
        for table in cohorts.values()
        for channel in table["combos"]["channel"]
    }


def to_toml(table: Toml) -> str:
    """Write nested mappings, lists, texts and numbers as TOML."""
    return "\n".join(_lines(table, ()))


def _write(path: Path, table: Toml) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_toml(table) + "\n", encoding="utf-8")


def _lines(table: Toml, path: tuple[str, ...]) -> Iterator[str]:
    if path:
        yield f"[{'.'.join(map(_key, path))}]"
    for key, value in table.items():
        if not isinstance(value, Mapping):
            yield f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _lines(value, (*path, key))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
