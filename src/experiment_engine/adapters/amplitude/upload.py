"""How analytics is told: Amplitude's HTTP V2 API, in batches that can be repeated without harm.

Facts: https://amplitude.com/docs/apis/analytics/http-v2. A batch has under 2,000 events and 1 MB;
`insert_id` makes a repeated event one, for seven days.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx2
import msgspec

from experiment_engine.adapters.calling.endings import retry_after
from experiment_engine.adapters.json_input import BadElement, decode
from experiment_engine.application.tell import Notice
from experiment_engine.domain.moments import Duration

MOST_EVENTS = 500
MOST_BYTES = 900_000
_PATH = "/2/httpapi"
_TIME_LIMIT = 8.0  # seconds
_BASE_URLS = {"us": "https://api2.amplitude.com", "eu": "https://api.eu.amplitude.com"}
_TOO_LARGE, _BAD = 413, 400
_LISTS = ("events_with_invalid_fields", "events_with_missing_fields")

Members = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of a batch: taken, or to be tried again and why.

    `dropped` events will never be taken: they are left out, and everything else goes on.
    """

    taken: bool
    reason: str = ""
    dropped: int = 0
    wait: Duration | None = None  # as the server asks for


def base_url(region: str) -> str:
    """Return the origin of a region."""
    return _BASE_URLS[region]


class AmplitudeUpload:
    """Uploads notices. It takes nothing from the environment and follows no redirect."""

    def __init__(self, url: str, api_key: str, client: httpx2.Client | None = None) -> None:
        self._url = f"{url}{_PATH}"
        self._api_key = api_key
        self._client = client or httpx2.Client(timeout=_TIME_LIMIT, trust_env=False)

    def upload(self, notices: Sequence[Notice]) -> Uploaded:
        """Upload some notices in one request or several; never raises for the network."""
        dropped = 0
        for start in range(0, len(notices), MOST_EVENTS):
            some = self._upload(notices[start : start + MOST_EVENTS])
            dropped += some.dropped
            if not some.taken:
                return some
        return Uploaded(taken=True, dropped=dropped)

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    def _upload(self, notices: Sequence[Notice], *, again: bool = True) -> Uploaded:
        body = self._body(notices)
        if len(body) > MOST_BYTES and len(notices) > 1:
            return self._halved(notices)
        try:
            answer = self._client.post(
                self._url, content=body, headers={"Content-Type": "application/json"}
            )
        except httpx2.HTTPError as error:
            return Uploaded(taken=False, reason=type(error).__name__)
        if answer.status_code == _TOO_LARGE and len(notices) > 1:
            return self._halved(notices)
        if answer.status_code == _BAD and again and (refused := _refused(answer.content)):
            return self._without(refused, notices)
        reason, wait = f"http_{answer.status_code}", retry_after(answer.headers)
        return Uploaded(answer.is_success, "" if answer.is_success else reason, wait=wait)

    def _without(self, refused: set[int], notices: Sequence[Notice]) -> Uploaded:
        """Upload the rest; what Amplitude names as unusable never becomes usable."""
        rest = [one for place, one in enumerate(notices) if place not in refused]
        outcome = self._upload(rest, again=False) if rest else Uploaded(taken=True)
        dropped = len(notices) - len(rest) + outcome.dropped
        return Uploaded(outcome.taken, outcome.reason, dropped, outcome.wait)

    def _halved(self, notices: Sequence[Notice]) -> Uploaded:
        middle = len(notices) // 2
        first = self._upload(notices[:middle])
        if not first.taken:
            return first
        second = self._upload(notices[middle:])
        dropped = first.dropped + second.dropped
        return Uploaded(second.taken, second.reason, dropped, second.wait)

    def _body(self, notices: Sequence[Notice]) -> bytes:
        events = [
            {
                "user_id": one.user_id,
                "event_type": one.name,
                "time": one.at,
                "insert_id": one.insert_id,
                "event_properties": one.properties,
            }
            for one in notices
        ]
        options = {"min_id_length": 1}
        return msgspec.json.encode(
            {"api_key": self._api_key, "events": events, "options": options}
        )


def _refused(body: bytes) -> set[int]:
    """Return the places of events that Amplitude names as unusable."""
    try:
        said = decode(body)
    except BadElement:
        return set()
    if not isinstance(said, dict):
        return set()
    places: set[int] = set()
    for name in _LISTS:
        for named in _values(said.get(name)):
            places.update(_places(named))
    places.update(_places(said.get("silenced_events")))
    return places


def _values(value: object) -> Sequence[object]:
    return list(value.values()) if isinstance(value, dict) else []


def _places(value: object) -> Sequence[int]:
    found = value if isinstance(value, list) else []
    return [one for one in found if isinstance(one, int) and not isinstance(one, bool)]
