"""Amplitude's Export API: what was uploaded in an hour, as a zip of JSON lines.

Facts: https://amplitude.com/docs/apis/analytics/export. Hours are those of `server_upload_time`,
both ends of a range are part of it, and an hour can be had two hours after it has ended.
"""

from collections.abc import Callable
from pathlib import Path

import httpx2

from experiment_engine.adapters.calling.asking import Told, ask_at, by_status
from experiment_engine.domain.errors import PartnerRefused
from experiment_engine.domain.moments import HOUR, Duration, Instant, to_datetime

_PATH = "/api/2/export"
READY_AFTER = Duration(2 * HOUR)
TRIES = 4
_WAITS = 2.0  # seconds before the second try, doubling
_NONE, _TOO_LARGE, _NOT_LET_IN = 404, 400, (401, 403)
_AGAIN = frozenset({429, 500, 502, 503, 504})

BASE_URLS = {"us": "https://amplitude.com", "eu": "https://analytics.eu.amplitude.com"}


class ExportApi:
    """Downloads exports by the hour, one after another."""

    def __init__(
        self, client: httpx2.Client, sleep: Callable[[float], None], *, waits: float = _WAITS
    ) -> None:
        """Use a client that knows the address and the keys."""
        self._client, self._sleep, self._waits = client, sleep, waits

    def download(self, hour: Instant, folder: Path) -> Path | None:
        """Return the file of an hour's events, or None where Amplitude has none.

        Raises PartnerRefused with what to do where it cannot be had.
        """
        named = to_datetime(hour).strftime("%Y%m%dT%H")
        path = folder / f"{named}.zip"
        for attempt in range(TRIES):
            status = self._try(named, path)
            if status is None:
                return path
            if status == _NONE:
                return None
            if status not in _AGAIN or attempt == TRIES - 1:
                raise self._refused(named, status)
            self._sleep(self._waits * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _try(self, named: str, path: Path) -> int | None:
        """Download an hour; return the status where it is no success, 503 for no answer."""
        try:
            with self._client.stream(
                "GET", _PATH, params={"start": named, "end": named}
            ) as answer:
                if answer.status_code != 200:  # noqa: PLR2004
                    return answer.status_code
                with path.open("wb") as file:
                    for chunk in answer.iter_bytes():
                        file.write(chunk)
        except httpx2.HTTPError:
            return 503
        return None

    def _refused(self, named: str, status: int) -> PartnerRefused:
        if status in _NOT_LET_IN:
            why = "set AMPLITUDE_API_KEY, AMPLITUDE_SECRET_KEY and AMPLITUDE_REGION of the project"
        elif status == _TOO_LARGE:
            why = "the hour has more than 4 GB: export it another way and name the files"
        else:
            why = "ask again later, or export it by hand and name the files"
        return PartnerRefused(f"Amplitude's Export API answered {status} for {named}: {why}")


def open_client(url: str, api_key: str, secret_key: str) -> httpx2.Client:
    """Open a client that takes nothing from the environment and follows no redirect."""
    return httpx2.Client(
        base_url=url,
        auth=(api_key, secret_key),
        headers={"User-Agent": "experiment-engine"},
        timeout=httpx2.Timeout(120.0, connect=5.0),
        follow_redirects=False,
        trust_env=False,
    )


def ask(url: str, api_key: str, secret_key: str) -> Told:
    """Ask for an hour before anything was uploaded: whoever is known is told that it is empty."""
    long_ago = {"start": "20150101T00", "end": "20150101T00"}
    return ask_at(
        url,
        lambda client: client.get(_PATH, params=long_ago, auth=(api_key, secret_key)),
        lambda reply: by_status(reply.status_code, known=(200, _NONE)),
        headers={},
        secrets=(secret_key,),
        mend="copy AMPLITUDE_API_KEY and AMPLITUDE_SECRET_KEY again; see AMPLITUDE_REGION",
    )
