"""Asking a partner whether it knows us, by calls that change nothing and reach nobody."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

import httpx2

from experiment_engine.adapters.calling.endings import excerpt, of_failure
from experiment_engine.domain.moments import Instant, to_instant

_PATIENCE = 10.0  # seconds

Welcome = Literal["known", "unknown", "busy", "strange", "away"]


@dataclass(frozen=True, slots=True)
class Told:
    """Whether the partner at an origin knows us, in its words, and by its clock."""

    origin: str
    welcome: Welcome
    said: str
    mend: str = ""  # what to do where it does not know us
    date: Instant | None = None  # to the second
    known_as: str = "knows the account"


def ask_at(
    origin: str,
    make: Callable[[httpx2.Client], httpx2.Response],
    judge: Callable[[httpx2.Response], Welcome],
    *,
    headers: Mapping[str, str],
    secrets: tuple[str, ...],
    mend: str,
) -> Told:
    """Make one call; every way it can end is an answer. Secrets are left out of what was said."""
    given = {"User-Agent": "experiment-engine", **headers}
    try:
        with httpx2.Client(
            base_url=origin, headers=given, timeout=_PATIENCE, trust_env=False
        ) as client:
            reply = make(client)
    except httpx2.HTTPError as error:
        return Told(origin, "away", of_failure(error, secrets).reason)
    said = f"{reply.status_code} {excerpt(reply.content, secrets)[:200]}".strip()
    return Told(origin, judge(reply), said, mend, _date(reply.headers))


def by_status(status: int, *, known: tuple[int, ...] = (200,)) -> Welcome:
    """Return what a status says where no body says more."""
    if status in known:
        return "known"
    if status in (401, 403):
        return "unknown"
    return "busy" if status == 429 else "strange"  # noqa: PLR2004 - too many requests


def _date(headers: Mapping[str, str]) -> Instant | None:
    try:
        return to_instant(parsedate_to_datetime(headers.get("date", "")))
    except ValueError:
        return None
