"""Whether partners reach our webhooks through the public address; nothing is taken in by it."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from experiment_engine import bootstrap
from experiment_engine.adapters.calling.endings import of_failure
from experiment_engine.adapters.calling.provider import origin
from experiment_engine.application.diagnosis import Finding
from experiment_engine.domain.errors import ConfigurationError, WrongUse
from experiment_engine.settings import Settings

_PATIENCE = 10.0  # seconds
_SLOW = 1.0  # CleverTap gives up after 3
_NOTHING = b"[]"  # no event: nothing is taken in
_DOORS = {
    "/webhook/amplitude": "AMPLITUDE_WEBHOOK_SECRET",
    "/webhook/opened": "CLEVERTAP_WEBHOOK_SECRET",
    "/webhook/converted": "CLEVERTAP_WEBHOOK_SECRET",
}


def public_origin(url: str) -> str:
    """Read the address that partners call; raises ConfigurationError."""
    try:
        return origin(url)
    except ValueError as error:
        raise WrongUse(f"--public-url: {error}") from None


def of_public_url(url: str, settings: Settings) -> Iterator[Finding]:
    """Ask the engine through its public address, as partners do."""
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        yield Finding(
            "public address",
            "wrong",
            f"{url} is not encrypted: secrets would travel in the open, so none was sent",
            "put a proxy with a certificate in front, and name its https:// address",
        )
        return
    with httpx2.Client(base_url=url, timeout=_PATIENCE, trust_env=False) as client:
        health, said = _health(client, url)
        yield health
        yield from _same_rules(said, settings)
        if health.state != "wrong":
            for path, name in _DOORS.items():
                yield _door(client, path, name, settings)


def _health(client: httpx2.Client, url: str) -> tuple[Finding, Mapping[str, Any]]:
    check = "public address"
    try:
        reply = client.get("/health")
    except httpx2.HTTPError as error:
        mend = "does the server run (`health`)? DNS, proxy, certificate, firewall?"
        return Finding(check, "wrong", f"{url}: {of_failure(error).answer}", mend), {}
    try:
        said = reply.json()
    except ValueError:
        said = None
    if reply.status_code != httpx2.codes.OK or not isinstance(said, dict) or "mode" not in said:
        saw = f"{url}/health: {reply.status_code}, not the engine"
        return Finding(check, "wrong", saw, "let the proxy pass every path on to the engine"), {}
    took = reply.elapsed.total_seconds()
    saw = f"the engine {said.get('version')} answers in {took:.2f} s, mode {said['mode']}"
    if took > _SLOW:
        return Finding(check, "note", saw, "CleverTap gives up after 3 s: bring it nearer"), said
    return Finding(check, "ok", saw), said


def _same_rules(said: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    """Say so where the server that answers goes by other rules than those looked at here."""
    try:
        rules = bootstrap.read_rules(settings)
    except ConfigurationError:
        return  # told already
    theirs, ours = str(said.get("configuration")), rules.fingerprint
    mode = bootstrap.mode_of(settings, rules).value
    if said and (theirs, said["mode"]) != (ours, mode):
        yield Finding(
            "running server",
            "note",
            f"it goes by configuration {theirs[:12]} in mode {said['mode']}; here are"
            f" {ours[:12]} and {mode}",
            "run `doctor` where the server runs, with its settings; or restart the server",
        )


def _door(client: httpx2.Client, path: str, name: str, settings: Settings) -> Finding:
    """Knock without the secret, and then with it: the header may get lost on the way."""
    try:
        without = client.post(path, content=_NOTHING).status_code
        held = settings.secrets(name)
        bearer = {"Authorization": f"Bearer {held[0].reveal().decode()}"} if held else {}
        reply = client.post(path, content=_NOTHING, headers=bearer)
    except httpx2.HTTPError as error:
        mend = "let the proxy pass POST on, too"
        return Finding(path, "wrong", of_failure(error).answer, mend)
    if without == httpx2.codes.OK:
        return Finding(path, "wrong", "open to everybody", f"set {name} and start again")
    if not held:
        return Finding(path, "wrong", f"answers {without}: {name} is not set", f"set {name}")
    if reply.status_code != httpx2.codes.OK:
        saw = f"answers {reply.status_code} to the right secret"
        mend = f"does the server run with this {name}? does the proxy pass Authorization on?"
        return Finding(path, "wrong", saw, mend)
    return Finding(path, "ok", "closed without the secret, open with it")
