"""Asking Meta for the phone number that we send from: it reads, and needs the token of sending.

Facts: https://developers.facebook.com/docs/whatsapp/business-management-api/manage-phone-numbers
and https://developers.facebook.com/docs/graph-api/guides/error-handling.
"""

from collections.abc import Mapping

import httpx2

from experiment_engine.adapters.calling.asking import Told, Welcome, ask_at, by_status
from experiment_engine.adapters.calling.endings import error_of, members_of

_BUSY = frozenset({4, 17, 80007})
# The token is bad or has ended, may not do this, or the number is none that it may see.
_STRANGERS = frozenset({10, 100, 102, 190, *range(200, 300)})


def ask(origin: str, path: str, access_token: str) -> Told:
    """Ask for the number at `path`, `/<version>/<phone number id>`; every end is an answer."""
    return ask_at(
        origin,
        lambda client: client.get(path, params={"fields": "id"}),
        _welcome,
        headers={"Authorization": f"Bearer {access_token}"},
        secrets=(access_token,),
        mend="copy META_ACCESS_TOKEN (of a system user) and META_PHONE_NUMBER_ID again",
    )


def _welcome(reply: httpx2.Response) -> Welcome:
    said: Mapping[str, object] | None = members_of(reply.content)
    code = error_of(said).get("code")
    if code in _BUSY:
        return "busy"
    if code in _STRANGERS:
        return "unknown"
    welcome = by_status(reply.status_code)
    return "strange" if welcome == "known" and "id" not in (said or {}) else welcome
