"""A trial at CleverTap, on the user's own account: calls as the engine makes them, each once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from experiment_engine.adapters.calling.endings import excerpt, members_of, of_failure
from experiment_engine.adapters.clevertap.events_api import PATH as EVENTS_PATH
from experiment_engine.adapters.clevertap.payload import to_request
from experiment_engine.adapters.clevertap.sender import Account
from experiment_engine.domain.delivery.message import Call, Content
from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId
from experiment_engine.domain.moments import SECOND, Instant, to_datetime

UPLOAD_PATH = "/1/upload"
EVENT = "experiment_engine_test"
TITLE, BODY = "A test of the Experiment Engine", "Tap here, so that it sees what comes back."
RIDER = "wzrk_xp"  # CleverTap's SDKs copy keys that begin so into what they report
_PATIENCE = 15.0  # seconds
_DAY = "%Y%m%d"


@dataclass(frozen=True, slots=True)
class Said:
    """What was answered to one call; without a status, what ended it."""

    status: int | None
    text: str
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def taken(self) -> bool:
        """Say whether the call surely was taken."""
        return self.status == httpx2.codes.OK and self.members.get("status") == "success"

    @property
    def refused(self) -> bool:
        """Say whether the call surely was not taken."""
        failed = self.status == httpx2.codes.OK and self.members.get("status") == "fail"
        return failed or self.status == httpx2.codes.BAD_REQUEST

    def __str__(self) -> str:
        """Return it for people."""
        return self.text if self.status is None else f"{self.status} {self.text}"


class Trial:
    """One user, who is to be the one who tries, and one id that all calls carry."""

    def __init__(self, client: httpx2.Client, account: Account, user: str, test_id: str) -> None:
        """Use a client that knows the address."""
        self._client, self._account = client, account
        self._user, self._test_id = user, test_id

    def push(self, deep_link: str, *, rider: bool) -> Said:
        """Send the user a push as the engine does, perhaps with a key that comes back."""
        content = Content(Channel("push"), TITLE, BODY, deep_link)
        recipients = {UserId(self._user): ExperimentId(self._test_id)}
        call = Call(CallId(self._test_id), content, recipients)
        path, body = to_request(call, "externaltrigger")
        if rider:
            of_platforms: Any = body["content"]
            for keys in of_platforms["platform_specific"].values():
                keys[RIDER] = self._test_id
        return self._post(path, body)

    def upload(self, at: Instant) -> Said:
        """Upload one event of the user's."""
        told = {"experiment_id": self._test_id}
        record = {"identity": self._user, "ts": at // SECOND, "type": "event"}
        return self._post(UPLOAD_PATH, {"d": [{**record, "evtName": EVENT, "evtData": told}]})

    def exported(self, name: str, at: Instant) -> Said:
        """Ask whether an event may be exported; only a cursor comes back."""
        day = int(to_datetime(at).strftime(_DAY))
        return self._post(EVENTS_PATH, {"event_name": name, "from": day, "to": day})

    def _post(self, path: str, body: Mapping[str, Any]) -> Said:
        secrets = (self._account.passcode, self._account.id)
        headers = self._account.headers()
        try:
            reply = self._client.post(path, json=body, headers=headers)
        except httpx2.HTTPError as error:
            return Said(None, of_failure(error, secrets).reason)
        text = excerpt(reply.content, secrets)
        return Said(reply.status_code, text, members_of(reply.content) or {}, reply.headers)


def open_client(origin: str) -> httpx2.Client:
    """Open a client that takes nothing from the environment and follows no redirect."""
    return httpx2.Client(
        base_url=origin,
        headers={"User-Agent": "experiment-engine"},
        timeout=_PATIENCE,
        trust_env=False,
        follow_redirects=False,
    )
