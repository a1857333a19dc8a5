"""What stands on the providers' side: are they there, and do they know us."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from experiment_engine.adapters.amplitude.export_api import BASE_URLS as EXPORT_URLS
from experiment_engine.adapters.amplitude.export_api import ask as ask_amplitude
from experiment_engine.adapters.calling.asking import Told
from experiment_engine.adapters.clevertap.asking import ask as ask_clevertap
from experiment_engine.adapters.clevertap.sender import BASE_URLS, Account, base_url
from experiment_engine.adapters.providers import PROVIDERS
from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.application.diagnosis import Finding
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.moments import SECOND, Instant
from experiment_engine.domain.rules import CLEVERTAP
from experiment_engine.entrypoints.checkup.house import of_clock
from experiment_engine.settings import Settings


def of_providers(settings: Settings, regions: Mapping[str, str] = BASE_URLS) -> Iterator[Finding]:
    """Ask the partners that have credentials; nothing is sent to anybody."""
    if not settings.connected:
        yield Finding(
            "provider",
            "note",
            "none has credentials: the engine runs dry and calls nobody",
            "set CLEVERTAP_ACCOUNT_ID and CLEVERTAP_PASSCODE to send (docs/connect-clevertap.md)",
        )
    if CLEVERTAP in settings.connected:
        yield from _clevertap(settings, regions)
    for name in [name for name in PROVIDERS if name in settings.connected and name != CLEVERTAP]:
        ask = PROVIDERS[name].ask
        if ask is None:
            yield Finding(name, "note", "its credentials are set; it has no way to be asked")
        else:
            yield _asked(name, partial(ask, settings.settings_of(PROVIDERS[name])))
    if settings.amplitude_secret_key:
        keys = settings.amplitude_api_key, settings.amplitude_secret_key
        origin = settings.amplitude_export_url or EXPORT_URLS[settings.amplitude_region]
        yield _asked("amplitude export", partial(ask_amplitude, origin, *keys))


def _asked(name: str, ask: Callable[[], Told]) -> Finding:
    try:
        return _answer(name, ask())
    except ConfigurationError as error:
        return Finding(name, "wrong", str(error), "mend it, then ask again")


def _clevertap(settings: Settings, regions: Mapping[str, str]) -> Iterator[Finding]:
    account = Account(settings.clevertap_account_id, settings.clevertap_passcode)
    region, own = settings.clevertap_region, settings.clevertap_base_url
    clock = SystemClock()
    before = clock.now()
    told = ask_clevertap(own or regions.get(region) or base_url(region), account, before)
    after = clock.now()
    yield _answer(CLEVERTAP, told)
    # A proxy or a double of one's own is one place: the regions are CleverTap's.
    if told.welcome == "unknown":
        others = {} if own else {name: url for name, url in regions.items() if name != region}
        yield from _elsewhere(others, region, account)
    if told.date is not None:  # to the second, and of some moment between question and answer
        ours = min(max(told.date, Instant(before - SECOND)), after)
        yield of_clock("clock of clevertap", told.date, ours)


def _answer(name: str, told: Told) -> Finding:
    said = f"{told.origin} answered {told.said}"
    match told.welcome:
        case "known":
            return Finding(name, "ok", f"{told.origin} {told.known_as}")
        case "busy":
            return Finding(name, "note", f"{said}: it is there, and busy", "ask again later")
        case "unknown":
            return Finding(name, "wrong", said, told.mend)
        case "away":
            mend = "let this machine out to it: DNS, firewall, proxy, its address in the settings"
            return Finding(name, "wrong", f"{told.origin} gave no answer: {told.said}", mend)
        case "strange":
            mend = "is this the partner's API? see its address and region in the settings"
            return Finding(name, "wrong", said, mend)


def _elsewhere(others: Mapping[str, str], region: str, account: Account) -> Iterator[Finding]:
    """Ask the other regions with the same credentials: a wrong region looks like a wrong key."""
    now = SystemClock().now()
    welcomes = {name: ask_clevertap(url, account, now).welcome for name, url in others.items()}
    for name, welcome in welcomes.items():
        if welcome == "known":
            yield Finding(
                "region",
                "wrong",
                f"{name} knows this account, and {region} does not",
                f"set CLEVERTAP_REGION={name}",
            )
    if welcomes and "known" not in welcomes.values():
        asked = ", ".join(f"{name} {welcome}" for name, welcome in welcomes.items())
        yield Finding("region", "note", f"no other region knows the account either: {asked}")
