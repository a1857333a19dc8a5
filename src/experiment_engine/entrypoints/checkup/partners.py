"""What stands on the providers' side: are they there, and do they know us."""

from collections.abc import Iterator, Mapping

from experiment_engine.adapters.clevertap.asking import Told, ask
from experiment_engine.adapters.clevertap.sender import BASE_URLS, Account, base_url
from experiment_engine.adapters.providers import PROVIDERS
from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.application.diagnosis import Finding
from experiment_engine.domain.moments import SECOND, Instant
from experiment_engine.domain.rules import CLEVERTAP
from experiment_engine.entrypoints.checkup.house import of_clock
from experiment_engine.settings import Settings


def of_providers(settings: Settings, regions: Mapping[str, str] = BASE_URLS) -> Iterator[Finding]:
    """Ask the providers that have credentials; nothing is sent to anybody."""
    if not settings.connected:
        yield Finding(
            "provider",
            "note",
            "none has credentials: the engine runs dry and calls nobody",
            "set CLEVERTAP_ACCOUNT_ID and CLEVERTAP_PASSCODE to send (docs/connect-clevertap.md)",
        )
    for name in PROVIDERS:
        if name == CLEVERTAP and name in settings.connected:
            yield from _clevertap(settings, regions)
        elif name in settings.connected:
            yield Finding(
                name,
                "note",
                "its credentials are set; it was not asked, for lack of a call that surely sends"
                " nothing",
                "send yourself a message through it (docs/connect-providers.md)",
            )


def _clevertap(settings: Settings, regions: Mapping[str, str]) -> Iterator[Finding]:
    account = Account(settings.clevertap_account_id, settings.clevertap_passcode)
    region, own = settings.clevertap_region, settings.clevertap_base_url
    origin = own or regions.get(region) or base_url(region)
    clock = SystemClock()
    before = clock.now()
    told = ask(origin, account, before)
    after = clock.now()
    yield _answer(told, origin)
    # A proxy or a double of one's own is one place: the regions are CleverTap's.
    if told.welcome == "unknown":
        others = {} if own else {name: url for name, url in regions.items() if name != region}
        yield from _elsewhere(others, region, account)
    if told.date is not None:  # to the second, and of some moment between question and answer
        ours = min(max(told.date, Instant(before - SECOND)), after)
        yield of_clock("clock of clevertap", told.date, ours)


def _answer(told: Told, origin: str) -> Finding:
    said = f"{origin} answered {told.said}"
    match told.welcome:
        case "known":
            return Finding(CLEVERTAP, "ok", f"{origin} knows the account")
        case "busy":
            return Finding(CLEVERTAP, "note", f"{said}: it is there, and busy", "ask again later")
        case "unknown":
            mend = "copy account id and passcode again from CleverTap's Settings; see the region"
            return Finding(CLEVERTAP, "wrong", said, mend)
        case "away":
            mend = "let this machine out to it: DNS, firewall, proxy, CLEVERTAP_BASE_URL"
            return Finding(CLEVERTAP, "wrong", f"{origin} gave no answer: {told.said}", mend)
        case "strange":
            mend = "is this CleverTap's API? see CLEVERTAP_BASE_URL and CLEVERTAP_REGION"
            return Finding(CLEVERTAP, "wrong", said, mend)


def _elsewhere(others: Mapping[str, str], region: str, account: Account) -> Iterator[Finding]:
    """Ask the other regions with the same credentials: a wrong region looks like a wrong key."""
    now = SystemClock().now()
    welcomes = {name: ask(url, account, now).welcome for name, url in others.items()}
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
