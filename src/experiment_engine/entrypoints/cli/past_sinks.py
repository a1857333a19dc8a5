"""Where the past goes: into the database, through the server that has it, or nowhere."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
import msgspec

from experiment_engine import bootstrap
from experiment_engine.adapters.system.logs import Journal
from experiment_engine.domain.errors import PartnerRefused, StorageInUse
from experiment_engine.domain.events import Happened
from experiment_engine.domain.moments import Instant, iso
from experiment_engine.domain.past import ToldLater
from experiment_engine.engine.engine import Engine
from experiment_engine.settings import Settings

_LARGEST = 800_000  # bytes in one request; the server takes 1 MiB
_PATIENCE = 60.0  # seconds


class Sink(Protocol):
    """Takes in what partners tell afterwards; each answers what came of it."""

    def events(self, facts: Sequence[Happened]) -> Mapping[str, int]:
        """Take in goals, opt-outs and opt-ins."""

    def reports(self, reports: Sequence[ToldLater]) -> Mapping[str, int]:
        """Take in CleverTap's records."""

    def filled(self, source: str, span: tuple[Instant, Instant]) -> int:
        """Let go of the silences of a source that lie in a span; return how many."""


class Nowhere:
    """Takes nothing in."""

    def events(self, facts: Sequence[Happened]) -> Mapping[str, int]:
        """Look away."""
        del facts
        return {}

    def reports(self, reports: Sequence[ToldLater]) -> Mapping[str, int]:
        """Look away."""
        del reports
        return {}

    def filled(self, source: str, span: tuple[Instant, Instant]) -> int:
        """Fill nothing."""
        del source, span
        return 0


@dataclass(frozen=True)
class ByEngine:
    """Takes in by itself: nobody else has the database, or everybody may."""

    engine: Engine

    def events(self, facts: Sequence[Happened]) -> Mapping[str, int]:
        """Take in goals, opt-outs and opt-ins."""
        return self.engine.traffic.reconcile(facts, ())

    def reports(self, reports: Sequence[ToldLater]) -> Mapping[str, int]:
        """Take in CleverTap's records."""
        return self.engine.traffic.reconcile((), reports)

    def filled(self, source: str, span: tuple[Instant, Instant]) -> int:
        """Let go of the silences of a source that lie in a span; return how many."""
        return self.engine.hands.fill_silences(source, span, who="reconcile")


@dataclass(frozen=True)
class ByServer:
    """Hands over to the server that has the database (R14)."""

    client: httpx2.Client

    def events(self, facts: Sequence[Happened]) -> Mapping[str, int]:
        """Take in goals, opt-outs and opt-ins, byte for byte as Amplitude has them."""
        came: dict[str, int] = {}
        some: list[bytes] = []
        for fact in facts:
            if some and sum(map(len, some)) + len(fact.raw) > _LARGEST:
                _add(came, self._hand_over(some))
                some = []
            some.append(fact.raw)
        return _add(came, self._hand_over(some))

    def reports(self, reports: Sequence[ToldLater]) -> Mapping[str, int]:
        """Take in CleverTap's records."""
        told = [
            {
                "name": report.name,
                "user_id": report.user_id,
                "at": iso(report.at),
                "properties": report.properties,
            }
            for report in reports
        ]
        return self._post("/api/reconcile/clevertap", msgspec.json.encode({"reports": told}))

    def filled(self, source: str, span: tuple[Instant, Instant]) -> int:
        """Let go of the silences of a source that lie in a span; return how many."""
        body = msgspec.json.encode({"since": iso(span[0]), "until": iso(span[1])})
        return int(self._post(f"/api/sources/{source}/filled", body)["filled"])

    def _hand_over(self, events: Sequence[bytes]) -> Mapping[str, int]:
        body = b'{"events":[' + b",".join(events) + b"]}"
        return self._post("/api/reconcile/amplitude", body)

    def _post(self, path: str, body: bytes) -> dict[str, Any]:
        try:
            answer = self.client.post(
                path, content=body, headers={"Content-Type": "application/json"}
            )
        except httpx2.HTTPError as error:
            raise PartnerRefused(
                f"another process has the database, and no server answers at"
                f" {self.client.base_url} ({type(error).__name__}): set HOST and PORT to those of"
                " `serve`, or use DATABASE_URL=postgresql://..."
            ) from None
        if answer.status_code != 200:  # noqa: PLR2004
            raise PartnerRefused(f"the server answered {answer.status_code}: {_why(answer)}")
        came: dict[str, Any] = answer.json()
        return came


@contextmanager
def open_sink(settings: Settings) -> Iterator[Sink]:
    """Open the database, or the way through the server that holds it (R14)."""
    try:
        engine = bootstrap.open_engine(settings, Journal("console", sys.stderr))
    except StorageInUse:
        with _client(settings) as client:
            yield ByServer(client)
        return
    with closing(engine):
        yield ByEngine(engine)


def _client(settings: Settings) -> httpx2.Client:
    """Open a client for the server of these settings, with a token that may change things."""
    tokens = [
        one.token.get_secret_value()
        for one in settings.api_token
        if one.scopes is None or "admin" in one.scopes
    ]
    headers = {"Authorization": f"Bearer {tokens[0]}"} if tokens else {}
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
    url = f"http://{host}:{settings.port}"
    return httpx2.Client(base_url=url, headers=headers, timeout=_PATIENCE, trust_env=False)


def _why(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "no reason"


def _add(came: dict[str, int], more: Mapping[str, int]) -> dict[str, int]:
    for name, number in more.items():
        came[name] = came.get(name, 0) + number
    return came
