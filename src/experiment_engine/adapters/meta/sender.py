"""How a message is handed to Meta: once, as a template message to one phone."""

import httpx2

from experiment_engine.adapters.calling.client import TIME_LIMIT
from experiment_engine.adapters.calling.posting import post, within, written
from experiment_engine.adapters.meta.answers import of_reply
from experiment_engine.adapters.meta.payload import to_body
from experiment_engine.domain.delivery.message import Answer, Call


class MetaSender:
    """Hands calls to the Cloud API. `path` is `/<version>/<phone number id>/messages`."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        path: str,
        access_token: str,
        *,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self._client = client
        self._path = path
        self._access_token = access_token
        self._time_limit = time_limit

    async def send(self, call: Call) -> Answer:
        """Make the call once; every way it can end is an Answer, except being cancelled."""
        body = written(call, to_body)
        if isinstance(body, Answer):
            return body
        return await post(
            self._client,
            self._path,
            body,
            read=of_reply,
            deadline=within(self._time_limit),
            headers={"Authorization": f"Bearer {self._access_token}"},
            secrets=(self._access_token, call.address or self._access_token),
        )

    async def close(self) -> None:
        """Give back the connections; a later call is answered with `closed`."""
        await self._client.aclose()
