"""Looking whether a receiver may be called. It is not: every call is a message."""

import asyncio

import httpx2

from experiment_engine.adapters.calling.asking import Told
from experiment_engine.adapters.outgoing.public_hosts import NotPublic, checked_address


def ask(url: str, *, loopback: bool) -> Told:
    """Look its host up; every end is an answer."""
    parsed = httpx2.URL(url)
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    try:
        found = asyncio.run(checked_address(parsed.host, port, loopback=loopback))
    except NotPublic as error:
        mend = "name a machine of the public internet in OUTGOING_WEBHOOK_URL"
        return Told(parsed.host, "unknown", str(error), mend)
    except OSError as error:
        return Told(parsed.host, "away", f"its name is not found ({type(error).__name__})")
    known_as = f"is {found}; it was not called, as every call is a message"
    return Told(parsed.host, "known", "", known_as=known_as)
