"""CleverTap among the providers."""

from experiment_engine.adapters.calling.client import open_client
from experiment_engine.adapters.calling.provider import Opening, Provider, header_value, origin
from experiment_engine.adapters.clevertap.sender import Account, CleverTapSender, base_url
from experiment_engine.application.ports import MessageSender
from experiment_engine.domain.rules import CLEVERTAP, WHATSAPP


def _open(opening: Opening) -> MessageSender:
    settings, whatsapp = opening.settings, opening.channels.get(WHATSAPP)
    return CleverTapSender(
        open_client(
            settings.get("CLEVERTAP_BASE_URL") or base_url(settings["CLEVERTAP_REGION"]),
            connections=opening.calls,
        ),
        Account(settings["CLEVERTAP_ACCOUNT_ID"], settings["CLEVERTAP_PASSCODE"]),
        whatsapp_endpoint=whatsapp.endpoint if whatsapp else "externaltrigger",
    )


PROVIDER = Provider(
    name=CLEVERTAP,
    open=_open,
    settings={
        "CLEVERTAP_ACCOUNT_ID": header_value,
        "CLEVERTAP_PASSCODE": header_value,
        "CLEVERTAP_REGION": str,  # read by `settings.py`, which knows its values
        "CLEVERTAP_BASE_URL": origin,
    },
    required=("CLEVERTAP_ACCOUNT_ID", "CLEVERTAP_PASSCODE"),
    batches=True,
)
