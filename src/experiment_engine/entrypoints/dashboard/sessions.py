"""Sessions: signed, bound to the token that opened them, and not stored until they are ended."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from secrets import token_urlsafe

import msgspec

from experiment_engine.domain.moments import HOUR, MINUTE, Duration, Instant

IDLE = Duration(2 * HOUR)  # without a request for this long, a session ends
ABSOLUTE = Duration(12 * HOUR)  # and after this long in any case
RENEWED_AFTER = Duration(5 * MINUTE)  # how exactly the last request is remembered

_ID_BYTES = 24
_NAME_LENGTH = 16  # characters: nobody meets another's session by chance


class Session(msgspec.Struct, frozen=True, array_like=True):
    """Who came in, with which token, and when."""

    id: str
    mark: str  # of the token: a session ends when its token is taken out of API_TOKEN
    opened_at: int
    seen_at: int

    def ends_at(self) -> Instant:
        """Return when the session ends if nothing more is asked."""
        return Instant(min(self.seen_at + IDLE, self.opened_at + ABSOLUTE))

    def name(self) -> str:
        """Name the session where its id must not be written."""
        return f"session {sha256(self.id.encode()).hexdigest()[:_NAME_LENGTH]}"


class Sessions:
    """Opens, signs and checks sessions; any process with the same key can check them."""

    def __init__(self, key: bytes) -> None:
        """Sign with a key that all processes on one database share."""
        self._key = key

    def open(self, mark: str, now: Instant) -> Session:
        """Return a new session with an id of its own."""
        return Session(token_urlsafe(_ID_BYTES), mark, now, now)

    def seen(self, session: Session, now: Instant) -> Session | None:
        """Return the session with its new time, or None while the old one is exact enough."""
        if now - session.seen_at < RENEWED_AFTER:
            return None
        return msgspec.structs.replace(session, seen_at=now)

    def write(self, session: Session) -> str:
        """Return the session as a cookie's value."""
        content = urlsafe_b64encode(msgspec.json.encode(session))
        return f"{content.decode()}.{self._signature(content)}"

    def read(self, value: str, now: Instant) -> Session | None:
        """Return the session of a cookie, or None if it is forged, over or not understood."""
        content, _, signature = value.partition(".")
        expected = self._signature(content.encode("utf-8", "replace"))
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            return None
        session = msgspec.json.decode(urlsafe_b64decode(content), type=Session)
        return None if now >= session.ends_at() else session

    def form_token(self, session_id: str) -> str:
        """Return what every form of this session carries: other sites cannot read it."""
        return self._signature(b"form:" + session_id.encode())

    def _signature(self, content: bytes) -> str:
        return hmac.new(self._key, content, sha256).hexdigest()
