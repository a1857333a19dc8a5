"""What a status of HTTP proves about the messages of a call.

Proves is the word: what is neither provably taken nor provably refused is UNCERTAIN, and never
repeated.
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
REFUSED = Meaning(Verdict.REFUSED)
NOT_TAKEN = Meaning(Verdict.NOT_TAKEN)

SUCCESSES = range(200, 300)
CLIENT_ERRORS = range(400, 500)

_BY_STATUS: Mapping[int, Meaning] = {
    # Moved, and never followed. These three ask for the same request at another address, so it
    # was not carried out; after a POST the others (302, 303) may mean "done, look there".
    301: REFUSED,
    307: REFUSED,
    308: REFUSED,
    # Something in the call: perhaps one user, perhaps its size.
    400: Meaning(Verdict.REFUSED, whole_call=True),
    413: Meaning(Verdict.REFUSED, whole_call=True),
    422: Meaning(Verdict.REFUSED, whole_call=True),
    # The account, or a gateway before it: heals when somebody corrects it.
    401: NOT_TAKEN,
    403: NOT_TAKEN,
    407: NOT_TAKEN,
    # Too early, too many.
    425: NOT_TAKEN,
    429: NOT_TAKEN,
    # "Your request did not arrive whole", though it was written whole: a gateway gave up waiting
    # for somebody. "Conflict": perhaps with a copy of this call that a gateway repeated.
    408: UNCERTAIN,
    409: UNCERTAIN,
}
_OTHER_CLIENT_ERROR = REFUSED  # 404, 405, ...: the address, wrong for everybody


def of_status(status: int) -> Meaning:
    """Read a status that is no success; a 5xx may have broken after it queued the message."""
    default = _OTHER_CLIENT_ERROR if status in CLIENT_ERRORS else UNCERTAIN
    return _BY_STATUS.get(status, default)
