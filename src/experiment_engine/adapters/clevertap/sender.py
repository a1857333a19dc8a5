"""How a call reaches CleverTap: once, within a time limit, and read to the end."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx2
import msgspec

from experiment_engine.adapters.clevertap.answers import Reply, fault_of, of_failure, of_reply
from experiment_engine.adapters.clevertap.payload import Unsendable, WhatsAppEndpoint, to_request
from experiment_engine.domain.delivery.message import Answer, Call, Verdict
from experiment_engine.domain.errors import ConfigurationError

TIME_LIMIT = 15.0  # seconds for the whole call, from the first byte written to the last read
CONNECT_LIMIT = 3.0
MAX_ANSWER = 1 << 20  # bytes, after decompression

# Shorter than most servers keep an idle connection: a call written into a connection that is just
# being closed can only be answered with "unknown".
KEEPALIVE = 4.0

_BASE_URLS: Mapping[str, str] = {
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
    if region not in _BASE_URLS:
        known = ", ".join(_BASE_URLS)
        raise ConfigurationError(f'CLEVERTAP_REGION is "{region}": choose one of {known}.')
    return _BASE_URLS[region]


def open_client(
    url: str,
    *,
    connections: int = 16,
    connect_limit: float = CONNECT_LIMIT,
    keepalive: float = KEEPALIVE,
) -> httpx2.AsyncClient:
    """Open the pool of connections; `connections` is at least the calls ever in flight.

    It takes nothing from the environment (proxies, .netrc), follows no redirect and never tries
    again: what may have been written is not written twice.
    """
    return httpx2.AsyncClient(
        base_url=url,
        headers={"User-Agent": "experiment-engine", "Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(None, connect=connect_limit, pool=connect_limit),
        limits=httpx2.Limits(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=keepalive,
        ),
        follow_redirects=False,
        trust_env=False,
    )


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
            body = msgspec.json.encode(content)
        except Unsendable as error:
            return Answer(Verdict.REFUSED, error.reason, whole_call=False)
        except UnicodeEncodeError:  # a lone surrogate in somebody's name
            return Answer(Verdict.REFUSED, "not_writable")
        if self._client.is_closed:
            return Answer(Verdict.NOT_TAKEN, "closed", whole_call=False)
        secrets = (self._account.passcode,)
        try:
            reply = await self._exchange(path, body)
        except Exception as error:  # noqa: BLE001 - whatever it is, it may have been written
            return of_failure(error, secrets)
        return of_reply(call, reply, secrets)

    async def close(self) -> None:
        """Give back the connections; a later call is answered with `closed`."""
        await self._client.aclose()

    async def _exchange(self, path: str, body: bytes) -> Reply:
        deadline = asyncio.get_running_loop().time() + self._time_limit
        headers = {"Content-Type": "application/json", **self._account.headers()}
        request = self._client.build_request("POST", path, content=body, headers=headers)
        async with asyncio.timeout_at(deadline):
            response = await self._client.send(request, stream=True)
        try:
            async with asyncio.timeout_at(deadline):
                answer = await _read(response)
        except (TimeoutError, httpx2.HTTPError) as error:
            return Reply(response.status_code, response.headers, None, fault_of(error))
        finally:
            await response.aclose()
        fault = "answer_too_large" if answer is None else ""
        return Reply(response.status_code, response.headers, answer, fault)


async def _read(response: httpx2.Response) -> bytes | None:
    """Read the whole body; None if it is larger than anything CleverTap has to say."""
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_ANSWER:
                return None
    return bytes(body)
