"""How a message is handed to somebody's own webhook: signed, once, to a public machine only."""

import asyncio
from dataclasses import dataclass, field

import httpx2
import msgspec

from experiment_engine.adapters.calling.client import CONNECT_LIMIT, TIME_LIMIT, exchange
from experiment_engine.adapters.calling.endings import Reply, excerpt, of_failure, retry_after
from experiment_engine.adapters.calling.statuses import ACCEPTED, SUCCESSES, of_status
from experiment_engine.adapters.outgoing.public_hosts import (
    Lookup,
    NotPublic,
    checked_address,
    is_loopback,
    look_up,
)
from experiment_engine.adapters.outgoing.signing import SigningKey
from experiment_engine.application.ports import Clock
from experiment_engine.domain.delivery.message import Answer, Call, Verdict
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.moments import Instant, iso

_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where messages go, and the secret that signs them; `loopback` allows this machine."""

    url: str
    key: SigningKey = field(repr=False)
    loopback: bool = False

    def __post_init__(self) -> None:
        schemes = ("https", "http") if self.loopback else ("https",)
        try:
            url = httpx2.URL(self.url)
            fits = url.scheme in schemes and bool(url.host)
        except httpx2.InvalidURL:
            fits = False
        if not fits:
            raise ConfigurationError(
                "OUTGOING_WEBHOOK_URL: must begin with https:// and name a host; http:// is for"
                " a receiver on this machine, with OUTGOING_WEBHOOK_LOOPBACK=1"
            )


class OutgoingSender:
    """Posts each message to one receiver. Whatever it answers with a 2xx it has taken."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        receiver: Receiver,
        clock: Clock,
        *,
        time_limit: float = TIME_LIMIT,
        lookup: Lookup = look_up,
    ) -> None:
        self._client = client
        self._receiver = receiver
        self._clock = clock
        self._time_limit = time_limit
        self._lookup = lookup

    async def send(self, call: Call) -> Answer:
        """Make the call once; every way it can end is an Answer, except being cancelled."""
        now = self._clock.now()
        try:
            body = body_of(call, now)
        except UnicodeEncodeError:  # a lone surrogate in somebody's name
            return Answer(Verdict.REFUSED, "not_writable", whole_call=False)
        if self._client.is_closed:
            return Answer(Verdict.NOT_TAKEN, "closed", whole_call=False)
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                request = await self._request(call, body, now)
        except NotPublic as error:
            return Answer(Verdict.NOT_TAKEN, "not_public", excerpt(str(error).encode()))
        except (OSError, UnicodeError) as error:  # no such name, or none at all
            return Answer(Verdict.NOT_TAKEN, "dns_failed", excerpt(str(error).encode()))
        secrets = (call.address,) if call.address else ()
        try:
            reply = await exchange(self._client, request, self._time_limit)
        except Exception as error:  # noqa: BLE001 - whatever it is, it may have been written
            return of_failure(error, secrets)
        return _of_reply(reply, secrets)

    async def close(self) -> None:
        """Give back the connections; a later call is answered with `closed`."""
        await self._client.aclose()

    async def _request(self, call: Call, body: bytes, now: Instant) -> httpx2.Request:
        """Build the request to the address that was judged, under the name of its host."""
        receiver = self._receiver
        url = httpx2.URL(receiver.url)
        port = url.port or _PORTS[url.scheme]
        address = await checked_address(
            url.raw_host.decode("ascii"), port, loopback=receiver.loopback, lookup=self._lookup
        )
        if url.scheme != "https" and not is_loopback(address):
            raise NotPublic(f"{url.host} is not this machine: write https://")
        headers = {
            "Content-Type": "application/json",
            "Host": url.netloc.decode("ascii"),
            **receiver.key.headers(call.experiment_id or call.id, now, body),
        }
        return self._client.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers=headers,
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )


def body_of(call: Call, at: Instant) -> bytes:
    """Write what the receiver needs to send one message, in the shape of Standard Webhooks."""
    content = call.content
    data: dict[str, str] = {
        "experiment_id": call.experiment_id or "",
        "user_id": next(iter(call.recipients)),
        "channel": content.channel,
        "title": content.title,
        "body": content.body,
        "deep_link": call.link,
    }
    if call.address is not None:
        data["address"] = call.address
    return msgspec.json.encode({"type": "message.due", "timestamp": iso(at), "data": data})


def _of_reply(reply: Reply, secrets: tuple[str, ...]) -> Answer:
    taken = reply.status in SUCCESSES
    meaning = ACCEPTED if taken else of_status(reply.status)
    return Answer(
        verdict=meaning.verdict,
        reason="accepted" if taken else f"http_{reply.status}",
        answer=excerpt(reply.body or b"", secrets),
        status=reply.status,
        retry_after=retry_after(reply.headers),
        whole_call=False,
    )
