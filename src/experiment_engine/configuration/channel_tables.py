"""`[channels.<name>]` in engine.toml: what holds for one channel, its provider, and its forms."""

from collections.abc import Collection, Iterator, Mapping
from typing import Literal, TypeVar, get_args

from experiment_engine.adapters.calling.provider import Provider
from experiment_engine.adapters.providers import PROVIDERS
from experiment_engine.configuration.cohort_file import CHANNELS
from experiment_engine.configuration.engine_file import read_frequency_cap, read_quiet_hours
from experiment_engine.configuration.kinds import (
    CAMPAIGN,
    DEEP_LINK,
    NAME,
    PROPERTY,
    SCHEME,
    choice,
    list_of,
    whole,
)
from experiment_engine.configuration.languages import require_language
from experiment_engine.configuration.tables import Table, nearest, show
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.address import AddressRule
from experiment_engine.domain.delivery.message import TEMPLATE_VALUES, MessageTemplate
from experiment_engine.domain.identifiers import Channel
from experiment_engine.domain.rules import CLEVERTAP, WHATSAPP, ByCombo, ChannelRules

T = TypeVar("T")

Consent = Literal["assumed", "required"]
Endpoint = Literal["externaltrigger", "whatsapp"]

_CONSENT: tuple[Consent, ...] = get_args(Consent)
_ENDPOINT: tuple[Endpoint, ...] = get_args(Endpoint)
_USUAL_SCHEMES = ("https", "app")
_FORM_KEY = ("language", "angle", "offer")
_FORM_NAMES = r"^[^|]+\|[^|]+\|[^|]+$"
_KEYS = (
    *("consent", "provider", "address", "batch", "max_in_flight"),
    *("quiet_hours", "frequency_cap", "deep_link"),
)
_WHATSAPP_KEYS = ("endpoint", "campaigns", "templates")
_VALUES = list_of(choice(TEMPLATE_VALUES), may_be_empty=True)


def read_channels(
    engine: Table, cohorts: Collection[Cohort], copy: Mapping[str, Table]
) -> Mapping[Channel, ChannelRules]:
    """Read the rules of every channel there is; one that is left out has the usual ones."""
    table = engine.table("channels").only(*CHANNELS)
    links = engine.table("links").only("schemes")
    schemes = links.get("schemes", list_of(SCHEME), _USUAL_SCHEMES)
    for channel in CHANNELS:
        _check_link(table.table(channel), schemes)
    return {channel: _read_channel(channel, table, cohorts, copy) for channel in CHANNELS}


def _check_link(table: Table, schemes: Collection[str]) -> None:
    """Refuse a link whose scheme is not allowed: a slip would lead everybody nowhere, or worse."""
    link = table.get("deep_link", DEEP_LINK, ChannelRules().deep_link)
    scheme, parted, _ = link.partition("://")
    if link and (not parted or scheme.lower() not in schemes):
        raise table.mistake(
            "deep_link",
            f"{show(link)} does not begin with an allowed scheme ({', '.join(schemes)}): mend it,"
            ' or allow its scheme in engine.toml, [links] schemes = ["https", "myapp"]',
        )


def _read_channel(
    channel: Channel, around: Table, cohorts: Collection[Cohort], copy: Mapping[str, Table]
) -> ChannelRules:
    table, usual = around.table(channel), ChannelRules()
    provider = _read_provider(channel, table)
    # What another provider would need may stand there too: so one line changes the provider.
    table.only(*_KEYS, *(_WHATSAPP_KEYS if channel == WHATSAPP else ()))
    forms = _Forms(channel, cohorts, copy)
    templates = _read_templates(table.table("templates"), forms)
    return ChannelRules(
        consent=table.get("consent", choice(_CONSENT), usual.consent),
        batch=_read_batch(table, provider),
        max_in_flight=table.get("max_in_flight", whole(1, 100), usual.max_in_flight),
        quiet_hours=read_quiet_hours(table),
        frequency_cap=read_frequency_cap(table),
        deep_link=table.get("deep_link", DEEP_LINK, usual.deep_link),
        endpoint=table.get("endpoint", choice(_ENDPOINT), usual.endpoint),
        campaigns=_read_campaigns(table.table("campaigns"), forms),
        provider=provider.name,
        address=_read_address(table, provider),
        templates=templates if provider.templates else None,
    )


def _read_provider(channel: Channel, table: Table) -> Provider:
    """Read who sends for the channel; one that does not serve it is refused."""
    serving = {
        name: provider
        for name, provider in PROVIDERS.items()
        if provider.channels is None or channel in provider.channels
    }
    return PROVIDERS[table.get("provider", choice(tuple(serving)), CLEVERTAP)]


def _read_batch(table: Table, provider: Provider) -> int:
    batch = table.get("batch", whole(1, 1000), ChannelRules.batch)
    if batch > 1 and not provider.batches:
        raise table.mistake(
            "batch", f'the provider "{provider.name}" takes one message a call: write 1'
        )
    return batch


def _read_address(table: Table, provider: Provider) -> AddressRule | None:
    path = table.get("address", PROPERTY, None)
    if provider.needs_address and path is None:
        path = table.need("address", PROPERTY)
    if provider.address is None or path is None:
        return None
    return AddressRule(path, provider.address)


def _read_campaigns(table: Table, forms: "_Forms") -> ByCombo[str]:
    return dict(forms.read(table.each(CAMPAIGN, _FORM_NAMES), table))


def _read_templates(table: Table, forms: "_Forms") -> ByCombo[MessageTemplate]:
    return dict(forms.read({key: _read_template(own) for key, own in table.tables()}, table))


def _read_template(table: Table) -> MessageTemplate:
    table.only("name", "language", "header", "parameters", "button")
    return MessageTemplate(
        name=table.need("name", NAME),
        language=table.need("language", NAME),
        header=table.get("header", _VALUES, ()),
        parameters=table.get("parameters", _VALUES, ()),
        button=table.get("button", choice(TEMPLATE_VALUES), None),
    )


class _Forms:
    """Reads tables whose keys are `language|angle|offer`."""

    def __init__(
        self, channel: Channel, cohorts: Collection[Cohort], copy: Mapping[str, Table]
    ) -> None:
        combos = [c for cohort in cohorts for c in cohort.space.combos if c.channel == channel]
        self._channel, self._copy = channel, copy
        self._angles = dict.fromkeys(combo.angle for combo in combos)
        self._offers = dict.fromkeys(combo.offer for combo in combos)

    def read(
        self, entries: Mapping[str, T], table: Table
    ) -> Iterator[tuple[tuple[str, str, str], T]]:
        """Cut the keys, each part of which must be there or be `*`."""
        for key, entry in entries.items():
            parts = key.split("|")
            if len(parts) != len(_FORM_KEY):
                raise table.mistake(
                    key,
                    'does not fit: write "language|angle|offer", with * for any, such as "*|*|*"',
                )
            language, angle, offer = parts
            if language != "*":
                require_language(table, key, language, self._copy)
            for level, known, what in (
                (angle, self._angles, "angle"),
                (offer, self._offers, "offer"),
            ):
                if level not in ("*", *known):
                    raise table.mistake(
                        key,
                        f"no cohort has the {what} {show(level)} on"
                        f" {self._channel}{nearest(level, known)}",
                    )
            yield (language, angle, offer), entry
