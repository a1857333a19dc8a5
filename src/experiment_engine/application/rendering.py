"""How a cohort's messages read: every text for a language and what is known of a user."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import Combo
from experiment_engine.domain.delivery.copy import placeholder_values
from experiment_engine.domain.rules import Rules


@dataclass(frozen=True, slots=True)
class Rendered:
    """One text as a user would get it; the delay makes no difference to it."""

    channel: str
    angle: str
    offer: str
    language: str | None  # in which there is a text; None: in none of the chain
    title: str = ""
    body: str = ""
    stand_ins: Sequence[str] = ()  # placeholders that the user brought no value for
    missing: Sequence[str] = ()  # likewise, and nothing stands in: not eligible
    campaign: str | None = None


def render_cohort(
    rules: Rules,
    cohort: Cohort,
    pattern: tuple[str, str, str],
    language: object,
    attributes: Mapping[str, Any],
) -> Iterator[Rendered]:
    """Render what fits the pattern of channel, angle and offer, each `*` for any.

    Attributes are those of `POST /api/trigger`: event properties, and `user_properties` inside.
    """
    user_properties = attributes.get("user_properties")
    values = placeholder_values(
        tuple(rules.catalogue.placeholders.values()),
        attributes,
        user_properties if isinstance(user_properties, dict) else {},
    )
    chain = rules.languages.chain(language)
    seen = set()
    for combo in cohort.space.combos:
        place = (combo.channel, combo.angle, combo.offer)
        fits = all(wanted in ("*", level) for wanted, level in zip(pattern, place, strict=True))
        if fits and place not in seen:
            seen.add(place)
            yield _render(rules, cohort, combo, chain, values)


def _render(
    rules: Rules,
    cohort: Cohort,
    combo: Combo,
    chain: Sequence[str],
    values: Mapping[str, str],
) -> Rendered:
    catalogue = rules.catalogue
    place = (combo.channel, combo.angle, combo.offer)
    text = catalogue.find(cohort.name, *place, chain)
    if text is None:
        return Rendered(*place, None)
    unknown = sorted(name for name in text.placeholders if name not in values)
    missing = [
        name for name in unknown if catalogue.placeholders[name].default_in(text.language) is None
    ]
    campaign = rules.channels[combo.channel].campaign(text.language, combo.angle, combo.offer)
    if missing:
        return Rendered(*place, text.language, missing=missing, campaign=campaign)
    title, body = catalogue.render(text, values)
    return Rendered(*place, text.language, title, body, unknown, campaign=campaign)
