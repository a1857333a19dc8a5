"""The same configuration for both servers: a folder for ours, a JSON file for the baseline.

Both are derived from the engine's example: no quiet hours (they would make the figures depend on
the hour of the day) and a holdout of 5 %. The stubbed mode has one cohort with one combo and
fixed words.
"""

import itertools
import json
import re
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Table = Mapping[str, Any]

HOLDOUT_SHARE = 0.05
DIMENSIONS = ("delay", "channel", "angle", "offer")
_UNIT_MS = {"s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_LANGUAGE_NAMES = {
    "english": "en",
    "hindi": "hi",
    "bhojpuri": "bho",
    "haryanvi": "bgc",
    "rajasthani": "raj",
}
_STUB_ENGINE = """\
timezone = "Asia/Kolkata"

[delivery]
expires_after = "30min"

[holdout]
share = 0.05

[languages]
default = "en"

[channels.push]
consent = "assumed"
"""
_STUB_COHORT = """\
[trigger]
event = "checkout_abandoned"
max_age = "6h"
again_after = "24h"
converted_quiet = "30d"

[goal]
event = "trial_activated"
window = "3d"

[combos]
delay = ["2min"]
channel = ["push"]
angle = ["urgency"]
offer = ["none"]

[policy]
name = "uniform"
"""
_STUB_COPY = """\
[push.urgency.none]
title = "Come back"
body = "Your show is waiting for you."
"""


def write_full(example: Path, target: Path) -> None:
    """Copy the example folder, without quiet hours and with the benchmark's holdout."""
    shutil.copytree(example, target)
    engine = target / "engine.toml"
    text = _without_quiet_hours(_without_table(engine.read_text(encoding="utf-8"), "holdout"))
    engine.write_text(f"{text.rstrip()}\n\n[holdout]\nshare = {HOLDOUT_SHARE}\n", encoding="utf-8")


def write_stubbed(target: Path) -> None:
    """Write the folder whose only cohort leaves nothing to decide."""
    for name, text in (
        ("engine.toml", _STUB_ENGINE),
        ("cohorts/checkout_abandoners.toml", _STUB_COHORT),
        ("copy/en.toml", _STUB_COPY),
    ):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def write_baseline(folder: Path, target: Path) -> None:
    """Write the JSON that the baseline reads: the folder's cohorts, each combo with its copy."""
    engine = _read(folder / "engine.toml")
    copies = {path.stem: _read(path) for path in sorted((folder / "copy").glob("*.toml"))}
    content = {
        "holdout": {"salt": "benchmark", "share": engine["holdout"]["share"]},
        "expires_after_ms": _milliseconds(engine["delivery"]["expires_after"]),
        "default_language": engine["languages"]["default"],
        "language_names": _language_names(copies),
        "placeholders": {
            name: _placeholder(table) for name, table in engine.get("placeholders", {}).items()
        },
        "cohorts": [
            _cohort(path.stem, _read(path), copies)
            for path in sorted((folder / "cohorts").glob("*.toml"))
        ],
    }
    target.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _placeholder(table: Table) -> Table:
    """Return where a placeholder comes from and its defaults: one for all, or by language."""
    default = table.get("default")
    by_language = default if isinstance(default, Mapping) else table.get("defaults", {})
    return {
        "from": table["from"],
        "default": default if isinstance(default, str) else None,
        "defaults": by_language,
    }


def _cohort(name: str, cohort: Table, copies: Mapping[str, Table]) -> Table:
    """Return a cohort in the baseline's words."""
    trigger, policy = cohort["trigger"], cohort.get("policy", {})
    return {
        "name": name,
        "event": trigger["event"],
        "max_age_ms": _milliseconds(trigger.get("max_age", "6h")),
        "again_after_ms": _milliseconds(trigger.get("again_after", "24h")),
        "window_ms": _milliseconds(cohort["goal"]["window"]),
        "epsilon": policy.get("epsilon", 0.2),
        "combos": list(_combos(name, cohort["combos"], copies)),
    }


def _combos(cohort: str, combos: Table, copies: Mapping[str, Table]) -> Iterable[Table]:
    """Yield every combination of the dimensions' values, in their order."""
    for values in itertools.product(*(combos[dimension] for dimension in DIMENSIONS)):
        delay, channel, angle, offer = values
        texts = {
            language: _copy(copy, (cohort, channel, angle, offer))
            for language, copy in copies.items()
        }
        yield {
            "key": "|".join(values),
            "delay_ms": _milliseconds(delay),
            "channel": channel,
            "angle": angle,
            "offer": offer,
            "copy": {language: text for language, text in texts.items() if text},
        }


def _copy(copy: Table, place: tuple[str, str, str, str]) -> Table | None:
    """Return the text of a combo: the cohort's own goes first, and then the offer before `*`."""
    cohort, channel, angle, offer = place
    for root in (copy.get(cohort, {}), copy):
        texts = root.get(channel, {}).get(angle, {})
        for key in (offer, "*"):
            if key in texts:
                return {"title": texts[key]["title"], "body": texts[key]["body"]}
    return None


def _language_names(copies: Iterable[str]) -> Mapping[str, str]:
    """Map codes and English names to the languages that have copy."""
    codes = set(copies)
    names = {name: code for name, code in _LANGUAGE_NAMES.items() if code in codes}
    return {**{code: code for code in codes}, **names}


def _without_table(text: str, name: str) -> str:
    """Return the TOML text without one table."""
    return re.sub(
        rf"^\[{re.escape(name)}\].*?(?=^\[|\Z)", "", text, flags=re.MULTILINE | re.DOTALL
    )


def _without_quiet_hours(text: str) -> str:
    """Return the TOML text without quiet hours, the engine's and those of a channel."""
    tables = re.findall(r"^\[((?:channels\.\w+\.)?quiet_hours)\]", text, flags=re.MULTILINE)
    for name in tables:
        text = _without_table(text, name)
    return re.sub(r"^quiet_hours\s*=.*\n", "", text, flags=re.MULTILINE)


def _milliseconds(duration: str) -> int:
    """Return `15min` as milliseconds."""
    found = re.fullmatch(r"(\d+)(s|min|h|d)", duration)
    if not found:
        raise ValueError(f"{duration!r} is no duration: write a number and s, min, h or d")
    return int(found[1]) * _UNIT_MS[found[2]]


def _read(path: Path) -> Table:
    return tomllib.loads(path.read_text(encoding="utf-8"))
