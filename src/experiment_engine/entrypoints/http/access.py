"""Who may come in: secrets with scopes, or, without any secret, only this machine itself."""

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Protocol

Headers = Mapping[bytes, bytes]

_PROXIED = (b"forwarded", b"via", b"x-forwarded-")  # what a proxy's headers begin with


class Scope(StrEnum):
    """What a limited secret may be for; one without scopes is for everything."""

    TRIGGER = "trigger"
    ENGAGEMENT = "engagement"
    CONVERSION = "conversion"
    STATS = "stats"
    ADMIN = "admin"  # nothing but a secret without scopes


class Secret(Protocol):
    """One secret that opens a door."""

    @property
    def scopes(self) -> frozenset[str] | None:
        """Return what it is for; None for everything."""

    def matches(self, presented: bytes) -> bool:
        """Compare in constant time."""

    def mark(self, key: bytes) -> str:
        """Return what the secret is known by where it must not be written: a keyed digest."""

    def reveal(self) -> bytes:
        """Return the secret itself, to check a signature with it."""


class Signature(Protocol):
    """How a partner signs what it sends, so that its secret does not travel."""

    def is_there(self, headers: Headers) -> bool:
        """Say whether the request claims to be signed."""

    def fits(self, headers: Headers, body: bytes, secret: bytes) -> bool:
        """Say whether this secret signed exactly this body, comparing in constant time."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request may not come in."""

    status: int
    code: str
    message: str


_WRONG = Refused(401, "unauthorized", "The credentials are missing or wrong.")
_FOREIGN = Refused(
    403,
    "not_local",
    "No secret is set, so only this machine may ask, directly and by a loopback name. "
    "Set API_TOKEN and the webhook secrets to let others in.",
)


@dataclass(frozen=True, slots=True)
class Gate:
    """The door of one kind of route: its secrets and the setting that holds them.

    A request shows a secret, or, where the partner signs, that it was signed with one.
    """

    secrets: Sequence[Secret]
    setting: str
    signature: Signature | None = None

    def refusal(self, headers: Headers, scope: Scope) -> Refused | None:
        """Return why the request may not come in, or None; what is signed is heard out first."""
        if not self.secrets:
            return None if _is_local(headers) and not _from_other_site(headers) else _FOREIGN
        if self._is_signed(headers):
            return None
        presented = _presented(headers)
        if presented is None:
            return _WRONG
        return self._unless([one for one in self.secrets if one.matches(presented)], scope)

    def refusal_of_body(self, headers: Headers, body: bytes, scope: Scope) -> Refused | None:
        """Return why a signed request may not come in, now that its body is known, or None."""
        if not self.secrets or self.signature is None or not self._is_signed(headers):
            return None
        fits = self.signature.fits
        signers = [one for one in self.secrets if fits(headers, body, one.reveal())]
        return self._unless(signers, scope)

    def _is_signed(self, headers: Headers) -> bool:
        return self.signature is not None and self.signature.is_there(headers)

    def _unless(self, matching: Sequence[Secret], scope: Scope) -> Refused | None:
        # Every secret was compared, so that the time taken tells nothing.
        if not matching:
            return _WRONG
        if any(secret.scopes is None or scope in secret.scopes for secret in matching):
            return None
        return Refused(403, "out_of_scope", f"This secret of {self.setting} is not for `{scope}`.")

    def who(self, headers: Headers, key: bytes) -> str:
        """Name whoever came in, without repeating a secret."""
        shown = self._shown(headers)
        return "this machine" if shown is None else self.name(shown.mark(key))

    def scopes(self, headers: Headers) -> frozenset[str] | None:
        """Return what whoever came in is limited to; None for nothing."""
        shown = self._shown(headers)
        return None if shown is None else shown.scopes

    def _shown(self, headers: Headers) -> Secret | None:
        presented = _presented(headers) if self.secrets else None
        matching = [one for one in self.secrets if one.matches(presented or b"")]
        return matching[0] if presented is not None and matching else None

    def name(self, mark: str) -> str:
        """Name a secret by the beginning of its mark."""
        return f"{self.setting} {mark[:6]}"


def same(known: bytes, presented: bytes) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(known, presented)


def _presented(headers: Headers) -> bytes | None:
    plain = headers.get(b"x-webhook-secret")
    if plain is not None:
        return plain.strip()
    kind, _, value = headers.get(b"authorization", b"").strip().partition(b" ")
    if kind.lower() == b"bearer" and value:
        return value.strip()
    if kind.lower() == b"basic":
        try:
            pair = base64.b64decode(value.strip(), validate=True)
        except binascii.Error:
            return None
        return pair.partition(b":")[2]
    return None


def _from_other_site(headers: Headers) -> bool:
    """Say whether a page of another site makes a browser ask; following a link is no harm.

    Without a secret the browser needs no cookie to be let in, so any site could try.
    """
    origin = headers.get(b"origin")
    if origin is not None:  # sent with every change, and never when a link is followed
        return origin.partition(b"://")[2] != headers.get(b"host")
    site = headers.get(b"sec-fetch-site", b"none")
    return site not in {b"same-origin", b"none"} and headers.get(b"sec-fetch-mode") != b"navigate"


def _is_local(headers: Headers) -> bool:
    if any(name.startswith(_PROXIED) for name in headers):
        return False
    host = headers.get(b"host", b"").decode("latin-1").strip().lower()
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
