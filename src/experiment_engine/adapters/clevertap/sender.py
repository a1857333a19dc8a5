"""CleverTap as a provider: who we are there, and how a call is handed over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import httpx2

from experiment_engine.adapters.calling.client import TIME_LIMIT, open_client
from experiment_engine.adapters.calling.posting import Unsendable, post, within, written
from experiment_engine.adapters.clevertap.answers import of_reply
from experiment_engine.adapters.clevertap.payload import WhatsAppEndpoint, to_request
from experiment_engine.domain.delivery.message import Answer, Call
from experiment_engine.domain.errors import ConfigurationError

__all__ = ["BASE_URLS", "Account", "CleverTapSender", "base_url", "open_client"]

BASE_URLS: Mapping[str, str] = {
    "in1": "https://in1.api.clevertap.com",
    "sg1": "https://sg1.api.clevertap.com",
    "us1": "https://us1.api.clevertap.com",
    "aps3": "https://aps3.api.clevertap.com",
    "mec1": "https://mec1.api.clevertap.com",
    "eu1": "https://api.clevertap.com",  # Europe came first and has no prefix
}


@dataclass(frozen=True, slots=True)
class Account:
    """Who we are at CleverTap; nothing of it shows when printed."""

    id: str = field(repr=False)
    passcode: str = field(repr=False)

    def __post_init__(self) -> None:
        for name, value in (("ACCOUNT_ID", self.id), ("PASSCODE", self.passcode)):
            if not (value and value.isascii() and value.isprintable() and " " not in value):
                raise ConfigurationError(
                    f"CLEVERTAP_{name} is empty or holds a character that none of theirs has "
                    "(a blank, a quote mark of a text editor?): copy it again from the dashboard."
                )

    def headers(self) -> dict[str, str]:
        """Return what CleverTap knows us by."""
        return {"X-CleverTap-Account-Id": self.id, "X-CleverTap-Passcode": self.passcode}


def base_url(region: str) -> str:
    """Return the region's origin; raise ConfigurationError for a region that is not there."""
    if region not in BASE_URLS:
        known = ", ".join(BASE_URLS)
        raise ConfigurationError(f'CLEVERTAP_REGION is "{region}": choose one of {known}.')
    return BASE_URLS[region]


class CleverTapSender:
    """Hands calls to CleverTap. Knows their JSON and their answers; nobody else does."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        account: Account,
        *,
        whatsapp_endpoint: WhatsAppEndpoint = "externaltrigger",
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self._client = client
        self._account = account
        self._whatsapp_endpoint = whatsapp_endpoint
        self._time_limit = time_limit

    async def send(self, call: Call) -> Answer:
        """Make the call once; every way it can end is an Answer, except being cancelled."""
        try:
            path, content = to_request(call, self._whatsapp_endpoint)
        except Unsendable as error:
            return error.answer
        body = written(call, lambda _: content)
        if isinstance(body, Answer):
            return body
        return await post(
            self._client,
            path,
            body,
            read=partial(of_reply, call),
            deadline=within(self._time_limit),
            headers=self._account.headers(),
            secrets=(self._account.passcode,),
        )

    async def close(self) -> None:
        """Give back the connections; a later call is answered with `closed`."""
        await self._client.aclose()
