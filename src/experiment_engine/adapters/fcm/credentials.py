"""Access tokens of a service account, through google-auth: fetched when needed, off the loop.

google-auth is asked for only where this is used: `pip install "experiment-engine[fcm]"`.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import httpx2

from experiment_engine.domain.errors import ConfigurationError

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_TIME_LIMIT = 5.0  # seconds to get a token

_MISSING = (
    "FCM_CREDENTIALS: push through Firebase needs google-auth, which is not installed: run"
    ' pip install "experiment-engine[fcm]"'
)


class NoToken(Exception):
    """No access token could be had; nothing was sent."""


class Tokens(Protocol):
    """Where access tokens come from."""

    async def token(self) -> str:
        """Return one that holds for now; raises NoToken."""


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """The key file of a service account, read once."""

    project: str
    key: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> "ServiceAccount":
        """Read the file that Firebase's console gives; raises ConfigurationError."""
        try:
            key = json.loads(path.read_bytes())
        except OSError as error:
            raise _unreadable(f"{path.name} cannot be read ({error.strerror})") from None
        except ValueError:
            raise _unreadable(f"{path.name} is no JSON") from None
        project = key.get("project_id") if isinstance(key, dict) else None
        if not isinstance(project, str) or key.get("type") != "service_account":
            raise _unreadable(f"{path.name} is no key of a service account")
        return cls(project, key)


class GoogleTokens:
    """Tokens by google-auth, kept until shortly before they end."""

    def __init__(self, account: ServiceAccount, client: httpx2.Client | None = None) -> None:
        """Take google-auth; raises ConfigurationError if it is not there or the key is bad."""
        try:
            library = import_module("google.oauth2.service_account")
        except ImportError:
            raise ConfigurationError(_MISSING) from None
        try:
            self._credentials: Any = library.Credentials.from_service_account_info(
                dict(account.key), scopes=[SCOPE]
            )
        except ValueError:  # its text may quote the key
            raise _unreadable("the key in it cannot be used") from None
        self._client = client or httpx2.Client(timeout=_TIME_LIMIT, trust_env=False)
        self._asking: asyncio.Task[None] | None = None

    async def token(self) -> str:
        """Return a token that holds for now; raises NoToken, for all who wait for it at once."""
        if not self._credentials.valid:
            try:
                async with asyncio.timeout(_TIME_LIMIT):
                    await asyncio.shield(self._refreshing())
            except Exception as error:  # noqa: BLE001 - whatever it is, no message was sent
                raise NoToken(type(error).__name__) from None
        return cast("str", self._credentials.token)

    def _refreshing(self) -> "asyncio.Task[None]":
        """Return the one request that is under way; the library may not be used by two threads."""
        if self._asking is None or self._asking.done():
            refresh = asyncio.to_thread(self._credentials.refresh, self._ask)
            self._asking = asyncio.create_task(refresh)
            self._asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        return self._asking

    def _ask(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> "_Reply":
        """Make a request as google-auth wants its transports to."""
        del timeout
        reply = self._client.request(method, url, content=body, headers=dict(headers or {}))
        return _Reply(reply.status_code, reply.headers, reply.content)


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    data: bytes


def _unreadable(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"FCM_CREDENTIALS: {why}: name the JSON file that Firebase's console gives under Project"
        " settings > Service accounts > Generate new private key"
    )
