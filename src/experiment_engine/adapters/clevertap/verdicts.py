"""What a status of HTTP, or a code of CleverTap, proves about the messages of a call.

Proves is the word: CleverTap has no idempotency key, so what is neither provably taken nor
provably refused is UNCERTAIN, and never repeated.
"""

from collections.abc import Mapping
from typing import NamedTuple

from experiment_engine.domain.delivery.message import Verdict


class Meaning(NamedTuple):
    """A verdict; `whole_call` only where halving the call may find the culprit."""

    verdict: Verdict
    whole_call: bool = False


UNCERTAIN = Meaning(Verdict.UNCERTAIN)
ACCEPTED = Meaning(Verdict.ACCEPTED)

_BY_STATUS: Mapping[int, Meaning] = {
    # Moved, and never followed. These three ask for the same request at another address, so it
    # was not carried out; after a POST the others (302, 303) may mean "done, look there".
    301: Meaning(Verdict.REFUSED),
    307: Meaning(Verdict.REFUSED),
    308: Meaning(Verdict.REFUSED),
    # Something in the call: perhaps one user, perhaps its size.
    400: Meaning(Verdict.REFUSED, whole_call=True),
    413: Meaning(Verdict.REFUSED, whole_call=True),
    422: Meaning(Verdict.REFUSED, whole_call=True),
    # The account, or a gateway before it: heals when somebody corrects it.
    401: Meaning(Verdict.NOT_TAKEN),
    403: Meaning(Verdict.NOT_TAKEN),
    407: Meaning(Verdict.NOT_TAKEN),
    # Too early, too many.
    425: Meaning(Verdict.NOT_TAKEN),
    429: Meaning(Verdict.NOT_TAKEN),
    # "Your request did not arrive whole", though it was written whole: a gateway gave up waiting
    # for somebody. "Conflict": perhaps with a copy of this call that a gateway repeated.
    408: UNCERTAIN,
    409: UNCERTAIN,
}
_CLIENT_ERRORS = range(400, 500)
_OTHER_CLIENT_ERROR = Meaning(Verdict.REFUSED)  # 404, 405, ...: the address, wrong for everybody
_WRONG_DATA = Meaning(Verdict.REFUSED, whole_call=True)

# In a body these speak of the server; CleverTap's 509 to 555 speak of wrong data.
_SERVER_CODES = frozenset({500, 502, 503, 504})


def of_status(status: int) -> Meaning:
    """Read a status that is no success; a 5xx may have broken after it queued the message."""
    default = _OTHER_CLIENT_ERROR if status in _CLIENT_ERRORS else UNCERTAIN
    return _BY_STATUS.get(status, default)


def of_code(code: int) -> Meaning:
    """Read the code beside a "fail" in a body: HTTP's own, or a refusal of the data."""
    if code in _SERVER_CODES or code in _CLIENT_ERRORS:
        return of_status(code)
    return _WRONG_DATA
