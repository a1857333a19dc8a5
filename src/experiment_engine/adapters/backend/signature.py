"""Standard Webhooks: a signature over id, time and body that is good for five minutes.

Facts: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
The secret is `whsec_` and base64; one header may carry several signatures while a secret changes.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from experiment_engine.domain.moments import MINUTE, SECOND, Instant

_ID, _TIME, _SIGNATURE = b"webhook-id", b"webhook-timestamp", b"webhook-signature"
_PREFIX = b"whsec_"
_TOLERANCE = 5 * MINUTE
_MAX_DIGITS = 15


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """The signature of Standard Webhooks, version 1 (HMAC-SHA256)."""

    now: Callable[[], Instant]

    def is_there(self, headers: Mapping[bytes, bytes]) -> bool:
        """Say whether the request claims to be signed."""
        return _SIGNATURE in headers

    def fits(self, headers: Mapping[bytes, bytes], body: bytes, secret: bytes) -> bool:
        """Say whether this secret signed exactly this body a short while ago."""
        key, sent_at = _key(secret), headers.get(_TIME, b"").strip()
        sent_as = headers.get(_ID, b"").strip()
        if key is None or not sent_as or not self._is_fresh(sent_at):
            return False
        signed = hmac.new(key, b".".join((sent_as, sent_at, body)), "sha256").digest()
        expected = b"v1," + base64.b64encode(signed)
        return any(hmac.compare_digest(expected, one) for one in headers[_SIGNATURE].split())

    def _is_fresh(self, sent_at: bytes) -> bool:
        if not sent_at.isdigit() or len(sent_at) > _MAX_DIGITS:
            return False
        return abs(self.now() - int(sent_at) * SECOND) <= _TOLERANCE


def _key(secret: bytes) -> bytes | None:
    if not secret.startswith(_PREFIX):
        return None
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True) or None
    except binascii.Error:
        return None
