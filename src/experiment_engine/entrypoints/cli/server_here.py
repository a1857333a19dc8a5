"""Asking the server that runs with the same settings, which has the database alone."""

from ipaddress import ip_address
from typing import Any

import httpx2

from experiment_engine.domain.errors import EngineError
from experiment_engine.settings import Settings

_PATIENCE = 60.0  # seconds


def address_of(settings: Settings) -> str:
    """Return where the server of these settings is reached from this machine."""
    host = settings.host
    try:
        if ip_address(host).is_unspecified:  # listens everywhere
            host = "127.0.0.1"
    except ValueError:
        pass
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def admin_headers(settings: Settings) -> dict[str, str]:
    """Return the headers of who may do everything, as far as the settings have a token for it."""
    for credential in settings.api_token:
        if credential.scopes is None or "admin" in credential.scopes:
            return {"Authorization": f"Bearer {credential.token.get_secret_value()}"}
    return {}


def ask_server(settings: Settings, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Post to the API of the server; raises EngineError with what it says."""
    url = address_of(settings)
    try:
        with httpx2.Client(base_url=url, trust_env=False, timeout=_PATIENCE) as client:
            answer = client.post(path, json=body, headers=admin_headers(settings))
    except httpx2.TransportError as error:
        raise EngineError(
            f"The database is in use, and no server answers at {url} ({type(error).__name__}):"
            " set HOST and PORT to those of the server that has it, or stop it."
        ) from None
    try:
        said = answer.json()
    except ValueError:
        said = None
    if answer.is_success and isinstance(said, dict):
        return said
    why = said.get("error", {}).get("message") if isinstance(said, dict) else None
    raise EngineError(f"The server at {url} answered {answer.status_code}: {why or 'no reason'}")
