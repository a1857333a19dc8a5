"""CleverTap's events API: what users did, and what CleverTap tells of its own messages.

`POST /1/events.json` names an event and days and answers a cursor; `GET` with the cursor answers
records and the next one. Documented: the calls, and that times are 14 digits in the project's
time zone. Not confirmed, and different from account to account: whether events of notifications
may be exported; where they may not, it is said, and nothing follows from it.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import msgspec

from experiment_engine.adapters.json_input import BadElement, identifier_of
from experiment_engine.domain.errors import PartnerRefused
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.moments import Instant, to_instant
from experiment_engine.domain.past import ToldLater

PATH = "/1/events.json"
BATCH = 5_000
TRIES = 4
_WAITS = 2.0  # seconds before the second try, doubling
_AGAIN = frozenset({429, 500, 502, 503, 504})
_DAY = "%Y%m%d"


class NotExported(PartnerRefused):
    """CleverTap does not let this account export this event."""


class EventsApi:
    """Reads events by name and day, one request at a time (CleverTap allows three)."""

    def __init__(
        self,
        client: httpx2.Client,
        zone: str,
        sleep: Callable[[float], None],
        *,
        waits: float = _WAITS,
    ) -> None:
        """Use a client that knows the address and the account."""
        self._client, self._zone, self._sleep = client, ZoneInfo(zone), sleep
        self._waits = waits

    def reports(self, name: str, since: datetime, until: datetime) -> Iterator[ToldLater]:
        """Return the records of an event between two moments; others of these days are left out.

        Raises NotExported where the account may not have them, PartnerRefused for anything else.
        """
        days = [int(at.astimezone(self._zone).strftime(_DAY)) for at in (since, until)]
        question = {"event_name": name, "from": days[0], "to": days[1]}
        answer = self._ask("POST", {"batch_size": BATCH}, question)
        cursor = answer.get("cursor")
        bounds = (to_instant(since), to_instant(until))
        while isinstance(cursor, str) and cursor:
            page = self._ask("GET", {"cursor": cursor}, None)
            for record in page.get("records") or ():
                report = self._report(name, record)
                if report is not None and bounds[0] <= report.at <= bounds[1]:
                    yield report
            cursor = page.get("next_cursor")

    def _report(self, name: str, record: Any) -> ToldLater | None:
        """Read a record; None where it names nobody or no time."""
        try:
            profile = _lower(record["profile"])
            user_id = identifier_of(profile.get("identity"))
            at = self._instant(record["ts"])
        except (KeyError, TypeError, ValueError, BadElement):
            return None
        if user_id is None:
            return None
        told = record.get("event_props")
        return ToldLater(name, UserId(user_id), at, told if isinstance(told, dict) else {})

    def _instant(self, digits: object) -> Instant:
        at = datetime.strptime(str(digits), "%Y%m%d%H%M%S")  # noqa: DTZ007 - the zone follows
        return to_instant(at.replace(tzinfo=self._zone))

    def _ask(
        self, method: str, params: Mapping[str, Any], question: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        for attempt in range(TRIES):
            status, body = self._once(method, params, question)
            if status == 200 and body.get("status") == "success":  # noqa: PLR2004
                return body
            if status not in _AGAIN or attempt == TRIES - 1:
                raise _refused(status, str(body.get("error") or body.get("message") or "nothing"))
            self._sleep(self._waits * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _once(
        self, method: str, params: Mapping[str, Any], question: Mapping[str, Any] | None
    ) -> tuple[int, Mapping[str, Any]]:
        try:
            answer = self._client.request(method, PATH, params=dict(params), json=question)
            body = msgspec.json.decode(answer.content)
        except httpx2.HTTPError:
            return 503, {}
        except msgspec.DecodeError:
            return answer.status_code, {}
        return answer.status_code, body if isinstance(body, dict) else {}


def open_client(url: str, headers: Mapping[str, str]) -> httpx2.Client:
    """Open a client that takes nothing from the environment and follows no redirect."""
    return httpx2.Client(
        base_url=url,
        headers={"User-Agent": "experiment-engine", **headers},
        timeout=httpx2.Timeout(60.0, connect=5.0),
        follow_redirects=False,
        trust_env=False,
    )


def _refused(status: int, said: str) -> PartnerRefused:
    if "not allowed" in said.lower():
        return NotExported(f"CleverTap does not export this event for this account ({said})")
    return PartnerRefused(f"CleverTap's events API answered {status} ({said[:200]})")


def _lower(profile: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name.lower(): value for name, value in profile.items()}  # pages differ in the case
