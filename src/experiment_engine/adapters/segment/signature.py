"""How Segment signs a body: `X-Signature` is the HMAC-SHA1 of the JSON in hexadecimal digits.

Facts: https://segment.com/docs/connections/destinations/catalog/webhooks. Of a batch, only the
first event is signed: who has seen one signed event could add others behind it.
"""

import hmac
from collections.abc import Mapping

from experiment_engine.adapters.json_input import bare, elements_of, opening
from experiment_engine.adapters.track_call import MAX_CALLS
from experiment_engine.domain.errors import NotUnderstood

_HEADER = b"x-signature"


class SegmentSignature:
    """Segment's signature."""

    def is_there(self, headers: Mapping[bytes, bytes]) -> bool:
        """Say whether the request claims to be signed."""
        return _HEADER in headers

    def fits(self, headers: Mapping[bytes, bytes], body: bytes, secret: bytes) -> bool:
        """Say whether this secret signed the body, or the first event of it."""
        expected = hmac.new(secret, _signed_part(body), "sha1").hexdigest().encode()
        return hmac.compare_digest(expected, headers[_HEADER].strip().lower())


def _signed_part(body: bytes) -> bytes:
    if opening(body) != b"[":
        return body
    try:
        events = elements_of(bare(body), MAX_CALLS)
    except NotUnderstood:
        return body
    return events[0] if events else body
