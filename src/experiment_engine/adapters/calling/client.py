"""How a call reaches a provider: once, within a time limit, and read to the end."""

import asyncio
from contextlib import aclosing

import httpx2

from experiment_engine.adapters.calling.endings import Reply, fault_of

TIME_LIMIT = 15.0  # seconds for the whole call, with whatever comes before its first byte
CONNECT_LIMIT = 3.0
MAX_ANSWER = 1 << 20  # bytes, after decompression

# Shorter than most servers keep an idle connection: a call written into a connection that is just
# being closed can only be answered with "unknown".
KEEPALIVE = 4.0


def open_client(
    url: str,
    *,
    connections: int = 16,
    connect_limit: float = CONNECT_LIMIT,
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
            keepalive_expiry=KEEPALIVE,
        ),
        follow_redirects=False,
        trust_env=False,
    )


async def exchange(client: httpx2.AsyncClient, request: httpx2.Request, deadline: float) -> Reply:
    """Make a call and read its answer; raises whatever ended it before a status arrived.

    The deadline is on the event loop's clock.
    """
    async with asyncio.timeout_at(deadline):
        response = await client.send(request, stream=True)
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
    """Read the whole body; None if it is larger than anything a provider has to say."""
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_ANSWER:
                return None
    return bytes(body)
