"""How Segment signs a body: `X-Signature` is the HMAC-SHA1 of the JSON in hexadecimal digits.

Facts: https://segment.com/docs/connections/destinations/catalog/webhooks. Of a batch, only the
first event is signed: who has seen one signed event could add others behind it. Nobody has shown
a secret yet, so no more of a batch is read than its first event.
"""

import hmac
import json
from collections.abc import Mapping

from experiment_engine.adapters.json_input import bare, opening

_HEADER = b"x-signature"

_first_in = json.JSONDecoder().raw_decode  # reads one value, and not what stands behind it


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
        batch = bare(body).decode().lstrip().removeprefix("[").lstrip()
        _, end = _first_in(batch)
    except (ValueError, RecursionError):
        return body
    return batch[:end].encode()
