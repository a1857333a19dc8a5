"""What the delivery benchmark drains: a database in which many messages are due.

They come in as they would from Amplitude, over `/webhook/amplitude`. Nothing may be sent yet, and
a paused engine ignores triggers, so the delay of the only combo is longer than taking in lasts.
"""

import contextlib
import http.client
import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support import clevertap_double as provider

from benchmarks import servers, tools

_ARRAY = 500
"""Events in one request."""
_SPREAD = 2_654_435_761
"""Odd, so that the numbers it makes of 0, 1, 2, ... are distinct and arrive in no order."""
_NOWHERE = "http://127.0.0.1:9"
_ENGINE = """\
timezone = "Asia/Kolkata"

[delivery]
expires_after = "1d"

[holdout]
share = 0

[languages]
default = "en"

[channels.push]
consent = "assumed"
batch = {batch}
max_in_flight = {in_flight}
"""
_COHORT = """\
[trigger]
event = "checkout_abandoned"

[goal]
event = "trial_activated"
window = "3d"

[combos]
delay = ["{delay}s"]
channel = ["push"]
angle = ["urgency"]
offer = ["none"]

[policy]
name = "uniform"
"""
TITLE, TEXT = "Come back", "Your show is waiting for you."
_COPY = f"""\
[push.urgency.none]
title = "{TITLE}"
body = "{TEXT}"
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """A database of the engine with messages that have not gone out yet."""

    database: Path
    messages: int
    delay: int
    """Seconds; part of the combo's name, so every configuration must have the same."""
    due_at: float
    """When the last one is due, in seconds since 1970."""

    def copy(self, target: Path) -> Path:
        """Copy the database, so that it can be drained more than once."""
        _copy_database(self.database, target)
        return target

    def wait_until_due(self) -> None:
        """Sleep until every message may go out."""
        time.sleep(max(0.0, self.due_at - time.time()))


def prepare(folder: Path, messages: int) -> Backlog:
    """Let the engine take in this many triggers, each of a user of its own, and stop it."""
    folder.mkdir(parents=True)
    delay = 6 + messages // 1_000
    configuration = folder / "configuration"
    write_configuration(configuration, delay=delay, batch=1, in_flight=3)
    setting = engine_setting(folder / "engine", configuration)
    began = time.monotonic()
    with servers.running(engine(_NOWHERE), setting) as here:
        began = time.monotonic()
        for first in range(0, messages, _ARRAY):
            _take_in(here, range(first, min(first + _ARRAY, messages)))
        due_at = time.time() + delay
        tools.say(f"{messages:,} messages taken in after {time.monotonic() - began:.1f} s")
    if time.monotonic() - began >= delay - 1:
        raise RuntimeError(f"taking in {messages} triggers lasted longer than their delay")
    target = folder / "backlog.db"
    _copy_database(setting.database, target)
    return Backlog(target, messages, delay, due_at)


def write_configuration(folder: Path, *, delay: int, batch: int, in_flight: int) -> None:
    """Write a folder in which nothing forbids a message, and all have the same words."""
    for name, text in (
        ("engine.toml", _ENGINE.format(batch=batch, in_flight=in_flight)),
        ("cohorts/checkout_abandoners.toml", _COHORT.format(delay=delay)),
        ("copy/en.toml", _COPY),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def engine(provider_url: str, **settings: str) -> servers.Server:
    """Return the engine that sends to this provider, with more settings."""
    given = {
        "CLEVERTAP_ACCOUNT_ID": provider.ACCOUNT_ID,
        "CLEVERTAP_PASSCODE": provider.PASSCODE,
        "CLEVERTAP_BASE_URL": provider_url,
        **settings,
    }
    words = (f"{name}={value}" for name, value in given.items())
    return servers.Server("ours", ("env", *words, *servers.OURS.command), servers.OURS.rows)


def engine_setting(folder: Path, configuration: Path) -> servers.Setting:
    """Return where the engine runs; there is no second server."""
    return servers.Setting(folder, configuration, baseline_config=configuration, stubbed=False)


def ask(here: servers.Running, path: str, body: object) -> Mapping[str, object]:
    """Post JSON to the engine and return its answer; other answers than 200 are errors."""
    connection = http.client.HTTPConnection("127.0.0.1", here.port, timeout=30)
    headers = {"Authorization": f"Bearer {servers.SECRET}", "Content-Type": "application/json"}
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"{path} answered {answer.status}: {text[:400]}")
    read: Mapping[str, object] = json.loads(text)
    return read


def _take_in(here: servers.Running, numbers: range) -> None:
    """Send one array of triggers; each has to start an experiment."""
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    results = ask(here, servers.PATH, [_event(number, now) for number in numbers])["results"]
    statuses = {result["status"] for result in results} if isinstance(results, list) else {"?"}
    if statuses != {"scheduled"}:
        raise RuntimeError(f"triggers are not scheduled but {', '.join(sorted(statuses))}")


def _event(number: int, now: str) -> Mapping[str, object]:
    name = f"{number * _SPREAD % 2**32:08x}"
    return {
        "$insert_id": f"backlog-{number}",
        "event_type": "checkout_abandoned",
        "event_time": now,
        "user_id": f"usr_{name}",
        "device_id": f"dev_{name}",
        "event_properties": {"region": "Bihar", "language": "Hindi", "show_name": "Mitti"},
    }


def _copy_database(source: Path, target: Path) -> None:
    """Copy what is committed, wherever it stands: in the file or in its log."""
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as read,
        contextlib.closing(sqlite3.connect(target)) as written,
    ):
        read.backup(written)
