"""Asking CleverTap who it takes us for, by a call that changes nothing and reaches nobody.

`POST /1/events.json` names an event and a day and is answered with a cursor, which we leave. It
is documented, reads only, and needs the same credentials as sending does.
"""

import httpx2

from experiment_engine.adapters.calling.asking import Told, Welcome, ask_at, by_status
from experiment_engine.adapters.calling.endings import members_of
from experiment_engine.adapters.clevertap.events_api import PATH
from experiment_engine.adapters.clevertap.sender import Account
from experiment_engine.domain.moments import Instant, to_datetime

_STRANGERS = frozenset({401, 403})
_EVENT = "App Launched"  # every account has it
_DAY = "%Y%m%d"


def ask(origin: str, account: Account, at: Instant) -> Told:
    """Ask the CleverTap at an origin; every way it can end is an answer."""
    day = int(to_datetime(at).strftime(_DAY))
    question = {"event_name": _EVENT, "from": day, "to": day}
    return ask_at(
        origin,
        lambda client: client.post(PATH, params={"batch_size": 1}, json=question),
        _welcome,
        headers=account.headers(),
        secrets=(account.passcode,),
        mend="copy account id and passcode again from CleverTap's Settings; see the region",
    )


def _welcome(reply: httpx2.Response) -> Welcome:
    said = members_of(reply.content)
    if (said or {}).get("code") in _STRANGERS:
        return "unknown"
    # A refusal of the event itself ("Export not allowed for this event") comes after the account.
    welcome = by_status(reply.status_code, known=(200, 400))
    return "strange" if welcome == "known" and said is None else welcome
