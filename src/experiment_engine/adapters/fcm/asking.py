"""Asking Firebase by a message that it only checks: `validate_only`, to a device that is none.

Facts: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send. Whoever may
not send is told so before the message is looked at.
"""

import asyncio
from collections.abc import Mapping

import httpx2

from experiment_engine.adapters.calling.asking import Told, Welcome, ask_at, by_status
from experiment_engine.adapters.calling.endings import error_of, members_of
from experiment_engine.adapters.fcm.credentials import NoToken, Tokens

_QUESTION: Mapping[str, object] = {
    "validate_only": True,
    "message": {"token": "none", "notification": {"title": "none"}},
}
_GOOGLE, _REFUSED = "Google's token server", "RefreshError"
_MEND = "make a new key of a service account of this project that may send (FCM_CREDENTIALS)"


def ask(origin: str, path: str, tokens: Tokens) -> Told:
    """Get a token and ask at `path`, as of the sender; every end is an answer."""
    try:
        token = asyncio.run(tokens.token())
    except NoToken as error:
        refused = str(error) == _REFUSED
        return Told(_GOOGLE, "unknown" if refused else "away", f"no token ({error})", _MEND)
    return ask_at(
        origin,
        lambda client: client.post(path, json=_QUESTION),
        _welcome,
        headers={"Authorization": f"Bearer {token}"},
        secrets=(token,),
        mend=_MEND,
    )


def _welcome(reply: httpx2.Response) -> Welcome:
    # 400: it would have looked at the device. 404: of a device, or there is no such project.
    status = error_of(members_of(reply.content)).get("status")
    if reply.status_code == 404:  # noqa: PLR2004 - not found
        return "known" if status == "UNREGISTERED" else "unknown"
    return by_status(reply.status_code, known=(200, 400))
