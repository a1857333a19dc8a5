"""`[channels.<name>]` in engine.toml: what holds for one channel, and its campaigns."""

from collections.abc import Collection, Mapping
from typing import Literal, get_args

from experiment_engine.configuration.cohort_file import CHANNELS
from experiment_engine.configuration.engine_file import read_frequency_cap, read_quiet_hours
from experiment_engine.configuration.kinds import (
    CAMPAIGN,
    DEEP_LINK,
    SCHEME,
    choice,
    list_of,
    whole,
)
from experiment_engine.configuration.languages import require_language
from experiment_engine.configuration.tables import Table, nearest, show
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.identifiers import Channel
from experiment_engine.domain.rules import WHATSAPP, ChannelRules

Consent = Literal["assumed", "required"]
Endpoint = Literal["externaltrigger", "whatsapp"]

_CONSENT: tuple[Consent, ...] = get_args(Consent)
_ENDPOINT: tuple[Endpoint, ...] = get_args(Endpoint)
_CAMPAIGN_KEY = ("language", "angle", "offer")
_CAMPAIGN_NAMES = r"^[^|]+\|[^|]+\|[^|]+$"
_USUAL_SCHEMES = ("https", "app")
_KEYS = ("consent", "batch", "max_in_flight", "quiet_hours", "frequency_cap", "deep_link")


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
    table = around.table(channel)
    table.only(*_KEYS, *(("endpoint", "campaigns") if channel == WHATSAPP else ()))
    usual = ChannelRules()
    return ChannelRules(
        consent=table.get("consent", choice(_CONSENT), usual.consent),
        batch=table.get("batch", whole(1, 1000), usual.batch),
        max_in_flight=table.get("max_in_flight", whole(1, 100), usual.max_in_flight),
        quiet_hours=read_quiet_hours(table),
        frequency_cap=read_frequency_cap(table),
        deep_link=table.get("deep_link", DEEP_LINK, usual.deep_link),
        endpoint=table.get("endpoint", choice(_ENDPOINT), usual.endpoint),
        campaigns=_read_campaigns(table.table("campaigns"), channel, cohorts, copy),
    )


def _read_campaigns(
    table: Table, channel: Channel, cohorts: Collection[Cohort], copy: Mapping[str, Table]
) -> Mapping[tuple[str, str, str], str]:
    combos = [c for cohort in cohorts for c in cohort.space.combos if c.channel == channel]
    angles = dict.fromkeys(combo.angle for combo in combos)
    offers = dict.fromkeys(combo.offer for combo in combos)
    campaigns = {}
    for key, campaign in table.each(CAMPAIGN, _CAMPAIGN_NAMES).items():
        parts = key.split("|")
        if len(parts) != len(_CAMPAIGN_KEY):
            raise table.mistake(
                key, 'does not fit: write "language|angle|offer", with * for any, such as "*|*|*"'
            )
        language, angle, offer = parts
        if language != "*":
            require_language(table, key, language, copy)
        for level, known, what in ((angle, angles, "angle"), (offer, offers, "offer")):
            if level not in ("*", *known):
                raise table.mistake(
                    key,
                    f"no cohort has the {what} {show(level)} on {channel}{nearest(level, known)}",
                )
        campaigns[language, angle, offer] = campaign
    return campaigns
