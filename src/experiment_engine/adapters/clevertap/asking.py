"""Asking CleverTap who it takes us for, by a call that changes nothing and reaches nobody.

`POST /1/events.json` names an event and a day and is answered with a cursor, which we leave. It
is documented, reads only, and needs the same credentials as sending does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

import httpx2

from experiment_engine.adapters.calling.endings import excerpt, members_of, of_failure
from experiment_engine.adapters.clevertap.events_api import PATH
from experiment_engine.adapters.clevertap.sender import Account
from experiment_engine.domain.moments import Instant, to_datetime, to_instant

PATIENCE = 10.0  # seconds
_STRANGERS = frozenset({401, 403})
_BUSY = 429
_EVENT = "App Launched"  # every account has it
_DAY = "%Y%m%d"

Welcome = Literal["known", "unknown", "busy", "strange", "away"]


@dataclass(frozen=True, slots=True)
class Told:
    """Whether CleverTap knows us there, in which words, and its time."""

    welcome: Welcome
    said: str
    date: Instant | None = None  # to the second


def ask(origin: str, account: Account, at: Instant, patience: float = PATIENCE) -> Told:
    """Ask the CleverTap at an origin; every way it can end is an answer."""
    day = int(to_datetime(at).strftime(_DAY))
    question = {"event_name": _EVENT, "from": day, "to": day}
    headers = {"User-Agent": "experiment-engine", **account.headers()}
    secrets = (account.passcode,)
    try:
        with httpx2.Client(
            base_url=origin, headers=headers, timeout=patience, trust_env=False
        ) as client:
            reply = client.post(PATH, params={"batch_size": 1}, json=question)
    except httpx2.HTTPError as error:
        return Told("away", of_failure(error, secrets).reason)
    said = f"{reply.status_code} {excerpt(reply.content, secrets)[:200]}".strip()
    return Told(_welcome(reply), said, _date(reply.headers))


def _welcome(reply: httpx2.Response) -> Welcome:
    said = members_of(reply.content)
    if reply.status_code in _STRANGERS or (said or {}).get("code") in _STRANGERS:
        return "unknown"
    if reply.status_code == _BUSY:
        return "busy"
    # A refusal of the event itself ("Export not allowed for this event") comes after the account.
    return "known" if said is not None and reply.status_code in (200, 400) else "strange"


def _date(headers: Mapping[str, str]) -> Instant | None:
    try:
        return to_instant(parsedate_to_datetime(headers.get("date", "")))
    except ValueError:
        return None
