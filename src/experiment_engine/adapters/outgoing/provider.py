"""The outgoing webhook among the providers."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from experiment_engine.adapters.calling.asking import Told
from experiment_engine.adapters.calling.client import open_client
from experiment_engine.adapters.calling.provider import Opening, Provider, switch
from experiment_engine.adapters.outgoing.asking import ask
from experiment_engine.adapters.outgoing.sender import OutgoingSender, Receiver
from experiment_engine.adapters.outgoing.signing import SigningKey
from experiment_engine.application.ports import MessageSender
from experiment_engine.domain.delivery.address import AddressKind


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises if it is no number
        fits = bool(parts.hostname) and "@" not in parts.netloc and not parts.fragment
    except ValueError:
        fits = False
    if not fits or not value.isascii() or not value.isprintable() or set(value) & set(' "\\'):
        raise ValueError(  # what is wrong is not repeated: an address may hold a password
            "not an address: write one such as https://messages.example.com/due, without a user"
        )
    return value


def _secret(value: str) -> str:
    SigningKey.of(value)
    return value


def _open(opening: Opening) -> MessageSender:
    settings = opening.settings
    receiver = Receiver(
        settings["OUTGOING_WEBHOOK_URL"],
        SigningKey.of(settings["OUTGOING_WEBHOOK_SECRET"]),
        loopback=_may_loop(settings),
    )
    return OutgoingSender(open_client("", connections=opening.calls), receiver, opening.clock)


def _ask(settings: Mapping[str, str]) -> Told:
    return ask(settings["OUTGOING_WEBHOOK_URL"], loopback=_may_loop(settings))


def _may_loop(settings: Mapping[str, str]) -> bool:
    return settings.get("OUTGOING_WEBHOOK_LOOPBACK") == "1"


PROVIDER = Provider(
    name="webhook",
    open=_open,
    settings={
        "OUTGOING_WEBHOOK_URL": _url,
        "OUTGOING_WEBHOOK_SECRET": _secret,
        "OUTGOING_WEBHOOK_LOOPBACK": switch,
    },
    required=("OUTGOING_WEBHOOK_URL", "OUTGOING_WEBHOOK_SECRET"),
    address=AddressKind.ANY,
    ask=_ask,
)
