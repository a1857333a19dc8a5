"""The trial of `doctor --live`: asked for, made once, and kept in a file."""

import json as json_text
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiment_engine import bootstrap
from experiment_engine.adapters.clevertap.sender import Account, base_url
from experiment_engine.adapters.clevertap.trying import EVENT, Trial, open_client
from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.identifiers import Channel, UserId
from experiment_engine.domain.moments import iso
from experiment_engine.domain.rules import CLEVERTAP
from experiment_engine.entrypoints.checkup.live import Settled, described, hook, send
from experiment_engine.settings import Settings

_PUSH = Channel("push")
_LINK = "app://open?xp={experiment_id}"


@dataclass(frozen=True, slots=True)
class Plan:
    """For whom a trial is made, and where its answers go."""

    settings: Settings
    user: str
    public_url: str | None
    file: Path | None

    @property
    def origin(self) -> str:
        """Return where CleverTap is."""
        own = self.settings.clevertap_base_url
        return own or base_url(self.settings.clevertap_region)


def ask_first(plan: Plan, *, yes: bool) -> None:
    """Refuse where a trial may not be, else ask the person there; raises ConfigurationError."""
    if CLEVERTAP not in plan.settings.connected:
        raise ConfigurationError("--live: set CLEVERTAP_ACCOUNT_ID and CLEVERTAP_PASSCODE first")
    if bootstrap.refuses_push(plan.settings, UserId(plan.user)):
        raise ConfigurationError(f'--user: "{plan.user}" wants no messages: nothing was sent')
    if yes:
        return
    question = (
        f'Send "{plan.user}" one push, and upload one event "{EVENT}", at {plan.origin}? [y/N] '
    )
    print(question, end="", file=sys.stderr, flush=True)  # noqa: T201 - for the person there
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigurationError("--live: nothing was sent; --yes sends without asking")


def try_live(plan: Plan, *, quiet: bool) -> dict[str, Any]:
    """Make the trial, keep what it settled in a file, and return it."""
    settings, at = plan.settings, SystemClock().now()
    test_id = f"doctor-{uuid4()}"
    path = plan.file or Path(f"doctor-live-{iso(at)[:19].replace(':', '')}.json")
    rules = bootstrap.read_rules(settings)
    link = rules.channels[_PUSH].deep_link if _PUSH in rules.channels else _LINK
    account = Account(settings.clevertap_account_id, settings.clevertap_passcode)
    with _new(path) as kept, open_client(plan.origin) as client:  # a place for it, before it goes
        trial = Trial(client, account, plan.user, test_id)
        found = list(send(trial, link, at, hook(plan.public_url, settings, plan.user, test_id)))
        answer = {
            "at": iso(at),
            "asked": plan.origin,
            "user_id": plan.user,
            "test_id": test_id,
            "questions": described(found),
        }
        json_text.dump(answer, kept, ensure_ascii=False, indent=2)
        kept.write("\n")
    if not quiet:
        Console().print(_table(found))
        print(f"The answers are in {path}.")  # noqa: T201 - the command's answer
    return {"file": str(path), **answer}


def _new(path: Path) -> Any:
    try:
        return open(
            path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)
        )
    except OSError as error:
        raise ConfigurationError(f"--file: {path}: {error.strerror}: nothing was sent") from None


def _table(found: list[Settled]) -> Table:
    table = Table("", "question", "answer, and how it is read", box=SIMPLE_HEAD)
    for one in found:
        said = Text(one.answer).append(f"\n← {one.read_by}", "dim")
        table.add_row(one.state, Text(one.question), said)
    return table
