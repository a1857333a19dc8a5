"""Every provider there is. A new one is a folder beside this file, and a line here."""

from collections.abc import Mapping

from experiment_engine.adapters.calling.provider import Provider
from experiment_engine.adapters.clevertap.provider import PROVIDER as CLEVERTAP
from experiment_engine.adapters.fcm.provider import PROVIDER as FCM
from experiment_engine.adapters.meta.provider import PROVIDER as META
from experiment_engine.adapters.outgoing.provider import PROVIDER as OUTGOING

PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        CLEVERTAP,
        META,
        FCM,
        OUTGOING,
    )
}
