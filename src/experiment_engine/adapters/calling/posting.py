"""A call that is one POST of JSON: every way it can end is an Answer, except being cancelled."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import httpx2
import msgspec

from experiment_engine.adapters.calling.client import exchange
from experiment_engine.adapters.calling.endings import Reply, of_failure
from experiment_engine.domain.delivery.message import Answer, Call, Verdict

Reading = Callable[[Reply, Iterable[str]], Answer]  # of a reply; the secrets are left out of it


class Unsendable(Exception):
    """A call that cannot be put into the provider's words; `reason` is a code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def answer(self) -> Answer:
        """Return the answer to such a call: nobody was called, nobody ever will be."""
        return Answer(Verdict.REFUSED, self.reason, whole_call=False)


def written(call: Call, content: Callable[[Call], object]) -> bytes | Answer:
    """Return the JSON of a call, or the refusal of one that cannot be written."""
    try:
        return msgspec.json.encode(content(call))
    except Unsendable as error:
        return error.answer
    except UnicodeEncodeError:  # a lone surrogate in somebody's name
        return Answer(Verdict.REFUSED, "not_writable", whole_call=not call.carries_ids)


def within(time_limit: float) -> float:
    """Return when a call that begins now must have ended, on the event loop's clock."""
    return asyncio.get_running_loop().time() + time_limit


async def post(
    client: httpx2.AsyncClient,
    url: httpx2.URL | str,
    body: bytes,
    *,
    read: Reading,
    deadline: float,
    headers: Mapping[str, str],
    secrets: Iterable[str] = (),
    extensions: Mapping[str, object] | None = None,
) -> Answer:
    """Make the call once; what its reply means, `read` says."""
    if client.is_closed:
        return Answer(Verdict.NOT_TAKEN, "closed", whole_call=False)
    try:
        request = client.build_request(
            "POST",
            url,
            content=body,
            headers={"Content-Type": "application/json", **headers},
            extensions=dict(extensions or {}),
        )
        reply = await exchange(client, request, deadline)
    except Exception as error:  # noqa: BLE001 - whatever it is, it may have been written
        return of_failure(error, secrets)
    return read(reply, secrets)
