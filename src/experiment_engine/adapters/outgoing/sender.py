"""How a message is handed to somebody's own webhook: signed, once, to a public machine only."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import httpx2

from experiment_engine.adapters.calling.client import CONNECT_LIMIT, TIME_LIMIT
from experiment_engine.adapters.calling.endings import Reply, answered, excerpt
from experiment_engine.adapters.calling.posting import post, within, written
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
        body = written(call, lambda call: content_of(call, now))
        if isinstance(body, Answer):
            return body
        url, deadline = httpx2.URL(self._receiver.url), within(self._time_limit)
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                address = await self._address(url)
        except NotPublic as error:
            return Answer(Verdict.NOT_TAKEN, "not_public", excerpt(str(error).encode()))
        except (OSError, UnicodeError) as error:  # no such name, or none at all
            return Answer(Verdict.NOT_TAKEN, "dns_failed", excerpt(str(error).encode()))
        signed = self._receiver.key.headers(call.experiment_id or call.id, now, body)
        return await post(
            self._client,
            url.copy_with(host=address),
            body,
            read=_of_reply,
            deadline=deadline,
            headers={"Host": url.netloc.decode("ascii"), **signed},
            secrets=(call.address,) if call.address else (),
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )

    async def close(self) -> None:
        """Give back the connections; a later call is answered with `closed`."""
        await self._client.aclose()

    async def _address(self, url: httpx2.URL) -> str:
        """Return the address that was judged; the call goes to it, under the name of its host."""
        host, port = url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]
        allowed = self._receiver.loopback
        address = await checked_address(host, port, loopback=allowed, lookup=self._lookup)
        if url.scheme != "https" and not is_loopback(address):
            raise NotPublic(f"{url.host} is not this machine: write https://")
        return address


def content_of(call: Call, at: Instant) -> Mapping[str, object]:
    """Return what the receiver needs to send one message, in the shape of Standard Webhooks."""
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
    return {"type": "message.due", "timestamp": iso(at), "data": data}


def _of_reply(reply: Reply, secrets: Iterable[str]) -> Answer:
    taken = reply.status in SUCCESSES
    meaning = ACCEPTED if taken else of_status(reply.status)
    return answered(reply, meaning, "accepted" if taken else f"http_{reply.status}", None, secrets)
