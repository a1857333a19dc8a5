"""Firebase Cloud Messaging among the providers."""

from collections.abc import Mapping
from pathlib import Path

from experiment_engine.adapters.calling.asking import Told
from experiment_engine.adapters.calling.client import open_client
from experiment_engine.adapters.calling.provider import Opening, Provider, origin
from experiment_engine.adapters.fcm.asking import ask
from experiment_engine.adapters.fcm.credentials import GoogleTokens, ServiceAccount
from experiment_engine.adapters.fcm.sender import FcmSender
from experiment_engine.application.ports import MessageSender
from experiment_engine.domain.delivery.address import AddressKind

_BASE_URL = "https://fcm.googleapis.com"


def _open(opening: Opening) -> MessageSender:
    account = _account(opening.settings)
    return FcmSender(
        open_client(_origin(opening.settings), connections=opening.calls),
        _path(account),
        GoogleTokens(account),
    )


def _ask(settings: Mapping[str, str]) -> Told:
    account = _account(settings)
    return ask(_origin(settings), _path(account), GoogleTokens(account))


def _account(settings: Mapping[str, str]) -> ServiceAccount:
    return ServiceAccount.read(Path(settings["FCM_CREDENTIALS"]).expanduser())


def _origin(settings: Mapping[str, str]) -> str:
    return settings.get("FCM_BASE_URL", _BASE_URL)


def _path(account: ServiceAccount) -> str:
    return f"/v1/projects/{account.project}/messages:send"


PROVIDER = Provider(
    name="fcm",
    open=_open,
    settings={"FCM_CREDENTIALS": str, "FCM_BASE_URL": origin},
    required=("FCM_CREDENTIALS",),
    channels=frozenset({"push"}),
    address=AddressKind.TOKEN,
    needs_address=True,
    ask=_ask,
)
