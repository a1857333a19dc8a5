"""Who looks at a page, what they may do, and whether a change is really theirs."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from experiment_engine.application.ports import Clock
from experiment_engine.domain.moments import SECOND, Instant
from experiment_engine.entrypoints.dashboard.guesses import Guesses
from experiment_engine.entrypoints.dashboard.sessions import Session, Sessions
from experiment_engine.entrypoints.http.access import Gate, Refused, Scope

_COOKIE, _SECURE_COOKIE = "session", "__Host-session"
_NOBODY = "open"  # whose forms are those of an engine without tokens

FORM_TOKEN = "form_token"  # noqa: S105 - the name of a field
WRONG_FORM = Refused(
    403,
    "foreign_form",
    "This change did not come from a page of the dashboard. Load the page again, and repeat it.",
)
SIGN_IN = Refused(401, "unauthorized", "Sign in first.")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may come in."""

    who: str  # for the audit; never a secret
    form_token: str
    session: Session | None = None
    scopes: frozenset[str] | None = None  # None: everything

    def may(self, scope: Scope) -> bool:
        """Say whether the token that opened the session is for this."""
        return self.scopes is None or scope in self.scopes


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Knows visitors by their session, by a bearer token, or by being on this machine."""

    gate: Gate
    sessions: Sessions
    clock: Clock
    key: bytes
    is_ended: Callable[[Session], bool]  # by its user, on whichever process
    guesses: Guesses = field(default_factory=Guesses)

    @property
    def asks_for_token(self) -> bool:
        """Say whether one has to sign in."""
        return bool(self.gate.secrets)

    def visitor(self, request: Request, scope: Scope) -> Visitor | Refused:
        """Return who asks, or why they may not see this."""
        headers = dict(request.scope["headers"])
        if not self.asks_for_token or b"authorization" in headers:
            refused = self.gate.refusal(headers, scope)
            if refused is not None:
                return refused
            return Visitor(
                self.gate.who(headers, self.key),
                self.sessions.form_token(_NOBODY),
                scopes=self.gate.scopes(headers),
            )
        visitor = self._of_session(request)
        if visitor is None:
            return SIGN_IN
        if not visitor.may(scope):
            return Refused(403, "out_of_scope", f"Your token is not for `{scope}`.")
        return visitor

    def sign_in(self, token: str, address: str) -> Session | None:
        """Open a session for a token of API_TOKEN that may look at pages.

        Raises TooManyGuesses, without looking at the token, after too many wrong ones.
        """
        now = self.clock.now()
        self.guesses.allow(address, now)
        session = self._session_of(token.strip().encode("utf-8", "replace"), now)
        if session is None:
            self.guesses.wrong(address, now)
        return session

    def _session_of(self, presented: bytes, now: Instant) -> Session | None:
        # Every secret is compared, so that the time taken tells nothing.
        known = [secret for secret in self.gate.secrets if secret.matches(presented)]
        if not known or not (known[0].scopes is None or Scope.STATS in known[0].scopes):
            return None
        return self.sessions.open(known[0].mark(self.key), now)

    def keep(self, response: Response, session: Session, request: Request) -> None:
        """Give the visitor the session's cookie."""
        secure = _over_tls(request)
        response.set_cookie(
            _SECURE_COOKIE if secure else _COOKIE,
            self.sessions.write(session),
            max_age=(session.ends_at() - self.clock.now()) // SECOND,
            path="/",
            secure=secure,
            httponly=True,
            samesite="lax",
        )

    def renew(self, response: Response, visitor: Visitor, request: Request) -> None:
        """Keep a session alive that is used."""
        if visitor.session is not None:
            renewed = self.sessions.seen(visitor.session, self.clock.now())
            if renewed is not None:
                self.keep(response, renewed, request)

    def take_back(self, response: Response) -> None:
        """Take the cookie of a session back that was ended."""
        response.delete_cookie(_COOKIE, path="/")
        response.delete_cookie(_SECURE_COOKIE, path="/", secure=True)

    def is_same_origin(self, request: Request) -> bool:
        """Say whether the browser, if it is one, says that one of our own pages asks."""
        return _same_origin(request)

    def is_own_form(self, request: Request, visitor: Visitor, token: str) -> bool:
        """Say whether a change comes from one of our own pages."""
        return _same_origin(request) and hmac.compare_digest(
            visitor.form_token.encode(), token.encode("utf-8", "replace")
        )

    def _of_session(self, request: Request) -> Visitor | None:
        for name in (_SECURE_COOKIE, _COOKIE):
            value = _cookie(request, name)
            session = None if value is None else self.sessions.read(value, self.clock.now())
            if session is None or self.is_ended(session):
                continue
            for secret in self.gate.secrets:
                if hmac.compare_digest(secret.mark(self.key), session.mark):
                    return Visitor(
                        self.gate.name(session.mark),
                        self.sessions.form_token(session.id),
                        session,
                        secret.scopes,
                    )
        return None


def _cookie(request: Request, name: str) -> str | None:
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return None if found is None else found.value


def _same_origin(request: Request) -> bool:
    """Say whether the browser says that one of our own pages asks.

    Programs that are no browsers send neither header; the form's token is asked of all.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _over_tls(request: Request) -> bool:
    # Believed for this alone: who lies about it only makes their own cookie stricter.
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
