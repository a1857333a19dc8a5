"""How a message is handed to Firebase: once, to one device."""

import httpx2

from experiment_engine.adapters.calling.client import TIME_LIMIT
from experiment_engine.adapters.calling.endings import excerpt
from experiment_engine.adapters.calling.posting import post, within, written
from experiment_engine.adapters.fcm.answers import of_reply
from experiment_engine.adapters.fcm.credentials import NoToken, Tokens
from experiment_engine.adapters.fcm.payload import to_body
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
        body = written(call, to_body)
        if isinstance(body, Answer):
            return body
        deadline = within(self._time_limit)
        try:
            token = await self._tokens.token()
        except NoToken as error:
            return Answer(Verdict.NOT_TAKEN, "no_token", excerpt(str(error).encode()))
        return await post(
            self._client,
            self._path,
            body,
            read=of_reply,
            deadline=deadline,
            headers={"Authorization": f"Bearer {token}"},
            secrets=(token, call.address or token),
        )

    async def close(self) -> None:
        """Give back the connections; a later call is answered with `closed`."""
        await self._client.aclose()
