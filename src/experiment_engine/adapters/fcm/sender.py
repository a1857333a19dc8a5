"""How a message is handed to Firebase: once, to one device."""

import httpx2
import msgspec

from experiment_engine.adapters.calling.client import TIME_LIMIT, exchange
from experiment_engine.adapters.calling.endings import excerpt, of_failure
from experiment_engine.adapters.fcm.answers import of_reply
from experiment_engine.adapters.fcm.credentials import NoToken, Tokens
from experiment_engine.adapters.fcm.payload import Unsendable, to_body
from experiment_engine.domain.delivery.message import Answer, Call, Verdict


class FcmSender:
    """Hands calls to FCM's HTTP v1. `path` is `/v1/projects/<project>/messages:send`."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        path: str,
        tokens: Tokens,
        *,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self._client = client
        self._path = path
        self._tokens = tokens
        self._time_limit = time_limit

    async def send(self, call: Call) -> Answer:
        """Make the call once; every way it can end is an Answer, except being cancelled."""
        try:
            body = msgspec.json.encode(to_body(call))
        except Unsendable as error:
            return Answer(Verdict.REFUSED, error.reason, whole_call=False)
        except UnicodeEncodeError:  # a lone surrogate in somebody's name
            return Answer(Verdict.REFUSED, "not_writable", whole_call=False)
        if self._client.is_closed:
            return Answer(Verdict.NOT_TAKEN, "closed", whole_call=False)
        try:
            token = await self._tokens.token()
        except NoToken as error:
            return Answer(Verdict.NOT_TAKEN, "no_token", excerpt(str(error).encode()))
        return await self._hand_over(body, token, (token, call.address or token))

    async def close(self) -> None:
        """Give back the connections; a later call is answered with `closed`."""
        await self._client.aclose()

    async def _hand_over(self, body: bytes, token: str, secrets: tuple[str, ...]) -> Answer:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        try:
            request = self._client.build_request("POST", self._path, content=body, headers=headers)
            reply = await exchange(self._client, request, self._time_limit)
        except Exception as error:  # noqa: BLE001 - whatever it is, it may have been written
            return of_failure(error, secrets)
        return of_reply(reply, secrets)
