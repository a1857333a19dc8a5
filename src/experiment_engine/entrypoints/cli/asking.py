"""`health`: is a server up? Asked of the server itself, for containers and service managers."""

import http.client
import json as json_text
import os
import sys
from contextlib import closing
from typing import Annotated, Any

from cyclopts import Parameter

from experiment_engine.settings import Settings, read_settings

_PATIENCE = 5.0  # seconds
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked from the same machine


def health(
    *,
    ready: Annotated[
        bool, Parameter(help="Ask whether it can do its work, and not only whether it lives.")
    ] = False,
    json: Annotated[bool, Parameter(help="Answer as JSON.")] = False,
) -> None:
    """Ask the server of these settings whether it is up; end with 0, or with 1 if it is not."""
    found = _ask(read_settings(os.environ), "/ready" if ready else "/health")
    up = found["status"] == http.client.OK
    if json:
        print(json_text.dumps({"up": up, **found}))  # noqa: T201 - the answer
    else:
        print(_text(found))  # noqa: T201 - the answer
    sys.exit(0 if up else 1)


def _ask(settings: Settings, path: str) -> dict[str, Any]:
    host = _ANYWHERE.get(settings.host, settings.host)
    where = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}{path}"
    connection = http.client.HTTPConnection(host, settings.port, timeout=_PATIENCE)
    try:
        with closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            answer = json_text.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {"asked": where, "status": None, "error": str(error) or type(error).__name__}
    return {"asked": where, "status": response.status, "answer": answer}


def _text(found: dict[str, Any]) -> str:
    if found["status"] is None:
        return f"{found['asked']}: no answer ({found['error']})"
    checks = found["answer"].get("checks", {})
    said = ", ".join(f"{name} {state}" for name, state in checks.items())
    return f"{found['asked']}: {found['status']}{f' ({said})' if said else ''}"
