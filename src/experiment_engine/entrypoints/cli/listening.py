"""Where the server listens: on a port of its own, or on one that somebody holds for it.

Whoever holds the port for us (systemd's socket units, our own keeper) passes it on the way that
systemd made usual: as descriptor 3, with `LISTEN_FDS=1` and `LISTEN_PID=<our process>`. Callers
then wait in its backlog while no process serves, instead of being refused.
"""

import os
import socket
from collections.abc import Mapping, MutableMapping
from contextlib import suppress

from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.settings import Settings

BACKLOG = 4096  # connections that wait while a batch is committed, or a process starts

_FIRST_PASSED_ON = 3  # the descriptor after standard input, output and errors


def listen(settings: Settings, environ: Mapping[str, str] = os.environ) -> socket.socket:
    """Take the port before anything else: a second start must not touch the database."""
    inherited = _inherited(environ)
    if inherited is not None:
        settings.open_at(inherited.getsockname()[0])  # it may be reached from elsewhere
        return inherited
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        address = (settings.host, settings.port)
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"HOST, PORT: cannot listen on {settings.host}:{settings.port} ({_why(error)}): "
            "end what listens there, or choose another PORT."
        ) from None


def _why(error: OSError) -> str:
    """Return the system's words, without the address that Python's socket module adds."""
    return (error.strerror or str(error)).partition(" (while ")[0]


def pass_on(listener: socket.socket, environ: MutableMapping[str, str]) -> None:
    """Put the port where the program that this process turns into will find it."""
    if listener.fileno() != _FIRST_PASSED_ON:
        os.dup2(listener.fileno(), _FIRST_PASSED_ON)
    os.set_inheritable(_FIRST_PASSED_ON, True)
    environ["LISTEN_FDS"], environ["LISTEN_PID"] = "1", str(os.getpid())


def tell_service_manager(what: str, environ: Mapping[str, str] = os.environ) -> None:
    """Tell systemd, where it asked to be told (`Type=notify`)."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    abstract = address.replace("@", "\0", 1) if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to, suppress(OSError):
        to.sendto(what.encode(), abstract)


def _inherited(environ: Mapping[str, str]) -> socket.socket | None:
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    if environ.get("LISTEN_FDS") != "1":
        raise ConfigurationError(
            f"LISTEN_FDS: {environ.get('LISTEN_FDS')} sockets were passed on, and it listens on"
            " one: write one ListenStream= into the socket unit."
        )
    try:
        listener = socket.socket(fileno=_FIRST_PASSED_ON)
        usable = listener.type == socket.SOCK_STREAM and _is_listening(listener)
    except OSError:
        usable = False
    if not usable:
        raise ConfigurationError(
            "LISTEN_FDS: what was passed on is no socket that listens: use ListenStream= and"
            " Accept=no in the socket unit."
        )
    listener.set_inheritable(False)
    return listener


def _is_listening(listener: socket.socket) -> bool:
    return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
