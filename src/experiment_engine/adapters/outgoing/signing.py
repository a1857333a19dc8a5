"""Signatures by Standard Webhooks 1.0, so that a receiver can check them with any library.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
from dataclasses import dataclass, field

from experiment_engine.domain.moments import SECOND, Instant

_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The secret that sender and receiver share; it never shows when printed."""

    key: bytes = field(repr=False)

    @classmethod
    def of(cls, written: str) -> "SigningKey":
        """Read `whsec_` and 24 to 64 bytes in base64; raises ValueError."""
        try:
            key = base64.b64decode(written.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not written.startswith(_PREFIX) or len(key) not in _KEY_BYTES:
            raise ValueError(
                f"not a signing secret: write {_PREFIX} and 24 to 64 random bytes in base64,"
                f" as from: echo {_PREFIX}$(openssl rand -base64 32)"
            )
        return cls(key)

    def headers(self, message_id: str, at: Instant, body: bytes) -> dict[str, str]:
        """Return the headers that name, date and sign a message."""
        stamp = str(at // SECOND)
        signed = b".".join((message_id.encode(), stamp.encode(), body))
        digest = base64.b64encode(hmac.digest(self.key, signed, "sha256")).decode()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,{digest}",
        }
