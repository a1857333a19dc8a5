"""What a code of CleverTap proves about the messages of a call; it has no idempotency key."""

from experiment_engine.adapters.calling.statuses import CLIENT_ERRORS, Meaning, of_status
from experiment_engine.domain.delivery.message import Verdict

_WRONG_DATA = Meaning(Verdict.REFUSED, whole_call=True)

# In a body these speak of the server; CleverTap's 509 to 555 speak of wrong data.
_SERVER_CODES = frozenset({500, 502, 503, 504})


def of_code(code: int) -> Meaning:
    """Read the code beside a "fail" in a body: HTTP's own, or a refusal of the data."""
    if code in _SERVER_CODES or code in CLIENT_ERRORS:
        return of_status(code)
    return _WRONG_DATA
