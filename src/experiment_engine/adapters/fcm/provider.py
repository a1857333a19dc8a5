"""Firebase Cloud Messaging among the providers."""

from pathlib import Path

from experiment_engine.adapters.calling.client import open_client
from experiment_engine.adapters.calling.provider import Opening, Provider, origin
from experiment_engine.adapters.fcm.credentials import GoogleTokens, ServiceAccount
from experiment_engine.adapters.fcm.sender import FcmSender
from experiment_engine.application.ports import MessageSender
from experiment_engine.domain.delivery.address import AddressKind

_BASE_URL = "https://fcm.googleapis.com"


def _open(opening: Opening) -> MessageSender:
    settings = opening.settings
    account = ServiceAccount.read(Path(settings["FCM_CREDENTIALS"]).expanduser())
    return FcmSender(
        open_client(settings.get("FCM_BASE_URL", _BASE_URL), connections=opening.calls),
        f"/v1/projects/{account.project}/messages:send",
        GoogleTokens(account),
    )


PROVIDER = Provider(
    name="fcm",
    open=_open,
    settings={"FCM_CREDENTIALS": str, "FCM_BASE_URL": origin},
    required=("FCM_CREDENTIALS",),
    channels=frozenset({"push"}),
    address=AddressKind.TOKEN,
    needs_address=True,
)
