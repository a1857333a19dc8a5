"""Meta's Cloud API among the providers."""

import re
from collections.abc import Mapping

from experiment_engine.adapters.calling.asking import Told
from experiment_engine.adapters.calling.client import open_client
from experiment_engine.adapters.calling.provider import Opening, Provider, header_value, origin
from experiment_engine.adapters.meta.asking import ask
from experiment_engine.adapters.meta.sender import MetaSender
from experiment_engine.application.ports import MessageSender
from experiment_engine.domain.delivery.address import AddressKind
from experiment_engine.domain.rules import WHATSAPP

_BASE_URL, _VERSION = "https://graph.facebook.com", "v23.0"


def _number_id(value: str) -> str:
    if not re.fullmatch(r"[0-9]{5,25}", value):
        raise ValueError(
            "not an id of a phone number: copy the digits of `Phone number ID` from the app's page"
            " WhatsApp > API Setup (it is not the phone number)"
        )
    return value


def _version(value: str) -> str:
    if not re.fullmatch(r"v[0-9]{1,3}\.[0-9]", value):
        raise ValueError(f"not a version of the Graph API: write one such as {_VERSION}")
    return value


def _open(opening: Opening) -> MessageSender:
    settings = opening.settings
    return MetaSender(
        open_client(_origin(settings), connections=opening.calls),
        f"{_number(settings)}/messages",
        settings["META_ACCESS_TOKEN"],
    )


def _ask(settings: Mapping[str, str]) -> Told:
    return ask(_origin(settings), _number(settings), settings["META_ACCESS_TOKEN"])


def _origin(settings: Mapping[str, str]) -> str:
    return settings.get("META_BASE_URL", _BASE_URL)


def _number(settings: Mapping[str, str]) -> str:
    version = settings.get("META_API_VERSION", _VERSION)
    return f"/{version}/{settings['META_PHONE_NUMBER_ID']}"


PROVIDER = Provider(
    name="meta",
    open=_open,
    settings={
        "META_ACCESS_TOKEN": header_value,
        "META_PHONE_NUMBER_ID": _number_id,
        "META_API_VERSION": _version,
        "META_BASE_URL": origin,
    },
    required=("META_ACCESS_TOKEN", "META_PHONE_NUMBER_ID"),
    channels=frozenset({WHATSAPP}),
    address=AddressKind.PHONE,
    needs_address=True,
    templates=True,
    ask=_ask,
)
