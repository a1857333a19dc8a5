"""How Meta signs what it reports, and how it asks whether an address is ours.

Facts: https://developers.facebook.com/docs/graph-api/webhooks/getting-started. The signature is
the HMAC-SHA256 of the raw body with the app's secret.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

_HEADER = b"x-hub-signature-256"
_PREFIX = b"sha256="
_CHALLENGE = re.compile(r"[0-9A-Za-z_.-]{1,256}")


class MetaSignature:
    """Meta's signature."""

    def is_there(self, headers: Mapping[bytes, bytes]) -> bool:
        """Say whether the request claims to be signed."""
        return _HEADER in headers

    def fits(self, headers: Mapping[bytes, bytes], body: bytes, secret: bytes) -> bool:
        """Say whether this secret signed exactly this body."""
        expected = _PREFIX + hmac.new(secret, body, "sha256").hexdigest().encode()
        return hmac.compare_digest(expected, headers[_HEADER].strip())


@dataclass(frozen=True, slots=True)
class Greeting:
    """Answers the question with which Meta tries out an address."""

    token: str = field(repr=False)

    def answer(self, query: bytes) -> bytes | None:
        """Return the challenge of whoever knows our token; None for anybody else."""
        try:
            asked = parse_qs(query.decode("ascii"), max_num_fields=20)
        except ValueError:  # not ASCII, or too much of it
            return None
        mode, token, challenge = (
            asked.get(f"hub.{name}", [""])[0] for name in ("mode", "verify_token", "challenge")
        )
        known = hmac.compare_digest(token.encode(), self.token.encode())
        fits = mode == "subscribe" and _CHALLENGE.fullmatch(challenge) is not None
        return challenge.encode() if known and fits else None
